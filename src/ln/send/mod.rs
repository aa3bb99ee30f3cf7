//! Paying invoices.
//!
//! Rules under which this file lives (design P3: never guess about money):
//!
//! - The book's line is durable before LDK hears of a payment. `PaymentId` is the payment hash, so that LDK too
//!   refuses a second payment of a hash while the first is open.
//! - A line is settled by LDK's events, by LDK's refusal to begin, or by [`Payer::reconcile`] at a start; never by
//!   time. When the time is over, no new attempts are made (`abandon_payment`); HTLCs that are out stay out, and
//!   the line says until which height.
//! - After a crash, a payment of which an HTLC left is known to LDK: the manager's own table has it when its
//!   channel is open (a manager older than the channel's monitor closes the channel), and the monitor brings it
//!   back when the channel is closed (`insert_from_monitor_on_startup`). What neither knows never left: it has
//!   failed for certain.

mod checks;
mod restart;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::Network;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use lightning::chain::channelmonitor::Balance;
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{Bolt11PaymentError, PaymentId, Retry, RetryableSendFailure};
use lightning::routing::router::RouteParametersConfig;
use lightning::types::payment::PaymentHash;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescriptionRef};

use super::blocking;
use super::channels::pending_htlcs;
use super::decode::{self, DecodeError};
use super::types::{ChainMonitor, ChannelManager};
use crate::clock::unix_now;
use crate::config::Payments;
use crate::crash::{self, Point};
use crate::engine::Caution;
use crate::ledger::{Begun, Ledger, NewSend, Record, SendToken, Side, State};
use crate::store::{Store, StoreError};
use crate::task::Tasks;

pub use self::checks::{Sendable, sendable};

use self::checks::{amount, check_channels, check_expiry};

/// How long the end of a payment that was given up may take to be booked when nothing of it is out.
const GRACE: Duration = Duration::from_secs(3);

/// How long a payment waits for money that is in motion.
const SETTLING: Duration = Duration::from_secs(1);

/// Held while a payment passes from the book to LDK, so that an echo of its earlier failure cannot fall in between.
#[derive(Clone, Debug, Default)]
pub struct HandOver(Arc<Mutex<()>>);

