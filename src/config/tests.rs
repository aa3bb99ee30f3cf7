use std::collections::BTreeSet;
use std::path::Path;

use super::read::Reader;
use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_text(Path::new("lightnode.toml"), text, Path::new("/home/me"))
}

fn refusal(text: &str) -> (String, Option<String>) {
    let error = parse(text).unwrap_err();
    (error.to_string(), error.hint())
}

fn overrides() -> Overrides {
    Overrides { home: Some(PathBuf::from("/nonexistent/me")), ..Overrides::default() }
}

#[test]
fn the_file_with_every_setting_has_every_setting_at_its_default() {
    let text = include_str!("../../config/all.toml");
    let mut reader = Reader::default();
    reader.file(Path::new("lightnode.toml"), text).unwrap();
    let config = Config::read(&mut reader, "lightnode.toml".into(), Some(Path::new("/home/me"))).unwrap();
    reader.finish().unwrap();
    assert_eq!(config, parse("").unwrap());
    let missing: BTreeSet<&String> = reader
        .known()
        .iter()
        .filter(|key| reader.origin(key).is_none())
        .filter(|key| *key != "servers")
        // Shown for the first server.
        .filter(|key| !key.ends_with(".pin") && !key.ends_with(".trusted"))
        .collect();
    assert!(missing.is_empty(), "config/all.toml does not show {missing:?}");
}

#[test]
fn each_networks_file_parses_and_names_its_network() {
    for network in [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest] {
        let config = parse(example(network)).unwrap();
        assert_eq!(config.network, network);
        assert_eq!(config.servers.is_empty(), network == Network::Testnet);
        // What is commented out is valid too, once a person removes the mark.
        let unmarked: String = example(network)
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        parse(&unmarked).unwrap_or_else(|error| panic!("{network}: {error}"));
    }
}

#[test]
fn each_network_keeps_its_data_apart() {
    assert_eq!(parse("").unwrap().data_dir, Path::new("/home/me/.lightnode"));
    assert_eq!(parse("network = \"signet\"").unwrap().data_dir, Path::new("/home/me/.lightnode/signet"));
    let config = parse("data_dir = \"~/ln\"").unwrap();
    assert_eq!(config.data_dir, Path::new("/home/me/ln"));
    assert_eq!(config.api.socket, Path::new("/home/me/ln/lightnode.sock"));
    assert_eq!(config.api.token_file, Path::new("/home/me/ln/api.token"));
}

#[test]
fn an_unknown_setting_is_refused_with_its_line_and_the_nearest_known_one() {
    const ALL: &str = "config/all.toml of the source shows every setting there is";
    for (text, message, hint) in [
        ("\nnetwrok = \"signet\"", "lightnode.toml, line 2: unknown setting `netwrok`", "did you mean `network`?"),
        (
            "[fees]\n# why\nmax_sat_per_byte = 3",
            "lightnode.toml, line 3: unknown setting `fees.max_sat_per_byte`",
            "did you mean `fees.max_sat_per_vb`?",
        ),
        ("alias = \"x\"", "lightnode.toml, line 1: unknown setting `alias`", "did you mean `node.alias`?"),
        ("[fee]\nmax_sat_per_vb = 3", "lightnode.toml, line 1: unknown setting `[fee]`", "did you mean `[fees]`?"),
        (
            "[[server]]\nurl = \"ssl://a\"\n[[server]]\nurl = \"ssl://b\"\npni = \"\"",
            "lightnode.toml, line 5: unknown setting `server.pni`",
            "did you mean `server.pin`?",
        ),
        ("[fees]\n5 = 1", "lightnode.toml, line 2: unknown setting `fees.5`", ALL),
        (
            "\"fees.max_sat_per_vb\" = 3",
            "lightnode.toml, line 1: unknown setting `\"fees.max_sat_per_vb\"`",
            "did you mean `fees.max_sat_per_vb`?",
        ),
        ("\"\\u001b[2J\" = 1", "lightnode.toml, line 1: unknown setting `\"\\u{1b}[2J\"`", ALL),
        ("[node]\ntotally_else = 1", "lightnode.toml, line 2: unknown setting `node.totally_else`", ALL),
    ] {
        assert_eq!(refusal(text), (message.to_owned(), Some(hint.to_owned())), "{text}");
    }
}

