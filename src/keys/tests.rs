//! The file in its two forms, and the words.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use super::sealed::tests::CHEAP;
use super::*;

pub(super) const ZEROS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                     abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

#[test]
fn a_created_seed_has_24_words_in_a_private_file_and_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!Seed::exists(dir.path()).unwrap());
    let seed = Seed::create(dir.path(), None).unwrap();
    assert_eq!(seed.words().split(' ').count(), 24);
    let mode = std::fs::metadata(dir.path().join(SEED_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = load(dir.path());
    assert_eq!(*again.words(), *seed.words());
    assert_eq!(*again.ldk_seed(), *seed.ldk_seed());
    assert_eq!(again.fingerprint(), seed.fingerprint());
    assert!(Seed::exists(dir.path()).unwrap());
}

#[test]
fn an_existing_seed_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let first = Seed::create(dir.path(), None).unwrap();
    assert!(matches!(Seed::create(dir.path(), None), Err(SeedError::Exists(_))));
    assert!(matches!(Seed::restore(dir.path(), ZEROS, None), Err(SeedError::Exists(_))));
    assert_eq!(*load(dir.path()).words(), *first.words());
}

#[test]
fn known_words_give_the_keys_that_every_wallet_gives() {
    // BIP39's vector has a passphrase; fingerprint and first BIP84 key of these words without one are widely published.
    let words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
    let seed = Seed::from_words(words).unwrap();
    assert_eq!(seed.fingerprint(), [0x73, 0xc5, 0xda, 0x0a]);
    let path: bitcoin::bip32::DerivationPath = "m/84'/0'/0'/0/0".parse().unwrap();
    let secp = Secp256k1::new();
    let key = seed.wallet_xprv(bitcoin::Network::Bitcoin).derive_priv(&secp, &path).unwrap();
    let address = bitcoin::Address::p2wpkh(
        &bitcoin::CompressedPublicKey(key.private_key.public_key(&secp)),
        bitcoin::Network::Bitcoin,
    );
    assert_eq!(address.to_string(), "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
}

#[test]
fn the_seed_for_ldk_is_neither_the_master_key_nor_one_of_the_wallet() {
    let seed = Seed::from_words(ZEROS).unwrap();
    let master = seed.wallet_xprv(bitcoin::Network::Regtest);
    assert_ne!(*seed.ldk_seed(), master.private_key.secret_bytes());
    assert_eq!(*seed.ldk_seed(), *Seed::from_words(ZEROS).unwrap().ldk_seed());
}

#[test]
fn words_may_be_in_capitals_and_on_several_lines() {
    let given = ZEROS.to_uppercase().replace(' ', "\n\t ");
    assert_eq!(*Seed::from_words(&given).unwrap().words(), ZEROS.split_whitespace().collect::<Vec<_>>().join(" "));
}

#[test]
fn a_mistyped_word_is_named_with_its_place_and_its_neighbour() {
    let given = ZEROS.replacen("abandon", "abandom", 1);
    let error = Seed::from_words(&given).unwrap_err();
    assert!(matches!(error, SeedError::UnknownWord { position: 1, nearest: Some("abandon"), .. }), "{error}");
    assert!(error.to_string().contains("did you mean “abandon”?"));
}

#[test]
fn swapped_or_missing_words_are_told_apart() {
    let swapped = ZEROS.replace("art", "zoo");
    assert!(matches!(Seed::from_words(&swapped), Err(SeedError::Checksum)));
    assert!(matches!(Seed::from_words("abandon art"), Err(SeedError::WordCount(2))));
    assert!(matches!(Seed::from_words("  "), Err(SeedError::WordCount(0))));
}

#[test]
fn a_seed_that_others_may_read_is_refused_with_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    Seed::create(dir.path(), None).unwrap();
    let path = dir.path().join(SEED_FILE);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Kept::read(dir.path()).unwrap_err();
    assert!(matches!(error, SeedError::Exposed { mode: 0o640, .. }));
    assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
}

#[test]
fn a_missing_seed_and_one_cut_off_by_a_power_failure_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Kept::read(dir.path()), Err(SeedError::Missing(_))));
    let path = dir.path().join(SEED_FILE);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    assert!(matches!(Kept::read(dir.path()), Err(SeedError::Empty(_))));
}

#[test]
fn debug_shows_no_word() {
    assert_eq!(format!("{:?}", Seed::from_words(ZEROS).unwrap()), "Seed(…)");
}

