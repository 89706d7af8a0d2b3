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
    let memory = Memory::default();
    let place = Place::Memory(memory.clone());
    let mut vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    put(&vault, 1, "one");
    let new = Unlock::Passphrase("new", CHEAP);
    assert!(matches!(vault.relock(&new, &new), Err(VaultError::Locked)));
    let lock = read_head(&vault.database, LOCK).unwrap().unwrap();
    vault.relock(&WORDS, &new).unwrap();
    assert!(!memory.holds(&lock), "what the old one opened is gone from the disk");
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

/// What stands on disk for this row.
fn sealed(vault: &Vault, key: u8) -> Vec<u8> {
    let table = vault.database.begin_read().unwrap().open_table(ROWS).unwrap();
    table.get(&place_of(Shelf::Entry, &[key])[..]).unwrap().unwrap().value().to_vec()
}

fn remove(vault: &Vault, key: u8) {
    let mut draft = vault.draft().unwrap();
    draft.remove(Shelf::Entry, &[key]).unwrap();
    draft.keep().unwrap();
}

#[test]
fn what_was_taken_away_is_gone_from_the_disk_once_the_vault_is_renewed() {
    let memory = Memory::default();
    let place = Place::Memory(memory.clone());
    let mut vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    put(&vault, 1, "one");
    put(&vault, 2, "two");
    let (names, rows) = (vault.name(Shelf::Seen, &[b"a"]), [sealed(&vault, 1), sealed(&vault, 2)]);
    remove(&vault, 1);
    assert!(memory.holds(&rows[0]), "the database leaves it there");
    for _ in 0..3 {
        vault.renew().unwrap();
        assert!(rows.iter().all(|row| !memory.holds(row)), "nothing is there that the key before opens");
        assert_eq!((get(&vault, 1), get(&vault, 2).as_deref()), (None, Some("two")));
    }
    put(&vault, 3, "three");
    drop(vault);
    let vault = Vault::open(&place, &WORDS, &seed()).unwrap();
    assert_eq!((get(&vault, 2).as_deref(), get(&vault, 3).as_deref()), (Some("two"), Some("three")));
    assert_eq!(vault.name(Shelf::Seen, &[b"a"]), names);
}

#[test]
fn a_file_that_was_renewed_is_one_private_file_and_the_one_before_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (place, path) = (Place::directory(dir.path()), dir.path().join(FILE));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    put(&vault, 1, "one");
    let mut before = fs::File::open(&path).unwrap();
    fs::write(dir.path().join("letters.redb.new"), "half of one, that a crash has left").unwrap();
    vault.renew().unwrap();
    let mut bytes = vec![];
    io::Read::read_to_end(&mut before, &mut bytes).unwrap();
    assert!(bytes.len() > 4096 && bytes.iter().all(|byte| *byte == 0));
    assert!(!dir.path().join("letters.redb.new").exists());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Vault::open(&place, &WORDS, &seed()), Err(VaultError::InUse(_))));
    put(&vault, 2, "two");
    drop(vault);
    let vault = Vault::open(&place, &WORDS, &seed()).unwrap();
    assert_eq!((get(&vault, 1).as_deref(), get(&vault, 2).as_deref()), (Some("one"), Some("two")));
}

#[test]
fn a_vault_that_cannot_be_renewed_goes_on_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let place = Place::directory(dir.path());
    let mut vault = Vault::create(&place, &WORDS, &seed()).unwrap();
    fs::create_dir(dir.path().join("letters.redb.new")).unwrap(); // where the new one would be
    put(&vault, 1, "one");
    assert!(vault.renew().is_err());
    let new = Unlock::Passphrase("new", CHEAP);
    assert!(vault.relock(&WORDS, &new).is_err());
    put(&vault, 2, "two");
    fs::remove_dir(dir.path().join("letters.redb.new")).unwrap();
    vault.renew().unwrap();
    drop(vault);
    let vault = Vault::open(&place, &WORDS, &seed()).unwrap();
    assert_eq!((get(&vault, 1).as_deref(), get(&vault, 2).as_deref()), (Some("one"), Some("two")));
}
