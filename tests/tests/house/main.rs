//! The house: which crate may know which, what `protocol` may touch, and how long files and functions may be.
//!
//! The rules are those of docs/architecture.md, "House". There is no list of exceptions: what a rule should not cover
//! is said in the rule. It reads sources and manifests, and never runs anything but `git ls-files`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod source;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use source::Source;
use toml::{Table, Value};

/// The crates in their order: each may depend only on those before it.
const LINE: [&str; 4] = ["protocol", "relay", "client", "tests"];

/// All that `protocol` may depend on: bytes, words and algorithms; no runtime, no network, no files.
const PROTOCOL_DEPENDENCIES: [&str; 23] = [
    "argon2",
    "aws-lc-rs",
    "bip39",
    "blake3",
    "bytes",
    "chacha20",
    "chacha20poly1305",
    "curve25519-dalek",
    "data-encoding",
    "ed25519-dalek",
    "hkdf",
    "hpke",
    "ml-kem",
    "negentropy",
    "postcard",
    "rand",
    "serde",
    "sha2",
    "subtle",
    "thiserror",
    "x-wing",
    "x25519-dalek",
    "zeroize",
];

/// What `protocol` must not name, wherever it stands in a path.
const IMPURE: [&str; 35] = [
    // sockets and names
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "ToSocketAddrs",
    "tokio",
    "mio",
    "quinn",
    "rustls",
    // files, processes, threads, the terminal
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "print",
    "println",
    "eprint",
    "eprintln",
    "std::*",
    // clocks
    "Instant::now",
    "SystemTime",
    "UNIX_EPOCH",
    // the system's randomness
    "OsRng",
    "SysRng",
    "ThreadRng",
    "thread_rng",
    "rand::rng",
    "rand::random",
    "SystemRandom",
    "getrandom",
];

/// Crates of algorithms, as paths name them.
const ALGORITHMS: [&str; 14] = [
    "argon2",
    "aws_lc_rs",
    "blake3",
    "chacha20",
    "chacha20poly1305",
    "curve25519_dalek",
    "ed25519_dalek",
    "hkdf",
    "hpke",
    "ml_kem",
    "sha2",
    "subtle",
    "x_wing",
    "x25519_dalek",
];

const MAX_FILE: usize = 500;
const MAX_FUNCTION: usize = 70;

#[test]
fn the_workspace_is_the_four_crates() {
    let manifest = manifest(".");
    assert_eq!(strings(&table(&manifest, "workspace")["members"]), LINE);
}

#[test]
fn crates_depend_only_on_those_before_them_in_the_line() {
    for (place, name) in LINE.iter().enumerate() {
        let allowed: BTreeSet<_> = LINE[..place].iter().map(|before| format!("trefoil-{before}")).collect();
        let ours: BTreeSet<_> =
            dependencies(&manifest(name), &["dependencies", "dev-dependencies", "build-dependencies"])
                .into_iter()
                .filter(|dependency| dependency.starts_with("trefoil"))
                .collect();
        assert!(ours.is_subset(&allowed), "{name} depends on {ours:?}, and may on {allowed:?}");
        assert_eq!(ours.is_empty(), place == 0, "{name} depends on {ours:?}");
    }
}

#[test]
fn protocol_depends_only_on_what_cannot_do_io() {
    let all = dependencies(&manifest("protocol"), &["dependencies", "build-dependencies"]);
    let strange: Vec<_> = all.iter().filter(|name| !PROTOCOL_DEPENDENCIES.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "protocol depends on {strange:?}");
}

#[test]
fn protocol_names_no_socket_file_clock_thread_or_system_randomness() {
    let mut found = Vec::new();
    for (file, source) in product_sources("protocol/src") {
        for path in &source.paths {
            let named = IMPURE.iter().any(|impure| names(&path.segments, impure));
            found.extend(named.then(|| format!("{}:{}: {}", file.display(), path.line, path.segments.join("::"))));
        }
    }
    assert!(found.is_empty(), "protocol must not name:\n{}", found.join("\n"));
}

