//! What the fuzzers have found worth keeping, as ordinary tests: each input of `fuzz/corpus` through its target.

use std::fs;
use std::path::Path;

#[path = "../fuzz/harness/config.rs"]
mod config;
#[path = "../fuzz/harness/esplora_reply.rs"]
mod esplora_reply;
#[path = "../fuzz/harness/header_tree.rs"]
mod header_tree;
#[path = "../fuzz/harness/merkle_proof.rs"]
mod merkle_proof;
#[path = "../fuzz/harness/sync_machine.rs"]
mod sync_machine;
#[path = "../fuzz/harness/wire_line.rs"]
mod wire_line;
#[path = "../fuzz/harness/witness.rs"]
mod witness;

/// A target, as it is called in `fuzz/Cargo.toml` and in `fuzz/corpus`, and what it runs.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 7] = [
    ("config", config::run),
    ("esplora_reply", esplora_reply::run),
    ("header_tree", header_tree::run),
    ("merkle_proof", merkle_proof::run),
    ("sync_machine", sync_machine::run),
    ("wire_line", wire_line::run),
    // Bitcoin Core is asked by the fuzzer alone.
    ("witness", |data| witness::run(data, None)),
];

#[test]
fn every_input_of_the_corpora_passes_its_target() {
    for (name, run) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "fuzz/corpus/{name} is empty");
        for (file, input) in inputs {
            // Seen only when it fails: the harness panics without knowing its file.
            println!("{name}/{file}");
            run(&input);
        }
    }
}

#[test]
fn inputs_cut_short_and_turned_around_pass_too() {
    for (name, run) in TARGETS {
        for (file, input) in inputs(name) {
            println!("{name}/{file}");
            let step = (input.len() / 50).max(1);
            for cut in (0..input.len()).step_by(step) {
                run(&input[..cut]);
                run(&input[cut..]);
            }
            run(&input.iter().rev().copied().collect::<Vec<u8>>());
        }
    }
}

#[test]
fn every_target_is_declared_and_has_its_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest: toml::Table =
        fs::read_to_string(root.join("Cargo.toml")).expect("fuzz/Cargo.toml").parse().expect("TOML");
    let bins = manifest["bin"].as_array().expect("targets");
    let declared: Vec<&str> = bins.iter().map(|bin| bin["name"].as_str().expect("a name")).collect();
    assert_eq!(declared, TARGETS.map(|(name, _)| name));
    for bin in bins {
        assert!(root.join(bin["path"].as_str().expect("a path")).is_file(), "{bin}");
    }
    let mut corpora: Vec<String> = fs::read_dir(root.join("corpus"))
        .expect("fuzz/corpus")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    corpora.sort();
    assert_eq!(corpora, TARGETS.map(|(name, _)| name));
}

/// The files of a corpus, by name.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("a file of the corpus"))
        })
        .collect();
    inputs.sort();
    inputs
}
