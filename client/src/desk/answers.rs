//! Answers: what a desk does for those who ask, and the words for it.

use data_encoding::{BASE64, HEXLOWER};
use trefoil_protocol::{
    address::Address,
    epoch::UnixSeconds,
    letter::{InviteToken, MessageId},
    limits::INVITE_HOURS,
    puzzle::Hour,
};

use super::{Desk, names};
use crate::{
    control::{
        self, Answer, Code, Contact, Delivery, File, FileState, Invite, Letter, Problem, Receipts, Request, Said,
        Standing,
    },
    letters::{self, FileRow, InviteUse, Known, Letters, LettersError, Line, invite::InviteLink, safety_number},
};

impl Desk {
    /// Does what is asked, now.
    pub(super) fn answer(&self, request: Request) -> Result<Answer, Problem> {
        use Request as R;
        match request {
            R::Me | R::Phrase | R::State | R::Follow => self.about_me(request),
            R::Invite { .. } | R::Invites | R::Revoke { .. } => self.invites(request),
            R::Send { .. } | R::Letter { .. } | R::History { .. } | R::Shown { .. } | R::TellRead { .. } => {
                self.conversation(request)
            }
            R::Offer { .. } | R::Want { .. } | R::Files | R::Bytes { .. } | R::Saved { .. } => self.files(request),
            _ => self.contacts(request),
        }
    }

    fn about_me(&self, request: Request) -> Result<Answer, Problem> {
        let letters = self.letters();
        match request {
            Request::Phrase => Ok(Answer::Phrase(letters.phrase()?.words().to_string())),
            Request::State => {
                let client = self.client.status();
                let (waiting, unread) = counts(&letters)?;
                let backup = letters.backup()?;
                drop(letters);
                let heard = *self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let mailboxes = (heard.answered as usize, heard.asked as usize);
                let since = |at: UnixSeconds| self.now().0.saturating_sub(at.0);
                let (answered, backed_up) = (heard.at.map(since), backup.left.map(since));
                let restoring = backup.restoring;
                let state = control::State { client, waiting, unread, mailboxes, answered, backed_up, restoring };
                Ok(Answer::State(state))
            }
            Request::Follow => Ok(Answer::Nothing {}),
            _ => Ok(Answer::Me(control::Me {
                version: control::VERSION,
                profile: self.about.profile.to_string(),
                network: self.about.network.clone(),
                address: letters.address().to_string(),
            })),
        }
    }

    fn invites(&self, request: Request) -> Result<Answer, Problem> {
        let (mut letters, now) = (self.letters(), self.now());
        match request {
            Request::Invite { name, hours, reusable } => {
                if !(1..=INVITE_HOURS).contains(&hours) {
                    let text = format!("an invite counts 1 hour to {} days", INVITE_HOURS / 24);
                    return Err(Problem::new(Code::BadInput, text));
                }
                let expires = UnixSeconds(now.0 + u64::from(hours) * 3600);
                let name = if name.is_empty() { free_name(&letters, now)? } else { name };
                let often = if reusable { InviteUse::Reusable } else { InviteUse::Once };
                let token = letters.invite(&name, expires, often, now)?;
                let (network, address) = (self.about.id, letters.address());
                let (hour, relays) = (Hour::of_unix(expires.0), self.client.doors(&self.about.named));
                let link = InviteLink { network, address, token, expires: hour, relays }.to_string();
                Ok(Answer::Invite(Invite { name, link: Some(link), expires: expires.0, reusable, used: 0 }))
            }
            Request::Revoke { name } => {
                letters.revoke_named(&name, now)?;
                Ok(Answer::Nothing {})
            }
            _ => {
                let invites = letters.invites(now)?.into_iter().map(|invite| Invite {
                    name: invite.name,
                    link: None,
                    expires: invite.expires.0,
                    reusable: invite.often == InviteUse::Reusable,
                    used: invite.used,
                });
                Ok(Answer::Invites(invites.collect()))
            }
        }
    }

