#![no_main]

#[path = "../harness/merkle_proof.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::run(data));
