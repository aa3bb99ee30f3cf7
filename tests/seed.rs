//! The seed under a passphrase: locked, unlocked, changed, shown; and who may read what.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::daemon::{Daemon, LIGHTNODE, Ran};
use crate::support::eventually::eventually;
use crate::support::ports::free_port;
use crate::support::terminal::{Asked, on_a_terminal, plain, talk_on_a_terminal};
use crate::support::world::World;

const PASSPHRASE: &str = "a horse of no colour";

/// A command on a data directory that no daemon uses, with this on its stdin.
fn run(folder: &Path, words: &[&str], input: &str) -> Ran {
    let mut command = Command::new(LIGHTNODE);
    command.args(["--network", "regtest", "--data-dir"]).arg(folder).args(words);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    // A command that refuses before it reads is no failure of the pipe.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes());
    child.wait_with_output().expect("the command ends").into()
}

fn words_of(folder: &Path, input: &str) -> String {
    let more: &[&str] = if input.is_empty() { &[] } else { &["--stdin"] };
    let shown = run(folder, &[&["seed", "show", "--yes"], more].concat(), input);
    assert_eq!(shown.code, 0, "{shown:?}");
    shown.json()["words"].as_str().expect("words").to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the test's own file");
}

#[test]
fn a_locked_node_answers_refuses_what_needs_keys_and_comes_up_with_its_passphrase() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice");
    let made = alice.run_with_input(&["init", "--encrypt", "--stdin", "--yes"], PASSPHRASE);
    assert_eq!(made.code, 0, "{made:?}");
    let words = made.json()["words"].as_str().expect("words").to_owned();
    alice.start();
    assert_eq!(alice.answering()["state"], "locked");
    for words in [
        vec!["balance"],
        vec!["address"],
        vec!["channels"],
        vec!["history"],
        vec!["receive", "1000"],
        vec!["send", "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202", "1000"],
    ] {
        let refused = alice.run(&words);
        assert_eq!(refused.code, 3, "{words:?}: {refused:?}");
        assert!(refused.stderr.contains("lightnode unlock"), "{words:?}: {refused:?}");
    }
    let (status, error) = alice.api("GET", "/v1/balance", None).expect("an answer");
    assert_eq!((status, &error["code"]), (423, &json!("locked")));

    let wrong = alice.run_with_input(&["unlock", "--stdin"], "a horse of any colour");
    assert_eq!(wrong.code, 6, "{wrong:?}");
    assert!(wrong.stderr.contains("does not open"), "{wrong:?}");
    // At most one of the next two comes after the second's wait that the first wrong one costs.
    let held_up = [0, 1].map(|_| alice.run_with_input(&["unlock", "--stdin"], "a horse of any colour"));
    assert!(held_up.iter().any(|ran| ran.stderr.contains("looked at in")), "{held_up:?}");
    let opened = eventually(
        "the wait to be over",
        || alice.run_with_input(&["unlock", "--stdin"], PASSPHRASE),
        |ran| !ran.stderr.contains("looked at in"),
    );
    assert_eq!(opened.code, 0, "{opened:?}");
    alice.ready();
    assert_eq!(
        alice.json(&["unlock", "--passphrase-file", &secret_file(&world, PASSPHRASE)])["done"],
        "the node is not locked"
    );
    let node_id = alice.node_id();
    let told = alice.log();
    for secret in [PASSPHRASE, "any colour", words.split(' ').take(3).collect::<Vec<_>>().join(" ").as_str()] {
        assert!(!told.contains(secret), "the log tells {secret:?}");
    }
    alice.stop();

    // Locked again after each start; it can be stopped as it is.
    alice.start();
    assert_eq!(alice.answering()["state"], "locked");
    alice.stop();
    alice.start();
    alice.answering();
    assert_eq!(alice.run_with_input(&["unlock", "--stdin"], PASSPHRASE).code, 0);
    alice.ready();
    assert_eq!(alice.node_id(), node_id);
}

/// A private file with a passphrase in it.
fn secret_file(world: &World, passphrase: &str) -> String {
    let path = world.folder().join("lightnode-passphrase");
    fs::write(&path, format!("{passphrase}\n")).expect("the test's own folder");
    chmod(&path, 0o600);
    path.display().to_string()
}

#[test]
fn a_passphrase_file_or_a_credential_of_systemd_opens_the_seed_at_the_start() {
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice");
    let file = secret_file(&world, PASSPHRASE);
    // A new seed is encrypted at once where there is a passphrase for it.
    alice.start_with(&[("LIGHTNODE_PASSPHRASE_FILE", file.as_str())]);
    alice.ready();
    assert!(fs::read_to_string(alice.folder().join("seed")).expect("a seed").starts_with("lightnode encrypted seed"));
    alice.stop();

    let folder = world.folder().display().to_string();
    alice.start_with(&[("CREDENTIALS_DIRECTORY", folder.as_str())]);
    alice.ready();
    alice.stop();

    // What does not open it is said, and the node waits.
    secret_file(&world, "another passphrase");
    alice.start_with(&[("CREDENTIALS_DIRECTORY", folder.as_str())]);
    eventually(
        "it to say why it is locked",
        || alice.answering(),
        |status| status["state"] == "locked" && status["waits_for"].to_string().contains("does not open the seed"),
    );
    alice.stop();
    chmod(Path::new(&file), 0o644);
    alice.start_with(&[("CREDENTIALS_DIRECTORY", folder.as_str())]);
    eventually(
        "it to say why it is locked",
        || alice.answering(),
        |status| status["waits_for"].to_string().contains("other users may read it"),
    );
    assert_eq!(alice.run_with_input(&["unlock", "--stdin"], PASSPHRASE).code, 0);
    alice.ready();
}

