//! From the layers to one checked [`Config`].

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Network;

use super::error::{ConfigError, Origin};
use super::parse::{
    alias, boolean, color, gossip, levels, list, network, optional, parsed, path, percent, pin, text, whole,
};
use super::read::Reader;
use super::*;

/// `sun_path` of a Unix socket has 108 bytes on Linux, 104 elsewhere; some room for a temporary name.
const LONGEST_SOCKET: usize = 100;
/// The passphrase's name among systemd's credentials (systemd.exec, `LoadCredential=`).
const CREDENTIAL: &str = "lightnode-passphrase";
const MAX_SAT: u64 = 21_000_000 * 100_000_000;

/// What the command line and the surroundings say about the settings.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--network`
    pub network: Option<String>,
    /// `--set key=value`
    pub set: Vec<(String, String)>,
    /// `LIGHTNODE_…` variables.
    pub environment: BTreeMap<String, String>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// `XDG_STATE_HOME`: where programs keep what belongs to this machine.
    pub state_home: Option<PathBuf>,
    /// Where systemd puts credentials (`$CREDENTIALS_DIRECTORY`).
    pub credentials: Option<PathBuf>,
}

impl Overrides {
    /// Only the surroundings of this process: its environment and home directory.
    pub fn surroundings() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("LIGHTNODE_"))
            .collect();
        // Was deprecated for what it did on Windows, until Rust 1.87.
        #[allow(deprecated)]
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let state_home = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self { environment, home, state_home, credentials, ..Self::default() }
    }
}

/// The commented configuration that `init` writes for a network.
pub fn example(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => include_str!("../../config/bitcoin.toml"),
        Network::Testnet => include_str!("../../config/testnet.toml"),
        Network::Testnet4 => include_str!("../../config/testnet4.toml"),
        Network::Signet => include_str!("../../config/signet.toml"),
        Network::Regtest => include_str!("../../config/regtest.toml"),
    }
}

/// The public servers to begin with; regtest has none.
fn public_servers(network: Network) -> &'static [&'static str] {
    match network {
        Network::Bitcoin => &[
            "ssl://electrum.blockstream.info:50002",
            "ssl://fulcrum.sethforprivacy.com:50002",
            "ssl://electrum.jhoenicke.de:50002",
            "ssl://electrum.emzy.de:50002",
            "ssl://bitcoin.lu.ke:50002",
            "ssl://electrum.bitaroo.net:50002",
            "ssl://electrum.diynodes.com:50022",
            "ssl://fortress.qtornado.com:443",
        ],
        Network::Testnet4 => &[
            "ssl://testnet4.qtornado.com:51012",
            "ssl://blackie.c3-soft.com:57010",
            "ssl://fulcrum.theuplink.net:60002",
        ],
        Network::Signet => {
            &["ssl://signet-electrumx.wakiyamap.dev:50002", "ssl://electrum.emzy.de:53002", "ssl://mempool.space:60602"]
        }
        Network::Testnet | Network::Regtest => &[],
    }
}

