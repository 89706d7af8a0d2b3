//! The fuzzer's saved inputs, each run through its rule: what a fuzzer once found stays found.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use trefoil_tests::fuzz::{TARGETS, Verdict};

#[test]
fn every_saved_input_keeps_its_targets_rules_at_every_length() {
    for (name, target) in TARGETS {
        for (path, data) in inputs(name) {
            for length in 0..=data.len() {
                let outcome = catch_unwind(|| target(&data[..length]));
                assert!(outcome.is_ok(), "{}, its first {length} bytes", path.display());
            }
        }
    }
}

#[test]
fn inputs_named_refused_are_refused_and_all_others_accepted() {
    for (name, target) in TARGETS {
        let verdicts: Vec<_> = inputs(name).iter().map(|(path, data)| (file_name(path), target(data))).collect();
        for (input, verdict) in &verdicts {
            let expected = if input.starts_with("refused") { Verdict::Refused } else { Verdict::Accepted };
            assert_eq!(*verdict, expected, "{name}/{input}");
        }
        let both = [Verdict::Accepted, Verdict::Refused];
        assert!(both.iter().all(|kind| verdicts.iter().any(|(_, verdict)| verdict == kind)), "{name} has but one kind");
    }
}

#[test]
fn targets_corpora_and_fuzz_binaries_are_the_same() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let corpora: BTreeSet<_> = entries(&folder().join("corpus")).iter().map(|path| file_name(path)).collect();
    let manifest: toml::Table = fs::read_to_string(folder().join("Cargo.toml")).unwrap().parse().unwrap();
    let binaries = manifest["bin"].as_array().unwrap().iter();
    let binaries: BTreeSet<_> = binaries.map(|binary| binary["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(targets, corpora);
    assert_eq!(targets, binaries);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// A target's saved inputs, in order.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = entries(&folder().join("corpus").join(target));
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("corpora have plain names").to_owned()
}
