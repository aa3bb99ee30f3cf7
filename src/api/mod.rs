//! Floor 6: HTTP + JSON.
