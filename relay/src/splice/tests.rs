use super::*;

fn filled(buffer: &mut Vec<u8>, length: usize) -> usize {
    buffer.resize(length, 0);
    fit(buffer);
    assert!(buffer.is_empty());
    buffer.capacity()
}

#[test]
fn a_read_buffer_grows_while_reads_fill_it_and_is_small_again_when_one_does_not() {
    let mut buffer = Vec::with_capacity(IDLE_BUFFER);
    for size in [2, 4, 8, 16, 16] {
        let full = buffer.capacity();
        assert_eq!(filled(&mut buffer, full), size * IDLE_BUFFER);
    }
    assert_eq!(filled(&mut buffer, PIECE - 1), IDLE_BUFFER);
}
