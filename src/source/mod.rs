//! Floor 1: untrusted servers.
