//! `status`

use super::layout::Pairs;
use super::{count, safe, verbatim};
use crate::amount::{grouped, sat};
use crate::api::types::{LostChannel, Server, State, Status};
use crate::cli::backup::Written;
use crate::cli::when::{relative, span, utc};

pub(in crate::cli) fn status(status: &Status, now: u64) -> String {
    let (state, why) = match &status.state {
        State::Starting => ("starting", None),
        State::Locked => ("locked", None),
        State::Syncing(why) => ("syncing", Some(why)),
        State::Ready => ("ready", None),
        State::Degraded(why) => ("degraded", Some(why)),
        State::Halted(why) => ("HALTED", Some(why)),
    };
    let mut pairs = Pairs::default();
    pairs.add(
        "state",
        match why {
            Some(why) => format!("{state}: {}", safe(why)),
            None => state.to_owned(),
        },
    );
    // What stands in the state need not be said twice.
    for (index, what) in status.waits_for.iter().filter(|what| Some(*what) != why).enumerate() {
        pairs.add(if index == 0 { "waits for" } else { "" }, safe(what));
    }
    for (index, what) in status.warnings.iter().enumerate() {
        pairs.add(if index == 0 { "beware" } else { "" }, safe(what));
    }
    // What degrades the node stands in the state.
    if let Some(alarm) = status.alarm.as_ref().filter(|alarm| alarm.step == "rotating") {
        pairs.add("alarm", format!("other servers are asked: {}", safe(&alarm.why)));
    }
    let network = &status.network;
    pairs.add("network", if network == "bitcoin" { "bitcoin (main network)".to_owned() } else { safe(network) });
    pairs.add_if("node id", status.node_id.as_deref().map(verbatim));
    pairs.add_if("alias", status.alias.as_deref().map(safe));
    pairs.add(
        "block",
        match &status.tip {
            Some(tip) => format!("{}, mined {}", grouped(u64::from(tip.height)), relative(tip.time, now)),
            None => "none yet".to_owned(),
        },
    );
    if let Some(least) = &status.least_covered {
        let told = format!("channels are told up to {}", grouped(least.height.into()));
        pairs.add(
            "coverage",
            match least.behind {
                0 => told,
                behind => format!("{told}, {} behind", count(behind as usize, "block")),
            },
        );
    }
    if status.servers.is_empty() {
        pairs.add("servers", "none");
    }
    for (index, each) in status.servers.iter().enumerate() {
        pairs.add(if index == 0 { "servers" } else { "" }, server(each, now));
    }
    pairs.add_if("audit", status.audit.as_deref().map(safe));
    pairs.add("peers", format!("{} connected, {} known", status.peers_connected, status.peers_known));
    let counts = &status.channels;
    let channels: Vec<String> = [
        (counts.usable, "usable"),
        (counts.opening, "opening"),
        (counts.inactive, "inactive"),
        (counts.closing, "closing"),
    ]
    .iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{number} {what}"))
    .collect();
    pairs.add("channels", if channels.is_empty() { "none".to_owned() } else { channels.join(", ") });
    if let Some(balance) = &status.balance {
        pairs.add(
            "lightning",
            format!("can send {}, can receive {}", sat(balance.lightning_sat), sat(balance.lightning_inbound_sat)),
        );
        let mut onchain = vec![format!("{} spendable", sat(balance.onchain_spendable_sat))];
        if balance.onchain_pending_sat > 0 {
            onchain.push(format!("{} unconfirmed", sat(balance.onchain_pending_sat)));
        }
        if balance.reserve_sat > 0 {
            onchain.push(format!("{} reserve", sat(balance.reserve_sat)));
        }
        pairs.add("on-chain", onchain.join(", "));
        if !balance.closing.is_empty() {
            let all = balance.closing.iter().map(|each| each.amount_sat).fold(0, u64::saturating_add);
            pairs.add("closing", format!("{} on the way back, see `lightnode balance`", sat(all)));
        }
    }
    for (index, lost) in status.recovery.iter().flat_map(|recovery| &recovery.channels).enumerate() {
        let state = match (&lost.closing_txid, lost.abandoned_at) {
            (Some(txid), _) => format!("closed by {}", verbatim(txid)),
            (None, Some(at)) => format!("abandoned by you, {}", utc(at)),
            (None, None) => "not closed by its peer yet".to_owned(),
        };
        let text = format!("channel {:.12} of {}: {state}", verbatim(&lost.channel_id), sat(lost.capacity_sat));
        pairs.add(if index == 0 { "given up" } else { "" }, text);
    }
    if let Some(backup) = &status.backup {
        let trouble = backup.trouble.as_deref().map(|trouble| format!("NOT WRITTEN: {}", safe(trouble)));
        let path = backup.path.as_deref().map(safe);
        pairs.add("backup", trouble.or(path).unwrap_or_else(|| "none is configured".to_owned()));
    }
    let listening: Vec<String> = status.listening.iter().map(|at| verbatim(at)).collect();
    pairs.add("listening", if listening.is_empty() { "no, it only dials".to_owned() } else { listening.join(", ") });
    pairs.add_if("clock", status.clock.as_deref().map(safe));
    let up = span(now.saturating_sub(status.started_at));
    pairs.add("version", format!("lightnode {}, up {up}", safe(&status.version)));
    pairs.draw()
}

/// What `recovery abandon` gives up, and the question.
pub(in crate::cli) fn abandoning(lost: &LostChannel) -> String {
    format!(
        "Channel {:.12} of {} with {} is not closed by its peer. What is yours in it, up to all of it, stays there until it is.\n\
         If you abandon it, this node waits no longer. Should the peer close it after that, this node does not notice what\n\
         the close pays; a node that is restored from the 24 words later finds it.\n\
         {}Type yes to abandon it:",
        verbatim(&lost.channel_id),
        sat(lost.capacity_sat),
        verbatim(&lost.peer),
        lost.waits_for.as_deref().map(|what| format!("It waits for {}.\n", safe(what))).unwrap_or_default()
    )
}

