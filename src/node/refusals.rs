//! Errors of the rooms below, with the code that programs go by and a hint for people.

use super::error::{Code, NodeError};
use crate::engine;
use crate::ln;
use crate::ln::channels::{CloseError, OpenError};
use crate::ln::decode::DecodeError;
use crate::ln::peers::{ConnectError, ForgetError};
use crate::ln::receive::ReceiveError;
use crate::ln::send::PayError;
use crate::store::StoreError;
use crate::wallet::WalletError;

/// Why not all coins can be spent while there are channels.
const RESERVE: &str =
    "the reserve pays the fees if a channel has to be closed by force; it is free again when the channels are closed";

/// What to do about a chain that is not seen.
pub(super) const BLIND: &str =
    "it ends by itself when blocks come; `lightnode servers` shows the servers, and one of your own (trusted) helps";

/// What is to be done about a disk that takes nothing.
const DISK: &str = "look after the disk (space, mount, cable); it is tried again by itself, and `lightnode status` shows \
                    when the node goes on";

/// Nothing new is begun while the disk takes nothing.
pub(super) fn halted(why: &str) -> NodeError {
    NodeError::new(Code::Refused, format!("the node is halted and begins nothing new: {why}")).hint(DISK)
}

/// What to do about a database that is not as it was written, once the node runs.
const DAMAGE: &str = "stop the node and start it again: it looks at all of the database, and says what to do";

impl From<StoreError> for NodeError {
    fn from(error: StoreError) -> Self {
        if error.is_damage() {
            return Self::new(Code::Damaged, error.to_string()).hint(DAMAGE);
        }
        if error.is_transient() {
            return Self::new(Code::Refused, error.to_string()).hint(DISK);
        }
        Self::new(Code::Internal, error.to_string()).hint("look after the disk; what was acknowledged is safe")
    }
}

impl From<WalletError> for NodeError {
    fn from(error: WalletError) -> Self {
        let message = error.to_string();
        match error {
            WalletError::Store(error) => error.into(),
            WalletError::NotEnough { held_back_sat, .. } if held_back_sat > 0 => {
                Self::new(Code::InsufficientFunds, message).hint(RESERVE)
            }
            WalletError::NotEnough { .. } => Self::new(Code::InsufficientFunds, message),
            WalletError::Dust { .. } | WalletError::FeeTooLow { .. } | WalletError::OtherNetwork { .. } => {
                Self::new(Code::BadRequest, message)
            }
            WalletError::Load(_) => Self::new(Code::Damaged, message),
            WalletError::FeeTooHigh { .. } | WalletError::Coin { .. } => Self::new(Code::Refused, message),
            WalletError::Build(_) | WalletError::Sign(_) | WalletError::Chain(_) => Self::new(Code::Internal, message),
        }
    }
}

impl From<ln::restore::RestoreError> for NodeError {
    fn from(error: ln::restore::RestoreError) -> Self {
        let code = match error {
            ln::restore::RestoreError::Damaged(_) => Code::Damaged,
            _ => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<engine::RestoreError> for NodeError {
    fn from(error: engine::RestoreError) -> Self {
        match error {
            engine::RestoreError::Store(error) => error.into(),
            error @ (engine::RestoreError::Headers(_) | engine::RestoreError::Told(_)) => {
                Self::new(Code::Damaged, format!("the stored chain cannot be taken up again: {error}"))
            }
        }
    }
}

impl From<OpenError> for NodeError {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::Amount(_) => Self::new(Code::BadRequest, message),
            OpenError::NotEnough(_) => Self::new(Code::InsufficientFunds, message).hint(RESERVE),
            OpenError::Wallet(error) => error.into(),
            OpenError::PeerAway | OpenError::Refused(_) | OpenError::Silent => {
                Self::new(Code::PeerUnavailable, message)
            }
            OpenError::Unsigned => Self::new(Code::Unknown, message),
            OpenError::Internal(_) => Self::new(Code::Failed, message),
        }
    }
}

impl From<CloseError> for NodeError {
    fn from(error: CloseError) -> Self {
        let message = error.to_string();
        match error {
            CloseError::NotFound(_) => Self::new(Code::NotFound, message).hint("`lightnode channels` lists them"),
            CloseError::Ambiguous(_) => Self::new(Code::BadRequest, message),
            CloseError::PeerAway(_) => Self::new(Code::PeerUnavailable, message),
            CloseError::Already(_) => Self::new(Code::Refused, message),
            CloseError::Refused(_) => Self::new(Code::Failed, message),
        }
    }
}

impl From<ConnectError> for NodeError {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::Ourselves | ConnectError::NoAddress => Code::BadRequest,
            ConnectError::Unreachable(..) | ConnectError::Refused(_) | ConnectError::Timeout(..) => {
                Code::PeerUnavailable
            }
            ConnectError::Stopping => Code::NotReady,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ForgetError> for NodeError {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::HasChannels(_) => Self::new(Code::Refused, error.to_string()),
            ForgetError::Store(error) => error.into(),
        }
    }
}

impl From<DecodeError> for NodeError {
    fn from(error: DecodeError) -> Self {
        Self::new(Code::BadRequest, error.to_string())
    }
}

impl From<ReceiveError> for NodeError {
    fn from(error: ReceiveError) -> Self {
        let message = error.to_string();
        match error {
            ReceiveError::Store(error) => error.into(),
            ReceiveError::Internal(_) => Self::new(Code::Internal, message),
            ReceiveError::ZeroAmount
            | ReceiveError::TooMuch
            | ReceiveError::LongDescription(_)
            | ReceiveError::Expiry(_) => Self::new(Code::BadRequest, message),
        }
    }
}

impl From<PayError> for NodeError {
    fn from(error: PayError) -> Self {
        let message = error.to_string();
        match error {
            PayError::Decode(error) => error.into(),
            PayError::Own | PayError::Amount(_) => Self::new(Code::BadRequest, message),
            PayError::Expired(_) => Self::new(Code::Refused, message),
            PayError::Blind(_) => Self::new(Code::Refused, message).hint(BLIND),
            PayError::NotEnough(_) => Self::new(Code::InsufficientFunds, message),
            PayError::NoChannelUp(_) => Self::new(Code::Failed, message).hint("nothing was paid; try again later"),
            PayError::Store(error) => error.into(),
        }
    }
}
