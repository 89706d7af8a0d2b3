use clap::Parser;
use tempfile::TempDir;

use super::*;

/// A directory with a network file of these parameters and a configuration of this text.
fn files(params: &NetworkParams, text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let network = NetworkFile { params: params.clone(), relays: Vec::new() };
    network.save(&dir.path().join("network.toml")).unwrap();
    let path = dir.path().join("relay.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn testnet() -> NetworkParams {
    NetworkParams::testnet("box".parse().unwrap())
}

fn load(params: &NetworkParams, text: &str) -> Result<Config, ConfigError> {
    let (_dir, path) = files(params, text);
    Config::load(Some(&path), Settings::default())
}

fn with(line: &str) -> String {
    format!("network = \"network.toml\"\ndata_dir = \"data\"\n{line}\n")
}

fn refusal(params: &NetworkParams, text: &str) -> String {
    load(params, text).unwrap_err().to_string()
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

fn flags(line: &str) -> Result<Settings, clap::Error> {
    Flags::try_parse_from(["relay"].into_iter().chain(line.split('|'))).map(|flags| flags.settings)
}

#[test]
fn what_is_not_set_has_its_default() {
    let config = load(&testnet(), &with("")).unwrap();
    assert_eq!(config.listen, DEFAULT_LISTEN);
    assert!(!config.exit_policy.is_exit() && config.resolver.is_empty() && config.advertise.is_none());
    assert_eq!((config.congestion, config.memory.bytes()), (Congestion::Tolerant, 512 << 20));
    assert_eq!((config.metrics, config.lan, config.dht, config.log.as_str()), (None, false, None, "info"));
    assert_eq!((config.weight, config.family), (Weight::One, None));
}

#[test]
fn bootstrap_relays_come_from_the_file_and_from_flags_which_win() {
    let uri = |port: u16| {
        let id = "aoqqpp7tzyil4hlq3umoos6atft6jvrqtosq2xy53sdgiesvgg4plfau";
        let onion = "r5amllnwr4swesxfwikou5t2n3eu3au5hv5v4gwrxjxt4ijyfbpqoqnz";
        format!("trefoil-relay:{id}@127.1.0.1:{port},[::1]:9001?onion={onion}")
    };
    let text = with(&format!("bootstrap = [\"{}\"]", uri(1)));
    let bootstrap = |config: Config| config.bootstrap().iter().map(|relay| relay.addresses).collect::<Vec<_>>();
    let listed = |port| vec![format!("127.1.0.1:{port},[::1]:9001").parse().unwrap()];
    assert_eq!(bootstrap(load(&testnet(), &text).unwrap()), listed(1));
    let (_dir, path) = files(&testnet(), &text);
    let flags = flags(&format!("--bootstrap|{}", uri(2))).unwrap();
    assert_eq!(bootstrap(Config::load(Some(&path), flags).unwrap()), listed(2));
    assert!(refusal(&testnet(), &with("bootstrap = [\"trefoil-relay:x\"]")).contains("bootstrap"));
}

#[test]
fn a_bootstrap_file_beside_the_configuration_names_more_relays() {
    let uri = "trefoil-relay:aoqqpp7tzyil4hlq3umoos6atft6jvrqtosq2xy53sdgiesvgg4plfau@127.1.0.1:9001\
               ?onion=r5amllnwr4swesxfwikou5t2n3eu3au5hv5v4gwrxjxt4ijyfbpqoqnz";
    let (dir, path) = files(&testnet(), &with("bootstrap_file = \"friends\""));
    let friends = dir.path().join("friends");
    fs::write(&friends, format!("# one\n{uri}\n")).unwrap();
    let config = Config::load(Some(&path), Settings::default()).unwrap();
    assert_eq!(config.bootstrap, [uri.parse().unwrap()]);
    fs::write(&friends, format!("{uri}\nsomebody\n")).unwrap();
    let words = Config::load(Some(&path), Settings::default()).unwrap_err().to_string();
    assert!(words.contains("friends: line 2: expected trefoil-relay:"), "{words}");
    let elsewhere = flags("--bootstrap-file|/nowhere/friends").unwrap();
    assert!(Config::load(Some(&path), elsewhere).unwrap_err().to_string().contains("/nowhere/friends"));
}

#[test]
fn beacons_and_the_dht_are_off_unless_they_are_turned_on() {
    let (_dir, path) = files(&testnet(), &with("dht = true\ndht_bootstrap = [\"127.0.0.1:6881\"]"));
    let dht = |line: &str| Config::load(Some(&path), flags(line).unwrap()).unwrap().dht;
    assert_eq!(dht("--log|info"), Some(vec!["127.0.0.1:6881".parse().unwrap()]));
    assert_eq!(dht("--dht=false"), None);
    assert_eq!(dht("--dht|--dht-bootstrap|192.0.2.1:1,192.0.2.2:2").map(|nodes| nodes.len()), Some(2));
    let lan = |line: &str| Config::load(Some(&path), flags(line).unwrap()).unwrap().lan;
    assert!(lan("--lan") && !lan("--lan=false") && load(&testnet(), &with("lan = true")).unwrap().lan);
    assert_eq!(load(&testnet(), &with("dht_bootstrap = []")).unwrap().dht, None);
    assert_eq!(load(&testnet(), &with("dht = true")).unwrap().dht, Some(vec![]));
}

#[test]
fn letters_have_a_gibibyte_unless_the_operator_says_otherwise() {
    let of_file = |lines: &str| load(&testnet(), &with(lines)).unwrap().mailbox.map(MemorySize::bytes);
    assert_eq!(of_file(""), Some(1 << 30));
    assert_eq!(of_file("mailbox_size = \"32 MiB\""), Some(32 << 20));
    assert_eq!(of_file("mailbox = false"), None);
    assert_eq!(of_file("mailbox = false\nmailbox_size = \"2 GiB\""), None);
    for size in ["31 MiB", "0 GiB", "99999999999 GiB", "1 GB"] {
        let words = refusal(&testnet(), &with(&format!("mailbox_size = \"{size}\"")));
        assert!(words.contains("mailbox_size") && words.contains(size), "{words}");
        let words = flags(&format!("--mailbox-size|{size}")).unwrap_err().to_string();
        assert!(words.contains("--mailbox-size") && words.contains(size), "{words}");
    }
    let (_dir, path) = files(&testnet(), &with("mailbox = false\nmailbox_size = \"64 MiB\""));
    let of_flags = |line| Config::load(Some(&path), flags(line).unwrap()).unwrap().mailbox.map(MemorySize::bytes);
    assert_eq!(of_flags("--mailbox"), Some(64 << 20));
    assert_eq!(of_flags("--mailbox=true|--mailbox-size|2 GiB"), Some(2 << 30));
    assert_eq!(of_flags("--mailbox-size|2 GiB"), None, "it says how much, and not that there are any");
}

#[test]
fn everything_can_be_set_in_the_file() {
    let text = with(
        "listen = \"127.1.0.1:0\"\nadvertise = \"127.1.0.1:9001,[::1]:9001\"\ncongestion = \"bbr\"\n\
         memory = \"64 MiB\"\nresolver = [\"127.0.0.53\", \"[::1]:5353\"]\nlog = \"debug\"\n\
         metrics = \"127.0.0.1:9035\"\nweight = 2\nfamily = \"../family.key\"\n\
         exit_policy = [\"reject *:25\", \"accept *:*\"]",
    );
    let (dir, path) = files(&testnet(), &text);
    let config = Config::load(Some(&path), Settings::default()).unwrap();
    assert_eq!(config.network.params, testnet());
    assert_eq!(config.data_dir, dir.path().join("data"));
    assert_eq!(config.listen, "127.1.0.1:0".parse().unwrap());
    assert_eq!(config.advertise, Some("127.1.0.1:9001,[::1]:9001".parse().unwrap()));
    assert_eq!(config.exit_policy, "reject *:25; accept *:*".parse().unwrap());
    assert_eq!((config.weight, config.family), (Weight::Two, Some(dir.path().join("../family.key"))));
    assert_eq!((config.congestion, config.memory.bytes()), (Congestion::Bbr, 64 << 20));
    assert_eq!(config.resolver, ["127.0.0.53:53", "[::1]:5353"].map(|text| text.parse().unwrap()));
    assert_eq!((config.metrics, config.log.as_str()), (Some("127.0.0.1:9035".parse().unwrap()), "debug"));
}

#[test]
fn flags_win_over_the_file() {
    let (dir, path) = files(&testnet(), &with("log = \"warn\"\nmemory = \"64 MiB\"\nlisten = \"127.1.0.1:1\""));
    let line = "--memory|1 GiB|--exit-policy|accept *:80; accept *:443|--resolver|127.0.0.1:5,::1|--data-dir|/tmp/x\
                |--listen|127.2.0.1:2|--advertise|127.2.0.1:3|--congestion|bbr|--metrics|[::1]:0\
                |--weight|2|--family|f";
    let config = Config::load(Some(&path), flags(line).unwrap()).unwrap();
    assert_eq!((config.memory.bytes(), config.log.as_str()), (1 << 30, "warn"));
    assert_eq!(config.exit_policy, "accept *:80; accept *:443".parse().unwrap());
    assert_eq!(config.resolver, ["127.0.0.1:5", "[::1]:53"].map(|text| text.parse().unwrap()));
    assert_eq!((config.data_dir, config.listen), ("/tmp/x".into(), "127.2.0.1:2".parse().unwrap()));
    assert_eq!((config.congestion, config.metrics), (Congestion::Bbr, Some("[::1]:0".parse().unwrap())));
    assert_eq!((config.weight, config.family), (Weight::Two, Some("f".into())));
    let network = dir.path().join("network.toml").into_os_string().into_string().unwrap();
    let alone = Config::load(None, flags(&format!("--network|{network}|--data-dir|d")).unwrap()).unwrap();
    assert_eq!(alone.data_dir, Path::new("d"));
}

#[test]
fn a_bad_flag_is_refused_by_name() {
    for line in [
        "--memory|5",
        "--listen|x",
        "--exit-policy|allow *",
        "--resolver|x",
        "--advertise|1.1.1.1",
        "--metrics|9035",
        "--weight|3",
    ] {
        let (flag, value) = line.split_once('|').unwrap();
        let words = flags(line).unwrap_err().to_string();
        assert!(words.contains(flag) && words.contains(value), "{words}");
    }
}

#[test]
fn a_bad_line_is_named_with_its_file_and_number() {
    let lines = [
        "colour = \"red\"",
        "listen = \"here\"",
        "advertise = \"192.0.2.7\"",
        "exit_policy = [\"allow *:80\"]",
        "exit_policy = \"accept *:80\"",
        "congestion = \"reno\"",
        "weight = 3",
        "memory = \"5 parsecs\"",
        "memory = 5",
        "resolver = [\"dns.example\"]",
        "metrics = 9035",
        "log = 3",
        "listen",
    ];
    for line in lines {
        let words = refusal(&testnet(), &with(line));
        assert!(words.contains("relay.toml: ") && words.contains("line 3"), "{words}");
        assert!(words.contains(line), "{words}");
    }
    assert!(refusal(&testnet(), &with("colour = 1")).contains("unknown field `colour`"));
}

#[test]
fn a_bad_rule_is_named_among_good_ones() {
    let words = refusal(&testnet(), &with("exit_policy = [\n  \"accept *:80\",\n  \"accept 10.0.0.1/8:1\",\n]"));
    assert!(words.contains("line 3") && words.contains("the network is 10.0.0.0/8"), "{words}");
}

#[test]
fn what_has_no_default_is_asked_for() {
    let words = refusal(&testnet(), "network = \"network.toml\"");
    assert!(words.contains("data_dir = \"relay\"") && words.contains("--data-dir"), "{words}");
    assert!(refusal(&testnet(), "data_dir = \"data\"").contains("--network"));
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere.toml");
    let words = Config::load(Some(&nowhere), Settings::default()).unwrap_err().to_string();
    assert!(words.contains("nowhere.toml"), "{words}");
    assert!(refusal(&testnet(), "network = \"other.toml\"\ndata_dir = \"data\"").contains("other.toml"));
}

#[test]
fn a_public_network_needs_a_public_address() {
    let main = NetworkParams::main();
    assert!(matches!(load(&main, &with("")), Err(ConfigError::Wildcard(_))));
    assert!(matches!(load(&main, &with("listen = \"[::]:1\"")), Err(ConfigError::Wildcard(_))));
    let words = refusal(&main, &with("listen = \"192.168.1.2:9001\""));
    assert!(words.contains("`listen` = 192.168.1.2:9001") && words.contains("\"main\""), "{words}");
    let words = refusal(&main, &with("advertise = \"1.1.1.1:1,[fd00::1]:1\""));
    assert!(words.contains("`advertise` = [fd00::1]:1"), "{words}");
    assert!(load(&main, &with("listen = \"1.1.1.1:9001\"")).is_ok());
    assert!(load(&main, &with("listen = \"192.168.1.2:9001\"\nadvertise = \"1.1.1.1:9001\"")).is_ok());
}

#[test]
fn a_testnet_takes_the_address_that_was_bound() {
    let config = load(&testnet(), &with("")).unwrap();
    let addresses = |bound: &str| config.addresses(bound.parse().unwrap()).map(|all| all.to_string());
    assert_eq!(addresses("0.0.0.0:77").unwrap(), "127.0.0.1:77");
    assert_eq!(addresses("[::]:77").unwrap(), "[::1]:77");
    assert_eq!(addresses("127.5.0.1:77").unwrap(), "127.5.0.1:77");
    assert!(addresses("127.5.0.1:0").is_err());
    let advertised = load(&testnet(), &with("advertise = \"127.9.0.1:9\"")).unwrap();
    assert_eq!(advertised.addresses("0.0.0.0:77".parse().unwrap()).unwrap().to_string(), "127.9.0.1:9");
}

#[test]
fn sizes_have_a_number_and_a_unit() {
    for (text, bytes) in [("32 MiB", 32 << 20), ("40000KiB", 40_000 << 10), ("2 GiB", 2 << 30)] {
        assert_eq!(text.parse::<MemorySize>().map(MemorySize::bytes), Ok(bytes));
    }
    for text in
        ["", "5", "MiB", "31 MiB", "1.5 GiB", "-1 GiB", "1 GB", "512 mib", "99999999999 GiB", " 1 GiB", "1 GiB "]
    {
        assert_eq!(text.parse::<MemorySize>(), Err(BadSize(text.to_owned())), "{text}");
    }
}