    fn contacts(&self, request: Request) -> Result<Answer, Problem> {
        let (mut letters, now) = (self.letters(), self.now());
        let id = match request {
            Request::Add { who, name, greeting } => {
                let (address, token) = self.invited(&who)?;
                let name = if name.is_empty() { address.short() } else { name };
                letters.request(&address, (&name, &greeting), token, now)?
            }
            Request::Accept { contact } => change(&mut letters, &contact, |letters, id| letters.accept(id, now))?,
            Request::Rename { contact, name } => {
                change(&mut letters, &contact, |letters, id| letters.rename(id, &name, now))?
            }
            Request::Verified { contact, verified } => {
                change(&mut letters, &contact, |letters, id| letters.set_verified(id, verified, now))?
            }
            Request::Block { contact } => change(&mut letters, &contact, |letters, id| letters.block(id, now))?,
            Request::Unblock { contact } => change(&mut letters, &contact, |letters, id| letters.unblock(id, now))?,
            Request::Timer { contact, seconds } => {
                change(&mut letters, &contact, |letters, id| letters.set_timer(id, seconds, now).map(|_| ()))?
            }
            Request::Receipts { contact, when } => {
                let when = match when {
                    Receipts::Usual => letters::Receipts::Usual,
                    Receipts::Slow => letters::Receipts::Slow,
                    Receipts::Off => letters::Receipts::Off,
                };
                change(&mut letters, &contact, |letters, id| letters.set_receipts(id, when, now))?
            }
            Request::Safety { contact } => {
                let other = names::contact(&letters, &contact)?.address;
                return Ok(Answer::Safety(safety_number(&letters.address(), &other)));
            }
            Request::Remove { contact } => {
                change(&mut letters, &contact, |letters, id| letters.remove(id, now))?;
                return Ok(Answer::Nothing {});
            }
            _ => {
                let all = letters.contacts()?.into_iter().map(|known| in_words(&letters, known));
                return Ok(Answer::Contacts(all.collect::<Result<_, _>>()?));
            }
        };
        contact(&letters, id)?.map(Answer::Contact).ok_or_else(|| LettersError::Unknown.into())
    }

    /// Whom somebody means with an address or an invite.
    fn invited(&self, who: &str) -> Result<(Address, Option<InviteToken>), Problem> {
        if !who.contains(':') {
            let address = who.parse::<Address>().map_err(|error| Problem::new(Code::BadInput, error))?;
            return Ok((address, None));
        }
        let invite: InviteLink = who.parse().map_err(|error| Problem::new(Code::BadInvite, error))?;
        invite.check(&self.about.id, self.now()).map_err(|error| Problem::new(Code::BadInvite, error))?;
        let token = Some(invite.token).filter(|token| *token != InviteToken::default());
        Ok((invite.address, token))
    }

    fn conversation(&self, request: Request) -> Result<Answer, Problem> {
        let (mut letters, now) = (self.letters(), self.now());
        let (id, message) = match request {
            Request::Send { contact, text } => {
                let id = names::contact(&letters, &contact)?.id;
                (id, letters.write(id, &text, now)?)
            }
            Request::Letter { contact, letter } => (names::contact(&letters, &contact)?.id, names::message(&letter)?),
            Request::Shown { contact, letters: shown } => {
                let id = names::contact(&letters, &contact)?.id;
                let shown: Vec<_> = shown.iter().map(|letter| names::message(letter)).collect::<Result<_, _>>()?;
                letters.shown(id, &shown, now)?;
                return Ok(Answer::Nothing {});
            }
            Request::TellRead { tell } => {
                letters.set_tells_read(tell, now)?;
                return Ok(Answer::Nothing {});
            }
            Request::History { contact, since, search, unread, most } => {
                let whose = contact.map(|contact| names::contact(&letters, &contact)).transpose()?;
                let wanted = Wanted { since: since.unwrap_or(0), search, unread };
                return Ok(Answer::Letters(history(&letters, whose, &wanted, most)?));
            }
            _ => return Err(Problem::new(Code::BadCall, "this is no question of a conversation")),
        };
        let letter = letter(&letters, id, &message)?;
        letter.map(Answer::Letter).ok_or_else(|| Problem::new(Code::Unknown, "there is no such letter"))
    }

