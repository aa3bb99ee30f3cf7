//! From a command to a request, and from its answer to output and exit code.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{self, Chain, Command, Peer as PeerCommand, ServersCommand};
use super::client::{Client, ClientError, Reply, segment};
use super::exit::{self, Effect, Failure};
use super::output::Output;
use super::progress::during;
use super::when::now;
use super::{backup, pay, print, receive, recovery, stop, trust};
use crate::api::types::*;
use crate::config::Config;

/// For answers that need nobody else.
const QUICK: Duration = Duration::from_secs(30);
/// For answers that need a peer or a server.
const SLOW: Duration = Duration::from_secs(180);

/// For LDK's own engine to look at everything, one thing after the other, on some servers.
const AUDIT: Duration = Duration::from_secs(400);

/// Carries a client command out. Returns the exit code; what touches the seed, `run` and `completions` are not client
/// commands.
pub async fn run(command: &Command, config: &Config, output: Output) -> u8 {
    let client = Client::new(&config.api.socket);
    match dispatch(command, &client, config, output).await {
        Ok(code) => code,
        Err(failure) => output.failure(&failure),
    }
}

async fn dispatch(command: &Command, client: &Client, config: &Config, output: Output) -> Result<u8, Failure> {
    let verbose = output.verbose;
    match command {
        Command::Stop => stop::stop(client, output).await,
        Command::Status => get(client, output, "/v1/status", |status| print::status(status, now())).await,
        Command::Balance => get(client, output, "/v1/balance", |balance| print::balance(balance, verbose)).await,
        Command::Fees => get(client, output, "/v1/fees", |fees| print::fees(fees, verbose)).await,
        Command::Address => {
            let asked = Asked { path: "/v1/address", what: "asking for an address", effect: Effect::Harmless };
            post(client, output, asked, &serde_json::json!({}), print::address).await
        }
        Command::Send(args) => send(client, output, args).await,
        Command::Peer(PeerCommand::List) => {
            get(client, output, "/v1/peers", |peers: &Vec<Peer>| print::peers(peers, now(), verbose)).await
        }
        Command::Peer(PeerCommand::Add { peer }) => {
            let asked = Asked { path: "/v1/peers", what: "connecting to the peer", effect: Effect::Harmless };
            post(client, output, asked, &AddPeer { peer: peer.clone() }, print::peer).await
        }
        Command::Peer(PeerCommand::Remove { node_id }) => {
            let path = format!("/v1/peers/{}", segment(node_id));
            let asking = client.delete::<Done>(&path, QUICK);
            let reply = during(|| "removing the peer".to_owned(), asking).await;
            finish(output, reply, Effect::Harmless, done)
        }
        Command::Open(args) => open(client, output, args).await,
        Command::Channels => {
            get(client, output, "/v1/channels", |channels: &Vec<Channel>| print::channels(channels, verbose)).await
        }
        Command::Close(args) => close(client, output, args).await,
        Command::Receive(args) => receive::receive(client, output, args).await,
        Command::Decode(args) => {
            let asked = Asked { path: "/v1/decode", what: "decoding", effect: Effect::Harmless };
            let body = Decode { invoice: args.invoice.trim().to_owned() };
            post(client, output, asked, &body, |decoded| print::decoded(decoded, now())).await
        }
        Command::Pay(args) => pay::pay(client, output, args, config.payments.timeout).await,
        Command::History(args) => {
            let before = args.before.as_deref().map(|id| format!("&before={}", segment(id))).unwrap_or_default();
            let path = format!("/v1/history?limit={}{before}", args.limit);
            get(client, output, &path, |page| print::history(page, verbose)).await
        }
        Command::Show(args) => get(client, output, &format!("/v1/history/{}", segment(&args.id)), print::entry).await,
        Command::Chain(Chain::Audit(args)) => audit(client, output, args).await,
        Command::Backup(args) => backup::backup(client, output, args).await,
        Command::Recover => {
            let asked = Asked { path: "/v1/recover", what: "giving the channels up", effect: Effect::Harmless };
            post(client, output, asked, &serde_json::json!({}), done).await
        }
        Command::Recovery(recovery::Recovery::Abandon(args)) => recovery::abandon(client, output, args).await,
        Command::Servers(args) => match &args.command {
            None => {
                let draw = |all: &Vec<ServerDetail>| print::servers(all, now(), verbose);
                get(client, output, "/v1/servers", draw).await
            }
            Some(ServersCommand::Trust(args)) => trust::trust(client, output, args).await,
            Some(ServersCommand::Forgive { host }) => {
                let path = format!("/v1/servers/{}/forgive", segment(host));
                let asked = Asked { path: &path, what: "forgiving the server", effect: Effect::Harmless };
                post(client, output, asked, &serde_json::json!({}), done).await
            }
        },
        Command::Init(_)
        | Command::Run
        | Command::Unlock(_)
        | Command::Passphrase(_)
        | Command::Seed(_)
        | Command::Db(_)
        | Command::Completions(_)
        | Command::SecondOpinion => {
            Err(NodeError::new(Code::BadRequest, "this command is not for the daemon alone").into())
        }
    }
}