fn load(dir: &Path) -> Seed {
    Kept::read(dir).unwrap().open(None).unwrap()
}

fn secret(text: &str) -> Passphrase {
    Passphrase::new(text).unwrap()
}

/// Every file of the directory that has words of the seed in it.
fn files_with_words(dir: &Path, seed: &Seed) -> Vec<PathBuf> {
    let words = seed.words();
    let tells = |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains(words.as_str()));
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(tells).collect()
}

#[test]
fn a_sealed_seed_tells_whose_it_is_and_opens_with_its_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let seed = Seed::create(dir.path(), Some(&secret("first passphrase"))).unwrap();
    assert!(files_with_words(dir.path(), &seed).is_empty());
    let kept = Kept::read(dir.path()).unwrap();
    assert!(kept.is_sealed());
    assert_eq!(kept.fingerprint(), seed.fingerprint());
    assert!(matches!(kept.open(None), Err(SeedError::Locked)));
    assert!(matches!(kept.open(Some(&secret("other passphrase"))), Err(SeedError::WrongPassphrase)));
    assert_eq!(*kept.open(Some(&secret("first passphrase"))).unwrap().words(), *seed.words());
}

#[test]
fn a_passphrase_is_set_changed_and_removed_and_the_words_stay() {
    let dir = tempfile::tempdir().unwrap();
    let seed = Seed::create(dir.path(), None).unwrap();
    let (one, two) = (secret("passphrase one"), secret("passphrase two"));
    let old_form = std::fs::File::open(dir.path().join(SEED_FILE)).unwrap();
    Seed::change(dir.path(), None, Some(&one)).unwrap();
    assert!(files_with_words(dir.path(), &seed).is_empty());
    let left = std::io::read_to_string(old_form).unwrap();
    assert!(left.bytes().all(|byte| byte == 0), "the old form was given back as it was");
    assert!(matches!(Seed::change(dir.path(), None, Some(&two)), Err(SeedError::Locked)));
    assert!(matches!(Seed::change(dir.path(), Some(&two), Some(&two)), Err(SeedError::WrongPassphrase)));
    Seed::change(dir.path(), Some(&one), Some(&two)).unwrap();
    assert_eq!(*Kept::read(dir.path()).unwrap().open(Some(&two)).unwrap().words(), *seed.words());
    Seed::change(dir.path(), Some(&two), None).unwrap();
    assert_eq!(*load(dir.path()).words(), *seed.words());
    let mode = std::fs::metadata(dir.path().join(SEED_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something else was left");
}

#[test]
fn what_a_stopped_change_has_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let seed = Seed::create(dir.path(), None).unwrap();
    let text = sealed::seal_at(&seed, &secret("a passphrase"), CHEAP).unwrap();
    // A removal of the passphrase was stopped before the words were put in its place.
    std::fs::remove_file(dir.path().join(SEED_FILE)).unwrap();
    file::create(dir.path(), &text).unwrap();
    std::fs::write(dir.path().join("seed.new"), &*seed.words()).unwrap();
    assert_eq!(files_with_words(dir.path(), &seed).len(), 1);
    Seed::tidy(dir.path()).unwrap();
    assert!(files_with_words(dir.path(), &seed).is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(Kept::read(dir.path()).unwrap().is_sealed());
}

#[test]
fn two_changes_at_once_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    Seed::create(dir.path(), None).unwrap();
    let _first = file::Change::begin(dir.path()).unwrap();
    assert!(matches!(Seed::change(dir.path(), None, Some(&secret("a passphrase"))), Err(SeedError::Busy(_))));
    Seed::tidy(dir.path()).unwrap();
}

#[test]
fn passphrases_that_protect_nothing_are_refused() {
    for text in ["", "seven77", "\n"] {
        assert!(matches!(Passphrase::new(text), Err(SeedError::PassphraseLength { .. })), "{text:?}");
    }
    assert!(Passphrase::new(&"x".repeat(Passphrase::LONGEST + 1)).is_err());
    assert!(Passphrase::new("eight888\r\n").is_ok());
    assert_eq!(format!("{:?}", secret("eight888")), "Passphrase(…)");
}

#[test]
fn a_passphrase_file_is_private_and_its_first_line_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("passphrase");
    std::fs::write(&path, "a passphrase\nand a note\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Passphrase::from_file(&path).unwrap_err();
    assert!(error.to_string().contains("other users may read it"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(Passphrase::from_file(&path).unwrap().bytes(), b"a passphrase");
    let missing = Passphrase::from_file(&dir.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
}
