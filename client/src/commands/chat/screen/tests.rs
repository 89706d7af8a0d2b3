use ratatui::{Terminal, backend::TestBackend};

use super::super::super::played::{contact, letter, sent};
use super::*;
use crate::control::{Code, Delivery};

fn screen(letters: Vec<Letter>) -> Screen {
    let (alice, bob) = (contact("alice", Standing::Accepted), contact("bob", Standing::Accepted));
    let bob = Contact { unread: 2, ..bob };
    let mut screen = Screen::new(alice.clone(), &[alice, bob], letters);
    screen.zone = TimeZone::UTC;
    screen
}

/// The screen's rows.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let cells = terminal.backend().buffer().content();
    let rows = cells.chunks(width.into());
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
}

fn key(screen: &mut Screen, code: KeyCode, modifiers: KeyModifiers) -> Action {
    screen.handle(Typed::Key(KeyEvent::new(code, modifiers)))
}

fn type_in(screen: &mut Screen, text: &str) {
    for character in text.chars() {
        assert_eq!(key(screen, KeyCode::Char(character), KeyModifiers::NONE), Action::Nothing);
    }
}

#[test]
fn a_conversation_is_drawn_with_states_and_what_others_wait_with() {
    let mut screen = screen(vec![letter(1, "hello"), sent(2, Delivery::Delivered)]);
    let rows = drawn(&mut screen, 70, 12);
    assert_eq!(rows[0], " alice (not verified)");
    assert_eq!(rows[1..5], ["2027-01-15 08:01 alice", "  hello", "2027-01-15 08:02 you  [delivered]", "  hi"]);
    assert!(rows[6].starts_with("unread: bob: 2   Enter sends"), "{rows:?}");
}

#[test]
fn a_letter_that_was_drawn_is_seen_once_and_one_further_back_is_not() {
    let letters = (1..=9).map(|number| letter(number, "x")).collect();
    let mut screen = screen(letters);
    drawn(&mut screen, 40, 11); // four rows for letters of two
    let seen = [letter(8, "").id, letter(9, "").id];
    assert_eq!(screen.seen(), seen);
    drawn(&mut screen, 40, 11);
    assert!(screen.seen().is_empty());
    key(&mut screen, KeyCode::PageUp, KeyModifiers::NONE);
    drawn(&mut screen, 40, 11);
    assert_eq!(screen.seen().len(), 2, "now they are");
}

#[test]
fn nothing_of_others_reaches_the_terminal_raw() {
    let evil = "\u{1b}[31mred\u{202e}txt\u{200b}\u{7}";
    let mut screen = screen(vec![letter(1, evil)]);
    screen.contact.name = "al\u{1b}ice".to_owned();
    screen.happen(Event::Letter(Letter { contact: "ev\u{202e}e".to_owned(), ..letter(2, "x") }));
    screen.handle(Typed::Paste(evil.to_owned()));
    let rows = drawn(&mut screen, 90, 12).concat();
    assert!(!rows.contains(['\u{1b}', '\u{202e}', '\u{200b}', '\u{7}']), "{rows}");
    assert!(rows.contains("‹U+001B›[31mred‹U+202E›txt") && rows.contains("ev‹U+202E›e: 1"), "{rows}");
}

#[test]
fn enter_sends_what_was_written_and_nothing_where_nothing_was() {
    let mut screen = screen(vec![]);
    assert_eq!(key(&mut screen, KeyCode::Enter, KeyModifiers::NONE), Action::Nothing);
    type_in(&mut screen, "hi");
    key(&mut screen, KeyCode::Enter, KeyModifiers::ALT);
    type_in(&mut screen, "you");
    assert_eq!(key(&mut screen, KeyCode::Enter, KeyModifiers::NONE), Action::Send("hi\nyou".to_owned()));
    assert_eq!(screen.input.text(), "");
    screen.refuse(&Problem::new(Code::State, "they are \u{7}blocked"), "hi".to_owned());
    assert_eq!(screen.input.text(), "hi", "what was not taken is not lost");
    assert!(drawn(&mut screen, 60, 12)[6].contains("they are ‹U+0007›blocked"));
}

