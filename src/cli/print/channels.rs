//! `channels`, `open`, `close`, `peer`

use super::layout::{Align, Pairs, Table};
use super::{count, safe, short_id, verbatim};
use crate::amount::{grouped, sat};
use crate::api::types::{Channel, Closing, Opened, Peer};
use crate::cli::when::relative;

pub(in crate::cli) fn channels(channels: &[Channel], verbose: bool) -> String {
    if channels.is_empty() {
        return "no channels yet: `lightnode open node_id@host:port AMOUNT` opens one\n".to_owned();
    }
    let mut table = Table::new(
        &[
            ("CHANNEL", Align::Left),
            ("PEER", Align::Left),
            ("STATE", Align::Left),
            ("CAN SEND", Align::Right),
            ("CAN RECEIVE", Align::Right),
            ("OF SAT", Align::Right),
        ],
        verbose,
    );
    for channel in channels {
        table.row(vec![
            short_id(&channel.channel_id, verbose),
            short_id(&channel.peer, verbose),
            safe(&channel.state),
            grouped(channel.spendable_msat / 1000),
            grouped(channel.receivable_msat / 1000),
            grouped(channel.capacity_sat),
        ]);
        let mut notes = Vec::new();
        if let Some(what) = &channel.waits_for {
            notes.push(format!("waits for {}", safe(what)));
        }
        if !channel.peer_connected && channel.state != "closing" {
            notes.push("the peer is away".to_owned());
        }
        if channel.pending_htlcs > 0 {
            notes.push(format!("{} under way", count(channel.pending_htlcs, "payment")));
        }
        if verbose {
            notes.push(if channel.public { "public" } else { "private" }.to_owned());
            notes.extend(channel.short_channel_id.as_deref().map(verbatim));
            notes.extend(channel.funding.as_deref().map(|funding| format!("funding {}", verbatim(funding))));
            notes.extend(channel.our_reserve_sat.map(|reserve| format!("{} kept in it", sat(reserve))));
        }
        if !notes.is_empty() {
            table.note(&notes.join(" · "));
        }
    }
    table.draw()
}

pub(in crate::cli) fn opened(opened: &Opened) -> String {
    let waits = match opened.confirmations_required {
        Some(number) => format!("usable after {} of its funding", count(number as usize, "confirmation")),
        None => "usable when its funding is confirmed".to_owned(),
    };
    let mut pairs = Pairs::default();
    pairs.add("channel", verbatim(&opened.channel_id));
    pairs.add("funding", verbatim(&opened.funding_txid));
    format!("opening a channel of {}: {waits}\n{}", sat(opened.amount_sat), pairs.draw())
}

pub(in crate::cli) fn closing(closing: &Closing) -> String {
    format!("closing {}\n{}\n", verbatim(&closing.channel_id), safe(&closing.next))
}

pub(in crate::cli) fn peer(peer: &Peer) -> String {
    let state = if peer.connected { "connected to" } else { "not connected to" };
    let at = peer.address.as_deref().map(|address| format!("@{}", verbatim(address))).unwrap_or_default();
    format!("{state} {}{at}\n", verbatim(&peer.node_id))
}

pub(in crate::cli) fn peers(peers: &[Peer], now: u64, verbose: bool) -> String {
    if peers.is_empty() {
        return "no peers yet: `lightnode peer add node_id@host:port` adds one\n".to_owned();
    }
    let mut table = Table::new(
        &[("PEER", Align::Left), ("CHANNELS", Align::Right), ("STATE", Align::Left), ("ADDRESS", Align::Left)],
        verbose,
    );
    for peer in peers {
        let state = match (peer.connected, peer.inbound, peer.retry_at) {
            (true, true, _) => "connected, from them".to_owned(),
            (true, false, _) => "connected".to_owned(),
            (false, _, Some(at)) if at > now => format!("away, dialled {}", relative(at, now)),
            (false, ..) => "away".to_owned(),
        };
        table.row(vec![
            short_id(&peer.node_id, verbose),
            peer.channels.to_string(),
            state,
            peer.address.as_deref().map_or("unknown".to_owned(), verbatim),
        ]);
    }
    table.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel {
            channel_id: "ab".repeat(32),
            user_channel_id: "01".into(),
            peer: "02".repeat(33),
            peer_connected: true,
            state: "usable".into(),
            waits_for: None,
            funding: Some(format!("{}:0", "cd".repeat(32))),
            short_channel_id: Some("812345x1x0".into()),
            public: false,
            outbound: true,
            capacity_sat: 500_000,
            spendable_msat: 494_999_999,
            receivable_msat: 0,
            our_reserve_sat: Some(5000),
            confirmations: Some(6),
            confirmations_required: Some(6),
            feerate_sat_per_kw: Some(253),
            pending_htlcs: 1,
        }
    }

    #[test]
    fn channels_stand_in_80_columns_with_what_they_wait_for() {
        let opening = Channel {
            state: "opening".into(),
            waits_for: Some("confirmation 2 of 6 of its funding, and then for the peer".into()),
            peer_connected: false,
            pending_htlcs: 0,
            capacity_sat: 16_777_215,
            spendable_msat: 0,
            ..channel()
        };
        assert_eq!(
            channels(&[channel(), opening], false),
            "\
CHANNEL       PEER          STATE    CAN SEND  CAN RECEIVE      OF SAT
abababababab  020202020202  usable    494,999            0     500,000
  1 payment under way
abababababab  020202020202  opening         0            0  16,777,215
  waits for confirmation 2 of 6 of its funding, and then for the peer · the pee…
"
        );
        let whole = channels(&[channel()], true);
        assert!(whole.contains(&"ab".repeat(32)) && whole.contains("private · 812345x1x0"), "{whole}");
        assert!(channels(&[], false).starts_with("no channels yet"));
    }

    #[test]
    fn peers_tell_whether_they_are_there() {
        let there = Peer {
            node_id: "02".repeat(33),
            address: Some("127.0.0.1:9735".into()),
            connected: true,
            inbound: false,
            persisted: true,
            channels: 2,
            retry_at: None,
        };
        let away = Peer { connected: false, channels: 0, retry_at: Some(130), ..there.clone() };
        let guest = Peer { inbound: true, address: None, ..there.clone() };
        assert_eq!(
            peers(&[there.clone(), away.clone(), guest], 100, false),
            "\
PEER          CHANNELS  STATE                        ADDRESS
020202020202         2  connected                    127.0.0.1:9735
020202020202         0  away, dialled in 30 seconds  127.0.0.1:9735
020202020202         2  connected, from them         unknown
"
        );
        assert_eq!(peer(&there), format!("connected to {}@127.0.0.1:9735\n", "02".repeat(33)));
    }

    #[test]
    fn opening_and_closing_say_what_comes_next() {
        let example = Opened {
            channel_id: "ab".repeat(32),
            user_channel_id: "01".into(),
            funding_txid: "cd".repeat(32),
            amount_sat: 500_000,
            confirmations_required: Some(6),
        };
        assert_eq!(
            opened(&example),
            format!(
                "opening a channel of 500,000 sat: usable after 6 confirmations of its funding\nchannel  {}\nfunding  {}\n",
                "ab".repeat(32),
                "cd".repeat(32)
            )
        );
        let example = Closing { channel_id: "ab".repeat(32), next: "the money is back after 1 confirmation".into() };
        assert!(closing(&example).ends_with("the money is back after 1 confirmation\n"));
    }
}