/// Gives the daemon the passphrase of its seed.
pub async fn unlock(passphrase: &str, config: &Config, output: Output) -> Result<u8, Failure> {
    let asked = Asked { path: "/v1/unlock", what: "opening the seed", effect: Effect::Harmless };
    let body = Unlock { passphrase: Secret::new(passphrase) };
    post(&Client::new(&config.api.socket), output, asked, &body, done).await
}

/// A request with its words and its weight.
struct Asked<'a> {
    path: &'a str,
    what: &'a str,
    effect: Effect,
}

fn finish<T>(
    output: Output,
    reply: Result<Reply<T>, ClientError>,
    effect: Effect,
    text: impl FnOnce(&T) -> String,
) -> Result<u8, Failure> {
    let reply = reply.map_err(|error| error.failure(effect))?;
    output.reply(&reply, text);
    Ok(exit::DONE)
}

async fn get<T: DeserializeOwned>(
    client: &Client,
    output: Output,
    path: &str,
    text: impl FnOnce(&T) -> String,
) -> Result<u8, Failure> {
    let reply = during(|| "asking the daemon".to_owned(), client.get(path, QUICK)).await;
    finish(output, reply, Effect::Harmless, text)
}

async fn post<T: DeserializeOwned>(
    client: &Client,
    output: Output,
    asked: Asked<'_>,
    body: &impl Serialize,
    text: impl FnOnce(&T) -> String,
) -> Result<u8, Failure> {
    let reply = during(|| asked.what.to_owned(), client.post(asked.path, body, SLOW)).await;
    finish(output, reply, asked.effect, text)
}

fn done(done: &Done) -> String {
    crate::text::escape(&done.done).to_string()
}

async fn audit(client: &Client, output: Output, args: &args::Audit) -> Result<u8, Failure> {
    let body = AuditRequest { server: args.server.clone() };
    let path = "/v1/chain/audit";
    let reply = match args.last {
        true => during(|| "asking the daemon".to_owned(), client.get::<ChainAudit>(path, QUICK)).await,
        false => during(|| "LDK's own engine looks at the chain".to_owned(), client.post(path, &body, AUDIT)).await,
    };
    let reply = reply.map_err(|error| error.failure(Effect::Harmless))?;
    output.reply(&reply, |audit| print::audit(audit, now()));
    Ok(if reply.value.verdict == Verdict::Agrees { exit::DONE } else { exit::FAILED })
}

async fn send(client: &Client, output: Output, args: &args::Send) -> Result<u8, Failure> {
    let body = SendRequest {
        address: args.address.clone(),
        amount_sat: args.amount.sat(),
        feerate: args.feerate.map(|rate| rate.sat_per_vb()),
    };
    let asked = Asked { path: "/v1/send", what: "sending", effect: Effect::Money };
    post(client, output, asked, &body, print::sent).await
}

async fn open(client: &Client, output: Output, args: &args::Open) -> Result<u8, Failure> {
    let body = OpenChannel {
        peer: args.peer.clone(),
        amount_sat: args.amount.sat(),
        push_msat: args.push.map_or(0, |amount| amount.msat()),
        public: args.public,
        feerate: args.feerate.map(|rate| rate.sat_per_vb()),
    };
    let asked = Asked { path: "/v1/channels", what: "opening the channel with the peer", effect: Effect::Money };
    post(client, output, asked, &body, print::opened).await
}

async fn close(client: &Client, output: Output, args: &args::Close) -> Result<u8, Failure> {
    let path = format!("/v1/channels/{}/close", segment(&args.id));
    let asked = Asked { path: &path, what: "closing the channel", effect: Effect::Money };
    post(client, output, asked, &CloseChannel { force: args.force }, print::closing).await
}
