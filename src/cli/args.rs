//! The commands and their words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::duration::parse_secs;
use crate::amount::{Amount, Feerate, SatOrAll, parse_limit};
use crate::config::Overrides;

const AMOUNTS: &str = "\
Amounts: a bare number is sat; 50k, 1.5M (million sat), 0.001btc, 1500msat, and `all` where it makes sense.
Fee rates: sat/vB.
Exit codes: 0 done · 1 failed for certain · 2 usage · 3 daemon unreachable, locked or not ready ·
4 outcome unknown, do not retry blindly · 5 not enough funds or over a limit ·
6 refused for safety · 7 database damaged.";

/// A Lightning node with no Bitcoin Core.
#[derive(Debug, Parser)]
#[command(name = "lightnode", version, max_term_width = 100, after_help = AMOUNTS, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Configuration file [env: LIGHTNODE_CONFIG] [default: <data dir>/lightnode.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the node [env: LIGHTNODE_DATA_DIR] [default: ~/.lightnode, for other networks
    /// ~/.lightnode/<network>]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// bitcoin, testnet, testnet4, signet or regtest [env: LIGHTNODE_NETWORK]
    #[arg(long, global = true, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Overrides a setting of the configuration, as in fees.max_sat_per_vb=200
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub set: Vec<(String, String)>,
    /// Prints the API's answer as JSON (also whenever stdout is no terminal)
    #[arg(long, global = true)]
    pub json: bool,
    /// Shows ids in full length; for `run`, logs more (-vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the data directory, a seed and a commented configuration
    Init(Init),
    /// Runs the node until it is stopped
    Run,
    /// Gives a running node the passphrase of its encrypted seed
    Unlock(Given),
    /// Stops the running node and waits for its end
    Stop,
    /// State, servers, peers, channels, and what the node waits for
    Status,
    /// Balances on Lightning and on-chain
    Balance,
    /// What a place in a block costs, where that comes from, and what each server says
    Fees,
    /// Gives a new on-chain address
    Address,
    /// Sends on-chain
    Send(Send),
    /// Adds, lists and removes peers
    #[command(subcommand)]
    Peer(Peer),
    /// Opens a channel
    Open(Open),
    /// Lists the channels
    Channels,
    /// Closes a channel
    Close(Close),
    /// Makes an invoice
    Receive(Receive),
    /// Shows what an invoice says
    Decode(Decode),
    /// Pays an invoice and waits for the outcome
    Pay(Pay),
    /// Lists payments, deposits and everything else that moved money, newest first
    History(History),
    /// Shows one entry of the history
    Show(Show),
    /// Looks at the chain with other eyes
    #[command(subcommand)]
    Chain(Chain),
    /// Writes the list of channels, encrypted, to a file: with the words it brings their money back after a lost disk
    Backup(Backup),
    /// Gives up the channels of an older copy of the database; their peers are asked to close them
    Recover,
    /// Looks after a recovery that is under way
    #[command(subcommand)]
    Recovery(super::recovery::Recovery),
    /// Lists the servers: what each is told, what speaks against it, and bans
    Servers(Servers),
    /// Sets, changes or removes the passphrase of the seed
    #[command(subcommand)]
    Passphrase(Passphrase),
    /// Looks after the database of a node that does not run
    #[command(subcommand)]
    Db(Db),
    /// Shows the words of the seed again
    #[command(subcommand)]
    Seed(Seed),
    /// Prints a completion script for a shell
    Completions(Completions),
    /// The process in which LDK's own engine runs, for the daemon: a question on stdin, an opinion on stdout
    #[command(hide = true)]
    SecondOpinion,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Reads 24 words from a prompt or from stdin instead of making new ones
    #[arg(long)]
    pub restore: bool,
    /// The newest backup of the lost node's channels (`lightnode backup`)
    #[arg(long, value_name = "FILE", requires = "restore")]
    pub backup: Option<PathBuf>,
    /// Encrypts the seed with a passphrase
    #[arg(long)]
    pub encrypt: bool,
    #[command(flatten)]
    pub given: Given,
    /// Asks nothing, for scripts
    #[arg(long)]
    pub yes: bool,
}

