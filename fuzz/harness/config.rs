//! Any text as the configuration file, any variables beside it: read, or refused with the place, the key and the way
//! out, in few words; and what was read is the same when it is written out as file or variables and read again.
//!
//! The text ends at the first NUL; behind it each line is a variable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lightnode::config::{Config, ConfigError, GossipSource, Origin, Overrides};
use toml::{Table, Value};

const FILE: &str = "lightnode.toml";
const HOME: &str = "/home/me";
/// Characters of a refusal with its hint, however long what was given.
const MOST_WORDS: usize = 1000;

/// Must return, whatever the text is; panics when a refusal does not help, or when what was read is not what is meant.
pub(crate) fn run(data: &[u8]) {
    let Ok(input) = std::str::from_utf8(data) else { return };
    let (text, variables) = input.split_once('\0').unwrap_or((input, ""));
    let variables: BTreeMap<String, String> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match read(text, &variables) {
        Ok(config) => {
            nothing_is_passed_over(text);
            same_again(&config);
        }
        Err(error) => helps(&error, text, &variables),
    }
}

fn read(text: &str, variables: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let overrides =
        Overrides { home: Some(PathBuf::from(HOME)), environment: variables.clone(), ..Overrides::default() };
    Config::from_layers(&overrides, Path::new(FILE), Some(text))
}

fn helps(error: &ConfigError, text: &str, variables: &BTreeMap<String, String>) {
    let words = format!("{error} {}", error.hint().unwrap_or_default());
    assert!(words.chars().count() <= MOST_WORDS, "too long: {words}");
    assert!(!words.chars().any(char::is_control), "not fit for a terminal: {words:?}");
    let place = |origin: &Origin| match origin {
        Origin::File { path, line } => {
            assert_eq!(path, Path::new(FILE));
            text.split('\n').nth(line - 1).unwrap_or_else(|| panic!("there is no such line: {words}")).to_owned()
        }
        Origin::Environment(name) => variables.get_key_value(name).map(|(name, _)| name.clone()).expect("a variable"),
        Origin::CommandLine(_) => panic!("there is no command line: {words}"),
    };
    match error {
        ConfigError::Syntax { path, line, .. } => {
            place(&Origin::File { path: path.clone(), line: *line });
        }
        ConfigError::UnknownKey { origin, key, nearest } => {
            shows(&place(origin), key, &words);
            if let Some(nearest) = nearest {
                assert!(KNOWN.contains(nearest), "not a setting: {words}");
            }
        }
        ConfigError::Value { origin, key, expected, found } => {
            let place = place(origin);
            if matches!(origin, Origin::File { .. }) {
                shows(&place, key, &words);
            }
            assert!(!expected.is_empty() && !found.is_empty(), "{words}");
        }
        ConfigError::Conflict { origin, .. } => {
            place(origin);
        }
        ConfigError::NoUrl { origin } => {
            place(origin.as_ref().expect("a place"));
        }
        ConfigError::SocketPath { path } => assert!(path.as_os_str().len() > 100),
        ConfigError::Unreadable { .. } | ConfigError::NoHome | ConfigError::NoServers { .. } => {
            panic!("no fault of the text: {words}")
        }
    }
}

/// The place shows the key: at least its last name, unless that stands there in other letters (`\u0061`) or was cut.
fn shows(place: &str, key: &str, words: &str) {
    assert!(!key.trim_matches(['[', ']']).is_empty(), "which key? {words}");
    let bare = key.trim_matches(['[', ']', '"']);
    let last = if key.starts_with('"') { bare } else { bare.rsplit('.').next().expect("one at least") };
    if !place.contains('\\') && !last.contains(['\\', '…']) {
        assert!(place.contains(last), "{words}\nbut there stands: {place}");
    }
}

/// What stands in an accepted file is a setting, each entry of it.
fn nothing_is_passed_over(text: &str) {
    let is_known = |name: &str| assert!(KNOWN.contains(name), "{name} was passed over:\n{text}");
    for (name, value) in text.parse::<Table>().expect("it was read") {
        match value {
            Value::Table(section) => section.keys().for_each(|key| is_known(&format!("{name}.{key}"))),
            Value::Array(entries) if name == "server" => {
                let tables = entries.iter().map(|entry| entry.as_table().expect("a server is a table"));
                tables.flat_map(Table::keys).for_each(|key| is_known(&format!("server.{key}")));
            }
            _ => is_known(&name),
        }
    }
}

/// Every name of a setting, of a section, and of a variable.
static KNOWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let default = read("", &BTreeMap::new()).expect("the defaults");
    let names: Vec<&str> = settings(&default).into_iter().map(|(name, _)| name).collect();
    let more = ["server.url", "server.trusted", "server.pin", "servers"];
    let names = names.into_iter().chain(more);
    names
        .flat_map(|name| {
            let section = name.split_once('.').map(|(section, _)| format!("[{section}]"));
            [name.to_owned(), variable(name)].into_iter().chain(section)
        })
        .collect()
});

fn variable(name: &str) -> String {
    format!("LIGHTNODE_{}", name.replace('.', "_").to_uppercase())
}

/// Written as a file, and as a file of lists only with variables for the rest, it is read as it was.
fn same_again(config: &Config) {
    let (mut whole, mut lists, mut variables) = (String::new(), String::new(), BTreeMap::new());
    for (name, value) in settings(config) {
        let line = format!("{name} = {value}\n");
        whole.push_str(&line);
        match value {
            Value::Array(_) => lists.push_str(&line),
            Value::String(text) => drop(variables.insert(variable(name), text)),
            other => drop(variables.insert(variable(name), other.to_string())),
        }
    }
    let servers = servers(config);
    let again = read(&format!("{whole}{servers}"), &BTreeMap::new()).expect("what was read can be written");
    assert_eq!(&again, config);
    let again = read(&format!("{lists}{servers}"), &variables).expect("what was read can be set");
    assert_eq!(&again, config);
}