impl HandOver {
    /// Blocks while another payment passes.
    pub fn lock(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be paid.
#[derive(Clone, Debug)]
pub struct Order {
    /// BOLT11, as pasted.
    pub invoice: String,
    /// Needed for an invoice without amount.
    pub amount_msat: Option<u64>,
    /// Absent: as configured.
    pub max_fee_msat: Option<u64>,
    /// How long attempts are made and the outcome is waited for. Absent: as configured.
    pub timeout: Option<Duration>,
}

/// The book's line of a payment.
#[derive(Clone, Debug)]
pub struct Paid {
    /// Succeeded, failed for certain, or open (pending or unknown): then with the height at which it must end, if
    /// known.
    pub record: Record,
    /// True when it is told of an earlier payment of this invoice.
    pub already: bool,
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// Not an invoice that this node can pay.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Our own.
    #[error("this is an invoice of this node; it cannot pay itself")]
    Own,
    /// Too late.
    #[error("the invoice expired {0} ago; ask for a new one")]
    Expired(String),
    /// The amount makes no sense with this invoice.
    #[error("{0}")]
    Amount(String),
    /// The channels do not carry it.
    #[error("{0}")]
    NotEnough(String),
    /// The chain is not seen, so nothing new is risked.
    #[error("nothing was paid: {0}")]
    Blind(String),
    /// The channels are there, but none is up.
    #[error("{0}")]
    NoChannelUp(String),
    /// The book could not be read or written.
    #[error("nothing was paid: {0}")]
    Store(#[from] StoreError),
}

/// Pays.
#[derive(Clone)]
pub struct Payer {
    manager: Arc<ChannelManager>,
    monitors: Arc<ChainMonitor>,
    ledger: Ledger,
    store: Store,
    hand_over: HandOver,
    settings: Payments,
    caution: Caution,
    network: Network,
    tasks: Tasks,
}

/// What the payer needs.
pub struct PayerParts {
    /// The channels.
    pub manager: Arc<ChannelManager>,
    /// Closed channels too.
    pub monitors: Arc<ChainMonitor>,
    /// The book.
    pub ledger: Ledger,
    /// Where the book is.
    pub store: Store,
    /// The same as in the event handlers' context.
    pub hand_over: HandOver,
    /// Defaults of an order.
    pub settings: Payments,
    /// Whether anything may be begun.
    pub caution: Caution,
    /// Ours.
    pub network: Network,
    /// Where deadlines run.
    pub tasks: Tasks,
}

enum Start {
    /// Begun by us; LDK has it.
    Begun,
    /// Settled at once: paid before, or LDK refused.
    Settled(Box<Record>, bool),
    /// Another request's.
    Joined,
}

impl Payer {
    /// From its parts.
    pub fn new(parts: PayerParts) -> Self {
        let PayerParts { manager, monitors, ledger, store, hand_over, settings, caution, network, tasks } = parts;
        Self { manager, monitors, ledger, store, hand_over, settings, caution, network, tasks }
    }

    /// Pays, or joins the payment of this invoice that is under way, and waits for the outcome. Dropping the future
    /// changes nothing about the payment.
    pub async fn pay(&self, order: Order) -> Result<Paid, PayError> {
        let invoice = decode::parse(&order.invoice, self.network)?;
        let hash = PaymentHash(invoice.payment_hash().to_byte_array());
        let timeout = order.timeout.unwrap_or(self.settings.timeout);
        let payer = self.clone();
        let start = blocking(move || payer.begin(&invoice, &order, timeout)).await?;
        let id = hash.0.to_lower_hex_string();
        let (waited, already) = match start {
            Start::Settled(record, already) => return Ok(Paid { record: *record, already }),
            Start::Begun => {
                self.watch_deadline(hash, timeout);
                // The deadline's own writing ends this; the margin is for a disk that hangs.
                let told = self.ledger.wait_until(&id, Side::Send, |record| record.state != State::Pending);
                (tokio::time::timeout(timeout + GRACE * 3, told).await, false)
            }
            Start::Joined => {
                let settled = self.ledger.wait_settled(&id, Side::Send);
                (tokio::time::timeout(timeout, settled).await, true)
            }
        };
        let record = match waited {
            Ok(record) => record?,
            Err(_elapsed) => None,
        };
        let record = match record {
            Some(record) => record,
            None => self.present(hash).await?,
        };
        Ok(Paid { record, already })
    }

    /// The line as it stands, with the height at which it must end.
    async fn present(&self, hash: PaymentHash) -> Result<Record, StoreError> {
        let payer = self.clone();
        blocking(move || {
            let record = payer.ledger.send_of(hash.0)?;
            let mut record = record.ok_or_else(no_line)?;
            if record.is_open() {
                record.open_until_height = payer.open_until(hash).or(record.open_until_height);
            }
            Ok(record)
        })
        .await
    }

    fn begin(&self, invoice: &Bolt11Invoice, order: &Order, timeout: Duration) -> Result<Start, PayError> {
        if invoice.get_payee_pub_key() == self.manager.get_our_node_id() {
            return Err(PayError::Own);
        }
        // An answer about an earlier payment needs no valid order: neither expiry nor channels matter any more.
        let hash = invoice.payment_hash().to_byte_array();
        match self.ledger.send_of(hash)? {
            Some(record) if record.state == State::Succeeded => {
                return Ok(Start::Settled(Box::new(record), true));
            }
            Some(record) if record.is_open() => return Ok(Start::Joined),
            _ => {}
        }
        if let Some(why) = self.caution.refusing() {
            return Err(PayError::Blind(why));
        }
        let amount_msat = amount(invoice.amount_milli_satoshis(), order.amount_msat).map_err(PayError::Amount)?;
        check_expiry(invoice, unix_now())?;
        let in_parts = invoice.features().is_some_and(|features| features.supports_basic_mpp());
        self.check_channels(in_parts, amount_msat)?;
        let max_fee_msat = order.max_fee_msat.unwrap_or_else(|| self.settings.max_fee_msat(amount_msat));
        let new = NewSend {
            payment_hash: hash,
            amount_msat,
            max_fee_msat: Some(max_fee_msat),
            invoice: Some(invoice.to_string()),
            payee: Some(invoice.get_payee_pub_key().to_string()),
            description: match invoice.description() {
                Bolt11InvoiceDescriptionRef::Direct(text) => Some(text.as_inner().0.clone()).filter(|t| !t.is_empty()),
                Bolt11InvoiceDescriptionRef::Hash(_) => None,
            },
        };
        let _handing_over = self.hand_over.lock();
        match self.ledger.begin_send(new)? {
            Begun::Fresh(token) => {
                crash::passes(Point::PayBooked);
                Ok(self.hand_to_ldk(token, invoice, amount_msat, max_fee_msat, timeout)?)
            }
            Begun::InFlight(_) => Ok(Start::Joined),
            Begun::Paid(record) => Ok(Start::Settled(record, true)),
        }
    }

    /// Money of a payment that has just arrived or come back counts only when the peer has let go of it, which
    /// takes a moment: a shortage is believed when nothing is in motion, or after [`SETTLING`]. Blocks.
    fn check_channels(&self, in_parts: bool, amount_msat: u64) -> Result<(), PayError> {
        let until = Instant::now() + SETTLING;
        loop {
            let channels = self.manager.list_channels();
            let in_motion = channels.iter().any(|channel| channel.is_usable && pending_htlcs(channel) > 0);
            match check_channels(&channels, in_parts, amount_msat) {
                Err(PayError::NotEnough(_)) if in_motion && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                verdict => return verdict,
            }
        }
    }

    fn hand_to_ldk(
        &self,
        token: SendToken,
        invoice: &Bolt11Invoice,
        amount_msat: u64,
        max_fee_msat: u64,
        timeout: Duration,
    ) -> Result<Start, StoreError> {
        let hash = token.payment_hash();
        let route = RouteParametersConfig {
            max_total_routing_fee_msat: Some(max_fee_msat),
            max_path_count: self.settings.max_parts,
            ..RouteParametersConfig::default()
        };
        // LDK refuses an amount that is given beside the invoice's only when it is smaller.
        let given = invoice.amount_milli_satoshis().is_none().then_some(amount_msat);
        let retry = Retry::Timeout(timeout);
        match self.manager.pay_for_bolt11_invoice(invoice, PaymentId(hash), given, route, retry) {
            Ok(()) => {
                crash::passes(Point::PayHanded);
                token.handed_over();
                Ok(Start::Begun)
            }
            Err(Bolt11PaymentError::SendingFailed(RetryableSendFailure::DuplicatePayment)) => {
                token.handed_over();
                let reason = "an earlier payment of this invoice was given up, but parts of it are still out";
                self.ledger.unknown(hash, reason, self.open_until(PaymentHash(hash)))?;
                Ok(Start::Joined)
            }
            Err(error) => {
                let reason = self.refusal(&error, max_fee_msat);
                let record = self.ledger.refused(token, &reason).inspect_err(|error| {
                    if error.is_transient() {
                        self.book_refusal(hash, reason.clone());
                    }
                })?;
                let record = record.ok_or_else(no_line)?;
                Ok(Start::Settled(Box::new(record), false))
            }
        }
    }

    /// Books that LDK refused a payment, once the disk takes it: until then its line is open, and nobody may pay it again.
    fn book_refusal(&self, hash: [u8; 32], reason: String) {
        let payer = self.clone();
        self.tasks.spawn_job(format!("refusal of payment {}", PaymentHash(hash)), async move {
            let book = move || {
                let booked =
                    payer.store.insist(StoreError::is_transient, || payer.ledger.failed(hash, &reason).map(|_| ()));
                // The node is ending: the next start finds that LDK does not know the payment.
                if booked.as_ref().is_err_and(StoreError::is_transient) { Ok(()) } else { booked }
            };
            blocking(book).await
        });
    }

    fn refusal(&self, error: &Bolt11PaymentError, max_fee_msat: u64) -> String {
        match error {
            Bolt11PaymentError::InvalidAmount => "the amount does not fit the invoice".into(),
            Bolt11PaymentError::SendingFailed(RetryableSendFailure::PaymentExpired) => "the invoice has expired".into(),
            Bolt11PaymentError::SendingFailed(RetryableSendFailure::OnionPacketSizeExceeded) => {
                "the invoice's metadata is too large to be sent along".into()
            }
            Bolt11PaymentError::SendingFailed(RetryableSendFailure::DuplicatePayment) => {
                "an earlier payment of this invoice is under way".into()
            }
            Bolt11PaymentError::SendingFailed(RetryableSendFailure::RouteNotFound) => format!(
                "no route to the payee was found for a fee of at most {} sat; {} sat can be sent now in all, {} sat in one \
                 part",
                max_fee_msat / 1000,
                sendable(&self.manager.list_usable_channels()).all_msat / 1000,
                sendable(&self.manager.list_usable_channels()).one_msat / 1000,
            ),
        }
    }

    /// Ends the attempts when the time is over, whether or not anybody still waits for the answer.
    fn watch_deadline(&self, hash: PaymentHash, timeout: Duration) {
        let payer = self.clone();
        self.tasks.spawn_job(format!("deadline of payment {hash}"), async move {
            let id = hash.0.to_lower_hex_string();
            let until = tokio::time::Instant::now() + timeout;
            let end = async {
                loop {
                    let settled = payer.ledger.wait_settled(&id, Side::Send);
                    let ended = match tokio::time::timeout_at(until, settled).await {
                        Ok(settled) => settled.map(|_| ()),
                        Err(_elapsed) => payer.give_up(hash, &id).await,
                    };
                    match ended {
                        Err(error) if error.is_transient() => {
                            tokio::time::sleep(GRACE).await;
                            payer.store.well().await;
                        }
                        ended => return ended,
                    }
                }
            };
            tokio::select! {
                ended = end => ended,
                _ = payer.tasks.shutdown().wait() => Ok(()),
            }
        });
    }

    async fn give_up(&self, hash: PaymentHash, id: &str) -> Result<(), StoreError> {
        let payer = self.clone();
        blocking(move || payer.manager.abandon_payment(PaymentId(hash.0))).await;
        let settled = self.ledger.wait_settled(id, Side::Send);
        if let Ok(settled) = tokio::time::timeout(GRACE, settled).await {
            return settled.map(|_| ());
        }
        let payer = self.clone();
        blocking(move || {
            let reason = "the time for it is over, but parts of it are out and may still arrive; do not pay it again";
            payer.ledger.unknown(hash.0, reason, payer.open_until(hash)).map(|_| ())
        })
        .await
    }

    /// The height at which the last HTLC of this payment must have ended, going by those that are out now; `None`:
    /// none is. Past it our node closes the channel if the peer keeps silent, and takes the HTLC back on-chain.
    pub fn open_until(&self, hash: PaymentHash) -> Option<u32> {
        let open = self.manager.list_channels();
        let in_channels = open
            .iter()
            .flat_map(|channel| &channel.pending_outbound_htlcs)
            .filter(|htlc| htlc.payment_hash == hash)
            .map(|htlc| htlc.cltv_expiry);
        let open: Vec<&ChannelDetails> = open.iter().collect();
        let on_chain = self.monitors.get_claimable_balances(&open).into_iter().filter_map(|balance| match balance {
            Balance::MaybeTimeoutClaimableHTLC { claimable_height, payment_hash, .. } if payment_hash == hash => {
                Some(claimable_height)
            }
            _ => None,
        });
        in_channels.chain(on_chain).max()
    }
}

fn no_line() -> StoreError {
    StoreError::Broken { what: "find a payment in the book", why: "its line is gone".into() }
}
