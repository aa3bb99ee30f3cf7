//! `servers trust`: shows what a server has to show and what it shows instead, asks, and accepts exactly what was read.

use std::time::Duration;

use super::args;
use super::client::{Client, segment};
use super::exit::{DONE, Effect, Failure};
use super::output::Output;
use super::person;
use super::print::{changed_key, trusted};
use super::progress::during;
use crate::api::types::{ChangedKey, Code, NodeError, ServerDetail, TrustKey, Trusted};

const QUICK: Duration = Duration::from_secs(30);

pub(super) async fn trust(client: &Client, output: Output, args: &args::TrustServer) -> Result<u8, Failure> {
    let failed = |error: super::client::ClientError| error.failure(Effect::Harmless);
    let asking = client.get::<Vec<ServerDetail>>("/v1/servers", QUICK);
    let servers = during(|| "asking the daemon".to_owned(), asking).await.map_err(failed)?.value;
    let (server, changed) = alarmed(&servers, &args.host)?;
    if !args.yes {
        if !person::is_there(output) {
            let error = NodeError::new(Code::BadRequest, "a changed key is accepted by a person, and there is none");
            return Err(error.hint("with --yes it is accepted without asking").into());
        }
        output.note(&changed_key(&server.address, changed));
        if !["y", "yes"].contains(&person::typed()?.to_ascii_lowercase().as_str()) {
            return Err(NodeError::new(Code::Refused, "the key is not accepted; the server stays unused").into());
        }
    }
    let path = format!("/v1/servers/{}/trust", segment(place(&server.address)));
    let body = TrustKey { key: changed.shown.clone() };
    let asking = client.post::<Trusted>(&path, &body, QUICK);
    let reply = during(|| "accepting the key".to_owned(), asking).await.map_err(failed)?;
    output.reply(&reply, trusted);
    Ok(DONE)
}

/// The one server that is meant, and what it shows.
fn alarmed<'a>(servers: &'a [ServerDetail], host: &str) -> Result<(&'a ServerDetail, &'a ChangedKey), NodeError> {
    let host = host.trim().to_ascii_lowercase();
    let meant = |server: &&ServerDetail| {
        let place = place(&server.address);
        let name = place.rsplit_once(':').map_or(place, |(name, _)| name);
        [&server.address, place, name, name.trim_matches(['[', ']'])].contains(&host.as_str())
    };
    let all: Vec<&ServerDetail> = servers.iter().filter(meant).collect();
    let mut changed = all.iter().filter_map(|server| server.changed_key.as_ref().map(|changed| (*server, changed)));
    match (changed.next(), changed.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(NodeError::new(Code::BadRequest, format!("several servers of {host} show another key"))
                .hint("name one of them with its port, as `lightnode servers` shows it"))
        }
        (None, _) if all.is_empty() => Err(NodeError::new(Code::NotFound, format!("no server is called {host}"))
            .hint("`lightnode servers` lists them")),
        (None, _) => Err(NodeError::new(Code::NotFound, format!("{host} shows no other key than the known one"))
            .hint("nothing needs to be accepted")),
    }
}

/// Host and port of an address.
fn place(address: &str) -> &str {
    let at = address.split_once("://").map_or(address, |(_, at)| at);
    at.split('/').next().unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(address: &str, shown: Option<&str>) -> ServerDetail {
        let changed = |shown: &str| ChangedKey { known: None, shown: shown.into(), vouched: false };
        ServerDetail { address: address.into(), changed_key: shown.map(changed), ..ServerDetail::default() }
    }

    #[test]
    fn a_server_is_named_by_host_and_by_port_where_that_is_not_enough() {
        let servers = [
            server("ssl://a.example:50002", Some("aa")),
            server("ssl://b.example:50002", Some("b1")),
            server("ssl://b.example:50003", Some("b2")),
            server("ssl://[::1]:50002", Some("v6")),
            server("ssl://quiet.example:50002", None),
        ];
        for (host, shown) in [
            ("a.example", "aa"),
            ("A.example:50002", "aa"),
            ("ssl://a.example:50002", "aa"),
            ("b.example:50003", "b2"),
            ("::1", "v6"),
            ("[::1]:50002", "v6"),
        ] {
            assert_eq!(alarmed(&servers, host).unwrap().1.shown, shown, "{host}");
        }
        for (host, code) in
            [("b.example", Code::BadRequest), ("quiet.example", Code::NotFound), ("c.example", Code::NotFound)]
        {
            assert_eq!(alarmed(&servers, host).unwrap_err().code, code, "{host}");
        }
    }
}
