//! Files: offered, wanted, and sent in pieces.
//!
//! Specification: docs/protocol.md, "Letters". All pieces of a file are in the vault on both sides until it is whole, so
//! that a program that was stopped goes on where it was; a few are under way at a time. What has come is what was offered
//! if its BLAKE3 is. It never reads or writes a file of the person's.

use serde::{Deserialize, Serialize};
use trefoil_protocol::{
    crypto,
    envelope::SizeClass,
    letter::{Content, FileOffer, Letter, MessageId, is_plain},
    limits::{FILE_BYTES, FILE_NAME, FILE_PIECE, PIECES_UNDER_WAY},
};

use super::{
    LettersError, News,
    agenda::Job,
    rows::{ContactRow, Hidden, OutRow, Purpose},
    vault::{Shelf, VaultError},
    work::{Work, entry_key},
};

/// How a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileState {
    /// Offered, and not answered.
    Offered,
    /// Wanted: its pieces come, or go.
    Wanted,
    /// Not wanted.
    Refused,
    /// All of it is there.
    Whole,
    /// All of it has come, and it is not what was offered.
    Wrong,
    /// Its offer, or a piece, expired on its way to the other, who can ask for it again.
    Lost,
}

/// A file that was offered, by either side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    /// Its name, as its sender has it.
    pub name: String,
    /// Its bytes.
    pub size: u32,
    /// Its BLAKE3.
    pub hash: [u8; 32],
    /// Whether the person offered it.
    pub is_ours: bool,
    /// How it is.
    pub state: FileState,
    /// Pieces that are there, or that the other has confirmed.
    pub done: u16,
    /// The next piece to send.
    next: u16,
}

impl FileRow {
    /// How many pieces it has.
    pub fn pieces(&self) -> u16 {
        self.offer().pieces()
    }

    fn offer(&self) -> FileOffer {
        FileOffer { name: self.name.clone(), size: self.size, hash: self.hash }
    }

    /// Bytes of a piece.
    fn length(&self, piece: u16) -> Option<usize> {
        let start = usize::from(piece) * FILE_PIECE;
        let left = usize::try_from(self.size).ok()?.checked_sub(start)?;
        Some(left.min(FILE_PIECE)).filter(|length| *length > 0)
    }
}