/// Where a passphrase comes from; asked for on the terminal otherwise.
#[derive(Clone, Debug, Default, Args)]
pub struct Given {
    /// Reads the passphrase from stdin, one line
    #[arg(long, conflicts_with = "passphrase_file")]
    pub stdin: bool,
    /// Reads the passphrase from a file that only you may read
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Passphrase {
    /// Sets or changes it, whether the node runs or not; a new one counts from the next start
    Change(PassphraseChange),
}

#[derive(Debug, Args)]
pub struct PassphraseChange {
    /// Decrypts the seed for good
    #[arg(long)]
    pub remove: bool,
    /// Reads from stdin: the present passphrase if there is one, then the new one, a line each
    #[arg(long)]
    pub stdin: bool,
}

#[derive(Debug, Subcommand)]
pub enum Db {
    /// Reads all of it, compares what belongs together, says what is wrong, and changes nothing
    Check(Given),
}

#[derive(Debug, Subcommand)]
pub enum Seed {
    /// Shows the 24 words; of an encrypted seed, after its passphrase
    Show(SeedShow),
}

#[derive(Debug, Args)]
pub struct SeedShow {
    #[command(flatten)]
    pub given: Given,
    /// Asks nothing, and prints also where no person looks, for scripts
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Send {
    /// On-chain address
    pub address: String,
    /// How much, or `all`
    #[arg(allow_negative_numbers = true)]
    pub amount: SatOrAll,
    /// sat/vB [default: the node's estimate]
    #[arg(long, value_name = "SAT/VB", allow_negative_numbers = true)]
    pub feerate: Option<Feerate>,
}

#[derive(Debug, Subcommand)]
pub enum Peer {
    /// Connects to a peer, and again after every restart
    Add {
        /// node_id@host:port
        peer: String,
    },
    /// Lists the peers
    List,
    /// Disconnects from a peer and forgets its address
    Remove {
        /// Its node id
        node_id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Chain {
    /// Compares what is proven here with what LDK's own engine is told; 0 only if they agree
    Audit(Audit),
}

#[derive(Debug, Args)]
pub struct Audit {
    /// tcp://host:port or ssl://host:port [default: a known server, if possible one that does not serve us]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Shows the result of the last one instead
    #[arg(long, conflicts_with = "server")]
    pub last: bool,
}

#[derive(Debug, Args)]
pub struct Open {
    /// node_id@host:port, or the node id of a known peer
    pub peer: String,
    /// Size of the channel, or `all` that can be spent
    #[arg(allow_negative_numbers = true)]
    pub amount: SatOrAll,
    /// Gives the peer this much of it
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
    pub push: Option<Amount>,
    /// Announces the channel to the network
    #[arg(long)]
    pub public: bool,
    /// sat/vB of the funding transaction [default: the node's estimate]
    #[arg(long, value_name = "SAT/VB", allow_negative_numbers = true)]
    pub feerate: Option<Feerate>,
}

#[derive(Debug, Args)]
pub struct Close {
    /// Channel id, or its first 8 digits or more
    pub id: String,
    /// Without the peer. Your money comes back later, and at higher cost
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Receive {
    /// How much [default: the payer chooses]
    #[arg(allow_negative_numbers = true)]
    pub amount: Option<Amount>,
    /// What it is for; the payer reads it
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,
    /// How long it can be paid: 90s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_secs)]
    pub expiry: Option<u32>,
    /// Waits until it is paid or expired
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, Args)]
pub struct Decode {
    /// BOLT11 invoice
    pub invoice: String,
}

#[derive(Debug, Args)]
pub struct Pay {
    /// BOLT11 invoice
    pub invoice: String,
    /// How much, for an invoice without amount
    #[arg(allow_negative_numbers = true)]
    pub amount: Option<Amount>,
    /// Most that the way may cost [default: 1 % and 50 sat]
    #[arg(long, value_name = "AMOUNT", value_parser = parse_limit, allow_negative_numbers = true)]
    pub max_fee: Option<u64>,
    /// How long attempts are made: 90s, 10m, 2h [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_secs)]
    pub timeout: Option<u32>,
}

#[derive(Debug, Args)]
pub struct History {
    /// How many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Only older ones than the entry with this id
    #[arg(long, value_name = "ID")]
    pub before: Option<String>,
}

#[derive(Debug, Args)]
pub struct Show {
    /// Payment hash or txid, or its first 8 digits or more
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Backup {
    /// Where to [default: only where the configuration says, backup.path and backup.command]
    pub path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Servers {
    #[command(subcommand)]
    pub command: Option<ServersCommand>,
}

#[derive(Debug, Subcommand)]
pub enum ServersCommand {
    /// Lifts the ban of a host, and forgets what else speaks against its servers
    Forgive {
        /// As in its address, without scheme and port
        host: String,
    },
    /// Accepts another key of a server than the known one
    Trust(TrustServer),
}

#[derive(Debug, Args)]
pub struct TrustServer {
    /// As in its address, with its port where several servers share the host
    pub host: String,
    /// Asks nothing, for scripts
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Completions {
    pub shell: Shell,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a setting is key=value, as in fees.max_sat_per_vb=200")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl Cli {
    /// What this command line says about the settings, and the surroundings.
    pub fn overrides(&self) -> Overrides {
        let mut set = self.global.set.clone();
        let level = match (&self.command, self.global.verbose) {
            (Command::Run, 1) => Some("info,lightnode=debug,lightning=debug"),
            (Command::Run, 2..) => Some("debug,lightnode=trace,lightning=trace"),
            _ => None,
        };
        if let Some(level) = level {
            set.insert(0, ("log.level".to_owned(), level.to_owned()));
        }
        Overrides {
            config: self.global.config.clone(),
            data_dir: self.global.data_dir.clone(),
            network: self.global.network.clone(),
            set,
            ..Overrides::surroundings()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("lightnode").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_manual_is_understood() {
        for line in [
            "init",
            "init --restore --yes",
            "init --restore --backup /media/usb/node.backup",
            "backup",
            "backup /media/usb/node.backup",
            "recover",
            "recovery abandon 01234567 --yes",
            "init --encrypt",
            "init --restore --encrypt --stdin --yes",
            "init --encrypt --passphrase-file /run/p --yes",
            "unlock",
            "unlock --stdin",
            "unlock --passphrase-file /run/p",
            "passphrase change",
            "passphrase change --remove --stdin",
            "seed show --yes --stdin",
            "db check",
            "db check --stdin --json",
            "run",
            "run -vv --network regtest --data-dir /tmp/x --config /tmp/y",
            "stop",
            "status --json",
            "--json status",
            "balance",
            "fees",
            "address",
            "send bc1q 50k",
            "send bc1q all --feerate 12.5",
            "peer add 02ab@host:9735",
            "peer list",
            "peer remove 02ab",
            "open 02ab@host:9735 0.01btc --push 10k --public --feerate 3",
            "open 02ab all",
            "channels -v",
            "close a1b2 --force",
            "receive",
            "receive 21k -m coffee --expiry 10m --wait",
            "receive 1500msat",
            "decode lnbc1",
            "pay lnbc1",
            "pay lnbc1 5k --max-fee 10 --timeout 2m",
            "pay lnbc1 --max-fee 0",
            "history --limit 10 --before a1",
            "show a1b2",
            "chain audit",
            "chain audit --last",
            "chain audit --server ssl://electrum.example.org:50002",
            "servers -v",
            "servers forgive electrum.example.org",
            "servers trust electrum.example.org:50002 --yes",
            "completions zsh",
            "--set fees.max_sat_per_vb=200 run",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_mistake_is_a_usage_error_that_says_what_is_wrong() {
        for (line, word) in [
            ("frobnicate", "frobnicate"),
            ("unlock --stdin --passphrase-file x", "cannot be used with"),
            ("pay", "INVOICE"),
            ("init --backup x", "--restore"),
            ("pay lnbc1 all", "`all` is not possible here"),
            ("send bc1q 0", "more than zero"),
            ("send bc1q -5", "cannot be negative"),
            ("send bc1q 1.001", "no decimals"),
            ("send bc1q 1500msat", "whole sat"),
            ("send bc1q 1.5m", "million or a thousandth"),
            ("send bc1q 21000001btc", "21 million"),
            ("send bc1q 1k --feerate 0", "more than zero"),
            ("receive all", "`all` is not possible here"),
            ("receive 1 --expiry 5y", "number of seconds"),
            ("servers forgive", "HOST"),
            ("servers trust", "HOST"),
            ("history --limit 0", "0 is not in 1..=1000"),
            ("--set fees run", "key=value"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(word), "{line}: {error}");
        }
        assert_eq!(parse("").unwrap_err().kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    }

    #[test]
    fn verbosity_raises_the_level_of_the_log_but_not_over_an_explicit_one() {
        assert_eq!(
            parse("run -v").unwrap().overrides().set,
            [("log.level".into(), "info,lightnode=debug,lightning=debug".into())]
        );
        let set = parse("run -vv --set log.level=warn").unwrap().overrides().set;
        assert_eq!(set.last(), Some(&("log.level".into(), "warn".into())));
        assert!(parse("status -v").unwrap().overrides().set.is_empty());
    }
}
