//! Payments out, in, and through.

use bitcoin::hex::DisplayHex;
use lightning::events::{
    HTLCHandlingFailureReason, HTLCHandlingFailureType, PathFailure, PaymentFailureReason, PaymentPurpose,
};
use lightning::ln::channelmanager::{FailureCode, InterceptId, PaymentId, RecentPaymentDetails, RecipientOnionFields};
use lightning::ln::types::ChannelId;
use lightning::types::payment::{PaymentHash, PaymentPreimage};

use super::{Context, Outcome};
use crate::crash::{self, Point};
use crate::ledger::{Forward, Ledger, Received, Record, State};
use crate::ln::blocking;
use crate::ln::words::{api_error, handling_failure, path_failure, payment_failure};
use crate::store::StoreError;

/// A payment that can be claimed.
pub(super) struct Offered {
    pub(super) payment_hash: PaymentHash,
    pub(super) amount_msat: u64,
    pub(super) skimmed_msat: u64,
    pub(super) purpose: PaymentPurpose,
    pub(super) fields: Option<RecipientOnionFields>,
    pub(super) claim: Option<PaymentId>,
}

/// A claimed payment.
pub(super) struct Claimed {
    pub(super) payment_hash: PaymentHash,
    pub(super) amount_msat: u64,
    pub(super) purpose: PaymentPurpose,
    pub(super) claim: Option<PaymentId>,
}

/// A payment that went through this node.
pub(super) struct Forwarded {
    pub(super) from: Option<ChannelId>,
    pub(super) to: Option<ChannelId>,
    pub(super) fee_msat: Option<u64>,
    pub(super) amount_msat: Option<u64>,
}

/// `PaymentClaimable`: LDK has checked the secret, and with it our signature on amount and expiry. Here: that
/// nobody took a part of it, that it is not paid already, and that nothing was asked for that we do not understand.
///
/// Twice for one payment: claiming again changes nothing, and a claim that is booked is never refused.
pub(super) async fn claimable(cx: &Context, offered: Offered) -> Outcome {
    let cx = cx.clone();
    blocking(move || {
        let hash = offered.payment_hash;
        let line = match cx.ledger.receive_of(hash.0) {
            Ok(line) => line,
            Err(error) => return Outcome::Replay(error.to_string()),
        };
        match judge(&offered, line.as_ref()).and_then(|preimage| careful(&cx, &offered, line.as_ref(), preimage)) {
            Ok(preimage) => {
                cx.manager.claim_funds(preimage);
                crash::passes(Point::ClaimGiven);
                Outcome::Done
            }
            Err(refusal) => {
                cx.manager.fail_htlc_backwards_with_reason(&hash, refusal.code);
                Outcome::Discard(format!("refused a payment of {} msat ({hash}): {}", offered.amount_msat, refusal.why))
            }
        }
    })
    .await
}

/// Why a payment is sent back.
struct Refusal {
    code: FailureCode,
    why: String,
}

fn judge(offered: &Offered, line: Option<&Record>) -> Result<PaymentPreimage, Refusal> {
    // One answer for all that a prober could ask.
    let refuse = |why: String| Err(Refusal { code: FailureCode::IncorrectOrUnknownPaymentDetails, why });
    let tlvs = offered.fields.iter().flat_map(|fields| fields.custom_tlvs());
    if let Some((kind, _)) = tlvs.into_iter().find(|(kind, _)| kind % 2 == 0) {
        let why = format!("its sender insists on field {kind}, which this node does not know");
        return Err(Refusal { code: FailureCode::InvalidOnionPayload(Some((*kind, 0))), why });
    }
    if offered.skimmed_msat > 0 {
        return refuse(format!("the peer kept {} msat of it", offered.skimmed_msat));
    }
    let preimage = match &offered.purpose {
        PaymentPurpose::Bolt11InvoicePayment { payment_preimage: Some(preimage), .. } => *preimage,
        PaymentPurpose::SpontaneousPayment(preimage) => *preimage,
        PaymentPurpose::Bolt11InvoicePayment { payment_preimage: None, .. } => {
            return refuse("its preimage is not known here".into());
        }
        PaymentPurpose::Bolt12OfferPayment { .. } | PaymentPurpose::Bolt12RefundPayment { .. } => {
            return refuse("it is for an offer or refund, and this release makes none".into());
        }
    };
    let Some(line) = line else {
        // The secret proves that the invoice is ours, or it is a keysend: it is our money with or without a line.
        return Ok(preimage);
    };
    let claim = claim_name(offered.claim, offered.payment_hash);
    if line.claims.contains_key(&claim) {
        return Ok(preimage);
    }
    if line.state == State::Succeeded {
        return refuse("it was paid before".into());
    }
    match line.amount_msat {
        Some(wanted) if offered.amount_msat < wanted => refuse(format!("the invoice asks for {wanted} msat")),
        _ => Ok(preimage),
    }
}

