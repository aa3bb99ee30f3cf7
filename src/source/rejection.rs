//! Why a server's node does not take a transaction, in our own words.
//!
//! Rejections are error 1 with free text: that of Bitcoin Core's `sendrawtransaction`, wrapped differently by each
//! server. Texts are from Core (`validation.cpp`, `rpc/mempool.cpp`, `util/error.cpp`), ElectrumX (`session.py`:
//! "the transaction was rejected by network rules"), electrs and Fulcrum.

use super::error::{NoAnswer, SourceError};
use super::untrusted::Untrusted;

/// A transaction that was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BroadcastError {
    /// The server's node refuses the transaction.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is not known whether the server took it.
    #[error(transparent)]
    Unknown(#[from] SourceError),
}

/// Why a node refuses a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// An input is unknown or already spent by a confirmed transaction.
    #[error("an input is missing or already spent")]
    MissingInputs,
    /// Its fee is below what the node takes now.
    #[error("its fee is too low at the moment")]
    FeeTooLow,
    /// Another transaction spends the same, and pays enough to stay.
    #[error("another unconfirmed transaction spends the same coins")]
    Conflict,
    /// Its lock time or a relative lock has not passed.
    #[error("it may not be confirmed yet (time lock)")]
    NotFinal,
    /// Too many unconfirmed ancestors or descendants.
    #[error("too many unconfirmed transactions depend on each other")]
    TooLong,
    /// It breaks a rule of the network.
    #[error("it is not valid or not standard")]
    Invalid,
    /// Something else.
    #[error("refused for a reason not known here: {0}")]
    Other(Untrusted),
}

/// Whether a package was taken as one, by the texts of its rejections. False: its transactions are to be sent one after
/// the other; the server may know no packages, and a parent may have been confirmed meanwhile, which makes it none.
pub(super) fn taken_as_one(answer: Result<Vec<String>, SourceError>) -> Result<bool, SourceError> {
    match answer {
        Ok(errors) => Ok(errors.iter().all(|text| classify(text).is_none())),
        Err(SourceError::Refused(NoAnswer::Said(error))) => {
            tracing::debug!("a package was not taken as one: {error}");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Sends a package's transactions one after the other, parents first. A server that falls silent is not asked further.
pub(super) async fn one_by_one<F>(broadcasts: impl Iterator<Item = F>) -> Result<(), BroadcastError>
where
    F: Future<Output = Result<(), BroadcastError>>,
{
    let mut outcome = Ok(());
    for broadcast in broadcasts {
        outcome = match broadcast.await {
            Err(BroadcastError::Unknown(error)) => return Err(error.into()),
            child => after(outcome, child),
        };
    }
    outcome
}

/// What a package came to, of which the transactions are sent one after the other, parents first: a parent below the
/// minimum may be refused alone, and its child then too. The child's word counts, unless it only misses the parent.
fn after(parent: Result<(), BroadcastError>, child: Result<(), BroadcastError>) -> Result<(), BroadcastError> {
    match (parent, child) {
        (Err(parent), Err(BroadcastError::Rejected(Rejection::MissingInputs))) => Err(parent),
        (_, child) => child,
    }
}

/// Reads the text of a rejection; `None`: the node has the transaction already, so all is well.
pub fn classify(text: &str) -> Option<Rejection> {
    let text = text.to_ascii_lowercase();
    let any = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    if any(&[
        "txn-already-in-mempool",
        "txn-already-known",
        "txn-same-nonwitness-data-in-mempool",
        "transaction already in block chain",
        "transaction outputs already in utxo set",
        "already in mempool",
        "already have transaction",
        "tx already in mempool",
        "transaction already in mempool",
    ]) {
        return None;
    }
    Some(if any(&["missingorspent", "missing inputs", "missing-inputs", "missing input"]) {
        Rejection::MissingInputs
    } else if any(&["txn-mempool-conflict", "insufficient fee", "replacement", "bip125"]) {
        Rejection::Conflict
    } else if any(&["min relay fee not met", "mempool min fee not met", "mempool full", "fee not met", "min-fee"]) {
        Rejection::FeeTooLow
    } else if any(&["non-final", "non-bip68-final"]) {
        Rejection::NotFinal
    } else if any(&["too-long-mempool-chain", "truc-violation", "v3-rule-violation", "too-large-cluster"]) {
        Rejection::TooLong
    } else if any(&[
        "script-verify-flag",
        "bad-txns",
        "bad-witness",
        "dust",
        "scriptpubkey",
        "scriptsig",
        "tx-size",
        "tx decode failed",
        "version",
        "multi-op-return",
        "datacarrier",
        "max-fee-exceeded",
        "coinbase",
    ]) {
        Rejection::Invalid
    } else {
        Rejection::Other(Untrusted::new(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text in the way ElectrumX wraps it.
    fn electrumx(core: &str) -> String {
        format!("the transaction was rejected by network rules.\n\n{core}\n[0200000001]")
    }

    #[test]
    fn a_transaction_that_the_node_has_is_a_success() {
        for text in [
            "txn-already-in-mempool",
            "Transaction already in block chain",
            "Transaction outputs already in utxo set",
            "sendrawtransaction RPC error -27: Transaction already in block chain",
            "txn-already-known",
        ] {
            assert_eq!(classify(&electrumx(text)), None, "{text}");
        }
    }

    #[test]
    fn the_texts_of_the_nodes_have_our_words() {
        let cases = [
            ("bad-txns-inputs-missingorspent", Rejection::MissingInputs),
            ("Missing inputs", Rejection::MissingInputs),
            ("min relay fee not met, 100 < 141", Rejection::FeeTooLow),
            ("mempool min fee not met", Rejection::FeeTooLow),
            ("txn-mempool-conflict", Rejection::Conflict),
            ("insufficient fee, rejecting replacement 77", Rejection::Conflict),
            ("non-final", Rejection::NotFinal),
            ("non-BIP68-final", Rejection::NotFinal),
            ("too-long-mempool-chain, too many unconfirmed ancestors", Rejection::TooLong),
            ("mandatory-script-verify-flag-failed (Script failed an OP_EQUALVERIFY operation)", Rejection::Invalid),
            ("dust", Rejection::Invalid),
            ("bad-txns-in-belowout", Rejection::Invalid),
        ];
        for (text, rejection) in cases {
            assert_eq!(classify(&electrumx(text)), Some(rejection), "{text}");
        }
        assert!(matches!(classify("\u{1b}[2Jweather"), Some(Rejection::Other(_))));
    }
}
