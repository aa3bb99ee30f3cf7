//! `lightnode db check`: everything that a start would read, read and compared, and not a byte changed.
//!
//! | check | finds |
//! |---|---|
//! | file | pages and indices that SQLite finds damaged, rows that refer to nothing |
//! | headers | a gap, a header that does not link or carry its work, a block that was told and is not there |
//! | channels | manager or monitors that LDK cannot read, a channel without monitor, one older than the other |
//! | book | lines that cannot be read or contradict themselves, payments that LDK has otherwise than the book |
//! | wallet | a change set that BDK cannot load; its balance, the sum of its outputs and of the book's lines that differ |
//! | outbox | transactions that cannot be decoded |
//!
//! Decision: what the book's payments add up to is not compared with what is in the channels, for that is not decidable
//! from the database: what was pushed at an opening, what a commitment or a closing cost in fees, dust and rounding, and
//! payments that were settled on-chain are in no line of the book, and what forwarding earned is a statistic that a power
//! cut may lose or double. Compared is what is exact: each payment under way with its line, to the millisatoshi, and no
//! payment paid in the channels and failed in the book. `scripts/stress` compares the sums, from outside.
//!
//! Decision: it runs on a stopped node, under the directory's lock. Rejected: a snapshot beside a running node, which
//! needs room for a second database on a small card, and a copy of channel states that might be run. Cost: a stop.

use std::error::Error;
use std::fmt::Display;

use super::Answer;
use super::error::{Code, NodeError};
use super::views::{DbCheck, DbReport};
use crate::config::Config;
use crate::engine;
use crate::keys::{Kept, Passphrase, Seed, SeedError};
use crate::ledger::{Ledger, Sums};
use crate::store::{DATABASE, Store, StoreError};
use crate::{ln, wallet};

/// What to do when channel states are in doubt.
const KEEP: &str = "keep the whole directory as it is and copy it elsewhere before anything else; never start with an older \
                    copy, whose channel states would cost the channels' balances; see “recovery” in the README";
/// What to do when only what can be had again is in doubt.
const HARMLESS: &str = "the money does not depend on it, but the node may not start: keep a copy of the directory, and tell \
                        the authors what stands here";

/// Checks the database of the data directory. Nothing is written.
pub fn check(config: &Config, passphrase: Option<&Passphrase>) -> Answer<DbReport> {
    let dir = &config.data_dir;
    let kept = Kept::read(dir).map_err(refused)?;
    let refused_store = |error: StoreError| {
        let in_use = matches!(error, StoreError::InUse { .. });
        let error = NodeError::new(Code::Refused, error.to_string());
        if in_use { error.hint("a running node is checked after `lightnode stop`") } else { error }
    };
    let store = match Store::look(dir, config.network, kept.fingerprint()) {
        // So damaged that not even its first pages can be read.
        Err(error @ StoreError::Sqlite { .. }) => {
            return Ok(DbReport {
                ok: false,
                database: dir.join(DATABASE).display().to_string(),
                checks: vec![unread("file", &error, KEEP)],
            });
        }
        looked => looked.map_err(refused_store)?,
    };
    let Some(store) = store else {
        let message = format!("there is no database in {} yet", dir.display());
        return Err(NodeError::new(Code::NotFound, message).hint("`lightnode run` makes it"));
    };
    let seed = kept.open(passphrase).map_err(refused)?;
    let sums = Ledger::open(store.clone()).sums();
    let channels = ln::check::check(&store, &seed, &config.channels);
    let checks = vec![
        file(&store),
        headers(&store, config),
        self::channels(&channels),
        book(&sums, channels.as_ref().ok()),
        self::wallet(&store, &seed, config, sums.as_ref().ok()),
        outbox(&store),
    ];
    Ok(DbReport { ok: checks.iter().all(|check| check.ok), database: dir.join(DATABASE).display().to_string(), checks })
}

fn refused(error: SeedError) -> NodeError {
    let code = match error {
        SeedError::Locked => Code::Locked,
        SeedError::Missing(_) => Code::NotFound,
        _ => Code::Refused,
    };
    NodeError::new(code, error.to_string())
}

/// One check; `says` is what was looked at.
fn verdict(name: &str, says: String, wrong: Vec<String>, advice: &str) -> DbCheck {
    let ok = wrong.is_empty();
    DbCheck { name: name.into(), ok, says, wrong, advice: (!ok).then(|| advice.to_owned()) }
}

