//! Words of others, as a terminal may show them.
//!
//! A letter, a name or a file's name can hold characters that move the cursor, colour the screen, turn the writing's
//! direction or cannot be seen. None of them reaches the terminal: each is shown by its number, `‹U+202E›`, but for
//! those that only join or colour a picture, which are left out.

/// A text of somebody else on one line.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut before = ' ';
    for character in text.chars() {
        match character {
            VARIATION => {}
            JOINER if is_picture(before) => {}
            character if is_hidden(character) => shown.push_str(&format!("‹U+{:04X}›", u32::from(character))),
            character => shown.push(character),
        }
        if character != VARIATION {
            before = character;
        }
    }
    shown
}

/// A text of somebody else as the lines that it has; tabs become spaces.
pub(super) fn lines(text: &str) -> Vec<String> {
    let lines = text.split('\n').map(|line| visible(&line.trim_end_matches('\r').replace('\t', "    ")));
    lines.collect()
}

/// The same JSON without a raw character of that kind, for where a person looks at what programs get.
pub(super) fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match is_hidden(character) {
            true => escaped.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
            false => escaped.push(character),
        }
    }
    escaped
}

/// Whether it cannot be seen, or changes what others look like.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}'
            | '\u{180b}'..='\u{180f}'                       // Mongolian selectors and a vowel without width
            | '\u{200b}'..='\u{200f}'                       // without width, and marks of direction
            | '\u{2028}'..='\u{202e}'                       // line ends, and turns of direction
            | '\u{2060}'..='\u{206f}'                       // joiners, isolates, and others without a look
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'                       // annotations
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}') // tags, and more selectors
}

fn is_picture(character: char) -> bool {
    matches!(character, '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
}

/// Makes a character a coloured picture.
const VARIATION: char = '\u{fe0f}';
/// Makes two pictures one.
const JOINER: char = '\u{200d}';

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_writing_is_shown_by_its_number() {
        assert_eq!(visible("\u{1b}[2Jhi\u{7}"), "‹U+001B›[2Jhi‹U+0007›");
        assert_eq!(visible("a\r\nb\tc\u{9b}1m"), "a‹U+000D›‹U+000A›b‹U+0009›c‹U+009B›1m");
        assert_eq!(visible("gpj.\u{202e}exe"), "gpj.‹U+202E›exe");
        assert_eq!(
            visible("ali\u{200b}ce \u{2066}x\u{2069}\u{feff}\u{e0041}"),
            "ali‹U+200B›ce ‹U+2066›x‹U+2069›‹U+FEFF›‹U+E0041›"
        );
    }

    #[test]
    fn ordinary_writing_stays_as_it_is() {
        for text in ["Grüße, Ἀθῆναι, שלום, 漢字, e\u{301}", "", "  two  spaces "] {
            assert_eq!(visible(text), text);
        }
    }

    #[test]
    fn a_joiner_is_left_out_of_pictures_and_shown_in_names() {
        assert_eq!(visible("\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f}"), "\u{1f469}\u{1f467} \u{2764}");
        assert_eq!(visible("\u{2764}\u{fe0f}\u{200d}\u{1f525}"), "\u{2764}\u{1f525}");
        assert_eq!(visible("ali\u{200d}ce"), "ali‹U+200D›ce");
    }

    #[test]
    fn lines_are_told_apart_and_nothing_else_moves() {
        assert_eq!(lines("one\r\ntwo\tx\n\rthree"), ["one", "two    x", "‹U+000D›three"]);
    }

    proptest! {
        #[test]
        fn json_means_the_same_without_them(text in any::<String>(), at in 0_u32..0x10_ffff) {
            let text = text + "\u{202e}\u{9b}\u{e0041}" + &char::from_u32(at).map(String::from).unwrap_or_default();
            let json = escaped(&serde_json::to_string(&text).unwrap());
            prop_assert!(!json.chars().any(is_hidden), "{}", json);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn nothing_hidden_is_left_of_any_text(text in any::<String>(), at in 0_u32..0x10_ffff) {
            let text = text + &char::from_u32(at).map(String::from).unwrap_or_default();
            prop_assert!(!visible(&text).chars().any(is_hidden));
        }
    }
}
