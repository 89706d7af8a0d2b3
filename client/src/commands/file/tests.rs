use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;
use trefoil_relay::status_socket::Form;

use super::super::played::{Played, Reply, letter, output, text};
use super::*;
use crate::control::Said;

const CONTENT: &[u8] = b"a picture";

fn file(number: u8, name: &str, state: FileState) -> File {
    File {
        id: format!("{number:02x}{}", "0".repeat(30)),
        contact: "alice".to_owned(),
        mine: false,
        name: name.to_owned(),
        size: u32::try_from(CONTENT.len()).unwrap(),
        blake3: HEXLOWER.encode(&blake3(&[CONTENT])),
        state,
        done: 1,
        pieces: 2,
    }
}

/// Knows these files, and sends the rest of the one that is wanted.
fn played(files: Vec<File>, content: &'static [u8]) -> Played {
    Played::start(move |request| match request {
        Request::Files => vec![Reply::Answer(Answer::Files(files.clone()))],
        Request::Want { file: id, wanted, .. } => {
            let file = files.iter().find(|file| file.id == *id).unwrap().clone();
            let state = if *wanted { FileState::Wanted } else { FileState::Refused };
            let other = File { id: "ff".to_owned(), state: FileState::Refused, ..file.clone() };
            let whole = File { state: FileState::Whole, done: 2, ..file.clone() };
            let answer = Reply::Answer(Answer::File(File { state, ..file }));
            vec![answer, Reply::Event(Event::File(other)), Reply::Event(Event::File(whole))]
        }
        Request::Bytes { .. } => vec![Reply::Answer(Answer::Bytes(BASE64.encode(content)))],
        _ => vec![Reply::Answer(Answer::Nothing {})],
    })
}

