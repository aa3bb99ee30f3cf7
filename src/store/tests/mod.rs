//! The store as a whole; each file has its own subject.

mod chain;
mod health;
mod kv;
mod opening;
mod small;
mod torn;
mod writing;
