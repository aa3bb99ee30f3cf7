//! Requests about Lightning payments, and the book.

use std::time::Duration;

use bitcoin::hex::DisplayHex;

use super::error::{Code, NodeError};
use super::views::{Decode, Decoded, Entry, History, HistoryQuery, Invoice, Pay, Receive};
use super::{Answer, Node};
use crate::clock::unix_now;
use crate::ledger::{Filter, Found, Record, Side};
use crate::ln::decode;
use crate::ln::receive::Purpose;
use crate::ln::send::Order;

/// Lines of a page when the request does not say.
const USUAL_PAGE: u32 = 50;
/// Most lines of a page.
const LARGEST_PAGE: u32 = 1000;
/// Longest that a request for the outcome of something is held.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Node {
    /// Makes an invoice; it is in the book before it is shown.
    pub async fn receive(&self, request: Receive) -> Answer<Invoice> {
        self.blocking(move |node| {
            let (parts, _) = node.acting()?;
            let usual = node.config().payments.invoice_expiry;
            let expiry = request.expiry_secs.map_or(usual, |secs| Duration::from_secs(secs.into()));
            let made =
                parts.receiver.receive(request.amount_msat, Purpose::Text(request.description.clone()), expiry)?;
            Ok(Invoice {
                payment_hash: made.invoice.payment_hash().to_string(),
                invoice: made.invoice.to_string(),
                amount_msat: request.amount_msat,
                description: request.description,
                expires_at: made.expires_at,
                warning: parts
                    .caution
                    .refusing()
                    .map(|why| format!("payments are sent back at the moment: {why}"))
                    .or(made.warning),
            })
        })
        .await
    }

    /// Reads an invoice.
    pub async fn decode(&self, request: Decode) -> Answer<Decoded> {
        let network = self.config().network;
        let invoice = decode::parse(&request.invoice, network)?;
        let facts = decode::describe(&invoice, network, Duration::from_secs(unix_now()));
        let own = self.parts().is_ok_and(|parts| parts.ln.node_id() == facts.payee);
        Ok(Decoded {
            network: facts.network.to_string(),
            payee: facts.payee.to_string(),
            payment_hash: facts.payment_hash.to_lower_hex_string(),
            amount_msat: facts.amount_msat,
            description: facts.description,
            description_hash: facts.description_hash.map(|hash| hash.to_lower_hex_string()),
            created_at: facts.created_at,
            expires_at: facts.expires_at,
            expired: facts.expired,
            min_final_cltv_expiry: facts.min_final_cltv_expiry,
            route_hints: facts.route_hints,
            own,
        })
    }

    /// Begins the payment if none of this hash is under way, and waits for its outcome.
    pub async fn pay(&self, request: Pay) -> Answer<Entry> {
        let (parts, _) = self.acting()?;
        let paid = parts
            .payer
            .pay(Order {
                invoice: request.invoice,
                amount_msat: request.amount_msat,
                max_fee_msat: request.max_fee_msat,
                timeout: request.timeout_secs.map(|secs| Duration::from_secs(secs.into())),
            })
            .await?;
        Ok(Entry { already: paid.already, ..entry(paid.record) })
    }

    /// A page of the book, newest first.
    pub async fn history(&self, query: HistoryQuery) -> Answer<History> {
        self.blocking(move |node| {
            let parts = node.parts()?;
            let limit = query.limit.unwrap_or(USUAL_PAGE).clamp(1, LARGEST_PAGE);
            let page = parts.ledger.list(&Filter::default(), limit as usize, query.before.as_deref())?;
            let (_, forwarding_fees_msat) = parts.ledger.forwarding_earned(0)?;
            Ok(History {
                entries: page.records.into_iter().map(entry).collect(),
                next: page.next,
                forwarding_fees_msat,
            })
        })
        .await
    }

    /// One line of the book, by its id or the beginning of it.
    pub async fn show(&self, id: String) -> Answer<Entry> {
        self.blocking(move |node| node.find(&id).map(entry)).await
    }

    /// The line, once it is settled or `timeout_secs` are over (then as it stands).
    pub async fn wait(&self, id: String, timeout_secs: u32) -> Answer<Entry> {
        let record = self.blocking(move |node| node.find(&id)).await?;
        let (id, side) = (record.id.clone(), record.side());
        let within = Duration::from_secs(timeout_secs.into()).min(LONGEST_WAIT);
        let settled = self.parts()?.ledger.wait_settled(&id, side);
        match tokio::time::timeout(within, settled).await {
            Ok(settled) => Ok(entry(settled?.unwrap_or(record))),
            Err(_) => self.blocking(move |node| node.line(&id, side)).await,
        }
    }

    fn line(&self, id: &str, side: Side) -> Answer<Entry> {
        let line = self.parts()?.ledger.line(id, side)?;
        line.map(entry).ok_or_else(|| NodeError::new(Code::NotFound, format!("nothing in the book has the id {id}")))
    }

    fn find(&self, id: &str) -> Answer<Record> {
        let shown = crate::text::escape(id);
        match self.parts()?.ledger.get(id)? {
            Found::One(record) => Ok(*record),
            Found::Nothing => Err(NodeError::new(Code::NotFound, format!("nothing in the book has the id {shown}"))
                .hint("`lightnode history` lists what is in it")),
            Found::Several(ids) => {
                Err(NodeError::new(Code::BadRequest, format!("several ids begin with {shown}: {}", ids.join(", "))))
            }
            Found::NoId => Err(NodeError::new(
                Code::BadRequest,
                "that is no id: give the payment hash or txid, or at least 8 of its first hex digits",
            )),
        }
    }
}

fn entry(record: Record) -> Entry {
    let status = record.status(unix_now()).as_str().to_owned();
    Entry {
        kind: record.kind.as_str().into(),
        direction: record.direction.as_str().into(),
        status,
        id: record.id,
        amount_msat: record.amount_msat,
        fee_msat: record.fee_msat,
        created_at: record.created_at,
        updated_at: record.updated_at,
        description: record.description,
        payee: record.payee,
        preimage: record.preimage,
        invoice: record.invoice,
        txid: record.txid,
        height: record.height,
        attempts: record.attempts,
        reason: record.reason,
        open_until_height: record.open_until_height,
        already: false,
    }
}
