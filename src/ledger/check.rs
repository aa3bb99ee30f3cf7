//! The book looked at as a whole, for `lightnode db check`.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::book::Ledger;
use super::closes::ClosedChannel;
use super::record::{Direction, Record, Side, State};
use super::table::decode;
use crate::store::StoreError;

/// More than there is.
const ALL_MSAT: u64 = 21_000_000 * 100_000_000 * 1000;

/// What the lines of the book add up to, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Sums {
    /// Lines.
    pub lines: usize,
    /// Over Lightning, of what succeeded.
    pub received_msat: u64,
    /// Without fees.
    pub sent_msat: u64,
    /// Paid for what was sent.
    pub fees_msat: u64,
    /// What the on-chain lines that count say the wallet has gained, or lost. It is in step with the wallet.
    pub onchain_msat: i128,
    /// Payments from us whose outcome is open, by payment hash: what the payee is to get, in msat.
    pub open: BTreeMap<String, u64>,
    /// Payment hashes of payments from us that have failed for certain.
    pub failed: BTreeSet<String>,
    /// In words, with the id.
    pub wrong: Vec<String>,
}

/// A line with the columns that it is found by.
struct Raw {
    id: String,
    side: String,
    open: bool,
    record: String,
}

impl Ledger {
    /// Reads every line.
    pub fn sums(&self) -> Result<Sums, StoreError> {
        self.store().read(|connection| {
            let mut sums = Sums::default();
            let mut lines = connection.prepare("SELECT id, side, open, record FROM payment ORDER BY seq")?;
            let lines = lines.query_map([], |row| {
                Ok(Raw { id: row.get(0)?, side: row.get(1)?, open: row.get(2)?, record: row.get(3)? })
            })?;
            for line in lines {
                sums.add(&line?);
            }
            sums.closed(connection)?;
            Ok(sums)
        })
    }
}

impl Sums {
    fn add(&mut self, raw: &Raw) {
        self.lines += 1;
        let record: Record = match serde_json::from_str(&raw.record) {
            Ok(record) => record,
            Err(error) => return self.wrong.push(format!("line {} cannot be read: {error}", raw.id)),
        };
        let mut wrong = |what: &str| self.wrong.push(format!("line {}: {what}", raw.id));
        if record.id != raw.id || record.side().as_str() != raw.side || record.is_open() != raw.open {
            wrong("it is filed under another id, part or state than its own");
        }
        let (amount, fee) = (record.amount_msat.unwrap_or(0), record.fee_msat.unwrap_or(0));
        if amount > ALL_MSAT || fee > ALL_MSAT {
            return wrong("its amount is more than all the money that there is");
        }
        let counts = record.state == State::Succeeded;
        if counts && record.amount_msat.is_none() {
            wrong("it has succeeded, but over an unknown amount");
        }
        if counts && record.side() == Side::Send && record.preimage.is_none() {
            wrong("it has succeeded, but without a preimage, which is the proof of it");
        }
        match record.side() {
            Side::Send if counts => {
                self.sent_msat = self.sent_msat.saturating_add(amount);
                self.fees_msat = self.fees_msat.saturating_add(fee);
            }
            Side::Send if record.is_open() => drop(self.open.insert(record.id, amount)),
            Side::Send => drop(self.failed.insert(record.id)),
            Side::Receive if counts => self.received_msat = self.received_msat.saturating_add(amount),
            Side::Chain if record.state != State::Failed => {
                self.onchain_msat += match record.direction {
                    Direction::In => i128::from(amount),
                    Direction::Out => -i128::from(amount) - i128::from(fee),
                };
            }
            _ => {}
        }
    }

    fn closed(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut closed = connection.prepare("SELECT channel, record FROM closed_channel ORDER BY seq")?;
        let rows = closed.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for row in rows {
            let (channel, record) = row?;
            match decode::<ClosedChannel>(&record, 1) {
                Ok(record) if record.channel_id == channel => {}
                Ok(_) => {
                    self.wrong.push(format!("closed channel {channel}: it is filed under another id than its own"))
                }
                Err(error) => self.wrong.push(format!("closed channel {channel} cannot be read: {error}")),
            }
        }
        Ok(())
    }
}