#[test]
fn a_passphrase_is_set_changed_and_removed_also_while_the_node_runs() {
    let world = World::new();
    let nowhere = format!("tcp://127.0.0.1:{}", free_port());
    let mut alice = Daemon::with_servers(&world, "alice", &[nowhere]);
    alice.start();
    alice.answering();
    let folder = alice.folder().to_owned();
    let words = words_of(&folder, "");
    let change =
        |input: &str, more: &[&str]| run(&folder, &[&["passphrase", "change", "--stdin"], more].concat(), input);
    assert_eq!(change("first passphrase\n", &[]).code, 0);
    assert!(!fs::read_to_string(folder.join("seed")).expect("a seed").contains(&words));
    assert_eq!(mode(&folder.join("seed")), 0o600);
    // The daemon has its keys; the next start needs the passphrase.
    assert_ne!(alice.answering()["state"], "locked");
    alice.stop();
    alice.start();
    assert_eq!(alice.answering()["state"], "locked");
    alice.stop();

    for (input, code, word) in [
        ("wrong passphrase\nsecond passphrase\n", 6, "does not open"),
        ("first passphrase\nshort\n", 2, "8 to 1024"),
        ("first passphrase\n", 2, "stdin has ended"),
        ("first passphrase\nsecond passphrase\n", 0, ""),
        ("first passphrase\nthird passphrase\n", 6, "does not open"),
    ] {
        let ran = change(input, &[]);
        assert_eq!(ran.code, code, "{input:?}: {ran:?}");
        assert!(ran.stderr.contains(word), "{input:?}: {ran:?}");
    }
    assert_eq!(words_of(&folder, "second passphrase\n"), words);
    assert_eq!(change("second passphrase\n", &["--remove"]).code, 0);
    assert_eq!(change("", &["--remove"]).code, 6);
    assert_eq!(words_of(&folder, ""), words);
    alice.start();
    assert_ne!(alice.answering()["state"], "locked");
}

#[test]
fn words_come_back_under_a_passphrase_and_are_shown_only_after_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    let restore = ["init", "--restore", "--encrypt", "--stdin", "--yes"];
    let short = run(folder.path(), &restore, &format!("short\n{words}\n"));
    assert_eq!(short.code, 2, "{short:?}");
    assert!(!folder.path().join("seed").exists());
    let made = run(folder.path(), &restore, &format!("{PASSPHRASE}\n{words}\n"));
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(made.json()["encrypted"], true);
    assert!(!fs::read_to_string(folder.path().join("seed")).expect("a seed").contains("legal"));

    assert_eq!(words_of(folder.path(), &format!("{PASSPHRASE}\n")), words);
    for (args, input, code, word) in [
        (vec!["seed", "show", "--yes", "--stdin"], "another passphrase\n", 6, "does not open"),
        (vec!["seed", "show", "--stdin"], "a horse of no colour\n", 6, "on a terminal"),
        (vec!["seed", "show", "--yes"], "", 2, "--stdin"),
    ] {
        let refused = run(folder.path(), &args, input);
        assert_eq!(refused.code, code, "{args:?}: {refused:?}");
        assert!(refused.stderr.contains(word), "{args:?}: {refused:?}");
        assert!(!(refused.stdout + &refused.stderr).contains("winner"), "{args:?} shows the words");
    }
}