/// Nothing new is taken while we are blind: whoever let us claim could keep the money, and we would not see it. A claim
/// that was made before goes on.
fn careful(
    cx: &Context,
    offered: &Offered,
    line: Option<&Record>,
    preimage: PaymentPreimage,
) -> Result<PaymentPreimage, Refusal> {
    let claim = claim_name(offered.claim, offered.payment_hash);
    match cx.doors.caution.refusing() {
        Some(why) if !line.is_some_and(|line| line.claims.contains_key(&claim)) => {
            Err(Refusal { code: FailureCode::TemporaryNodeFailure, why })
        }
        _ => Ok(preimage),
    }
}

/// The name under which the book keeps a claim.
fn claim_name(claim: Option<PaymentId>, hash: PaymentHash) -> String {
    claim.map_or(hash.0, |id| id.0).to_lower_hex_string()
}

/// `PaymentClaimed`: it is ours. May come without `PaymentClaimable`, and twice.
pub(super) async fn claimed(cx: &Context, claimed: Claimed) -> Outcome {
    let ledger = cx.ledger.clone();
    Outcome::written(
        blocking(move || book_claim(&ledger, claimed).inspect(|_| crash::passes(Point::ClaimBooked))).await,
    )
}

fn book_claim(ledger: &Ledger, claimed: Claimed) -> Result<Record, StoreError> {
    let (preimage, keysend) = match claimed.purpose {
        PaymentPurpose::Bolt11InvoicePayment { payment_preimage, .. }
        | PaymentPurpose::Bolt12OfferPayment { payment_preimage, .. }
        | PaymentPurpose::Bolt12RefundPayment { payment_preimage, .. } => (payment_preimage, false),
        PaymentPurpose::SpontaneousPayment(preimage) => (Some(preimage), true),
    };
    ledger.received(Received {
        payment_hash: claimed.payment_hash.0,
        claim: claimed.claim.map(|id| id.0),
        amount_msat: claimed.amount_msat,
        preimage: preimage.map(|preimage| preimage.0),
        keysend,
    })
}

/// `PaymentSent`: the preimage proves it, whatever was thought before.
pub(super) async fn sent(cx: &Context, hash: PaymentHash, preimage: PaymentPreimage, fee_msat: Option<u64>) -> Outcome {
    let ledger = cx.ledger.clone();
    Outcome::written(
        blocking(move || {
            // The way that arrived; those that failed are counted as they fail.
            ledger.attempt(hash.0);
            ledger.sent(hash.0, preimage.0, fee_msat).inspect(|_| crash::passes(Point::PaySettled))
        })
        .await,
    )
}

/// `PaymentFailed`: nothing of it is out any more. The book ignores it after success. LDK drops a payment before it
/// reports its failure: while it has one of this id, the event is the echo of an earlier try, replayed after a
/// restart.
pub(super) async fn failed(
    cx: &Context,
    id: PaymentId,
    hash: Option<PaymentHash>,
    reason: Option<PaymentFailureReason>,
) -> Outcome {
    // Only payments of offers, which this release does not make, have no hash.
    let Some(hash) = hash else {
        return Outcome::Discard(format!("payment {id} failed before it had an invoice"));
    };
    let cx = cx.clone();
    blocking(move || {
        // So that no payment is between the book and LDK while we look.
        let _handing_over = cx.desk.hand_over.lock();
        if cx.manager.list_recent_payments().iter().any(|payment| under_way(payment, id)) {
            return Outcome::Discard(format!("an earlier try of payment {hash} failed; the present one is under way"));
        }
        Outcome::written(cx.ledger.failed(hash.0, payment_failure(reason)))
    })
    .await
}

fn under_way(payment: &RecentPaymentDetails, id: PaymentId) -> bool {
    let (RecentPaymentDetails::Pending { payment_id, .. }
    | RecentPaymentDetails::AwaitingInvoice { payment_id }
    | RecentPaymentDetails::Fulfilled { payment_id, .. }
    | RecentPaymentDetails::Abandoned { payment_id, .. }) = payment;
    *payment_id == id
}

/// `PaymentPathSuccessful`: after `PaymentSent`, which has booked it.
pub(super) fn path_succeeded(hash: Option<PaymentHash>) -> Outcome {
    tracing::debug!(?hash, "a part of a payment is settled");
    Outcome::Done
}

