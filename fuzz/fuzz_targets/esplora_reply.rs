#![no_main]

#[path = "../harness/esplora_reply.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::run(data));
