//! The table of contents of the tests on real parts.