/// `PaymentPathFailed`: one more way that was tried in vain. LDK tries the next by itself.
pub(super) fn path_failed(cx: &Context, hash: PaymentHash, failure: &PathFailure) -> Outcome {
    cx.ledger.attempt(hash.0);
    tracing::debug!(%hash, "an attempt failed: {}", path_failure(failure));
    Outcome::Done
}

/// `ProbeSuccessful`, `ProbeFailed`: LDK's scorer has learnt from it; no money is in it.
pub(super) fn probed(hash: PaymentHash, arrived: bool) -> Outcome {
    tracing::debug!(%hash, arrived, "a probe came back");
    Outcome::Done
}

/// `HTLCIntercepted`: only with intercept scids, which we never hand out. Sent back; after a restart LDK may have
/// done so.
pub(super) fn intercepted(cx: &Context, id: InterceptId) -> Outcome {
    match cx.manager.fail_intercepted_htlc(id) {
        Ok(()) => Outcome::Discard("sent back a payment for a channel that does not exist".into()),
        Err(error) => Outcome::Discard(format!("a payment to be sent back is gone: {}", api_error(&error))),
    }
}

/// `PaymentForwarded`. Without a fee LDK may repeat it, and it earned nothing.
pub(super) fn forwarded(cx: &Context, forwarded: Forwarded) -> Outcome {
    let Forwarded { from: Some(from), to: Some(to), fee_msat: Some(fee_msat), amount_msat: Some(amount_msat) } =
        forwarded
    else {
        return Outcome::Discard("forwarded a payment that was settled on-chain, without a known fee".into());
    };
    Outcome::written(cx.ledger.forwarded(Forward {
        incoming: from.to_string(),
        outgoing: to.to_string(),
        amount_out_msat: amount_msat,
        fee_msat,
    }))
}

/// `HTLCHandlingFailed`: LDK has sent it back.
pub(super) fn handling_failed(kind: &HTLCHandlingFailureType, reason: Option<&HTLCHandlingFailureReason>) -> Outcome {
    tracing::debug!("{}", handling_failure(kind, reason));
    Outcome::Done
}