/// One that could not be made.
fn unread(name: &str, why: &dyn Display, advice: &str) -> DbCheck {
    verdict(name, "could not be read".into(), vec![why.to_string()], advice)
}

fn with_causes(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}

fn file(store: &Store) -> DbCheck {
    match store.integrity() {
        Ok(wrong) => verdict("file", "pages, indices and references".into(), wrong, KEEP),
        Err(error) => unread("file", &error, KEEP),
    }
}

fn headers(store: &Store, config: &Config) -> DbCheck {
    match engine::restore(store, config.network) {
        Ok(machine) => {
            let (low, high) = (machine.tree().base(), machine.tree().height());
            let says = format!("blocks {low} to {high} link, and each carries its work");
            verdict("headers", says, Vec::new(), HARMLESS)
        }
        Err(error) => unread("headers", &with_causes(&error), HARMLESS),
    }
}

fn channels(read: &Result<ln::check::Checked, ln::restore::RestoreError>) -> DbCheck {
    match read {
        Ok(checked) => {
            let says = format!(
                "{} open or opening, {} monitors, {} payments under way",
                checked.channels,
                checked.monitors,
                checked.under_way.len()
            );
            verdict("channels", says, checked.wrong.clone(), KEEP)
        }
        Err(error) => unread("channels", error, KEEP),
    }
}

fn book(sums: &Result<Sums, StoreError>, channels: Option<&ln::check::Checked>) -> DbCheck {
    let sums = match sums {
        Ok(sums) => sums,
        Err(error) => return unread("book", error, HARMLESS),
    };
    let mut wrong = sums.wrong.clone();
    for (hash, msat) in channels.map_or(&[][..], |checked| &checked.under_way) {
        match sums.open.get(hash) {
            Some(booked) if booked == msat => {}
            Some(booked) => wrong.push(format!(
                "payment {hash} is under way in the channels over {msat} msat, and stands in the book with {booked} msat"
            )),
            None => wrong.push(format!("payment {hash} is under way in the channels, but not open in the book")),
        }
    }
    for hash in channels.map_or(&[][..], |checked| &checked.fulfilled).iter().filter(|hash| sums.failed.contains(*hash))
    {
        wrong.push(format!("payment {hash} was paid, as the channels have it, and stands in the book as failed"));
    }
    let says = format!(
        "{} lines: {} msat received, {} msat sent for {} msat in fees, {} payments open",
        sums.lines,
        sums.received_msat,
        sums.sent_msat,
        sums.fees_msat,
        sums.open.len()
    );
    verdict("book", says, wrong, HARMLESS)
}

fn wallet(store: &Store, seed: &Seed, config: &Config, sums: Option<&Sums>) -> DbCheck {
    const ADVICE: &str = "the coins are safe as long as you have the 24 words: they can be restored into an empty directory, \
                          but channels cannot; keep this directory while it has any";
    let checked = match wallet::check(store, &seed.wallet_xprv(config.network), config.network) {
        Ok(Some(checked)) => checked,
        Ok(None) => return verdict("wallet", "not made yet".into(), Vec::new(), ADVICE),
        Err(error) => return unread("wallet", &error, ADVICE),
    };
    let wallet::Checked { balance_sat, added_up_sat, transactions } = checked;
    let mut wrong = Vec::new();
    if added_up_sat != balance_sat {
        wrong.push(format!("its balance is {balance_sat} sat, but its unspent outputs add up to {added_up_sat} sat"));
    }
    if let Some(booked) = sums.map(|sums| sums.onchain_msat).filter(|booked| *booked != i128::from(balance_sat) * 1000)
    {
        wrong.push(format!(
            "its balance is {balance_sat} sat, but the on-chain lines of the book add up to {booked} msat"
        ));
    }
    verdict("wallet", format!("{balance_sat} sat in {transactions} transactions that count"), wrong, ADVICE)
}

fn outbox(store: &Store) -> DbCheck {
    match store.outbox() {
        Ok(entries) => {
            let named = |entry: &&crate::store::OutboxEntry| {
                entry.package.last().is_none_or(|last| last.compute_txid() != entry.txid)
            };
            let wrong = entries.iter().filter(named);
            let wrong = wrong.map(|entry| format!("{} stands for another transaction", entry.txid)).collect();
            verdict(
                "outbox",
                format!("{} packages to be sent until they are confirmed", entries.len()),
                wrong,
                HARMLESS,
            )
        }
        Err(error) => unread("outbox", &error, HARMLESS),
    }
}
