//! Device: what begins anew where a profile goes on in another place.
//!
//! Specification: docs/protocol.md, "Letters". A copy that went on with the ratchets of its original would encrypt twice
//! under one key, and take places in conversations that are taken: so it never does. Contacts see another device, as after
//! a restore. It keeps contacts and what was said.

use trefoil_protocol::{epoch::UnixSeconds, letter::Content};

use super::{
    Letters, LettersError,
    person::RecordRow,
    rows::{Failure, OutRow, Purpose, Standing},
    session,
    vault::Shelf,
    work::Work,
};

impl Letters {
    /// Goes on as another device than the profile was before. What was on its way from the other one has failed here: it
    /// may have come.
    ///
    /// # Errors
    /// [`LettersError`]; nothing has changed then.
    pub fn begin_device(&mut self, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| work.begin_device())
    }
}

impl Work<'_> {
    fn begin_device(&mut self) -> Result<(), LettersError> {
        for (key, mut out) in self.draft.scan::<OutRow>(Shelf::Outgoing, b"")? {
            let serial = key.first_chunk().map_or(0, |key| u64::from_be_bytes(*key));
            self.fail(serial, &mut out, Failure::Copied)?;
        }
        self.person.covers.push(self.person.device); // all that it has kept is here
        self.draft.remove(Shelf::Backup, b"")?;
        let (account, fallback) = session::new_account();
        (self.person.account, self.person.fallback, self.person.fallback_since) = (account, fallback, self.now.0);
        self.person.device = self.person.device.saturating_add(1).max(u32::try_from(self.now.0).unwrap_or(u32::MAX));
        for (key, _) in self.draft.scan::<RecordRow>(Shelf::Record, b"")? {
            self.draft.remove(Shelf::Record, &key)?;
        }
        self.upkeep_prekeys()?;
        for mut contact in self.contacts()? {
            self.draft.remove(Shelf::Sessions, &contact.id.to_be_bytes())?;
            (contact.said, contact.told) = (0, None);
            self.put_contact(&contact)?;
            if contact.standing == Standing::Accepted {
                let of = Box::new(self.published()?);
                self.say(&mut contact, Content::Renewal(of), Purpose::Said)?;
            }
        }
        self.upkeep()
    }
}
