//! What a person is told who makes a mistake on the command line or in a file: what happened, and what to do.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

use tempfile::TempDir;
use trefoil_tests::process::{
    binaries::{relay, trefoil},
    network::RealNetwork,
    program::{PATIENCE, Program},
};

/// Runs a command that must fail, on standard error only, with this code and all of these words.
fn mistake(command: &mut Command, code: i32, words: &[&str]) {
    let ended = Program::run(command, PATIENCE);
    assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{command:?}: {}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// A directory with the network file of a network that has nobody in it, and `relay.toml` for a relay of it.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("network.toml", "[network]\nname = \"test\"\nallow_loopback = true\n");
        files.write("relay.toml", "network = \"network.toml\"\ndata_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn relay(&self) -> Command {
        let mut relay = relay();
        relay.arg("--config").arg(self.path("relay.toml"));
        relay
    }

    fn proxy(&self, socks: &str) -> Command {
        let mut proxy = trefoil();
        proxy.args(["proxy", "--socks", socks, "--network"]).arg(self.path("network.toml"));
        proxy
    }
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let files = Files::new();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let words = [&*format!("UDP port {} is in use", address.port()), "choose another"];
    mistake(files.relay().arg("--listen").arg(address.to_string()), 1, &words);

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let words = [&*format!("TCP port {} is in use", address.port()), "`metrics`"];
    mistake(files.relay().arg("--metrics").arg(address.to_string()), 1, &words);
    mistake(&mut files.proxy(&address.to_string()), 1, &[&format!("{address} is in use"), "--socks"]);
    let mut forward = trefoil();
    forward.arg("forward").arg("--network").arg(files.path("network.toml"));
    forward.args([&address.port().to_string(), "web.test:80"]);
    mistake(&mut forward, 1, &["is in use", "choose another local port"]);
}

#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let files = Files::new();
    files.write("file", "");
    mistake(files.relay().arg("--data-dir").arg(files.path("file")), 1, &["is not a directory", "choose another"]);
    mistake(files.relay().args(["--data-dir", "/proc/trefoil"]), 1, &["cannot make the data directory /proc/trefoil"]);
}

#[test]
fn a_data_directory_that_others_can_reach_is_refused_with_the_command_that_helps() {
    let files = Files::new();
    let data = files.path("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    mistake(&mut files.relay(), 1, &["0755", &format!("chmod 700 {}", data.display())]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "no key was made there");
}

#[test]
fn a_damaged_key_is_refused_and_left_alone() {
    let files = Files::new();
    let shown = Program::run(files.relay().args(["--show-relay", "--listen", "127.0.0.1:9001"]), PATIENCE);
    assert_eq!(shown.code(), 0, "{}", shown.stderr);
    files.write("data/identity.key", "not a key\n");
    mistake(&mut files.relay(), 1, &["identity.key is damaged", "backup"]);
    assert_eq!(fs::read_to_string(files.path("data/identity.key")).unwrap(), "not a key\n");
}

#[test]
fn a_mistake_in_a_file_is_named_with_its_line() {
    let files = Files::new();
    files.write("relay.toml", "network = \"network.toml\"\ndata_dir = \"data\"\ncolour = \"red\"\n");
    mistake(&mut files.relay(), 1, &["relay.toml", "line 3", "unknown field `colour`"]);
    assert!(!files.path("data").exists(), "nothing is made before all is checked");

    files.write("network.toml", "[network]\nname = \"test\"\n\n[[relay]]\nid = \"nobody\"\n");
    mistake(&mut files.proxy("127.0.0.1:0"), 1, &["network.toml", "line 5", "nobody"]);
}

#[test]
fn a_relay_without_a_fixed_port_has_no_entry_to_show() {
    mistake(Files::new().relay().arg("--show-relay"), 1, &["port 0", "set `listen` or `advertise`"]);
}

#[test]
fn a_missing_file_is_named() {
    let files = Files::new();
    fs::remove_file(files.path("network.toml")).unwrap();
    for command in [&mut files.relay(), &mut files.proxy("127.0.0.1:0")] {
        mistake(command, 1, &["cannot read the network file", "network.toml", "No such file"]);
    }
    mistake(relay().args(["--config", "/nowhere.toml"]), 1, &["cannot read the configuration /nowhere.toml"]);
}

#[test]
fn a_proxy_for_everybody_must_be_asked_for() {
    let files = Files::new();
    mistake(&mut files.proxy("0.0.0.0:0"), 1, &["not a loopback address", "--expose"]);
    let exposed = Program::start(files.proxy("0.0.0.0:0").arg("--expose"));
    exposed.line("listening on 0.0.0.0:", PATIENCE);
    exposed.line("everybody who can reach the proxy's address can use it", PATIENCE);
}

#[test]
fn what_is_misspelt_is_told_with_what_was_meant() {
    mistake(trefoil().arg("prox"), 2, &["'prox'", "'proxy'"]);
    mistake(trefoil().args(["proxy", "--netwrk", "f"]), 2, &["--netwrk", "--network"]);
    mistake(trefoil().arg("proxy"), 2, &["--network <FILE>"]);
    mistake(trefoil().args(["testnet", "--relays", "2"]), 1, &["3 to 200 relays"]);
    mistake(trefoil().args(["proxy", "--network", "f", "--socks", "9150"]), 2, &["--socks", "like 127.0.0.1:9150"]);
    mistake(trefoil().args(["--log", "a=b=c", "demo"]), 1, &["--log \"a=b=c\"", "like \"info\""]);
    mistake(relay().args(["--memory", "5 parsecs"]), 2, &["--memory", "MiB"]);
    mistake(&mut relay(), 1, &["data_dir", "--data-dir"]);
}

#[test]
fn a_target_that_is_none_is_told_as_such() {
    let files = Files::new();
    for (target, words) in [("example.org", "HOST:PORT"), ("example.org:http", "1 to 65535"), ("::1:80", "brackets")] {
        let mut forward = trefoil();
        forward.arg("forward").arg("--network").arg(files.path("network.toml")).args(["0", target]);
        mistake(&mut forward, 1, &[target, words]);
    }
}

#[test]
fn a_second_relay_with_the_same_keys_is_refused() {
    let network = RealNetwork::start(3);
    let mut second = relay();
    second.arg("--config").arg(network.file().with_file_name("1").join("relay.toml"));
    mistake(&mut second, 1, &["is in use by another relay"]);
}