#[test]
fn only_crypto_names_algorithms() {
    let names_one = |source: &Source| ALGORITHMS.iter().any(|algorithm| source.names_crate(algorithm));
    let sources = LINE[..3].iter().flat_map(|name| product_sources(&format!("{name}/src")));
    let files: BTreeSet<_> = sources.filter(|(_, source)| names_one(source)).map(|(file, _)| file).collect();
    let is_crypto =
        |file: &PathBuf| file == Path::new("protocol/src/crypto.rs") || file.starts_with("protocol/src/crypto");
    let strange: Vec<_> = files.iter().filter(|file| !is_crypto(file)).collect();
    assert!(strange.is_empty(), "only protocol's crypto names algorithms, but {strange:?} do");
    assert!(files.contains(Path::new("protocol/src/crypto.rs")), "the crates of algorithms are none that it names");
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for (file, source) in LINE.iter().flat_map(|name| product_sources(name)) {
        let name = file.display();
        if source.lines > MAX_FILE {
            long.push(format!("{name}: {} lines without its tests, at most {MAX_FILE}", source.lines));
        }
        let functions = source.functions.iter().filter(|function| function.lines > MAX_FUNCTION);
        long.extend(functions.map(|f| format!("{name}: fn {}: {} lines, at most {MAX_FUNCTION}", f.name, f.lines)));
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    let workspace = manifest(".");
    let lints = table(table(table(&workspace, "workspace"), "lints"), "rust");
    assert_eq!(lints["unsafe_code"].as_str(), Some("forbid"));
    for name in LINE {
        let manifest = manifest(name);
        assert_eq!(table(&manifest, "lints").get("workspace"), Some(&Value::Boolean(true)), "{name}");
    }
}

#[test]
fn protocols_lint_settings_repeat_those_of_the_workspace() {
    let (workspace, protocol) = (read_toml("clippy.toml"), read_toml("protocol/clippy.toml"));
    for (setting, value) in &workspace {
        assert_eq!(protocol.get(setting), Some(value), "{setting}");
    }
    assert!(protocol.len() > workspace.len(), "protocol's own settings are gone");
}

#[test]
fn the_top_level_holds_only_what_a_reader_looks_for() {
    let named = ["Cargo.toml", "Cargo.lock", "README.md", "LICENSE-MIT", "LICENSE-APACHE", "rustfmt.toml"];
    let folders = ["protocol", "relay", "client", "tests", "docs"];
    let expected =
        |name: &str| named.contains(&name) || folders.contains(&name) || name == "clippy.toml" || name.starts_with('.');
    let tops: BTreeSet<_> =
        tracked_files().iter().filter_map(|path| Some(path.split('/').next()?.to_owned())).collect();
    let strange: Vec<_> = tops.iter().filter(|name| !expected(name)).collect();
    assert!(strange.is_empty(), "{strange:?} has no place at the top level");
    assert!(tops.contains("Cargo.lock"), "the lock file is committed");
}

/// Whether `path` has the segments of `pattern` in a row.
fn names(path: &[String], pattern: &str) -> bool {
    let pattern: Vec<_> = pattern.split("::").collect();
    path.windows(pattern.len()).any(|window| window == pattern)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate is a folder of the workspace")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_toml(path: impl AsRef<Path>) -> Table {
    let path = path.as_ref();
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(folder: &str) -> Table {
    read_toml(Path::new(folder).join("Cargo.toml"))
}

fn table<'a>(table: &'a Table, key: &str) -> &'a Table {
    table.get(key).and_then(Value::as_table).unwrap_or_else(|| panic!("there is no table `{key}`"))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The packages that a manifest names in tables of these kinds, those for single platforms included.
fn dependencies(manifest: &Table, kinds: &[&str]) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = targets.filter_map(Value::as_table).chain([manifest]);
    let lines = tables.flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table())).flatten();
    lines.map(|(key, value)| value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned()).collect()
}

/// The Rust files under a folder, named from the workspace's root, in order.
fn rust_files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = folder.as_ref();
    let mut files = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() && entry.file_name() != "target" {
            files.extend(rust_files(path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn read_source(file: &Path) -> Source {
    Source::parse(&read(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The sources under a folder, without the files of `#[cfg(test)]` modules.
fn product_sources(folder: &str) -> Vec<(PathBuf, Source)> {
    let sources: Vec<_> = rust_files(folder)
        .into_iter()
        .map(|file| {
            let source = read_source(&file);
            (file, source)
        })
        .collect();
    assert!(!sources.is_empty(), "{folder} has no sources");
    let only_tests: Vec<_> = sources.iter().flat_map(|(file, source)| test_files(file, source)).collect();
    sources.into_iter().filter(|(file, _)| !only_tests.iter().any(|test| file.starts_with(test))).collect()
}

/// Where the modules that only tests see have their files: `x.rs`, or all under `x/`.
fn test_files(file: &Path, source: &Source) -> Vec<PathBuf> {
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|root| file.ends_with(root));
    let folder = if is_root { file.with_file_name("") } else { file.with_extension("") };
    source.test_modules.iter().flat_map(|module| [folder.join(format!("{module}.rs")), folder.join(module)]).collect()
}

/// The files that git keeps.
fn tracked_files() -> Vec<String> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "-z"]).current_dir(root()); // whoever owns the checkout
    let output = git.output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    names.split_terminator('\0').map(str::to_owned).collect()
}

#[test]
fn a_forbidden_path_is_found_wherever_it_stands() {
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    assert!(names(&path("std::fs::read"), "std::fs"));
    assert!(names(&path("std::time::Instant::now"), "Instant::now"));
    assert!(!names(&path("crate::fs::std"), "std::fs"));
    assert!(!names(&path("fs"), "std::fs"));
}

#[test]
fn files_of_modules_that_only_tests_see_are_found() {
    let source = Source::parse("#[cfg(test)] mod t;").unwrap();
    let found = |file: &str| test_files(Path::new(file), &source);
    assert_eq!(found("a/src/lib.rs"), [PathBuf::from("a/src/t.rs"), PathBuf::from("a/src/t")]);
    assert_eq!(found("a/src/x.rs"), [PathBuf::from("a/src/x/t.rs"), PathBuf::from("a/src/x/t")]);
}