impl Config {
    /// Reads all layers. The file may be missing unless it was named.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let (file, text) = find_file(overrides)?;
        let mut config = Self::from_layers(overrides, &file, text.as_deref())?;
        if config.mark_dir.is_none() {
            let home = || overrides.home.as_ref().map(|home| home.join(".local/state"));
            config.mark_dir = overrides.state_home.clone().or_else(home).map(|state| state.join("lightnode"));
        }
        let credential = overrides.credentials.as_ref().map(|dir| dir.join(CREDENTIAL)).filter(|path| path.exists());
        config.passphrase_file = config.passphrase_file.or(credential);
        Ok(config)
    }

    /// The settings that a text alone gives, as if it were the file `path`.
    pub fn from_text(path: &Path, text: &str, home: &Path) -> Result<Self, ConfigError> {
        let overrides = Overrides { home: Some(home.to_owned()), ..Overrides::default() };
        Self::from_layers(&overrides, path, Some(text))
    }

    /// The settings of a text, as if it were the file `path`, under what overrides it. No file is looked at.
    pub fn from_layers(overrides: &Overrides, path: &Path, text: Option<&str>) -> Result<Self, ConfigError> {
        let mut reader = layers(overrides, path, text)?;
        let config = Self::read(&mut reader, path.to_owned(), overrides.home.as_deref())?;
        reader.finish()?;
        Ok(config)
    }

    /// Refuses to run a node that could never learn anything.
    pub fn require_servers(&self) -> Result<(), ConfigError> {
        if self.servers.is_empty() {
            let network = self.network.to_string();
            return Err(ConfigError::NoServers { network, file: self.file.clone() });
        }
        Ok(())
    }

    pub(super) fn read(r: &mut Reader, file: PathBuf, home: Option<&Path>) -> Result<Self, ConfigError> {
        let network = r.get("network", Network::Bitcoin, network)?;
        let data_dir = match r.get("data_dir", None, optional(path))? {
            Some(dir) => absolute(expand(dir, home)?)?,
            None => default_dir(network, home)?,
        };
        let mark_dir = r.get("mark_dir", None, optional(path))?;
        let proxy = r.get("proxy", None, optional(parsed("a proxy like socks5://127.0.0.1:9050")))?;
        let config = Self {
            network,
            mark_dir: mark_dir.map(|dir| absolute(expand(dir, home)?)).transpose()?,
            passphrase_file: match r.get("passphrase_file", None, optional(path))? {
                Some(path) => Some(inside(path, &data_dir, home)?),
                None => None,
            },
            servers: servers(r, network)?,
            chain: Chain {
                // Circuits take their time.
                connect_timeout: secs(r, "chain.connect_timeout_secs", if proxy.is_some() { 60 } else { 10 }, 1, 300)?,
                request_timeout: secs(r, "chain.request_timeout_secs", 30, 1, 600)?,
                ping_interval: secs(r, "chain.ping_interval_secs", 300, 1, 590)?,
                max_backoff: secs(r, "chain.max_backoff_secs", 600, 1, 86_400)?,
                audit_interval: Some(secs(r, "chain.audit_interval_secs", 86_400, 0, 2_592_000)?)
                    .filter(|interval| !interval.is_zero()),
                poll_interval: secs(r, "chain.poll_interval_secs", 60, 1, 600)?,
            },
            alarms: alarms(r, network)?,
            node: Identity {
                alias: r.get("node.alias", None, optional(alias))?,
                color: r.get("node.color", [0xf7, 0x93, 0x1a], color)?,
                listen: r.get("node.listen", Vec::new(), list(parsed("host:port")))?,
                announce: r.get("node.announce", Vec::new(), list(parsed("host:port")))?,
            },
            channels: channels(r)?,
            payments: Payments {
                max_fee_ppm: r.get("payments.max_fee_percent", 10_000, percent)?,
                max_fee_base_sat: r.get("payments.max_fee_base_sat", 50, whole(0..=MAX_SAT, "sat"))?,
                timeout: secs(r, "payments.timeout_secs", 60, 1, 86_400)?,
                max_parts: r.get("payments.max_parts", 10, whole(1..=30, "parts"))?,
                invoice_expiry: secs(r, "payments.invoice_expiry_secs", 3600, 60, 31_536_000)?,
            },
            fees: Fees {
                max_sat_per_vb: r.get("fees.max_sat_per_vb", 500, whole(1..=10_000, "sat/vB"))?,
                min_sat_per_vb: r.get("fees.min_sat_per_vb", 1, whole(1..=10_000, "sat/vB"))?,
                fallback_sat_per_vb: r.get("fees.fallback_sat_per_vb", 10, whole(1..=10_000, "sat/vB"))?,
                max_factor_per_hour: r.get("fees.max_factor_per_hour", 4, whole(2..=100, "times"))?,
            },
            wallet: Wallet { gap_limit: r.get("wallet.gap_limit", 20, whole(1..=1000, "addresses"))? },
            gossip: r.get("gossip.source", GossipSource::P2p, gossip)?,
            backup: Backup {
                path: r
                    .get("backup.path", Some(PathBuf::from("channels.backup")), optional(path))?
                    .map(|path| inside(path, &data_dir, home))
                    .transpose()?,
                command: r.get("backup.command", Vec::new(), list(text))?,
            },
            api: Api {
                socket: inside(r.get("api.socket", PathBuf::from("lightnode.sock"), path)?, &data_dir, home)?,
                tcp: r.get("api.tcp", None, optional(parsed("host:port")))?,
                token_file: inside(r.get("api.token_file", PathBuf::from("api.token"), path)?, &data_dir, home)?,
            },
            proxy,
            log: Log {
                level: r.get("log.level", "info,lightning::chain=warn".to_owned(), levels)?,
                keep_days: r.get("log.keep_days", 14, whole(1..=3650, "days"))?,
            },
            data_dir,
            file,
        };
        config.check(r)?;
        Ok(config)
    }

    /// What no single setting can see.
    fn check(&self, r: &Reader) -> Result<(), ConfigError> {
        let conflict = |key: &str, message: String| match r.origin(key) {
            Some(origin) => Err(ConfigError::Conflict { origin, message }),
            None => Ok(()),
        };
        if self.fees.min_sat_per_vb > self.fees.fallback_sat_per_vb {
            let Fees { min_sat_per_vb, fallback_sat_per_vb, .. } = self.fees;
            let message = format!(
                "fees.min_sat_per_vb ({min_sat_per_vb}) is over fees.fallback_sat_per_vb ({fallback_sat_per_vb})"
            );
            conflict("fees.min_sat_per_vb", message.clone())?;
            conflict("fees.fallback_sat_per_vb", message)?;
        }
        if self.fees.fallback_sat_per_vb > self.fees.max_sat_per_vb {
            let Fees { fallback_sat_per_vb, max_sat_per_vb, .. } = self.fees;
            let message = format!(
                "fees.fallback_sat_per_vb ({fallback_sat_per_vb}) is over fees.max_sat_per_vb ({max_sat_per_vb})"
            );
            conflict("fees.fallback_sat_per_vb", message.clone())?;
            conflict("fees.max_sat_per_vb", message)?;
        }
        if self.channels.min_inbound_sat > self.channels.max_funding_sat {
            let Channels { min_inbound_sat, max_funding_sat, .. } = self.channels;
            let message = format!(
                "channels.min_inbound_sat ({min_inbound_sat}) is over channels.max_funding_sat ({max_funding_sat})"
            );
            conflict("channels.min_inbound_sat", message.clone())?;
            conflict("channels.max_funding_sat", message)?;
        }
        let Alarms { degraded_after, refuse_after, .. } = self.alarms;
        if !refuse_after.is_zero() && refuse_after < degraded_after {
            let message = format!(
                "alarms.refuse_after_secs ({}) is under alarms.degraded_after_secs ({}): payments would be refused \
                 before anything is said",
                refuse_after.as_secs(),
                degraded_after.as_secs()
            );
            conflict("alarms.refuse_after_secs", message.clone())?;
            conflict("alarms.degraded_after_secs", message)?;
        }
        if self.api.socket.as_os_str().len() > LONGEST_SOCKET {
            return Err(ConfigError::SocketPath { path: self.api.socket.clone() });
        }
        Ok(())
    }
}