fn servers(config: &Config) -> String {
    if config.servers.is_empty() {
        return "server = []\n".to_owned();
    }
    let written = config.servers.iter().map(|server| {
        let pin = server.pin.map(|pin| hex(&pin)).unwrap_or_default();
        format!("[[server]]\nurl = \"{}\"\ntrusted = {}\npin = \"{pin}\"\n", server.address, server.trusted)
    });
    written.collect()
}

/// Every setting but the servers. What is new in `Config` fails to compile here.
fn settings(config: &Config) -> Vec<(&'static str, Value)> {
    let Config {
        network,
        data_dir,
        passphrase_file,
        file: _,
        mark_dir,
        servers: _,
        proxy,
        chain,
        alarms,
        node,
        channels,
        payments,
        fees,
        wallet,
        gossip,
        backup,
        api,
        log,
    } = config;
    let gossip = match gossip {
        GossipSource::P2p => "p2p".to_owned(),
        GossipSource::Rapid(url) => url.clone(),
    };
    let proxy = proxy.as_ref().map(|proxy| match &proxy.login {
        Some(login) => format!("socks5://{}:{}@{}", login.user, login.password, proxy.at),
        None => format!("socks5://{}", proxy.at),
    });
    vec![
        ("network", text(network)),
        ("data_dir", path(Some(data_dir))),
        ("passphrase_file", path(passphrase_file.as_ref())),
        ("mark_dir", path(mark_dir.as_ref())),
        ("proxy", text(proxy.unwrap_or_default())),
        ("chain.connect_timeout_secs", number(chain.connect_timeout.as_secs())),
        ("chain.request_timeout_secs", number(chain.request_timeout.as_secs())),
        ("chain.ping_interval_secs", number(chain.ping_interval.as_secs())),
        ("chain.max_backoff_secs", number(chain.max_backoff.as_secs())),
        ("chain.audit_interval_secs", number(chain.audit_interval.unwrap_or_default().as_secs())),
        ("chain.poll_interval_secs", number(chain.poll_interval.as_secs())),
        ("alarms.rotate_after_secs", number(alarms.rotate_after.as_secs())),
        ("alarms.degraded_after_secs", number(alarms.degraded_after.as_secs())),
        ("alarms.refuse_after_secs", number(alarms.refuse_after.as_secs())),
        ("node.alias", text(node.alias.clone().unwrap_or_default())),
        ("node.color", text(format!("#{}", hex(&node.color)))),
        ("node.listen", texts(&node.listen)),
        ("node.announce", texts(&node.announce)),
        ("channels.accept_inbound", Value::Boolean(channels.accept_inbound)),
        ("channels.min_inbound_sat", number(channels.min_inbound_sat)),
        ("channels.max_funding_sat", number(channels.max_funding_sat)),
        ("channels.minimum_depth", number(channels.minimum_depth)),
        ("channels.their_delay_blocks", number(channels.their_delay_blocks)),
        ("channels.max_our_delay_blocks", number(channels.max_our_delay_blocks)),
        ("channels.max_in_flight_percent", number(channels.max_in_flight_percent)),
        ("channels.forwarding_base_fee_msat", number(channels.forwarding_base_fee_msat)),
        ("channels.forwarding_fee_ppm", number(channels.forwarding_fee_ppm)),
        ("channels.cltv_expiry_delta", number(channels.cltv_expiry_delta)),
        ("channels.reserve_sat", number(channels.reserve_sat)),
        ("channels.force_close_avoidance_sat", number(channels.force_close_avoidance_sat)),
        ("payments.max_fee_percent", Value::Float(f64::from(payments.max_fee_ppm) / 10_000.0)),
        ("payments.max_fee_base_sat", number(payments.max_fee_base_sat)),
        ("payments.timeout_secs", number(payments.timeout.as_secs())),
        ("payments.max_parts", number(payments.max_parts)),
        ("payments.invoice_expiry_secs", number(payments.invoice_expiry.as_secs())),
        ("fees.max_sat_per_vb", number(fees.max_sat_per_vb)),
        ("fees.min_sat_per_vb", number(fees.min_sat_per_vb)),
        ("fees.fallback_sat_per_vb", number(fees.fallback_sat_per_vb)),
        ("fees.max_factor_per_hour", number(fees.max_factor_per_hour)),
        ("wallet.gap_limit", number(wallet.gap_limit)),
        ("gossip.source", text(gossip)),
        ("backup.path", path(backup.path.as_ref())),
        ("backup.command", texts(&backup.command)),
        ("api.socket", path(Some(&api.socket))),
        ("api.tcp", text(api.tcp.as_ref().map(ToString::to_string).unwrap_or_default())),
        ("api.token_file", path(Some(&api.token_file))),
        ("log.level", text(&log.level)),
        ("log.keep_days", number(log.keep_days)),
    ]
}

fn number(number: impl Into<u64>) -> Value {
    Value::Integer(number.into().try_into().expect("bounded by the range of the setting"))
}

fn text(text: impl Display) -> Value {
    Value::String(text.to_string())
}

fn texts(texts: &[impl Display]) -> Value {
    Value::Array(texts.iter().map(text).collect())
}

fn path(path: Option<&PathBuf>) -> Value {
    text(path.map_or("", |path| path.to_str().expect("made from text")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
