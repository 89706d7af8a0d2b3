//! Names: whom and what a program means.

use data_encoding::HEXLOWER;
use trefoil_protocol::{address::Address, letter::MessageId};

use crate::{
    control::{Code, Problem},
    letters::{Known, Letters},
};

/// The contact of this name or address. What is an address is nobody's name, whatever somebody calls itself.
pub(super) fn contact(letters: &Letters, who: &str) -> Result<Known, Problem> {
    let contacts = letters.contacts()?;
    let found = match who.parse::<Address>() {
        Ok(address) => contacts.into_iter().find(|contact| contact.address == address),
        Err(_) => contacts.into_iter().find(|contact| contact.name == who),
    };
    found.ok_or_else(|| {
        let text = format!("there is no contact {who:?}: `trefoil contact list` shows those there are");
        Problem::new(Code::UnknownContact, text)
    })
}

/// The letter or file of this name.
pub(super) fn message(text: &str) -> Result<MessageId, Problem> {
    let bytes = HEXLOWER.decode(text.to_ascii_lowercase().as_bytes()).ok();
    let id = bytes.and_then(|bytes| bytes.try_into().ok()).map(MessageId);
    id.ok_or_else(|| Problem::new(Code::BadInput, "a letter's name has 32 hexadecimal digits"))
}

/// As text.
pub(super) fn text(id: &MessageId) -> String {
    HEXLOWER.encode(&id.0)
}
