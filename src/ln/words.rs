//! LDK's reasons, in words for people. Text of peers is escaped and shortened.

use lightning::events::{
    ClosureReason, HTLCHandlingFailureReason, HTLCHandlingFailureType, PathFailure, PaymentFailureReason,
};
use lightning::util::errors::APIError;

use crate::text::escape;

/// Foreign text, escaped.
pub fn foreign(text: &str) -> String {
    escape(text).to_string()
}

/// Why a channel is closed; completes "the channel is closed: …".
pub fn closure(reason: &ClosureReason) -> String {
    match reason {
        ClosureReason::CounterpartyForceClosed { peer_msg } if peer_msg.0.trim().is_empty() => {
            "the peer closed it by force and gave no reason".into()
        }
        ClosureReason::CounterpartyForceClosed { peer_msg } => {
            format!("the peer closed it by force, saying \"{}\"", escape(&peer_msg.0))
        }
        ClosureReason::HolderForceClosed { broadcasted_latest_txn: Some(false), message } => {
            format!("given up before it was funded: {}", escape(message))
        }
        ClosureReason::HolderForceClosed { message, .. } => format!("closed by force: {}", escape(message)),
        ClosureReason::LegacyCooperativeClosure => "both sides agreed to close it".into(),
        ClosureReason::CounterpartyInitiatedCooperativeClosure => {
            "both sides agreed to close it; the peer asked for it".into()
        }
        ClosureReason::LocallyInitiatedCooperativeClosure => "both sides agreed to close it; we asked for it".into(),
        ClosureReason::CommitmentTxConfirmed => {
            "a commitment transaction is confirmed; most likely the peer closed it by force".into()
        }
        ClosureReason::FundingTimedOut => "its funding transaction did not confirm in time".into(),
        ClosureReason::ProcessingError { err } => format!("the peer broke the protocol: {}", escape(err)),
        ClosureReason::DisconnectedPeer => "the connection was lost before it was funded".into(),
        ClosureReason::OutdatedChannelManager => {
            "the node's record of it was older than its watch after a restart, so it was closed by force for safety"
                .into()
        }
        ClosureReason::CounterpartyCoopClosedUnfundedChannel => "the peer gave it up before it was funded".into(),
        ClosureReason::LocallyCoopClosedUnfundedChannel => "given up before it was funded".into(),
        ClosureReason::FundingBatchClosure => "another channel of the same funding transaction failed".into(),
        ClosureReason::HTLCsTimedOut { .. } => {
            "a payment in it was not settled by the peer in time, so it was closed by force".into()
        }
        ClosureReason::PeerFeerateTooLow { peer_feerate_sat_per_kw, required_feerate_sat_per_kw } => format!(
            "the peer insists on {peer_feerate_sat_per_kw} sat/kw for closing transactions, too little to confirm (at \
             least {required_feerate_sat_per_kw} sat/kw)"
        ),
    }
}

/// Why a channel that we open came to nothing; a sentence.
pub fn refusal(reason: &ClosureReason) -> String {
    match reason {
        ClosureReason::CounterpartyForceClosed { peer_msg } if peer_msg.0.trim().is_empty() => {
            "the peer refused the channel and gave no reason".into()
        }
        ClosureReason::CounterpartyForceClosed { peer_msg } => {
            format!("the peer refused the channel, saying \"{}\"", escape(&peer_msg.0))
        }
        ClosureReason::DisconnectedPeer => "the peer disconnected before the channel was funded".into(),
        other => format!("the channel was not opened: {}", closure(other)),
    }
}