impl Work<'_> {
    /// Offers a file to a contact.
    pub(super) fn offer(&mut self, id: u32, name: &str, bytes: &[u8]) -> Result<MessageId, LettersError> {
        let size = u32::try_from(bytes.len()).ok().filter(|size| (1..=FILE_BYTES).contains(size));
        let size = size.ok_or(LettersError::FileSize)?;
        let is_path = matches!(name, "." | "..") || name.contains(['/', '\\']);
        if name.is_empty() || name.len() > FILE_NAME || is_path || !is_plain(name) {
            return Err(LettersError::Name);
        }
        let hash = crypto::blake3(&[bytes]);
        let offer = FileOffer { name: name.to_owned(), size, hash };
        let file = self.tell(id, Content::FileOffer(offer.clone()))?;
        self.put_file(id, file, &offer, true)?;
        for (piece, bytes) in (0u16..).zip(bytes.chunks(FILE_PIECE)) {
            self.draft.put(Shelf::Piece, &piece_key(&self.file_key(id, file), piece), &Hidden::new(bytes))?;
        }
        Ok(file)
    }

    /// Says whether a file that was offered is wanted.
    pub(super) fn answer_file(&mut self, id: u32, file: MessageId, wanted: bool) -> Result<MessageId, LettersError> {
        let key = self.file_key(id, file);
        let mut row: FileRow = self.draft.get(Shelf::File, &key)?.ok_or(LettersError::NoFile)?;
        let is_open = row.state == FileState::Offered || (wanted && row.state == FileState::Wanted); // again: some was lost
        if row.is_ours || !is_open {
            return Err(LettersError::NoFile);
        }
        if wanted && row.state == FileState::Offered {
            let list = self.contact(id)?.list;
            self.need_room(list, u64::from(row.pieces()) * u64::from(SizeClass::Long.reckoned()));
        }
        row.state = if wanted { FileState::Wanted } else { FileState::Refused };
        self.draft.put(Shelf::File, &key, &row)?;
        self.tell(id, Content::FileAnswer { file, wanted })
    }

    /// A file, as it is.
    pub(super) fn file(&self, id: u32, file: MessageId) -> Result<FileRow, LettersError> {
        self.draft.get(Shelf::File, &self.file_key(id, file))?.ok_or(LettersError::NoFile)
    }

    /// All bytes of a file that is whole.
    pub(super) fn file_bytes(&self, id: u32, file: MessageId) -> Result<Vec<u8>, LettersError> {
        self.check_came(id, file)?;
        Ok(self.pieces(&self.file_key(id, file))?)
    }

    /// A file that has come whole is kept elsewhere, and is the person's own affair from here on.
    pub(super) fn file_saved(&mut self, id: u32, file: MessageId) -> Result<(), LettersError> {
        self.check_came(id, file)?;
        self.forget_file(id, file)
    }

    fn check_came(&self, id: u32, file: MessageId) -> Result<(), LettersError> {
        let row = self.file(id, file)?;
        if !row.is_ours && row.state == FileState::Whole { Ok(()) } else { Err(LettersError::NoFile) }
    }

    /// What letters about files bring about.
    pub(super) fn obey_file(
        &mut self,
        contact: &ContactRow,
        id: MessageId,
        content: Content,
    ) -> Result<(), LettersError> {
        match content {
            Content::FileOffer(offer) => self.put_file(contact.id, id, &offer, false),
            Content::FileAnswer { file, wanted } => self.file_answered(contact.id, file, wanted),
            Content::FilePiece { file, piece, bytes } => self.piece_came(contact.id, file, (piece, &bytes)),
            _ => Ok(()),
        }
    }

    fn put_file(&mut self, id: u32, file: MessageId, offer: &FileOffer, is_ours: bool) -> Result<(), LettersError> {
        let FileOffer { name, size, hash } = offer.clone();
        let row = FileRow { name, size, hash, is_ours, state: FileState::Offered, done: 0, next: 0 };
        let key = self.file_key(id, file);
        Ok(self.draft.put(Shelf::File, &key, &row)?)
    }

    fn file_answered(&mut self, id: u32, file: MessageId, wanted: bool) -> Result<(), LettersError> {
        let key = self.file_key(id, file);
        let Some(mut row) = self.draft.get::<FileRow>(Shelf::File, &key)? else { return Ok(()) };
        if !row.is_ours || !matches!(row.state, FileState::Offered | FileState::Lost) {
            return Ok(());
        }
        row.state = if wanted { FileState::Wanted } else { FileState::Refused };
        (row.next, row.done) = (0, 0);
        self.draft.put(Shelf::File, &key, &row)?;
        if !wanted {
            return Ok(self.drop_pieces(&key)?);
        }
        (0..PIECES_UNDER_WAY).try_for_each(|_| self.send_piece(id, file))
    }

    fn send_piece(&mut self, id: u32, file: MessageId) -> Result<(), LettersError> {
        let key = self.file_key(id, file);
        let Some(mut row) = self.draft.get::<FileRow>(Shelf::File, &key)? else { return Ok(()) };
        let piece = row.next;
        let Some(bytes) = self.draft.get::<Hidden>(Shelf::Piece, &piece_key(&key, piece))? else { return Ok(()) };
        row.next += 1;
        self.draft.put(Shelf::File, &key, &row)?;
        let mut contact = self.contact(id)?;
        self.say(&mut contact, Content::FilePiece { file, piece, bytes: bytes.0.to_vec() }, Purpose::Said)?;
        Ok(())
    }

    /// Something was confirmed: if it is a piece, another one goes.
    pub(super) fn piece_confirmed(&mut self, id: u32, out: &OutRow) -> Result<(), LettersError> {
        let Ok(Letter { content: Content::FilePiece { file, .. }, .. }) = Letter::decode(&out.letter.0) else {
            return Ok(());
        };
        let key = self.file_key(id, file);
        let Some(mut row) = self.draft.get::<FileRow>(Shelf::File, &key)? else { return Ok(()) };
        row.done += 1;
        if row.done >= row.pieces() {
            row.state = FileState::Whole;
            self.drop_pieces(&key)?;
        }
        self.draft.put(Shelf::File, &key, &row)?;
        self.news.push(News::File { contact: id, file });
        self.send_piece(id, file)
    }

    /// Something will not arrive: if it is a file's offer, or a piece of it, neither does the file.
    pub(super) fn file_lost(&mut self, out: &OutRow) -> Result<(), LettersError> {
        let file = match Letter::decode(&out.letter.0) {
            Ok(Letter { content: Content::FilePiece { file, .. }, .. }) => file,
            Ok(Letter { content: Content::FileOffer(_), id, .. }) => id,
            _ => return Ok(()),
        };
        let key = self.file_key(out.contact, file);
        let Some(mut row) = self.draft.get::<FileRow>(Shelf::File, &key)? else { return Ok(()) };
        row.state = FileState::Lost;
        self.draft.put(Shelf::File, &key, &row)?;
        self.news.push(News::File { contact: out.contact, file });
        Ok(())
    }

    fn piece_came(&mut self, id: u32, file: MessageId, (piece, bytes): (u16, &[u8])) -> Result<(), LettersError> {
        let key = self.file_key(id, file);
        let Some(mut row) = self.draft.get::<FileRow>(Shelf::File, &key)? else { return Ok(()) };
        let place = piece_key(&key, piece);
        let is_wanted = !row.is_ours && row.state == FileState::Wanted && row.length(piece) == Some(bytes.len());
        if !is_wanted || self.draft.get::<Hidden>(Shelf::Piece, &place)?.is_some() {
            return Ok(());
        }
        self.draft.put(Shelf::Piece, &place, &Hidden::new(bytes))?;
        row.done += 1;
        if row.done >= row.pieces() {
            let whole = crypto::blake3(&[&self.pieces(&key)?]) == row.hash;
            row.state = if whole { FileState::Whole } else { FileState::Wrong };
            if !whole {
                self.drop_pieces(&key)?;
            }
            self.linger(id, file)?;
        }
        self.draft.put(Shelf::File, &key, &row)?;
        self.news.push(News::File { contact: id, file });
        Ok(())
    }

    /// The letter of a file that has just come, and the file with it, go away a while from now, if they do.
    fn linger(&mut self, id: u32, file: MessageId) -> Result<(), LettersError> {
        let Some((at, entry)) = self.entry_of(id, &file.0)? else { return Ok(()) };
        let key = entry_key(id, at);
        if self.draft.get::<u64>(Shelf::Going, &key)?.is_some() {
            self.draft.put(Shelf::Going, &key, &(self.now.0 + u64::from(entry.timer)))?;
            self.wake(entry.timer.into(), Job::Tidy);
        }
        Ok(())
    }

    /// Whether more of a file is to come or go, or the other may still ask for it.
    pub(super) fn is_under_way(&self, id: u32, file: MessageId) -> Result<bool, LettersError> {
        let row: Option<FileRow> = self.draft.get(Shelf::File, &self.file_key(id, file))?;
        Ok(row.is_some_and(|row| match row.state {
            FileState::Wanted => true,
            FileState::Offered => row.is_ours,
            FileState::Refused | FileState::Whole | FileState::Wrong | FileState::Lost => false,
        }))
    }

    fn pieces(&self, key: &[u8]) -> Result<Vec<u8>, VaultError> {
        let pieces = self.draft.scan::<Hidden>(Shelf::Piece, key)?;
        Ok(pieces.iter().flat_map(|(_, bytes)| bytes.0.iter().copied()).collect())
    }

    fn drop_pieces(&mut self, key: &[u8]) -> Result<(), VaultError> {
        for piece in self.draft.keys(Shelf::Piece, key)? {
            self.draft.remove(Shelf::Piece, &piece)?;
        }
        Ok(())
    }

    /// Forgets a file, and its bytes.
    pub(super) fn forget_file(&mut self, id: u32, file: MessageId) -> Result<(), LettersError> {
        let key = self.file_key(id, file);
        self.draft.remove(Shelf::File, &key)?;
        Ok(self.drop_pieces(&key)?)
    }

    /// The key of a file's row: the contact, so that all of one's are found, and a name.
    fn file_key(&self, id: u32, file: MessageId) -> Vec<u8> {
        let name = self.draft.name(Shelf::File, &[&id.to_be_bytes(), &file.0]);
        [&id.to_be_bytes()[..], &name].concat()
    }
}

fn piece_key(file: &[u8], piece: u16) -> Vec<u8> {
    [file, &piece.to_be_bytes()].concat()
}
