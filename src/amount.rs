//! Amounts and units.