/// Blocks of the test networks come irregularly, those of regtest on demand: there silence means nothing by itself.
fn alarms(r: &mut Reader, network: Network) -> Result<Alarms, ConfigError> {
    let usual = |secs: u64| if network == Network::Bitcoin { secs } else { 0 };
    Ok(Alarms {
        rotate_after: secs(r, "alarms.rotate_after_secs", 3600, 0, 86_400)?,
        degraded_after: secs(r, "alarms.degraded_after_secs", usual(5400), 0, 86_400)?,
        refuse_after: secs(r, "alarms.refuse_after_secs", usual(7200), 0, 86_400)?,
    })
}

fn channels(r: &mut Reader) -> Result<Channels, ConfigError> {
    Ok(Channels {
        accept_inbound: r.get("channels.accept_inbound", true, boolean)?,
        min_inbound_sat: r.get("channels.min_inbound_sat", 20_000, whole(1000..=MAX_SAT, "sat"))?,
        max_funding_sat: r.get("channels.max_funding_sat", 16_777_215, whole(1000..=1_000_000_000, "sat"))?,
        minimum_depth: r.get("channels.minimum_depth", 6, whole(1..=144, "confirmations"))?,
        their_delay_blocks: r.get("channels.their_delay_blocks", 288, whole(144..=2016, "blocks"))?,
        max_our_delay_blocks: r.get("channels.max_our_delay_blocks", 2016, whole(144..=2016, "blocks"))?,
        max_in_flight_percent: r.get("channels.max_in_flight_percent", 100, whole(1..=100, "percent"))?,
        forwarding_base_fee_msat: r.get("channels.forwarding_base_fee_msat", 1000, whole(0..=1_000_000_000, "msat"))?,
        forwarding_fee_ppm: r.get(
            "channels.forwarding_fee_ppm",
            100,
            whole(0..=1_000_000, "millionths of the amount"),
        )?,
        // LDK refuses to forward with fewer than 48 (MIN_CLTV_EXPIRY_DELTA).
        cltv_expiry_delta: r.get("channels.cltv_expiry_delta", 144, whole(48..=2016, "blocks"))?,
        reserve_sat: r.get("channels.reserve_sat", 25_000, whole(0..=MAX_SAT, "sat"))?,
        force_close_avoidance_sat: r.get("channels.force_close_avoidance_sat", 1000, whole(0..=MAX_SAT, "sat"))?,
    })
}

