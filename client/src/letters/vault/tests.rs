use std::os::unix::fs::PermissionsExt;

use trefoil_protocol::crypto::PassphraseCost;

use super::*;

const CHEAP: PassphraseCost = PassphraseCost { kib: 1 << 10, passes: 1 };
const WORDS: Unlock<'static> = Unlock::Passphrase("words", CHEAP);

fn seed() -> Secret {
    Zeroizing::new([1; 32])
}

fn put(vault: &Vault, key: u8, row: &str) {
    let mut draft = vault.draft().unwrap();
    draft.put(Shelf::Entry, &[key], &row).unwrap();
    draft.keep().unwrap();
}

fn get(vault: &Vault, key: u8) -> Option<String> {
    vault.draft().unwrap().get(Shelf::Entry, &[key]).unwrap()
}

#[test]
fn what_was_kept_is_found_again_and_a_draft_that_was_dropped_changed_nothing() {
    let place = Place::Memory(Memory::default());
    let vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    put(&vault, 1, "one");
    let mut dropped = vault.draft().unwrap();
    dropped.put(Shelf::Entry, &[1], &"two").unwrap();
    drop(dropped);
    drop(vault);
    let vault = Vault::open(&place, &WORDS, &seed()).unwrap();
    assert_eq!((get(&vault, 1).as_deref(), get(&vault, 2)), (Some("one"), None));
}

#[test]
fn a_directory_and_its_files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::directory(&dir.path().join("person"));
    let vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    put(&vault, 1, "a word that nobody may read");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("person")), 0o700);
    assert_eq!(mode(&dir.path().join("person").join(FILE)), 0o600);
    assert!(matches!(Vault::open(&place, &WORDS, &seed()), Err(VaultError::InUse(_))));
    drop(vault);
    let bytes = fs::read(dir.path().join("person").join(FILE)).unwrap();
    assert!(!bytes.windows(9).any(|window| window == b"that nobo"));
    assert!(matches!(Vault::create(&place, &WORDS, &seed()), Err(VaultError::Present(_))));
    assert_eq!(get(&Vault::open(&place, &WORDS, &seed()).unwrap(), 1).unwrap().len(), 27);
}

#[test]
fn each_way_in_which_a_vault_does_not_open_has_its_own_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("person");
    let place = Place::directory(&path);
    assert!(matches!(Vault::open(&place, &WORDS, &seed()), Err(VaultError::Absent(_))));
    drop(Vault::create(&place, &WORDS, &seed()).unwrap());
    let wrong = Unlock::Passphrase("other words", CHEAP);
    assert!(matches!(Vault::open(&place, &wrong, &seed()), Err(VaultError::Locked)));
    let file = dir.path().join("key");
    new_key_file(&file, &mut StdRng::seed_from_u64(1)).unwrap();
    assert!(matches!(Vault::open(&place, &Unlock::KeyFile(&file), &seed()), Err(VaultError::OtherLock("passphrase"))));
    fs::write(path.join(FILE), b"something else that is no database at all").unwrap();
    let error = Vault::open(&place, &WORDS, &seed()).map(drop).unwrap_err();
    assert!(matches!(error, VaultError::Damaged(_)), "{error:?}");
}

#[test]
fn a_key_file_opens_a_vault_and_has_to_be_private_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::Memory(Memory::default());
    let [file, other] = ["key", "other"].map(|name| dir.path().join(name));
    new_key_file(&file, &mut StdRng::seed_from_u64(1)).unwrap();
    new_key_file(&other, &mut StdRng::seed_from_u64(2)).unwrap();
    assert!(new_key_file(&file, &mut StdRng::seed_from_u64(1)).is_err(), "it is there");
    put(&Vault::create(&place, &Unlock::KeyFile(&file), &seed()).unwrap(), 1, "one");
    let open = |file: &Path| Vault::open(&place, &Unlock::KeyFile(file), &seed());
    assert_eq!(get(&open(&file).unwrap(), 1).as_deref(), Some("one"));
    assert!(matches!(open(&other), Err(VaultError::Locked)));
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(open(&other), Err(VaultError::KeyFile(KeyFileError::NotPrivate(_)))));
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&other, [1; 31]).unwrap();
    assert!(matches!(open(&other), Err(VaultError::KeyFile(KeyFileError::Length(_)))));
}

#[test]
fn another_passphrase_opens_what_was_there_and_the_old_one_no_more() {
    let place = Place::Memory(Memory::default());
    let vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    put(&vault, 1, "one");
    let new = Unlock::Passphrase("new", CHEAP);
    assert!(matches!(vault.relock(&new, &new), Err(VaultError::Locked)));
    vault.relock(&WORDS, &new).unwrap();
    drop(vault);
    assert!(matches!(Vault::open(&place, &WORDS, &seed()), Err(VaultError::Locked)));
    assert_eq!(get(&Vault::open(&place, &new, &seed()).unwrap(), 1).as_deref(), Some("one"));
}

#[test]
fn a_vault_of_another_version_says_which() {
    let place = Place::Memory(Memory::default());
    let vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    write_lock(&vault.database, &[9, 1, 2]).unwrap();
    drop(vault);
    assert!(matches!(Vault::open(&place, &WORDS, &seed()), Err(VaultError::Version { version: 9, .. })));
}

#[test]
fn a_row_opens_in_its_own_place_only() {
    let vault = Vault::create(&Place::Memory(Memory::default()), &WORDS, &seed()).unwrap();
    put(&vault, 1, "one");
    let writing = vault.database.begin_write().unwrap();
    {
        let mut table = writing.open_table(ROWS).unwrap();
        let row = table.get(&place_of(Shelf::Entry, &[1])[..]).unwrap().unwrap().value().to_vec();
        table.insert(&place_of(Shelf::Entry, &[2])[..], &row[..]).unwrap();
    }
    writing.commit().unwrap();
    let moved: Result<Option<String>, _> = vault.draft().unwrap().get(Shelf::Entry, &[2]);
    assert!(matches!(moved, Err(VaultError::Damaged(_))));
}