/// `InvoiceReceived`: only for offers, which this release does not pay. Never paid, and LDK forgets it.
pub(super) async fn invoice_received(cx: &Context, id: PaymentId) -> Outcome {
    let manager = std::sync::Arc::clone(&cx.manager);
    blocking(move || manager.abandon_payment(id)).await;
    Outcome::Discard("an invoice for an offer is not paid: this release does not pay offers".into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bitcoin::Network;
    use lightning::types::payment::PaymentSecret;

    use super::*;
    use crate::ledger::{Begun, Direction, Kind, NewInvoice, NewSend};
    use crate::store::Store;

    const HASH: PaymentHash = PaymentHash([3; 32]);
    const PREIMAGE: PaymentPreimage = PaymentPreimage([4; 32]);

    fn bolt11(preimage: Option<PaymentPreimage>) -> PaymentPurpose {
        PaymentPurpose::Bolt11InvoicePayment { payment_preimage: preimage, payment_secret: PaymentSecret([5; 32]) }
    }

    fn offered(amount_msat: u64) -> Offered {
        Offered {
            payment_hash: HASH,
            amount_msat,
            skimmed_msat: 0,
            purpose: bolt11(Some(PREIMAGE)),
            fields: Some(RecipientOnionFields::secret_only(PaymentSecret([5; 32]))),
            claim: Some(PaymentId([6; 32])),
        }
    }

    fn line(amount_msat: Option<u64>) -> Record {
        let id = HASH.0.to_lower_hex_string();
        Record { amount_msat, ..Record::new(id, Kind::Receive, Direction::In, 1) }
    }

    fn paid(line: Record, claim: [u8; 32]) -> Record {
        let claims = BTreeMap::from([(claim.to_lower_hex_string(), 1_000)]);
        Record { state: State::Succeeded, claims, ..line }
    }

    fn refused(offered: &Offered, line: Option<&Record>) -> String {
        judge(offered, line).expect_err("it should be refused").why
    }

    #[test]
    fn a_payment_of_at_least_the_amount_is_claimed() {
        for amount in [1_000, 1_999] {
            assert_eq!(judge(&offered(amount), Some(&line(Some(1_000)))).ok(), Some(PREIMAGE));
        }
        assert_eq!(judge(&offered(1), Some(&line(None))).ok(), Some(PREIMAGE));
    }

    #[test]
    fn too_little_is_sent_back() {
        assert_eq!(refused(&offered(999), Some(&line(Some(1_000)))), "the invoice asks for 1000 msat");
        let skimmed = Offered { skimmed_msat: 7, ..offered(1_000) };
        assert_eq!(refused(&skimmed, Some(&line(Some(1_000)))), "the peer kept 7 msat of it");
    }

    #[test]
    fn a_second_payment_of_an_invoice_is_sent_back_but_a_replayed_one_is_not() {
        assert_eq!(refused(&offered(1_000), Some(&paid(line(Some(1_000)), [9; 32]))), "it was paid before");
        assert_eq!(judge(&offered(1_000), Some(&paid(line(Some(1_000)), [6; 32]))).ok(), Some(PREIMAGE));
    }

    #[test]
    fn what_the_sender_insists_on_and_we_do_not_know_is_refused_by_name() {
        let fields = |kind| {
            let secret_only = RecipientOnionFields::secret_only(PaymentSecret([5; 32]));
            secret_only.with_custom_tlvs(vec![(kind, vec![1])]).ok()
        };
        let even = Offered { fields: fields(70_000), ..offered(1_000) };
        let refusal = judge(&even, None).expect_err("an even field");
        assert!(matches!(refusal.code, FailureCode::InvalidOnionPayload(Some((70_000, 0)))), "{}", refusal.why);
        let odd = Offered { fields: fields(70_001), ..offered(1_000) };
        assert_eq!(judge(&odd, None).ok(), Some(PREIMAGE));
    }

    #[test]
    fn a_payment_whose_preimage_is_elsewhere_is_refused() {
        let hold = Offered { purpose: bolt11(None), ..offered(1_000) };
        assert_eq!(refused(&hold, None), "its preimage is not known here");
    }

    fn book() -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Network::Regtest, [0; 4]).unwrap();
        (dir, Ledger::open(store))
    }

    fn claimed_once() -> Claimed {
        Claimed {
            payment_hash: HASH,
            amount_msat: 1_000,
            purpose: bolt11(Some(PREIMAGE)),
            claim: Some(PaymentId([6; 32])),
        }
    }

    #[test]
    fn a_replayed_claim_is_booked_once() {
        let (_dir, ledger) = book();
        let invoice = "lnbcrt1…".to_owned();
        let new =
            NewInvoice { payment_hash: HASH.0, amount_msat: Some(1_000), description: None, invoice, expires_at: 9 };
        ledger.invoice(new).unwrap();
        let first = book_claim(&ledger, claimed_once()).unwrap();
        let again = book_claim(&ledger, claimed_once()).unwrap();
        assert_eq!(first, again);
        assert_eq!((again.state, again.amount_msat), (State::Succeeded, Some(1_000)));
        // …and the replay of what came before the claim does not send it back.
        let line = ledger.receive_of(HASH.0).unwrap();
        assert_eq!(judge(&offered(1_000), line.as_ref()).ok(), Some(PREIMAGE));
    }

    #[test]
    fn a_replayed_success_and_a_late_failure_leave_the_payment_as_it_was() {
        let (_dir, ledger) = book();
        let new = NewSend {
            payment_hash: HASH.0,
            amount_msat: 1_000,
            max_fee_msat: None,
            invoice: None,
            payee: None,
            description: None,
        };
        let Begun::Fresh(token) = ledger.begin_send(new).unwrap() else { panic!("begun twice") };
        token.handed_over();
        let first = ledger.sent(HASH.0, PREIMAGE.0, Some(7)).unwrap();
        assert_eq!(ledger.sent(HASH.0, PREIMAGE.0, Some(7)).unwrap(), first);
        assert_eq!(ledger.failed(HASH.0, "late").unwrap(), Some(first.clone()));
        assert_eq!((first.state, first.fee_msat), (State::Succeeded, Some(7)));
    }

    #[test]
    fn a_claim_without_a_line_is_booked_all_the_same() {
        let (_dir, ledger) = book();
        let keysend = Claimed { purpose: PaymentPurpose::SpontaneousPayment(PREIMAGE), ..claimed_once() };
        let line = book_claim(&ledger, keysend).unwrap();
        assert_eq!((line.kind, line.direction, line.amount_msat), (Kind::Keysend, Direction::In, Some(1_000)));
    }

    #[test]
    fn a_failure_after_success_changes_nothing() {
        let (_dir, ledger) = book();
        let new = NewSend {
            payment_hash: HASH.0,
            amount_msat: 1_000,
            max_fee_msat: None,
            invoice: Some("lnbcrt1…".into()),
            payee: None,
            description: None,
        };
        let Begun::Fresh(token) = ledger.begin_send(new).unwrap() else { panic!("not fresh") };
        token.handed_over();
        let sent = ledger.sent(HASH.0, PREIMAGE.0, Some(12)).unwrap();
        let reason = payment_failure(Some(PaymentFailureReason::RetriesExhausted));
        assert_eq!(ledger.failed(HASH.0, reason).unwrap(), Some(sent));
    }
}