/// `LIGHTNODE_SERVERS` (or `--set servers=`) over the `[[server]]`s of the file over the public ones.
fn servers(r: &mut Reader, network: Network) -> Result<Vec<Server>, ConfigError> {
    const ADDRESS: &str = "an address like ssl://electrum.example.org:50002";
    let mut configured = Vec::new();
    let entries = r.entries("server");
    for index in 0..entries.unwrap_or(0) {
        let key = format!("server.{index}.url");
        let address = r.get(&key, None, optional(parsed::<ServerAddr>(ADDRESS)))?;
        let trusted = r.get(&format!("server.{index}.trusted"), false, boolean)?;
        let pin = r.get(&format!("server.{index}.pin"), None, optional(pin))?;
        let Some(address) = address else {
            return Err(ConfigError::NoUrl { origin: r.entry_origin("server", index) });
        };
        configured.push(Server { address, trusted, pin });
    }
    let simple = |address| Server { address, trusted: false, pin: None };
    if let Some(addresses) = r.get("servers", None, |value| list(parsed(ADDRESS))(value).map(Some))? {
        return match r.origin("servers") {
            Some(origin @ Origin::File { .. }) => {
                let message = "servers stand as [[server]] with url = \"ssl://…\", one each".to_owned();
                Err(ConfigError::Conflict { origin, message })
            }
            _ => Ok(addresses.into_iter().map(simple).collect()),
        };
    }
    if entries.is_some() {
        return Ok(configured);
    }
    Ok(public_servers(network).iter().filter_map(|url| url.parse().ok()).map(simple).collect())
}

fn secs(r: &mut Reader, key: &str, default: u64, least: u64, most: u64) -> Result<Duration, ConfigError> {
    r.get(key, default, whole(least..=most, "seconds")).map(Duration::from_secs)
}

/// The file to read, and its text where it exists.
fn find_file(overrides: &Overrides) -> Result<(PathBuf, Option<String>), ConfigError> {
    let home = overrides.home.as_deref();
    let named = overrides.config.clone();
    let named = named.or_else(|| overrides.environment.get("LIGHTNODE_CONFIG").map(PathBuf::from));
    let path = match &named {
        Some(path) => absolute(expand(path.clone(), home)?)?,
        None => {
            let mut outside = layers(overrides, Path::new(""), None)?;
            let network = outside.get("network", Network::Bitcoin, network)?;
            let dir = match outside.get("data_dir", None, optional(path))? {
                Some(dir) => absolute(expand(dir, home)?)?,
                None => default_dir(network, home)?,
            };
            dir.join("lightnode.toml")
        }
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok((path, Some(text))),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => Ok((path, None)),
        Err(source) => Err(ConfigError::Unreadable { path, source }),
    }
}

fn layers(overrides: &Overrides, file: &Path, text: Option<&str>) -> Result<Reader, ConfigError> {
    let mut reader = Reader::default();
    for (key, value) in &overrides.set {
        reader.command_line(key, value, &format!("--set {key}"));
    }
    if let Some(network) = &overrides.network {
        reader.command_line("network", network, "--network");
    }
    if let Some(dir) = &overrides.data_dir {
        reader.command_line("data_dir", &dir.to_string_lossy(), "--data-dir");
    }
    let variables = overrides.environment.iter().filter(|(name, _)| *name != "LIGHTNODE_CONFIG");
    reader.environment(variables.map(|(name, value)| (name.as_str(), value.as_str())));
    if let Some(text) = text {
        reader.file(file, text)?;
    }
    Ok(reader)
}

fn default_dir(network: Network, home: Option<&Path>) -> Result<PathBuf, ConfigError> {
    let base = home.ok_or(ConfigError::NoHome)?.join(".lightnode");
    Ok(if network == Network::Bitcoin { base } else { base.join(network.to_string()) })
}

/// `~/…` is the home directory, also where no shell expands it.
fn expand(path: PathBuf, home: Option<&Path>) -> Result<PathBuf, ConfigError> {
    match path.strip_prefix("~") {
        Ok(rest) => Ok(home.ok_or(ConfigError::NoHome)?.join(rest)),
        Err(_) => Ok(path),
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|source| ConfigError::Unreadable { path, source })
}

/// A relative path lies in the data directory.
fn inside(path: PathBuf, data_dir: &Path, home: Option<&Path>) -> Result<PathBuf, ConfigError> {
    Ok(data_dir.join(expand(path, home)?))
}