    fn files(&self, request: Request) -> Result<Answer, Problem> {
        let (mut letters, now) = (self.letters(), self.now());
        match request {
            Request::Offer { contact, name, bytes } => {
                let id = names::contact(&letters, &contact)?.id;
                let bytes = BASE64.decode(bytes.as_bytes());
                let bytes = bytes.map_err(|_| Problem::new(Code::BadInput, "the file's bytes are not base64"))?;
                let message = letters.offer(id, (&name, &bytes), now)?;
                let offered = letter(&letters, id, &message)?;
                offered.map(Answer::Letter).ok_or_else(|| LettersError::NoFile.into())
            }
            Request::Want { contact, file: name, wanted } => {
                let (id, message) = (names::contact(&letters, &contact)?.id, names::message(&name)?);
                letters.answer_file(id, message, wanted, now)?;
                let answered = file(&mut letters, id, message, now)?;
                answered.map(Answer::File).ok_or_else(|| LettersError::NoFile.into())
            }
            Request::Bytes { contact, file } => {
                let (id, message) = (names::contact(&letters, &contact)?.id, names::message(&file)?);
                Ok(Answer::Bytes(BASE64.encode(&letters.file_bytes(id, message, now)?)))
            }
            Request::Saved { contact, file } => {
                let (id, message) = (names::contact(&letters, &contact)?.id, names::message(&file)?);
                letters.file_saved(id, message, now)?;
                Ok(Answer::Nothing {})
            }
            _ => {
                let mut files = vec![];
                for known in letters.contacts()? {
                    for line in letters.conversation(known.id)? {
                        if let letters::Said::File { .. } = line.said {
                            files.extend(file(&mut letters, known.id, line.id, now)?);
                        }
                    }
                }
                Ok(Answer::Files(files))
            }
        }
    }
}

/// Does something with a contact: its number.
fn change(
    letters: &mut Letters,
    who: &str,
    act: impl FnOnce(&mut Letters, u32) -> Result<(), LettersError>,
) -> Result<u32, Problem> {
    let id = names::contact(letters, who)?.id;
    act(letters, id)?;
    Ok(id)
}

/// The first of "invite 1", "invite 2" and so on that no invite has.
fn free_name(letters: &Letters, now: UnixSeconds) -> Result<String, LettersError> {
    let taken: Vec<_> = letters.invites(now)?.into_iter().map(|invite| invite.name).collect();
    let names = (1..=taken.len() + 1).map(|number| format!("invite {number}"));
    Ok(names.into_iter().find(|name| !taken.contains(name)).unwrap_or_default())
}

/// Which letters of a history are wanted.
struct Wanted {
    since: u64,
    search: Option<String>,
    unread: bool,
}

impl Wanted {
    fn is(&self, line: &Line) -> bool {
        let has_text = self.search.as_ref().is_none_or(|search| {
            let search = search.to_lowercase();
            match &line.said {
                letters::Said::Text(text) | letters::Said::Request(text) => text.to_lowercase().contains(&search),
                letters::Said::File { name, .. } => name.to_lowercase().contains(&search),
                _ => false,
            }
        });
        has_text && line.at.0 >= self.since && !(self.unread && (line.is_ours || line.is_shown))
    }
}

fn history(
    letters: &Letters,
    whose: Option<Known>,
    wanted: &Wanted,
    most: Option<usize>,
) -> Result<Vec<Letter>, LettersError> {
    let is_all = whose.is_none();
    let whose = match whose {
        Some(known) => vec![known],
        None => letters.contacts()?,
    };
    let mut all = vec![];
    for known in whose {
        let lines = letters.conversation(known.id)?.into_iter().filter(|line| wanted.is(line));
        all.extend(lines.map(|line| said(line, &known.name)));
    }
    if is_all {
        all.sort_by_key(|letter| letter.at);
    }
    let extra = all.len().saturating_sub(most.unwrap_or(usize::MAX));
    all.drain(..extra);
    Ok(all)
}

/// How many letters are on their way out, and how many were not shown.
fn counts(letters: &Letters) -> Result<(usize, usize), LettersError> {
    let (mut waiting, mut unread) = (0, 0);
    for known in letters.contacts()? {
        waiting += letters.waiting(known.id)?;
        unread += letters.unread(known.id)?;
    }
    Ok((waiting, unread))
}

/// One contact in words.
pub(super) fn contact(letters: &Letters, id: u32) -> Result<Option<Contact>, LettersError> {
    let known = letters.contacts()?.into_iter().find(|known| known.id == id);
    known.map(|known| in_words(letters, known)).transpose()
}

