//! The child: one question from standard input, LDK's engine, one opinion to standard output.

use std::io::{self, Read, Write};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bitcoin::BlockHash;
use electrum_client::{Client, ClientType, Config, ElectrumApi, Error, Socks5Config};
use lightning::chain::transaction::OutPoint;
use lightning::chain::{Filter, WatchedOutput};
use lightning::util::logger::{Logger, Record};
use lightning_transaction_sync::ElectrumSyncClient;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::parent::DEADLINE;
use super::recorder::Recorder;
use super::{Opinion, Question, Through};
use crate::text::clip;

/// The longest question, in bytes: some hundred bytes for each of 100,000 outputs.
const LONGEST_QUESTION: u64 = 32 << 20;
/// Address space, in bytes. A history of 8 MB, the largest legal reply, takes a fifth of it.
const MEMORY: u64 = 256 << 20;
/// Seconds of silence after which LDK's client gives up; the deadline for all of it is the parent's.
const SILENCE_SECS: u8 = 20;
/// A child whose parent was killed ends by itself.
const LIFE: Duration = DEADLINE.saturating_add(Duration::from_secs(30));
/// Of foreign words, in columns.
const WORDS: usize = 160;

/// Runs the child; its exit says whether there is an opinion to read.
pub fn run() -> ExitCode {
    thread::spawn(|| {
        thread::sleep(LIFE);
        process::exit(1);
    });
    limit();
    let mut text = Vec::new();
    let read = io::stdin().lock().take(LONGEST_QUESTION).read_to_end(&mut text);
    let question = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
    let Some(question) = question else { return ExitCode::FAILURE };
    let opinion = form(&question);
    let mut out = io::stdout().lock();
    match serde_json::to_writer(&mut out, &opinion).map_err(io::Error::from).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// No more memory than is needed, and no core file of a panic. A system without these limits goes without.
fn limit() {
    for (resource, most) in [(Resource::As, MEMORY), (Resource::Core, 0)] {
        let present = getrlimit(resource);
        let most = present.maximum.map_or(most, |hard| hard.min(most));
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: present.maximum });
    }
}

/// Asks LDK's engine.
fn form(question: &Question) -> Opinion {
    let proxy = question.proxy.clone();
    let proxy = proxy.map(|Through { proxy, user, password }| Socks5Config::with_credentials(proxy, user, password));
    let config = Config::builder().timeout(Some(SILENCE_SECS)).retry(0).validate_domain(true).socks5(proxy).build();
    if let Err(opinion) = greet(question, &config) {
        return opinion;
    }
    let engine = Client::from_config(&question.server, config)
        .map_err(|error| words(&error))
        .and_then(|client| ElectrumSyncClient::from_client(Arc::new(client), &Silent).map_err(|e| e.to_string()));
    let engine = match engine {
        Ok(engine) => engine,
        Err(why) => return Opinion::BrokeOff { why: format!("the server did not take a second connection: {why}") },
    };
    for (txid, script) in &question.watched.transactions {
        engine.register_tx(txid, script);
    }
    for (outpoint, script) in &question.watched.outputs {
        // LDK's own limit: a transaction with an output of ours has no more.
        let Ok(index) = u16::try_from(outpoint.vout) else { continue };
        let outpoint = OutPoint { txid: outpoint.txid, index };
        engine.register_output(WatchedOutput { block_hash: None, outpoint, script_pubkey: script.clone() });
    }
    let recorder = Recorder::default();
    let synced = engine.sync(vec![&recorder]);
    match (synced, recorder.conclusion()) {
        (Ok(()), (Some(tip), confirmed)) => Opinion::Formed { tip, confirmed },
        (Ok(()), (None, _)) => Opinion::BrokeOff { why: "the server named no best block".into() },
        (Err(_), _) => Opinion::BrokeOff {
            why: "LDK's engine gave up on the server's replies: refused, too late, or not as they should be".into(),
        },
    }
}

/// A first talk: whether its client and the server understand each other, and are of one network. The engine keeps the
/// causes of failures to itself.
fn greet(question: &Question, config: &Config) -> Result<(), Opinion> {
    let cannot = |why: String| Opinion::CannotSpeak { why };
    let client = ClientType::from_config(&question.server, config)
        .map_err(|error| cannot(format!("LDK's client cannot connect: {}", words(&error))))?;
    let talked = match &client {
        ClientType::TCP(client) => talk(client),
        ClientType::SSL(client) => talk(client),
        ClientType::Socks5(client) => talk(client),
    };
    match talked {
        Ok(genesis) if genesis == question.genesis => Ok(()),
        Ok(_) => Err(cannot("the server is of another network".into())),
        Err(error) => Err(cannot(match &error {
            Error::Protocol(said) if says_version(said) => format!(
                "the server wants to hear `server.version` first, which LDK's client never says: {}",
                words(&error)
            ),
            Error::Protocol(_) => format!("the server refuses LDK's client: {}", words(&error)),
            _ => format!("LDK's client had no answer that it understands: {}", words(&error)),
        })),
    }
}

fn talk(client: &impl ElectrumApi) -> Result<BlockHash, Error> {
    client.block_headers_subscribe()?;
    Ok(client.block_header(0)?.block_hash())
}

fn says_version(said: &serde_json::Value) -> bool {
    said.to_string().contains("server.version")
}

fn words(error: &Error) -> String {
    clip(error.to_string().trim(), WORDS)
}

/// LDK's engine logs what it does; nobody reads it here.
struct Silent;

impl Logger for Silent {
    fn log(&self, _: Record) {}
}
