//! What an on-chain transaction was for, as the rooms above know it.

use std::str::FromStr;

/// Noted by `ln/` for transactions that it makes; the wallet alone sees only coins come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The funding of a channel, or a splice.
    ChannelOpen,
    /// The closing of a channel, by either side.
    ChannelClose,
    /// Coins of a closed channel, swept to this wallet.
    Sweep,
    /// Fees added to a closing transaction.
    FeeBump,
}

impl Purpose {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChannelOpen => "channel_open",
            Self::ChannelClose => "channel_close",
            Self::Sweep => "sweep",
            Self::FeeBump => "fee_bump",
        }
    }
}

/// A purpose that this version does not know.
#[derive(Clone, Debug, thiserror::Error)]
#[error("unknown purpose of a transaction: {0}")]
pub struct UnknownPurpose(String);

impl FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::ChannelOpen, Self::ChannelClose, Self::Sweep, Self::FeeBump]
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or_else(|| UnknownPurpose(text.to_owned()))
    }
}
