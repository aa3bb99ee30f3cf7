//! The engine over scripted servers.
