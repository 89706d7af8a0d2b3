//! Other people's code: under which licences it comes, that there is one copy of it, and why it is here.
//!
//! It looks at all that is compiled for Linux, tests and build scripts included, as `cargo tree` prints it. Known
//! vulnerabilities are looked for by `.ci/run`, which has a database of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod licence;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// Licences that ask for no more than their own text beside the program.
const ACCEPTED: [&str; 10] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Packages of cryptography that are here, in one version each: two would not share a trait, or would double what
/// has to be trusted.
const CRYPTOGRAPHY: [&str; 29] = [
    "aead",
    "argon2",
    "aws-lc-rs",
    "aws-lc-sys",
    "blake2",
    "blake3",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "crypto-common",
    "curve25519-dalek",
    "digest",
    "ed25519-dalek",
    "hkdf",
    "hmac",
    "hpke",
    "kem",
    "ml-kem",
    "poly1305",
    "rand_core",
    "rustls",
    "rustls-webpki",
    "sha2",
    "sha3",
    "signature",
    "subtle",
    "x-wing",
    "x25519-dalek",
    "zeroize",
];

/// Packages that must not be here, and why.
const REFUSED: [(&str, &str); 3] = [
    ("ring", "aws-lc-rs does its work"),
    ("openssl-sys", "rustls does its work"),
    ("native-tls", "rustls does its work"),
];

/// The only packages that are here twice, and why that cannot be helped. A line that is no longer true must go.
const TWICE: [(&str, &str); 2] = [
    ("itertools", "ratatui has not moved to the version that vodozemac's macros use; they run in the compiler only"),
    ("syn", "some macros have not moved to version 3; it runs in the compiler only"),
];

/// One package of the tree.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

#[test]
fn every_licence_is_one_that_we_accept() {
    let packages = packages();
    let wrong: Vec<_> = packages
        .iter()
        .filter(|package| licence::is_satisfied(&package.licence, &ACCEPTED) != Some(true))
        .map(|package| format!("{} {}: `{}`", package.name, package.version, package.licence))
        .collect();
    assert!(wrong.is_empty(), "not under a licence that we accept:\n{}", wrong.join("\n"));
}

#[test]
fn there_is_one_version_of_each_package_of_cryptography() {
    let versions = versions();
    for name in CRYPTOGRAPHY {
        assert_eq!(versions.get(name).map(BTreeSet::len), Some(1), "{name}: {:?}", versions.get(name));
    }
}

#[test]
fn no_refused_package_is_here() {
    let versions = versions();
    for (name, reason) in REFUSED {
        assert!(!versions.contains_key(name), "{name} is here, but {reason}");
    }
}

#[test]
fn packages_that_are_here_twice_are_known() {
    let twice: BTreeSet<_> =
        versions().into_iter().filter(|(_, versions)| versions.len() > 1).map(|(name, _)| name).collect();
    let known: BTreeSet<_> = TWICE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(twice, known);
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, section) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let foreign: Vec<_> = lines.filter(|line| line.contains('=') && !line.contains("path =")).collect();
    assert!(foreign.len() > 10, "the dependencies were not found");
    let silent: Vec<_> = foreign.iter().filter(|line| !line.contains(" # ")).collect();
    assert!(silent.is_empty(), "no reason on {silent:?}");
}

#[test]
fn every_crate_takes_its_dependencies_from_the_workspace() {
    for name in ["protocol", "relay", "client", "tests"] {
        let manifest: toml::Table = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap().parse().unwrap();
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
        for (dependency, value) in tables.iter().filter_map(|table| manifest.get(*table)?.as_table()).flatten() {
            let inherited = value.get("workspace").and_then(toml::Value::as_bool);
            assert_eq!(inherited, Some(true), "{name}: {dependency}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate is a folder of the workspace")
}

/// All that is compiled for Linux, our own crates included.
fn packages() -> BTreeSet<Package> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--workspace", "--all-features", "--locked", "--target", "x86_64-unknown-linux-gnu"]);
    cargo.args(["--edges", "normal,build,dev", "--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"]);
    let output = cargo.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packages: BTreeSet<_> = String::from_utf8(output.stdout).unwrap().lines().filter_map(package).collect();
    assert!(packages.iter().any(|package| package.name == "trefoil-tests"), "the tree was not understood");
    packages
}

/// Reads `name v1.2.3 (where)|licence`; empty lines stand between the trees of our crates.
fn package(line: &str) -> Option<Package> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    Some(Package { name: words.next()?.to_owned(), version: words.next()?.to_owned(), licence: licence.to_owned() })
}

fn versions() -> BTreeMap<String, BTreeSet<String>> {
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    versions
}

#[test]
fn a_line_of_the_tree_is_read() {
    let read = package("a v1.0.0 (/somewhere)|MIT OR ISC").unwrap();
    assert_eq!((read.name.as_str(), read.version.as_str(), read.licence.as_str()), ("a", "v1.0.0", "MIT OR ISC"));
    assert!(package("").is_none());
}
