//! The sync machine.
