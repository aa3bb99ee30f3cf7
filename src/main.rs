//! The roof: picks daemon or client.

fn main() {}
