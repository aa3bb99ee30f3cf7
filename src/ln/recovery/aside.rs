//! Giving up channels whose state may be old: their monitors are put aside, in the same write that makes a record of
//! what their peers are to close, and books their end.
//!
//! Rules: nothing of what was read acts here. [`Restored`] was made from the disk only to learn what there is; nobody
//! drives it, its vault is never flushed, and it is dropped.

use std::collections::BTreeSet;

use bitcoin::secp256k1::PublicKey;
use lightning::util::persist::{
    CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MONITOR_PERSISTENCE_SECONDARY_NAMESPACE,
    CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE,
};

use super::record::{Lost, Record};
use crate::crash::{self, Point};
use crate::ledger::ClosedChannel;
use crate::ln::backup;
use crate::ln::now;
use crate::ln::restore::Restored;
use crate::ln::vault::MANAGER;
use crate::store::{Store, StoreError};

/// Payments that were open when channels were given up; their outcome is known to others only.
const PAYMENTS: &str = "recovery.payments";

/// Puts aside all channels that are not closed, for the reason `why`, and the manager with them; `payments` are the ids
/// of payments that were under way. Durable when it returns; the next restore begins with no open channel. What is put
/// aside stays in the database, under another name, for a developer to look at.
///
/// `asked` is a value of the store that led to this, to be cleared with it.
pub fn give_up(
    store: &Store,
    restored: Restored,
    why: &str,
    payments: &[String],
    asked: &'static str,
) -> Result<Record, StoreError> {
    let ln = restored.ln();
    let known = store.peers()?;
    let addresses = |peer: PublicKey| {
        let stored = known.iter().filter(|known| known.node_id == peer);
        stored.map(|known| known.address.clone()).collect::<Vec<_>>()
    };
    let record = Record::given_up(why.to_owned(), now().as_secs(), backup::listed(&ln.channels, addresses));
    let details = ln.channels.list_channels();
    let open: BTreeSet<_> = details.iter().map(|channel| channel.channel_id).collect();
    let balance = |id: &str| {
        let channel = details.iter().find(|channel| channel.channel_id.to_string() == id);
        channel.map(|channel| channel.outbound_capacity_msat)
    };
    let ended = |Lost { channel, .. }: &Lost| ClosedChannel {
        channel_id: channel.channel_id.clone(),
        peer: Some(channel.peer.to_string()),
        funding: Some(channel.funding.to_string()),
        capacity_sat: Some(channel.capacity_sat),
        balance_msat: balance(&channel.channel_id),
        reason: format!("given up: {why}"),
        closed_at: record.since,
    };
    let ended: Vec<ClosedChannel> = record.channels.iter().map(ended).collect();
    let monitors: Vec<String> = ln
        .chain_monitor
        .list_monitors()
        .into_iter()
        .filter(|id| open.contains(id))
        .filter_map(|id| ln.chain_monitor.get_monitor(id).ok().map(|monitor| monitor.persistence_key().to_string()))
        .collect();
    drop(restored);
    let mut given_up = given_up_payments(store)?;
    given_up.extend(payments.iter().cloned());
    let payments = serde_json::to_vec(&given_up)
        .map_err(|error| StoreError::Broken { what: "keep the open payments", why: error.to_string() })?;
    let (key, row) = record.row()?;
    let (lineage, under) = (Store::new_lineage()?, format!("aside.{}.", record.since));
    store.write("put the old channels aside", move |tx| {
        for monitor in &monitors {
            let (primary, secondary) =
                (CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MONITOR_PERSISTENCE_SECONDARY_NAMESPACE);
            Store::kv_put_aside(tx, primary, secondary, Some(monitor), &under)?;
            Store::kv_put_aside(tx, CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE, monitor, None, &under)?;
        }
        let [primary, secondary, manager] = MANAGER;
        Store::kv_put_aside(tx, primary, secondary, Some(manager), &under)?;
        Store::meta_put(tx, key, &row)?;
        Store::meta_put(tx, PAYMENTS, &payments)?;
        Store::meta_put(tx, asked, &[])?;
        ended.iter().try_for_each(|ended| ended.book(tx))?;
        lineage(tx)
    })?;
    crash::passes(Point::GivenUp);
    Ok(record)
}

/// Ids of payments that were under way when channels were given up.
pub fn given_up_payments(store: &Store) -> Result<BTreeSet<String>, StoreError> {
    let broken = |error: serde_json::Error| StoreError::Broken {
        what: "read which payments were given up",
        why: error.to_string(),
    };
    let bytes = store.meta(PAYMENTS)?.filter(|bytes| !bytes.is_empty());
    Ok(bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(broken)).transpose()?.unwrap_or_default())
}
