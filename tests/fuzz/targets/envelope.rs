#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    trefoil_tests::fuzz::envelope(data);
});
