#![no_main]

#[path = "../harness/header_tree.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::run(data));
