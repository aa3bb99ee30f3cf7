//! Floor 1: the one SQLite database.