/// One letter in words.
pub(super) fn letter(letters: &Letters, contact: u32, id: &MessageId) -> Result<Option<Letter>, LettersError> {
    let Some(known) = letters.contacts()?.into_iter().find(|known| known.id == contact) else { return Ok(None) };
    Ok(letters.line(contact, id)?.map(|line| said(line, &known.name)))
}

/// One file in words.
pub(super) fn file(
    letters: &mut Letters,
    contact: u32,
    id: MessageId,
    now: UnixSeconds,
) -> Result<Option<File>, LettersError> {
    let Some(known) = letters.contacts()?.into_iter().find(|known| known.id == contact) else { return Ok(None) };
    match letters.file(contact, id, now) {
        Ok(row) => Ok(Some(of_file(&row, &id, known.name))),
        Err(LettersError::NoFile) => Ok(None), // forgotten
        Err(error) => Err(error),
    }
}

fn of_file(row: &FileRow, id: &MessageId, contact: String) -> File {
    File {
        id: names::text(id),
        contact,
        mine: row.is_ours,
        name: row.name.clone(),
        size: row.size,
        blake3: HEXLOWER.encode(&row.hash),
        state: match row.state {
            letters::FileState::Offered => FileState::Offered,
            letters::FileState::Wanted => FileState::Wanted,
            letters::FileState::Refused => FileState::Refused,
            letters::FileState::Whole => FileState::Whole,
            letters::FileState::Wrong => FileState::Wrong,
            letters::FileState::Lost => FileState::Lost,
        },
        done: row.done,
        pieces: row.pieces(),
    }
}

fn in_words(letters: &Letters, known: Known) -> Result<Contact, LettersError> {
    let unread = letters.unread(known.id)?;
    let missing = letters.gaps(known.id)?.into_iter().map(|gap| gap.places.end - gap.places.start).sum();
    Ok(Contact {
        name: known.name,
        own_name: known.own_name,
        address: known.address.to_string(),
        standing: match known.standing {
            letters::Standing::RequestedByMe => Standing::Asked,
            letters::Standing::RequestedByThem => Standing::Asks,
            letters::Standing::Accepted => Standing::Accepted,
            letters::Standing::Blocked => Standing::Blocked,
        },
        greeting: known.greeting,
        verified: known.verified,
        timer: known.timer,
        receipts: match known.receipts {
            letters::Receipts::Usual => Receipts::Usual,
            letters::Receipts::Slow => Receipts::Slow,
            letters::Receipts::Off => Receipts::Off,
        },
        unread,
        missing,
    })
}

fn said(line: Line, contact: &str) -> Letter {
    let (delivery, mailboxes, reason) = match line.delivery {
        None => (None, None, None),
        Some(letters::Delivery::Queued(count)) => (Some(Delivery::Queued), Some(count), None),
        Some(letters::Delivery::Accepted(count)) => (Some(Delivery::Accepted), Some(count), None),
        Some(letters::Delivery::Delivered) => (Some(Delivery::Delivered), None, None),
        Some(letters::Delivery::Read) => (Some(Delivery::Read), None, None),
        Some(letters::Delivery::Expired) => (Some(Delivery::Expired), None, None),
        Some(letters::Delivery::Failed(failure)) => (Some(Delivery::Failed), None, Some(why(failure).to_owned())),
    };
    Letter {
        id: names::text(&line.id),
        contact: contact.to_owned(),
        mine: line.is_ours,
        at: line.at.0,
        hour: line.written,
        shown: line.is_shown,
        delivery,
        mailboxes,
        reason,
        said: match line.said {
            letters::Said::Text(text) => Said::Text { text },
            letters::Said::File { name, size } => Said::File { name, size },
            letters::Said::Answer(wanted) => Said::FileAnswer { wanted },
            letters::Said::Request(text) => Said::Request { text },
            letters::Said::Welcome => Said::Welcome,
            letters::Said::Renewed => Said::Renewed,
            letters::Said::Timer(seconds) => Said::Timer { seconds },
            letters::Said::Unknown => Said::Unknown,
        },
    }
}

fn why(failure: letters::Failure) -> &'static str {
    match failure {
        letters::Failure::Removed => "the contact was removed",
        letters::Failure::Blocked => "the contact was blocked",
        letters::Failure::Copied => "another device of yours was sending it: it may have come",
        letters::Failure::Unsealable => "it cannot be sealed for this contact: their keys are not usable",
    }
}
