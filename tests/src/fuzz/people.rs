//! What people type or pass on, what programs say to each other on a person's own machine, and what the phrase brings back.

use std::fmt::Debug;

use data_encoding::BASE32_NOPAD;
use serde::{Serialize, de::DeserializeOwned};
use trefoil_client::{
    control::{Call, Line},
    letters::{Sheet, invite::InviteLink},
};
use trefoil_protocol::{
    address::Address,
    crypto,
    limits::{INVITE_DOORS, INVITE_TEXT, PHRASE_NEAR},
    phrase::{Phrase, PhraseError},
};

use super::{Verdict, text_again};

/// An address survives its text form, and that form is the text but for the case of its letters. 33 bytes are what a text
/// stands for, without the checksum.
pub fn address(data: &[u8]) -> Verdict {
    let sum = crypto::blake3(&[b"trefoil/1 address", data]);
    let made = BASE32_NOPAD.encode(&[data, &sum[..2]].concat()) + ".trefoil";
    let text = if data.len() == 33 { made.as_bytes() } else { data };
    let Some((text, again)) = text_again::<Address>(text) else { return Verdict::Refused };
    assert_eq!(again, text.to_ascii_lowercase());
    Verdict::Accepted
}

/// Words that are a phrase are its words, but for case and white space; of words that are none, a few are named that are
/// near.
pub fn phrase(data: &[u8]) -> Verdict {
    let Ok(text) = str::from_utf8(data) else { return Verdict::Refused };
    match Phrase::parse(text) {
        Ok(phrase) => {
            let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
            assert_eq!(**phrase.words(), words.join(" "));
            assert_eq!(Phrase::parse(&phrase.words()).expect("its own words").entropy(), phrase.entropy());
            let address = phrase.address_secret().address();
            assert_eq!(address.to_string().parse(), Ok(address));
            Verdict::Accepted
        }
        Err(error) => {
            if let PhraseError::Word { place, near } = &error {
                assert!((1..=24).contains(place) && near.len() <= PHRASE_NEAR);
            }
            assert!(error.to_string().len() < 256, "what is said of a long text is short");
            Verdict::Refused
        }
    }
}

/// A link that is read is written so that it is read as the same. Bytes that begin with the version are what a link stands
/// for, without the checksum.
pub fn invite_link(data: &[u8]) -> Verdict {
    let sum = crypto::blake3(&[b"trefoil/1 invite", data]);
    let made = format!("trefoil:{}", BASE32_NOPAD.encode(&[data, &sum[..4]].concat()));
    let text = if data.first() == Some(&1) { made.as_bytes() } else { data };
    let Some((text, again)) = text_again::<InviteLink>(text) else { return Verdict::Refused };
    assert!(again.len() <= INVITE_TEXT && text.len() <= INVITE_TEXT);
    let link: InviteLink = again.parse().expect("what is written can be read");
    assert!(link.relays.len() <= INVITE_DOORS);
    Verdict::Accepted
}

/// A call at the control socket that is read is written as one line, which is read as the same call.
pub fn control_call(data: &[u8]) -> Verdict {
    line_again::<Call>(data)
}

/// What the control socket says, as programs that call it read it: so, too.
pub fn control_line(data: &[u8]) -> Verdict {
    line_again::<Line>(data)
}

fn line_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Verdict {
    let Ok(said) = serde_json::from_slice::<T>(data) else { return Verdict::Refused };
    let line = serde_json::to_vec(&said).expect("words are JSON");
    assert!(!line.contains(&b'\n'));
    assert_eq!(serde_json::from_slice::<T>(&line).expect("what is written can be read"), said);
    Verdict::Accepted
}

/// A sheet of a backup that is read is written as the same bytes.
pub fn sheet(data: &[u8]) -> Verdict {
    let Some(sheet) = Sheet::decode(data) else { return Verdict::Refused };
    assert_eq!(**sheet.encode(), *data);
    Verdict::Accepted
}
