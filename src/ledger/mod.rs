//! Floor 2: the book, every payment in and out.
