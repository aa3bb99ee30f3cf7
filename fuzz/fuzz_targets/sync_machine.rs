#![no_main]

#[path = "../harness/sync_machine.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::run(data));
