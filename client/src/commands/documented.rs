//! Whether docs/control.md says what the code does: each of its lines is read, and each word of the code is in it.

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::control::{Answer, Call, Code, Delivery, Event, FileState, Line, Request, Said, Standing, VERSION};

const PAGE: &str = include_str!("../../../docs/control.md");

/// The lines of the page that begin so, without that.
fn lines(begin: &str) -> Vec<&'static str> {
    PAGE.lines().filter_map(|line| line.strip_prefix(begin)).collect()
}

/// Reads a line, and makes sure that nothing in it was left out.
fn read<T: DeserializeOwned + Serialize>(line: &str) -> T {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), value, "not all of it was understood");
    read
}

/// The words that a type knows, as its reader says when it meets none of them.
fn words<T: DeserializeOwned>(wrong: &str) -> BTreeSet<String> {
    let error = serde_json::from_str::<T>(wrong).err().expect("this is no word").to_string();
    let (_, expected) = error.split_once("expected one of ").unwrap_or_else(|| panic!("{error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// All values with this key, wherever they stand.
fn values(value: &Value, key: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| values(value, key, found));
        }
        Value::Array(several) => several.iter().for_each(|value| values(value, key, found)),
        _ => {}
    }
}

fn is_said(key: &str, words: &BTreeSet<String>) {
    let mut found = BTreeSet::new();
    for line in lines("> ").into_iter().chain(lines("< ")) {
        values(&serde_json::from_str(line).unwrap(), key, &mut found);
    }
    let missing: Vec<_> = words.difference(&found).collect();
    assert!(missing.is_empty(), "docs/control.md has no example with \"{key}\" for {missing:?}");
}

#[test]
fn every_call_of_the_page_is_one_and_every_one_is_on_the_page() {
    let mut last = 0;
    for line in lines("> ") {
        let call: Call = read(line);
        assert_eq!(call.id, last + 1, "in order, so that answers are found: {line}");
        last = call.id;
    }
    is_said("do", &words::<Request>("{\"do\":\"?\"}"));
}

#[test]
fn every_answer_and_event_of_the_page_is_one_and_every_one_is_on_the_page() {
    let (mut answers, mut events) = (BTreeSet::new(), BTreeSet::new());
    let name = |value: Value| value.as_object().and_then(|fields| fields.keys().next().cloned()).unwrap();
    let mut answered = 0;
    for line in lines("< ") {
        let id = match read::<Line>(line) {
            Line::Done { ok, id } => {
                answers.insert(name(serde_json::to_value(ok).unwrap()));
                id
            }
            Line::Event { event } => {
                events.insert(name(serde_json::to_value(event).unwrap()));
                continue;
            }
            Line::Failed { id, .. } => id,
        };
        assert!(id == 0 || id > answered, "answers stand in order: {line}");
        answered = answered.max(id);
    }
    assert_eq!(answered, lines("> ").len() as u64, "each call has its answer");
    assert_eq!(answers, words::<Answer>("{\"?\":0}"));
    assert_eq!(events, words::<Event>("{\"?\":0}"));
}

#[test]
fn every_state_has_an_example_or_a_line_of_a_table() {
    is_said("kind", &words::<Said>("{\"kind\":\"?\"}"));
    let tables =
        [words::<Code>("\"?\""), words::<Delivery>("\"?\""), words::<Standing>("\"?\""), words::<FileState>("\"?\"")];
    for word in tables.iter().flatten() {
        assert!(PAGE.contains(&format!("`{word}`")), "docs/control.md does not explain {word}");
    }
}

#[test]
fn what_commands_print_has_the_version_and_an_answer() {
    let printed = lines("= ");
    assert!(printed.len() > 3, "{printed:?}");
    for line in printed {
        let mut value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let fields = value.as_object_mut().unwrap();
        assert_eq!(fields.remove("version"), Some(VERSION.into()), "{line}");
        let is_own = ["error", "checks", "relays"].iter().any(|key| fields.contains_key(*key));
        if !is_own {
            read::<Answer>(&value.to_string());
        }
    }
}
