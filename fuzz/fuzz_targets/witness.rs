#![no_main]

#[path = "../harness/witness.rs"]
mod harness;

/// Bitcoin Core's own interpreter, with the rules that are consensus before taproot.
fn core(script: &[u8], sat: u64, tx: &[u8], index: usize) -> bool {
    bitcoinconsensus::verify(script, sat, tx, index).is_ok()
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| harness::run(data, Some(core)));