#[test]
fn it_ends_by_escape_and_by_control_c_whatever_is_written() {
    let mut screen = screen(vec![]);
    type_in(&mut screen, "d");
    assert_eq!(key(&mut screen, KeyCode::Char('d'), KeyModifiers::CONTROL), Action::Nothing);
    assert_eq!(key(&mut screen, KeyCode::Esc, KeyModifiers::NONE), Action::Quit);
    assert_eq!(key(&mut screen, KeyCode::Char('c'), KeyModifiers::CONTROL), Action::Quit);
    key(&mut screen, KeyCode::Char('u'), KeyModifiers::CONTROL);
    assert_eq!(key(&mut screen, KeyCode::Char('d'), KeyModifiers::CONTROL), Action::Quit);
}

#[test]
fn what_happens_is_drawn_in_its_place() {
    let mut screen = screen(vec![sent(1, Delivery::Queued)]);
    screen.happen(Event::Letter(sent(1, Delivery::Read)));
    screen.happen(Event::Letter(letter(2, "new")));
    screen.happen(Event::Contact(Contact { verified: true, missing: 3, ..screen.contact.clone() }));
    screen.happen(Event::Contact(contact("bob", Standing::Accepted)));
    let rows = drawn(&mut screen, 70, 12);
    assert_eq!(rows[0], " alice (verified, 3 letters missing)");
    assert_eq!(rows[1..5], ["2027-01-15 08:01 you  [read]", "  hi", "2027-01-15 08:02 alice", "  new"]);
    assert!(!rows[6].contains("unread"), "{rows:?}");
    screen.input.insert("half");
    let renewed = self::screen(vec![letter(7, "later")]);
    screen.renew(renewed);
    assert_eq!((screen.letters.len(), screen.input.text().as_str()), (1, "half"));
}

#[test]
fn any_size_can_be_drawn_at_any_place() {
    let letters =
        (1..=20).map(|number| letter(number, "some words that do not fit a narrow row 漢字漢字漢字")).collect();
    let mut screen = screen(letters);
    type_in(&mut screen, "words that are longer than a row, 漢字");
    for (width, height) in [(1, 1), (2, 7), (3, 3), (10, 9), (200, 60), (5, 100)] {
        for code in [KeyCode::PageUp, KeyCode::Home, KeyCode::PageDown, KeyCode::End, KeyCode::Up] {
            key(&mut screen, code, KeyModifiers::NONE);
            drawn(&mut screen, width, height);
        }
    }
}

#[test]
fn scrolling_stops_at_the_first_letter_and_a_letter_that_is_sent_shows_the_last() {
    let mut screen = screen((1..=20).map(|number| letter(number, "x")).collect());
    for _ in 0..20 {
        key(&mut screen, KeyCode::PageUp, KeyModifiers::NONE);
    }
    let rows = drawn(&mut screen, 70, 12);
    assert_eq!(rows[1], "2027-01-15 08:01 alice");
    assert!(rows[6].starts_with("(further back"), "{rows:?}");
    type_in(&mut screen, "x");
    key(&mut screen, KeyCode::Enter, KeyModifiers::NONE);
    assert!(drawn(&mut screen, 70, 12)[4].starts_with("2027-01-15 08:20") || screen.back == 0);
}

#[test]
fn what_is_too_long_for_a_letter_is_not_written() {
    let mut screen = screen(vec![]);
    screen.handle(Typed::Paste("x".repeat(LETTER_TEXT)));
    type_in(&mut screen, "y");
    assert_eq!(screen.input.text().len(), LETTER_TEXT);
    assert!(drawn(&mut screen, 70, 12)[6].contains("send it as a file"));
}

#[test]
fn rows_break_at_spaces_and_wide_characters_count_twice() {
    assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
    assert_eq!(wrap("onetwothree", 4), ["onet", "woth", "ree"]);
    assert_eq!(wrap("漢字漢字", 5), ["漢字", "漢字"]);
    assert_eq!(wrap("", 5), [""]);
    assert_eq!(wrap("漢", 1), ["漢"]);
}