#[test]
fn a_login_in_a_value_that_is_refused_is_not_shown() {
    for proxy in ["socks5://me:secret@tor.lan", "http://me:secret@tor.lan:9050"] {
        let (refused, _) = refusal(&format!("proxy = \"{proxy}\"\n"));
        assert!(!refused.contains("secret") && refused.contains("tor.lan"), "{refused}");
    }
}

#[test]
fn a_value_of_the_wrong_type_or_range_says_line_key_and_what_was_expected() {
    for (text, message) in [
        (
            "[fees]\nmax_sat_per_vb = \"many\"",
            "line 2: `fees.max_sat_per_vb` must be a whole number of sat/vB between 1 and 10000, but it is \"many\"",
        ),
        (
            "[channels]\n\nminimum_depth = 0",
            "line 3: `channels.minimum_depth` must be a whole number of confirmations between 1 and 144, but it is 0",
        ),
        ("[channels]\naccept_inbound = 1", "line 2: `channels.accept_inbound` must be true or false, but it is 1"),
        (
            "[payments]\nmax_fee_percent = -1.5",
            "line 2: `payments.max_fee_percent` must be a percentage between 0 and 100 with at most four decimals, \
             but it is -1.5",
        ),
        (
            "network = \"bitcoinn\"",
            "line 1: `network` must be one of \"bitcoin\", \"testnet\", \"testnet4\", \"signet\", \"regtest\", \
             but it is \"bitcoinn\"",
        ),
        (
            "[[server]]\nurl = \"electrum.example.org:50002\"",
            "line 2: `server.url` must be an address like ssl://electrum.example.org:50002 (a server address begins \
             with ssl:// or tcp:// (Electrum) or https:// or http:// (Esplora)), but it is \
             \"electrum.example.org:50002\"",
        ),
        (
            "[[server]]\nurl = \"ssl://a\"\npin = \"abcd\"",
            "line 3: `server.pin` must be the SHA-256 of the server's public key: 64 hex digits, but it is \"abcd\"",
        ),
        (
            "[server]\nurl = \"ssl://a\"",
            "line 1: `server` must be tables, each beginning with [[server]], but it is a table",
        ),
        (
            "server = \"ssl://a\"",
            "line 1: `server` must be tables, each beginning with [[server]], but it is \"ssl://a\"",
        ),
        (
            "[gossip]\nsource = \"https://\"",
            "line 2: `gossip.source` must be \"p2p\" or the https:// address of a rapid gossip sync server, but it is \
             \"https://\"",
        ),
        ("fees = 3", "line 1: `fees` must be a section: a line [fees] and its settings below, but it is a value"),
        ("[[server]]\npin = \"\"", "line 1: this [[server]] has no url"),
        (
            "[fees]\nfallback_sat_per_vb = 600",
            "line 2: fees.fallback_sat_per_vb (600) is over fees.max_sat_per_vb (500)",
        ),
        ("servers = [\"ssl://a\"]", "line 1: servers stand as [[server]] with url = \"ssl://…\", one each"),
        (
            "[log]\nlevel = \"verbose\"",
            "line 2: `log.level` must be a level (off, error, warn, info, debug, trace), \
             then levels by module, as in \"info,lightnode::ln=debug\", but it is \"verbose\"",
        ),
    ] {
        assert_eq!(refusal(text).0, format!("lightnode.toml, {message}"), "{text}");
    }
    assert!(refusal("[fees]\nmax_sat_per_vb = = 3").0.starts_with("lightnode.toml, line 2: not valid TOML: "));
}

