//! The engine over servers of a tiny chain.

mod driving;
mod several;
mod world;