async fn accepted(played: &mut Played, name: &str, to: &Path) -> anyhow::Result<String> {
    let what = FileWhat::Accept { name: "alice".to_owned(), file: name.to_owned(), to: Some(to.to_owned()) };
    let mut bytes = Vec::new();
    run(what, &mut played.caller, &mut output(&mut bytes, Form::Words)).await?;
    Ok(text(&bytes).to_owned())
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn a_file_that_is_accepted_is_waited_for_checked_and_saved_for_its_owner() {
    let directory = directory();
    let mut played = played(vec![file(1, "cat.jpg", FileState::Offered), file(2, "x", FileState::Offered)], CONTENT);
    let words = accepted(&mut played, "cat.jpg", directory.path()).await.unwrap();
    let path = directory.path().join("cat.jpg");
    assert_eq!(words, format!("saved as {}\n", path.display()));
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let want = Request::Want { contact: "alice".to_owned(), file: file(1, "", FileState::Whole).id, wanted: true };
    let asked = played.asked();
    assert!(asked.contains(&want));
    let Request::Want { contact, file, .. } = want else { panic!("it is") };
    assert_eq!(asked.last(), Some(&Request::Saved { contact, file }), "the profile keeps no second one");
}

#[tokio::test]
async fn one_that_is_whole_already_is_only_saved() {
    let directory = directory();
    let mut played = played(vec![file(1, "cat.jpg", FileState::Whole)], CONTENT);
    accepted(&mut played, "01", &directory.path().join("other.jpg")).await.unwrap();
    assert!(!played.asked().iter().any(|asked| matches!(asked, Request::Want { .. })));
    assert_eq!(fs::read(directory.path().join("other.jpg")).unwrap(), CONTENT);
}

#[tokio::test]
async fn what_is_not_what_was_offered_is_not_saved() {
    let directory = directory();
    let mut played = played(vec![file(1, "cat.jpg", FileState::Whole)], b"a virus!!");
    let error = accepted(&mut played, "cat.jpg", directory.path()).await.unwrap_err();
    assert!(error.to_string().contains("nothing was saved"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn nothing_is_overwritten_and_no_link_is_followed() {
    let directory = directory();
    fs::write(directory.path().join("cat.jpg"), "mine").unwrap();
    symlink("/nowhere/at-all", directory.path().join("link")).unwrap();
    for name in ["cat.jpg", "link"] {
        let mut played = played(vec![file(1, name, FileState::Offered)], CONTENT);
        let error = accepted(&mut played, name, directory.path()).await.unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        assert_eq!(played.asked(), [Request::Files], "it was not asked for");
    }
    assert_eq!(fs::read(directory.path().join("cat.jpg")).unwrap(), b"mine");
    assert!(save(&directory.path().join("cat.jpg"), CONTENT).is_err(), "not even if it came meanwhile");
    assert!(destination("x", Some(directory.path().join("no/such"))).is_err());
}

#[tokio::test]
async fn a_name_of_others_never_leaves_the_directory() {
    for name in ["../x", "/etc/passwd", "a/b", "..", ".", ".bashrc", "", "a\\b", "gpj.\u{202e}exe", "a\nb"] {
        let directory = directory();
        let mut played = played(vec![file(1, name, FileState::Offered)], CONTENT);
        accepted(&mut played, "01", directory.path()).await.unwrap_err();
        let chosen = directory.path().join("chosen");
        accepted(&mut played, "01", &chosen).await.unwrap();
        assert_eq!(fs::read(chosen).unwrap(), CONTENT, "by a name of ours");
    }
    check_name(&"x".repeat(FILE_NAME + 1)).unwrap_err();
    check_name("Änderung (2).tar.gz").unwrap();
}

#[tokio::test]
async fn it_is_said_when_none_or_several_are_meant() {
    let files = || vec![file(1, "a", FileState::Offered), file(2, "a", FileState::Offered)];
    let mut played = played(files(), CONTENT);
    let error = accepted(&mut played, "a", Path::new("/nowhere")).await.unwrap_err();
    assert!(error.to_string().contains("2 files of alice"), "{error}");
    let error = accepted(&mut played, "b", Path::new("/nowhere")).await.unwrap_err();
    assert!(error.to_string().contains("no file \"b\""), "{error}");
}

#[tokio::test]
async fn files_are_listed_and_refused() {
    let mut played = played(vec![file(1, "a\u{1b}b", FileState::Wanted)], CONTENT);
    let mut bytes = Vec::new();
    run(FileWhat::List, &mut played.caller, &mut output(&mut bytes, Form::Words)).await.unwrap();
    assert_eq!(text(&bytes), "01000000  from alice  9 B  1 of 2 pieces  a‹U+001B›b\n");
    bytes.clear();
    let refuse = FileWhat::Refuse { name: "alice".to_owned(), file: "01".to_owned() };
    run(refuse, &mut played.caller, &mut output(&mut bytes, Form::Json)).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(text(&bytes)).unwrap();
    assert_eq!((&json["version"], &json["file"]["state"]), (&1.into(), &"refused".into()));
}

#[tokio::test]
async fn a_file_is_offered_with_its_own_name_and_bytes_and_may_be_waited_for() {
    let directory = directory();
    let path = directory.path().join("cat.jpg");
    fs::write(&path, CONTENT).unwrap();
    for wait in [false, true] {
        let offered = Letter { mine: true, ..letter(1, "") };
        let offered = Letter { said: Said::File { name: "cat.jpg".to_owned(), size: 9 }, ..offered };
        let mine = File { id: offered.id.clone(), mine: true, ..file(1, "cat.jpg", FileState::Offered) };
        let whole = File { state: FileState::Whole, ..mine.clone() };
        let mut played = Played::start(move |request| match request {
            Request::Offer { .. } => vec![Reply::Answer(Answer::Letter(offered.clone()))],
            Request::Files => {
                vec![Reply::Answer(Answer::Files(vec![mine.clone()])), Reply::Event(Event::File(whole.clone()))]
            }
            _ => vec![Reply::Answer(Answer::Nothing {})],
        });
        let mut bytes = Vec::new();
        let what = FileWhat::Send { name: "alice".to_owned(), path: path.clone(), shown: None, wait };
        run(what, &mut played.caller, &mut output(&mut bytes, Form::Words)).await.unwrap();
        let words = text(&bytes);
        assert!(words.contains(if wait { "cat.jpg: complete" } else { "offered to alice" }), "{words}");
        let offer = |name: &str| Request::Offer {
            contact: "alice".to_owned(),
            name: name.to_owned(),
            bytes: BASE64.encode(CONTENT),
        };
        assert!(played.asked().contains(&offer("cat.jpg")));
    }
}

#[test]
fn what_is_too_large_or_has_no_name_is_not_offered() {
    let directory = directory();
    let path = directory.path().join("large");
    Disk::create(&path).unwrap().set_len(u64::from(FILE_BYTES) + 1).unwrap();
    let error = offered(&path, None).unwrap_err();
    assert!(format!("{error:#}").contains("at most 10.0 MiB"), "{error:#}");
    assert!(offered(Path::new("-"), None).unwrap_err().is::<Usage>());
    assert!(offered(&path, Some("../x".to_owned())).unwrap_err().is::<Usage>());
    assert!(offered(&directory.path().join("none"), None).unwrap_err().to_string().contains("cannot send"));
    fs::write(&path, CONTENT).unwrap();
    assert_eq!(offered(&path, Some("cat.jpg".to_owned())).unwrap(), ("cat.jpg".to_owned(), CONTENT.to_vec()));
}
