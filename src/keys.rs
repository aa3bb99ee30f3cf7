//! The seed and what is derived from it.