/// `backup`
pub(in crate::cli) fn backup(written: &Written) -> String {
    let mut text = format!("{} in the backup\n", super::count(written.channels, "channel"));
    for file in &written.files {
        text.push_str(&format!("written to {}\n", safe(file)));
    }
    if let Some(trouble) = &written.trouble {
        text.push_str(&format!("NOT WRITTEN where the configuration says: {}\n", safe(trouble)));
    }
    if written.files.is_empty() && written.trouble.is_none() {
        text.push_str("no file is configured (backup.path): name one, as in `lightnode backup FILE`\n");
    }
    text
}

fn server(server: &Server, now: u64) -> String {
    let mut text = format!("{} {}", verbatim(&server.address), safe(&server.role).replace('_', " "));
    if let Some(software) = &server.software {
        text.push_str(&format!(" ({})", safe(software)));
    }
    if let Some(at) = server.retry_at {
        text.push_str(&match at > now {
            true => format!(", tried again {}", relative(at, now)),
            false => ", tried again now".to_owned(),
        });
    }
    if let Some(trouble) = &server.trouble {
        text.push_str(&format!(": {}", safe(trouble)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{AlarmView, Balance, ChannelCounts, ClosingBalance, LeastCovered, Tip};

    pub(super) fn example() -> Status {
        Status {
            state: State::Degraded("the server in use is behind".into()),
            version: "0.1.0".into(),
            network: "regtest".into(),
            node_id: Some("02".repeat(33)),
            alias: Some("al\u{202e}ice".into()),
            tip: Some(Tip { height: 812_345, hash: "00".repeat(32), time: 1_000_000, age_secs: 200 }),
            waits_for: vec!["another server".into(), "the confirmation of 1 funding".into()],
            warnings: vec!["1 of at least 3 servers connected".into()],
            alarm: Some(AlarmView { step: "rotating".into(), why: "no block".into(), age_secs: 3700 }),
            least_covered: Some(LeastCovered { height: 812_344, behind: 1 }),
            servers: vec![
                Server {
                    address: "ssl://a.example:50002".into(),
                    role: "in_use".into(),
                    software: Some("ElectrumX 1.20\x1b[2J".into()),
                    retry_at: None,
                    trouble: None,
                },
                Server {
                    address: "tcp://[::1]:50001".into(),
                    role: "backing_off".into(),
                    software: None,
                    retry_at: Some(1_000_312),
                    trouble: Some("connection refused".into()),
                },
            ],
            audit: None,
            peers_connected: 1,
            peers_known: 3,
            channels: ChannelCounts { usable: 2, opening: 1, inactive: 0, closing: 0 },
            balance: Some(Balance {
                lightning_sat: 500_000,
                lightning_inbound_sat: 20_000,
                onchain_spendable_sat: 75_000,
                onchain_pending_sat: 1,
                reserve_sat: 25_000,
                closing: vec![ClosingBalance {
                    channel_id: "ab".repeat(32),
                    amount_sat: 7,
                    waits_for: "144 blocks".into(),
                    claimable_height: None,
                }],
                ..Balance::default()
            }),
            listening: vec!["0.0.0.0:9735".into()],
            recovery: None,
            backup: None,
            clock: Some("it was set back by 5 min, 3 s ago".into()),
            started_at: 1_000_300 - 7300,
        }
    }

    #[test]
    fn status_tells_what_works_and_what_it_waits_for() {
        let text = status(&example(), 1_000_300);
        assert_eq!(
            text,
            "\
state      degraded: the server in use is behind
waits for  another server
           the confirmation of 1 funding
beware     1 of at least 3 servers connected
alarm      other servers are asked: no block
network    regtest
node id    020202020202020202020202020202020202020202020202020202020202020202
alias      al\\u{202e}ice
block      812,345, mined 5 minutes ago
coverage   channels are told up to 812,344, 1 block behind
servers    ssl://a.example:50002 in use (ElectrumX 1.20\\u{1b}[2J)
           tcp://[::1]:50001 backing off, tried again in 12 seconds: connection
           refused
peers      1 connected, 3 known
channels   2 usable, 1 opening
lightning  can send 500,000 sat, can receive 20,000 sat
on-chain   75,000 sat spendable, 1 sat unconfirmed, 25,000 sat reserve
closing    7 sat on the way back, see `lightnode balance`
listening  0.0.0.0:9735
clock      it was set back by 5 min, 3 s ago
version    lightnode 0.1.0, up 2 hours
"
        );
    }

    #[test]
    fn a_node_that_starts_has_little_to_tell() {
        let status_now = Status {
            state: State::Starting,
            node_id: None,
            alias: None,
            tip: None,
            waits_for: Vec::new(),
            warnings: Vec::new(),
            alarm: None,
            least_covered: None,
            servers: Vec::new(),
            channels: ChannelCounts::default(),
            balance: None,
            listening: Vec::new(),
            clock: None,
            peers_connected: 0,
            peers_known: 0,
            network: "bitcoin".into(),
            started_at: 1_000_300,
            ..example()
        };
        assert_eq!(
            status(&status_now, 1_000_300),
            "\
state      starting
network    bitcoin (main network)
block      none yet
servers    none
peers      0 connected, 0 known
channels   none
listening  no, it only dials
version    lightnode 0.1.0, up 0 seconds
"
        );
    }
}
