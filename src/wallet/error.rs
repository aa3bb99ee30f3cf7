//! What can go wrong with on-chain money, in words that say what to do.

use bitcoin::{Network, OutPoint};

use crate::store::StoreError;

/// A refusal or failure of the wallet. Nothing was sent, and nothing handed out, when one is returned.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The change is not on the disk. It is kept and goes with the next write.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored wallet is not the one of this seed and network, or is damaged.
    #[error("the stored wallet cannot be opened: {0}")]
    Load(String),
    /// The coins that may be spent do not suffice.
    #[error(
        "not enough funds: {needed_sat} sat needed with the fee, {available_sat} sat available{}",
        Missing { held_back_sat: *held_back_sat, locked_sat: *locked_sat, pending_sat: *pending_sat }
    )]
    NotEnough {
        /// Amount and fee; an estimate of the fee when no set of coins reaches it.
        needed_sat: u64,
        /// What could be spent after what is held back.
        available_sat: u64,
        /// Held back, so that channels can be closed safely at any fee.
        held_back_sat: u64,
        /// In coins that are locked by channels being opened, or by hand.
        locked_sat: u64,
        /// On its way in: spendable once it is confirmed.
        pending_sat: u64,
    },
    /// Below what the network relays.
    #[error("{amount_sat} sat is less than the network relays to this kind of address (at least {least_sat} sat)")]
    Dust {
        /// The amount asked for.
        amount_sat: u64,
        /// The least that is relayed.
        least_sat: u64,
    },
    /// Nobody would relay it.
    #[error("a fee rate of {sat_per_kwu} sat/kwu is below 1 sat/vB: servers would not relay the transaction")]
    FeeTooLow {
        /// The rate asked for.
        sat_per_kwu: u64,
    },
    /// The fee looks like a mistake.
    #[error(
        "refused for safety: the fee would be {fee_sat} sat for {amount_sat} sat sent ({sat_per_vb} sat/vB); force it if it is meant"
    )]
    FeeTooHigh {
        /// The fee.
        fee_sat: u64,
        /// What the recipient would get.
        amount_sat: u64,
        /// The rate, rounded up.
        sat_per_vb: u64,
    },
    /// An address of another network.
    #[error("{address} is not an address of {network}")]
    OtherNetwork {
        /// The address.
        address: String,
        /// Our network.
        network: Network,
    },
    /// A coin asked for by name cannot be used.
    #[error("coin {outpoint} cannot be spent: {why}")]
    Coin {
        /// The coin.
        outpoint: OutPoint,
        /// The reason.
        why: CoinTrouble,
    },
    /// A transaction that is to be released or opened is already known otherwise.
    #[error("the transaction could not be built: {0}")]
    Build(String),
    /// A signature is missing.
    #[error("the transaction could not be signed: {0}")]
    Sign(String),
    /// A plan does not fit the header tree that it came with.
    #[error("the chain told to the wallet contradicts itself: {0}")]
    Chain(String),
}

/// Why one coin cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoinTrouble {
    /// Never seen, or spent.
    #[error("the wallet has no such unspent coin")]
    Unknown,
    /// Not ours until it is in a block.
    #[error("it is not confirmed yet, and somebody else made it")]
    Unconfirmed,
    /// A mining reward under 100 blocks.
    #[error("it is a mining reward that is too young")]
    Immature,
    /// Locked.
    #[error("it is locked")]
    Locked,
}

struct Missing {
    held_back_sat: u64,
    locked_sat: u64,
    pending_sat: u64,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.held_back_sat > 0 {
            write!(f, "; {} sat are held back to close channels safely", self.held_back_sat)?;
        }
        if self.locked_sat > 0 {
            write!(f, "; {} sat are locked", self.locked_sat)?;
        }
        if self.pending_sat > 0 {
            write!(f, "; {} sat are on their way in and not confirmed yet", self.pending_sat)?;
        }
        Ok(())
    }
}
