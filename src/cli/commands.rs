//! From a command to a request, and from its answer to output and exit code.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::args::{self, Command, Peer as PeerCommand};
use super::client::{Client, ClientError, Reply, segment};
use super::exit::{self, Effect, Failure};
use super::output::Output;
use super::progress::during;
use super::when::now;
use super::{pay, print, receive};
use crate::api::types::*;
use crate::config::Config;

/// For answers that need nobody else.
const QUICK: Duration = Duration::from_secs(30);
/// For answers that need a peer or a server.
const SLOW: Duration = Duration::from_secs(180);
/// How long `stop` waits for the end.
const STOPPING: Duration = Duration::from_secs(30);
/// Shorter beginnings of ids are refused: they would soon fit several.
const SHORTEST_ID: usize = 4;
/// An id in full: 32 bytes.
const WHOLE_ID: usize = 64;

/// Carries a client command out. Returns the exit code; `init`, `run` and `completions` are not client commands.
pub async fn run(command: &Command, config: &Config, output: Output) -> u8 {
    let client = Client::new(&config.api.socket);
    match dispatch(command, &client, config, output).await {
        Ok(code) => code,
        Err(failure) => output.failure(&failure),
    }
}

async fn dispatch(
    command: &Command,
    client: &Client,
    config: &Config,
    output: Output,
) -> Result<u8, Failure> {
    let verbose = output.verbose;
    match command {
        Command::Stop => stop(client, output).await,
        Command::Status => get(client, output, "/v1/status", |status| print::status(status, now())).await,
        Command::Balance => {
            get(client, output, "/v1/balance", |balance| print::balance(balance, verbose)).await
        }
        Command::Address => {
            let asked =
                Asked { path: "/v1/address", what: "asking for an address", effect: Effect::Harmless };
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
            get(client, output, "/v1/channels", |channels: &Vec<Channel>| print::channels(channels, verbose))
                .await
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
            let before =
                args.before.as_deref().map(|id| format!("&before={}", segment(id))).unwrap_or_default();
            let path = format!("/v1/history?limit={}{before}", args.limit);
            get(client, output, &path, |page| print::history(page, verbose)).await
        }
        Command::Show(args) => show(client, output, &args.id).await,
        Command::Init(_) | Command::Run | Command::Completions(_) => {
            Err(NodeError::new(Code::BadRequest, "this command does not ask the daemon").into())
        }
    }
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
    let asked =
        Asked { path: "/v1/channels", what: "opening the channel with the peer", effect: Effect::Money };
    post(client, output, asked, &body, print::opened).await
}

async fn close(client: &Client, output: Output, args: &args::Close) -> Result<u8, Failure> {
    let id = if args.id.len() >= WHOLE_ID {
        args.id.clone()
    } else {
        let channels = client.get::<Vec<Channel>>("/v1/channels", QUICK).await;
        let channels = channels.map_err(|error| error.failure(Effect::Harmless))?.value;
        whole_id("channel", &args.id, channels.into_iter().map(|channel| channel.channel_id))?
    };
    let path = format!("/v1/channels/{}/close", segment(&id));
    let asked = Asked { path: &path, what: "closing the channel", effect: Effect::Money };
    post(client, output, asked, &CloseChannel { force: args.force }, print::closing).await
}

async fn show(client: &Client, output: Output, id: &str) -> Result<u8, Failure> {
    let looking = async {
        let exact = client.get::<Entry>(&format!("/v1/history/{}", segment(id)), QUICK).await;
        match exact {
            Err(ClientError::Refused(error)) if error.code == Code::NotFound && id.len() < WHOLE_ID => {
                let id = whole_id("entry", id, all_ids(client).await?.into_iter())?;
                let exact = client.get::<Entry>(&format!("/v1/history/{}", segment(&id)), QUICK).await;
                exact.map_err(|error| error.failure(Effect::Harmless))
            }
            reply => reply.map_err(|error| error.failure(Effect::Harmless)),
        }
    };
    let reply = during(|| "looking".to_owned(), looking).await?;
    output.reply(&reply, print::entry);
    Ok(exit::DONE)
}

async fn all_ids(client: &Client) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    let mut before = String::new();
    loop {
        let page = client.get::<History>(&format!("/v1/history?limit=1000{before}"), QUICK).await;
        let page = page.map_err(|error| error.failure(Effect::Harmless))?.value;
        ids.extend(page.entries.into_iter().map(|entry| entry.id));
        match page.next {
            Some(next) => before = format!("&before={}", segment(&next)),
            None => return Ok(ids),
        }
    }
}

/// The one id that begins so.
fn whole_id(what: &str, beginning: &str, ids: impl Iterator<Item = String>) -> Result<String, NodeError> {
    let beginning = beginning.to_ascii_lowercase();
    let shown = crate::text::clip(&beginning, 70);
    if beginning.len() < SHORTEST_ID {
        let message = format!(
            "`{shown}` is too short for the id of a {what}; give {SHORTEST_ID} letters of it or more"
        );
        return Err(NodeError::new(Code::BadRequest, message));
    }
    let mut found = ids.filter(|id| id.starts_with(&beginning));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => {
            Err(NodeError::new(Code::NotFound, format!("there is no {what} whose id begins with `{shown}`")))
        }
        (Some(_), Some(_)) => {
            let message = format!("there are several with an id that begins with `{shown}`");
            Err(NodeError::new(Code::BadRequest, message).hint("give more of the id"))
        }
    }
}

/// Returns when the daemon is gone, so that scripts may go on.
async fn stop(client: &Client, output: Output) -> Result<u8, Failure> {
    let reply = client.post::<Done>("/v1/stop", &serde_json::json!({}), QUICK).await;
    let reply = reply.map_err(|error| error.failure(Effect::Harmless))?;
    let last = Instant::now() + STOPPING;
    let gone = async {
        while client.answers().await {
            if Instant::now() > last {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        true
    };
    if !during(|| "waiting for its end".to_owned(), gone).await {
        let message = format!("the daemon has not ended within {} seconds", STOPPING.as_secs());
        return Err(NodeError::new(Code::Unknown, message).hint("look at its log").into());
    }
    output.reply(&reply, |_| "stopped".to_owned());
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_enough_when_it_fits_only_one() {
        let ids = || ["abcd11", "abcd22", "ffff33"].into_iter().map(String::from);
        assert_eq!(whole_id("channel", "FFFF", ids()).unwrap(), "ffff33");
        assert_eq!(whole_id("channel", "abcd2", ids()).unwrap(), "abcd22");
        for (beginning, code) in
            [("abcd", Code::BadRequest), ("0000", Code::NotFound), ("ff", Code::BadRequest)]
        {
            assert_eq!(whole_id("channel", beginning, ids()).unwrap_err().code, code, "{beginning}");
        }
    }
}