#[test]
fn command_line_over_environment_over_file_over_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lightnode.toml");
    std::fs::write(&file, "network = \"signet\"\n[fees]\nmax_sat_per_vb = 20\nfallback_sat_per_vb = 2\n").unwrap();
    let mut given = Overrides { data_dir: Some(dir.path().to_owned()), ..overrides() };
    let config = Config::load(&given).unwrap();
    assert_eq!(config.file, file);
    assert_eq!(config.network, Network::Signet);
    assert_eq!((config.fees.max_sat_per_vb, config.fees.fallback_sat_per_vb), (20, 2));
    assert_eq!(config.servers.len(), 3);

    given.environment.insert("LIGHTNODE_FEES_MAX_SAT_PER_VB".into(), "30".into());
    given.environment.insert("LIGHTNODE_SERVERS".into(), "tcp://10.0.0.2, ssl://b:7".into());
    given.environment.insert("LIGHTNODE_NETWORK".into(), "regtest".into());
    let config = Config::load(&given).unwrap();
    assert_eq!(config.fees.max_sat_per_vb, 30);
    assert_eq!(config.network, Network::Regtest);
    let servers: Vec<String> = config.servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(servers, ["tcp://10.0.0.2:50001", "ssl://b:7"]);

    given.set.push(("fees.max_sat_per_vb".into(), "40".into()));
    given.network = Some("testnet4".into());
    let config = Config::load(&given).unwrap();
    assert_eq!((config.fees.max_sat_per_vb, config.network), (40, Network::Testnet4));

    for name in ["LIGHTNODE_TEST_KEEP", "LIGHTNODE_KEEP", "LIGHTNODE_REGTEST_DEPS", "LIGHTNODE_TEST_PATIENCE"] {
        given.environment.insert(name.into(), "1".into());
    }
    assert!(Config::load(&given).is_ok(), "variables of scripts are not ours");
    given.environment.insert("LIGHTNODE_NETWROK".into(), "regtest".into());
    assert_eq!(Config::load(&given).unwrap_err().hint().unwrap(), "did you mean `LIGHTNODE_NETWORK`?");
    given.environment.remove("LIGHTNODE_NETWROK");
    given.environment.insert("LIGHTNODE_SERVER".into(), "tcp://10.0.0.3".into());
    assert_eq!(Config::load(&given).unwrap_err().hint().unwrap(), "did you mean `LIGHTNODE_SERVERS`?");
    given.environment.remove("LIGHTNODE_SERVER");
    given.set.push(("server".into(), "tcp://10.0.0.3".into()));
    assert_eq!(Config::load(&given).unwrap_err().hint().unwrap(), "did you mean `servers`?");
    given.set.pop();
    given.environment.insert("LIGHTNODE_FEES_MAX_SATS_PER_VB".into(), "1".into());
    let error = Config::load(&given).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable LIGHTNODE_FEES_MAX_SATS_PER_VB: unknown setting `LIGHTNODE_FEES_MAX_SATS_PER_VB`"
    );
    assert_eq!(error.hint().unwrap(), "did you mean `LIGHTNODE_FEES_MAX_SAT_PER_VB`?");
}

#[test]
fn a_named_file_must_exist_and_an_unnamed_one_need_not() {
    assert!(Config::load(&overrides()).is_ok());
    let named = Overrides { config: Some("/nonexistent/a.toml".into()), ..overrides() };
    assert!(matches!(Config::load(&named), Err(ConfigError::Unreadable { .. })));
    assert!(matches!(Config::load(&Overrides::default()), Err(ConfigError::NoHome)));
}

#[test]
fn a_node_without_servers_is_refused_when_it_shall_run() {
    let config = parse("network = \"regtest\"").unwrap();
    let error = config.require_servers().unwrap_err();
    assert_eq!(error.to_string(), "no server is configured for regtest, and there are no public ones to begin with");
    assert!(parse("").unwrap().require_servers().is_ok());
    assert!(parse("server = []").unwrap().require_servers().is_err());
}

#[test]
fn a_socket_path_that_the_system_would_cut_is_refused() {
    let long = format!("[api]\nsocket = \"/tmp/{}\"", "x".repeat(100));
    assert!(matches!(parse(&long), Err(ConfigError::SocketPath { .. })));
}

#[test]
fn what_is_wrong_is_said_in_few_words_however_long_it_is() {
    let long = "x".repeat(5000);
    for text in [format!("{long} = 1"), format!("[{long}]"), format!("[node]\nalias = \"{long}\"")] {
        assert!(refusal(&text).0.len() < 300, "{text}");
    }
    for url in [format!("https://host/{long}"), format!("ssl://{long}"), format!("ssl://host:{long}")] {
        assert!(refusal(&format!("[[server]]\nurl = \"{url}\"")).0.len() < 500, "{url}");
    }
}

#[test]
fn the_fee_limit_is_a_share_and_a_base() {
    let payments = parse("").unwrap().payments;
    assert_eq!(payments.max_fee_msat(50_000_000), 550_000);
    assert_eq!(payments.max_fee_msat(0), 50_000);
    assert_eq!(payments.max_fee_msat(u64::MAX), u64::MAX / 100 + 50_000);
}
