//! Where programs are: ours are built as cargo would build them, others must be installed.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The client's program.
pub fn trefoil() -> Command {
    Command::new(built().join("trefoil"))
}

/// The relay's program.
pub fn relay() -> Command {
    Command::new(built().join("trefoil-relay"))
}

/// A program of Debian's.
///
/// # Panics
/// If it is not installed; the message names its package.
pub fn installed(program: &str, package: &str) -> Command {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file());
    match found {
        Some(path) => Command::new(path),
        None => panic!("{program} is not installed: apt-get install {package}"),
    }
}

/// The folder with our programs, built in the profile of this test. A test of another package is not told where they
/// are, and nothing else builds them before it.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = env::current_exe().expect("the system knows this program");
        let folder = test.ancestors().nth(2).expect("cargo puts tests into PROFILE/deps");
        let target = folder.parent().expect("the profile's folder is in the target folder");
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            Some(name) => name,
            None => panic!("{} is no profile's folder", folder.display()),
        };
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--locked", "--package", "trefoil-client", "--package", "trefoil-relay"]);
        cargo.args(["--profile", profile, "--target-dir"]).arg(target);
        let status = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status().expect("cargo runs");
        assert!(status.success(), "our programs cannot be built");
        folder.to_owned()
    })
}