/// Why a payment failed for certain; completes "the payment failed: …".
pub fn payment_failure(reason: Option<PaymentFailureReason>) -> &'static str {
    match reason {
        Some(PaymentFailureReason::RecipientRejected) => {
            "the recipient rejected it (the invoice may be paid already, expired, or unknown to it)"
        }
        Some(PaymentFailureReason::UserAbandoned) => "no attempt succeeded in the time given",
        Some(PaymentFailureReason::RetriesExhausted) => "no attempt succeeded in the time given",
        Some(PaymentFailureReason::PaymentExpired) => "the invoice expired while it was tried",
        Some(PaymentFailureReason::RouteNotFound) => {
            "no route with enough liquidity and within the fee limit was left to try"
        }
        Some(PaymentFailureReason::UnexpectedError) => "the payment could not be sent (unexpected error, see the log)",
        Some(PaymentFailureReason::UnknownRequiredFeatures) => {
            "the invoice needs features that this node does not know"
        }
        Some(PaymentFailureReason::InvoiceRequestExpired) => "the recipient sent no invoice in time",
        Some(PaymentFailureReason::InvoiceRequestRejected) => "the recipient refused to make an invoice",
        Some(PaymentFailureReason::BlindedPathCreationFailed) => "no path for the recipient's answer could be made",
        None => "no attempt succeeded",
    }
}

/// What was wrong with one attempt.
pub fn path_failure(failure: &PathFailure) -> String {
    match failure {
        PathFailure::InitialSend { err } => format!("it could not leave this node: {}", api_error(err)),
        PathFailure::OnPath { network_update: Some(_) } => "a channel on the way could not carry it".into(),
        PathFailure::OnPath { network_update: None } => "a node on the way refused it".into(),
    }
}

/// What became of an HTLC that was not ours to keep.
pub fn handling_failure(kind: &HTLCHandlingFailureType, reason: Option<&HTLCHandlingFailureReason>) -> String {
    let what = match kind {
        HTLCHandlingFailureType::Forward { .. } => "a payment could not be forwarded",
        HTLCHandlingFailureType::UnknownNextHop { .. } | HTLCHandlingFailureType::InvalidForward { .. } => {
            "a payment named a channel that we do not have"
        }
        HTLCHandlingFailureType::InvalidOnion => "a payment came with an onion that we cannot read",
        HTLCHandlingFailureType::Receive { .. } => "a payment to us was refused",
    };
    match reason {
        Some(HTLCHandlingFailureReason::Downstream) => format!("{what}: a node further on refused it"),
        Some(HTLCHandlingFailureReason::Local { reason }) => format!("{what}: {reason:?}"),
        None => what.into(),
    }
}

/// LDK's answer to a call of ours.
pub fn api_error(error: &APIError) -> String {
    match error {
        APIError::APIMisuseError { err } => escape(err).to_string(),
        APIError::FeeRateTooHigh { err, feerate } => format!("{} (fee rate {feerate})", escape(err)),
        APIError::InvalidRoute { err } => escape(err).to_string(),
        APIError::ChannelUnavailable { err } => escape(err).to_string(),
        APIError::MonitorUpdateInProgress => "the channel's state is being written".into(),
        APIError::IncompatibleShutdownScript { .. } => "the peer does not accept our closing script".into(),
    }
}

#[cfg(test)]
mod tests {
    use lightning::types::string::UntrustedString;

    use super::*;

    fn said(text: &str) -> ClosureReason {
        ClosureReason::CounterpartyForceClosed { peer_msg: UntrustedString(text.into()) }
    }

    #[test]
    fn a_peers_text_cannot_steer_the_terminal_and_is_short() {
        let shown = refusal(&said(&format!("no\u{1b}[31m\u{202e}{}", "x".repeat(5000))));
        assert!(shown.starts_with("the peer refused the channel, saying \"no\\u{1b}[31m\\u{202e}xxx"), "{shown}");
        assert!(shown.chars().count() < 400);
        assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'));
    }

    #[test]
    fn a_peer_that_says_nothing_is_not_quoted() {
        assert_eq!(refusal(&said(" \n")), "the peer refused the channel and gave no reason");
        assert_eq!(closure(&said("")), "the peer closed it by force and gave no reason");
    }
}