#[test]
fn a_person_types_passphrases_unseen_and_twice_where_they_are_new() {
    const NEW: &str = "New passphrase: ";
    const AGAIN: &str = "The same again: ";
    const PRESENT: &str = "Passphrase of the seed: ";
    const NEXT: &str = "a horse of any colour";
    use Asked::{Openly, Unseen};
    let world = World::new();
    let mut alice = Daemon::new(&world, "alice");
    let talk = |node: &Daemon, words: &[&str], talk: &[Asked]| {
        let ran = talk_on_a_terminal(node, words, talk);
        let shown = [PASSPHRASE, NEXT].iter().any(|secret| ran.stdout.contains(secret));
        assert!(!shown, "a passphrase stands on the screen: {ran:?}");
        ran
    };

    let init = ["init", "--encrypt"];
    let short = talk(&alice, &init, &[Unseen(NEW, "short")]);
    assert_eq!(short.code, 2, "it is not asked for again: {short:?}");
    let different = talk(&alice, &init, &[Unseen(NEW, PASSPHRASE), Unseen(AGAIN, NEXT)]);
    assert!(different.code == 2 && different.stdout.contains("not the same"), "{different:?}");
    assert!(!alice.folder().join("seed").exists());
    let twice = [Unseen(NEW, PASSPHRASE), Unseen(AGAIN, PASSPHRASE), Openly("Press Enter", "")];
    let made = talk(&alice, &init, &twice);
    assert_eq!(made.code, 0, "{made:?}");
    let words = |ran: &Ran| {
        let text = plain(&ran.stdout);
        let columns: Vec<_> = text.lines().filter(|line| line.contains(". ")).map(str::to_owned).collect();
        columns.into_iter().filter(|line| line.trim_start().starts_with(char::is_numeric)).collect::<Vec<_>>()
    };
    assert_eq!(words(&made).len(), 6, "{made:?}");

    alice.start();
    assert_eq!(alice.answering()["state"], "locked");
    let wrong = talk(&alice, &["unlock"], &[Unseen(PRESENT, NEXT)]);
    assert!(wrong.code == 6 && wrong.stdout.contains("does not open"), "{wrong:?}");
    let opened = eventually(
        "the wait after a wrong one to be over",
        || talk(&alice, &["unlock"], &[Unseen(PRESENT, PASSPHRASE)]),
        |ran| !ran.stdout.contains("looked at in"),
    );
    assert_eq!(opened.code, 0, "{opened:?}");
    alice.ready();

    let change = [Unseen(PRESENT, PASSPHRASE), Unseen(NEW, NEXT), Unseen(AGAIN, NEXT)];
    let changed = talk(&alice, &["passphrase", "change"], &change);
    assert_eq!(changed.code, 0, "{changed:?}");
    let old = talk(&alice, &["seed", "show"], &[Unseen(PRESENT, PASSPHRASE)]);
    assert!(old.code == 6 && words(&old).is_empty(), "{old:?}");
    let shown = talk(&alice, &["seed", "show"], &[Unseen(PRESENT, NEXT)]);
    assert_eq!((shown.code, words(&shown)), (0, words(&made)), "{shown:?}");
}

#[test]
fn an_open_seed_is_shown_to_a_person_only_after_a_yes() {
    let world = World::new();
    let alice = Daemon::new(&world, "alice");
    assert_eq!(alice.run(&["init", "--yes"]).code, 0);
    let words = words_of(alice.folder(), "");
    let first = words.split(' ').next().expect("a word");
    // Nobody answers: that is no yes.
    let seen = on_a_terminal(&alice, &["seed", "show"]);
    let text = plain(&seen.stdout);
    assert!(seen.code == 6 && text.contains("Type yes") && !text.contains(&format!(" 1. {first}")), "{seen:?}");
    for (answer, code) in [("no", 6), ("y", 6), ("yes", 0)] {
        let seen = talk_on_a_terminal(&alice, &["seed", "show"], &[Asked::Openly("Type yes: ", answer)]);
        assert_eq!(seen.code, code, "{answer}: {seen:?}");
        assert_eq!(plain(&seen.stdout).contains(&format!(" 1. {first}")), code == 0, "{answer}: {seen:?}");
    }
    let text = plain(&on_a_terminal(&alice, &["seed", "show", "--yes"]).stdout);
    assert!(text.contains(&format!(" 1. {first}")) && text.contains(" 24. "), "{text}");
}

#[test]
fn a_seed_that_others_may_read_is_refused_and_what_can_be_mended_is_mended_with_a_word() {
    let world = World::new();
    let nowhere = format!("tcp://127.0.0.1:{}", free_port());
    let mut alice = Daemon::with_servers(&world, "alice", &[nowhere]);
    alice.start();
    alice.answering();
    alice.stop();
    let (seed, database) = (alice.folder().join("seed"), alice.folder().join("lightnode.db"));
    chmod(&seed, 0o640);
    let refused = alice.run(&["run"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("chmod 600") && refused.stderr.contains("640"), "{refused:?}");
    chmod(&seed, 0o600);
    chmod(&database, 0o666);
    chmod(alice.folder(), 0o777);
    alice.start();
    alice.answering();
    assert_eq!((mode(&database), mode(alice.folder())), (0o600, 0o755));
    let log = alice.log();
    assert!(log.contains("lightnode.db could be read or written by other users (mode 666)"), "{log}");
    assert!(log.contains("could be written to by other users (mode 777)"), "{log}");
}

#[test]
fn a_damaged_seed_file_says_what_brings_the_coins_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = run(folder.path(), &["init", "--encrypt", "--stdin", "--yes"], &format!("{PASSPHRASE}\n"));
    assert_eq!(made.code, 0, "{made:?}");
    let path = folder.path().join("seed");
    let text = fs::read_to_string(&path).expect("a seed");
    for changed in
        [text.replace("m=65536", "m=104857600"), text[..text.len() - 9].to_owned(), text.replace("salt", "salz")]
    {
        fs::write(&path, &changed).expect("the test's own file");
        let refused = run(folder.path(), &["seed", "show", "--yes", "--stdin"], &format!("{PASSPHRASE}\n"));
        assert_eq!(refused.code, 6, "{refused:?}");
        assert!(refused.stderr.contains("init --restore"), "{refused:?}");
    }
}
