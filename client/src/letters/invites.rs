//! Invites that the person has made, by the names that they have here.
//!
//! Specification: docs/protocol.md, "Invites of people". The tokens themselves are not kept, only what finds them.

use trefoil_protocol::epoch::UnixSeconds;

use super::{InviteUse, Letters, LettersError, rows::InviteRow, vault::Shelf};

/// An invite that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeInvite {
    /// What the person calls it.
    pub name: String,
    /// Until when it counts.
    pub expires: UnixSeconds,
    /// How often it counts.
    pub often: InviteUse,
    /// How often it was used.
    pub used: u32,
}

impl Letters {
    /// The invites that count now.
    ///
    /// # Errors
    /// [`LettersError`].
    pub fn invites(&self, now: UnixSeconds) -> Result<Vec<MadeInvite>, LettersError> {
        let rows = self.vault.draft()?.scan::<InviteRow>(Shelf::Invite, b"")?;
        let counting = rows.into_iter().map(|(_, row)| row).filter(|row| counts(row, now));
        Ok(counting
            .map(|InviteRow { name, expires, reusable, used, .. }| MadeInvite {
                name,
                expires: UnixSeconds(expires),
                often: if reusable { InviteUse::Reusable } else { InviteUse::Once },
                used,
            })
            .collect())
    }

    /// The invites of this name count no more.
    ///
    /// # Errors
    /// [`LettersError::NoInvite`] where none of that name counts.
    pub fn revoke_named(&mut self, name: &str, now: UnixSeconds) -> Result<(), LettersError> {
        self.change(now, |work| {
            let rows = work.draft.scan::<InviteRow>(Shelf::Invite, b"")?;
            let mut found = false;
            for (key, mut row) in rows.into_iter().filter(|(_, row)| row.name == name && counts(row, now)) {
                row.revoked = true;
                work.draft.put(Shelf::Invite, &key, &row)?;
                found = true;
            }
            if found { Ok(()) } else { Err(LettersError::NoInvite) }
        })
    }
}

fn counts(row: &InviteRow, now: UnixSeconds) -> bool {
    !row.revoked && now.0 < row.expires && (row.reusable || row.used == 0)
}
