//! Floor 3: the on-chain wallet (BDK).
