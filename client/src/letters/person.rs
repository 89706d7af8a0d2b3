//! Person: who somebody is on this device, and what of it changes with the weeks.
//!
//! Specification: docs/protocol.md, "Inboxes" and "Prekeys". Salts of the private inbox, secrets of the prekeys, the
//! records that strangers begin with, and the passes that contacts are given. It never looks at letters.

use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use trefoil_protocol::{
    address::Address,
    blind::BlindedSecret,
    crypto::{self, Secret, XWingSecret},
    epoch::UnixSeconds,
    inbox::{Inbox, Whereabouts},
    letter::{Content, Published},
    limits::{FALLBACK_LIFE, LOOK_CONTACTS, LOOK_LATE, SALT_WEEKS, WEEKS_AHEAD, XWING_WEEKS},
    pass::Pass,
    period::{Day, Week},
    phrase::Phrase,
    prekeys::{self, Prekeys, PrekeysOf, PrekeysRecord},
    ring::Placement,
    ticket::TicketKey,
};

use super::{
    LettersError,
    agenda::Job,
    outbox::prekeys_key,
    room::tickets_of,
    rows::{ContactRow, Hidden, HomeRow, PassRow, PersonRow, Purpose, Standing},
    session::{self, Sessions},
    vault::Shelf,
    work::Work,
};

/// Prekeys of a week, as they are published.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordRow {
    pub(super) record: Vec<u8>,
    /// The mailboxes that have it, and since when.
    pub(super) at: Vec<([u8; 32], u64)>,
}

/// Which of the person's inboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum InboxName {
    /// The request inbox of a day.
    Request(u32),
    /// The private inbox of a generation and week.
    Private(u32, u32),
    /// The person's self-inbox of a week.
    Own(u32),
}

impl InboxName {
    /// Whether it is the person's self-inbox, from which nothing is deleted.
    pub(super) fn is_own(self) -> bool {
        matches!(self, Self::Own(_))
    }
}

impl PersonRow {
    /// Somebody on a new device.
    pub(super) fn new(entropy: &Secret, name: &str, now: UnixSeconds, rng: &mut StdRng) -> Self {
        let (account, fallback) = session::new_account();
        let mut filling = Hidden::new(&[0; 32]);
        rand::Rng::fill_bytes(rng, &mut filling.0);
        let whereabouts = Whereabouts::generate(rng);
        Self {
            entropy: Hidden::new(&**entropy),
            name: name.to_owned(),
            device: u32::try_from(now.0).unwrap_or(u32::MAX),
            revision: 0,
            account,
            fallback,
            fallback_since: now.0,
            homes: vec![HomeRow { whereabouts: Hidden::new(&*whereabouts.encode()), left: None, salts: [].into() }],
            xwing: [].into(),
            filling,
            tickets: [].into(),
            rooms: [].into(),
            tells_read: false,
            restoring: None,
            covers: vec![],
            backed_up: None,
            since: now.0,
            invited: 0,
            asked: 0,
            next_serial: 1,
            next_contact: 1,
        }
    }

    /// The words of the person's phrase.
    pub(super) fn phrase(&self) -> Phrase {
        Phrase::from_entropy(self.entropy.array())
    }
}

impl HomeRow {
    pub(super) fn at(&self) -> Whereabouts {
        Whereabouts::decode(&self.whereabouts.array())
    }

    fn week(&self, now: UnixSeconds) -> Week {
        Week::of(now, self.at().offset())
    }
}

impl Work<'_> {
    /// Sees to it that there is all that the present week and those ahead need, and that what is over is forgotten.
    pub(super) fn upkeep(&mut self) -> Result<(), LettersError> {
        self.upkeep_homes();
        self.upkeep_prekeys()?;
        for mut contact in self.contacts()? {
            let key = contact.id.to_be_bytes();
            let sessions: Option<Sessions> = self.draft.get(Shelf::Sessions, &key)?;
            if let Some(mut sessions) = sessions
                && sessions.forget(self.now.0)
            {
                self.draft.put(Shelf::Sessions, &key, &sessions)?;
            }
            if contact.standing != Standing::Accepted {
                continue;
            }
            if contact.told != Some(self.pass_name()) {
                self.tell_pass(&mut contact)?;
            }
            let week = self.week_of(contact.id)?;
            if self.draft.keys(Shelf::Prekeys, &prekeys_key(contact.id, week))?.is_empty() {
                let late = self.delay(LOOK_LATE);
                let wait = self.look_at(&contact, week).saturating_sub(self.now.0);
                self.wake(if wait == 0 { late } else { wait }, Job::Look(contact.id, week));
            }
        }
        Ok(())
    }

    /// When the prekeys of a contact of this week are looked up, where no letter needs them before.
    fn look_at(&self, contact: &ContactRow, week: u32) -> u64 {
        let hash = crypto::blake3(&[LOOK_LABEL, &self.person.filling.0, &contact.address, &week.to_le_bytes()]);
        let [a, b, c, d, ..] = hash;
        let offset = Address::from_bytes(contact.address).map(|address| prekeys::offset(&address));
        let start = offset.map_or(self.now, |offset| Week(week).start(offset));
        start.0 + u64::from(u32::from_le_bytes([a, b, c, d])) % LOOK_CONTACTS
    }

    fn upkeep_homes(&mut self) {
        let now = self.now;
        // Whoever was not told the new place writes to the old one for as long as salts of it were told.
        let while_found = u64::from(SALT_WEEKS + 2) * WEEK;
        self.person.homes.retain(|home| home.left.is_none_or(|left| now.0 < left.saturating_add(while_found)));
        for home in &mut self.person.homes {
            let week = home.week(now).0;
            home.salts.retain(|of, _| of.saturating_add(XWING_WEEKS) > week);
            if home.left.is_some() {
                continue;
            }
            for ahead in week..=week + WEEKS_AHEAD {
                home.salts.entry(ahead).or_insert_with(|| {
                    let mut salt = [0; 16];
                    rand::Rng::fill_bytes(self.rng, &mut salt);
                    salt
                });
            }
        }
    }

    pub(super) fn upkeep_prekeys(&mut self) -> Result<(), LettersError> {
        if self.now.0 >= self.person.fallback_since + FALLBACK_LIFE {
            let (account, key) = session::next_fallback(&self.person.account).ok_or(LettersError::Damaged)?;
            (self.person.account, self.person.fallback, self.person.fallback_since) = (account, key, self.now.0);
        }
        let week = self.prekeys_week();
        self.person.xwing.retain(|of, _| *of + XWING_WEEKS >= week.0);
        for (key, _) in self.draft.scan::<RecordRow>(Shelf::Record, b"")? {
            if key < week.0.to_be_bytes().to_vec() {
                self.draft.remove(Shelf::Record, &key)?;
            }
        }
        let began = self.person.revision < self.person.device; // and has published nothing
        for ahead in (0..=WEEKS_AHEAD).map(|weeks| week.plus(weeks)) {
            if self.draft.get::<RecordRow>(Shelf::Record, &ahead.0.to_be_bytes())?.is_none() {
                let revision = if began { self.next_revision(ahead) } else { usual_revision(ahead) };
                self.seal_prekeys(ahead, revision)?;
            }
        }
        Ok(())
    }

    /// Another record of a week has as high a revision: by another device, or by this one before its disk was put back.
    /// Whether this one is sealed again to come before it; not often, since whoever says so may lie, or be just as new.
    pub(super) fn overtake(&mut self, week: u32) -> Result<bool, LettersError> {
        let Some(row) = self.draft.get::<RecordRow>(Shelf::Record, &week.to_be_bytes())? else { return Ok(false) };
        let record = row.record.first_chunk().ok_or(LettersError::Damaged)?;
        let before =
            u64::from(PrekeysRecord::from_bytes(record).revision()).saturating_sub(self.shift(Week(week)).into());
        let is_due = before + OVERTAKE <= self.now.0;
        if is_due {
            let revision = self.next_revision(Week(week));
            self.seal_prekeys(Week(week), revision)?;
        }
        Ok(is_due)
    }

    /// The time, as `device`: whatever was published before, this is higher. It is shifted, so that it says nothing of
    /// when, or whose records of other weeks are.
    fn next_revision(&mut self, week: Week) -> u32 {
        let now = u32::try_from(self.now.0).unwrap_or(u32::MAX);
        self.person.revision = now.max(self.person.device).max(self.person.revision.saturating_add(1));
        self.person.revision.saturating_add(self.shift(week))
    }

    /// The same on all devices of the person, and known to nobody else.
    fn shift(&self, week: Week) -> u32 {
        let [a, b, c, ..] = crypto::blake3(&[SHIFT_LABEL, &self.person.entropy.0, &week.0.to_le_bytes()]);
        u32::from_le_bytes([a, b, c, 0])
    }

    fn seal_prekeys(&mut self, week: Week, revision: u32) -> Result<(), LettersError> {
        let secret = match self.person.xwing.get(&week.0) {
            Some(secret) => XWingSecret::from_bytes(&secret.array()),
            None => XWingSecret::generate(self.rng),
        };
        self.person.xwing.insert(week.0, Hidden::new(&*secret.to_bytes()));
        let identity = session::identity(&self.person.account).ok_or(LettersError::Damaged)?;
        let (device, fallback) = (self.person.device, vec![self.person.fallback]);
        let prekeys = Prekeys { xwing: secret.public(), identity, device, fallback };
        let record = PrekeysOf::new(self.network, self.address(), week).seal(&prekeys, revision, self.owner, self.rng);
        let row = RecordRow { record: record.as_bytes().to_vec(), at: vec![] };
        Ok(self.draft.put(Shelf::Record, &week.0.to_be_bytes(), &row)?)
    }

    /// The present week of the person's prekeys.
    pub(super) fn prekeys_week(&self) -> Week {
        Week::of(self.now, prekeys::offset(&self.address()))
    }

    /// The person's prekeys of the present week.
    pub(super) fn published(&self) -> Result<Published, LettersError> {
        let week = self.prekeys_week();
        let row: RecordRow = self.draft.get(Shelf::Record, &week.0.to_be_bytes())?.ok_or(LettersError::Damaged)?;
        let bytes = row.record.first_chunk().ok_or(LettersError::Damaged)?;
        Ok(Published { week, prekeys: PrekeysRecord::from_bytes(bytes) })
    }

    /// Which pass contacts should have: its generation and first week.
    fn pass_name(&self) -> (u32, u32) {
        let home = self.home();
        (home.generation(), Week::of(self.now, home.offset()).0)
    }

    /// What this contact needs to write, from now on.
    pub(super) fn pass_for(&self, contact: &mut ContactRow) -> Pass {
        contact.told = Some(self.pass_name());
        let home = self.person.homes.last().expect("a person lives somewhere");
        let first = home.week(self.now);
        let salts = (0..SALT_WEEKS).map_while(|weeks| home.salts.get(&first.plus(weeks).0).copied()).collect();
        let tickets = TicketKey::from_bytes(&contact.tickets.array());
        Pass { whereabouts: home.at(), tickets, count: tickets_of(contact.slot), first, salts }
    }

    fn tell_pass(&mut self, contact: &mut ContactRow) -> Result<(), LettersError> {
        let pass = self.pass_for(contact);
        self.say(contact, Content::Pass(pass), Purpose::Silent)?;
        Ok(())
    }

    /// Moves the private inbox: whoever is not told cannot find it any more.
    pub(super) fn move_out(&mut self) {
        let next = self.home().next(self.rng);
        let home = HomeRow { whereabouts: Hidden::new(&*next.encode()), left: None, salts: [].into() };
        if let Some(before) = self.person.homes.last_mut() {
            before.left = Some(self.now.0);
        }
        self.person.homes.push(home);
        self.upkeep_homes();
    }

    /// The inboxes in which letters can be now.
    pub(super) fn inboxes(&self) -> Vec<InboxName> {
        let today = Day::of(self.now).0;
        let waits = 14; // days, for which a letter is kept
        let first = today.saturating_sub(waits).max(Day::of(UnixSeconds(self.person.since)).0.saturating_sub(1));
        let requests = (first..=today).map(InboxName::Request);
        let private = self.person.homes.iter().flat_map(|home| {
            let (generation, week) = (home.at().generation(), home.week(self.now).0);
            let weeks = home.salts.keys().filter(move |of| (week.saturating_sub(2)..=week).contains(*of));
            weeks.map(move |of| InboxName::Private(generation, *of))
        });
        let own = self.person.restoring.map(|_| self.own().week(self.now).0);
        let own = own.into_iter().flat_map(|week| week.saturating_sub(2)..=week).map(InboxName::Own);
        requests.chain(private).chain(own).collect()
    }

    /// Whether letters are still left there: for a while after its end, too, since what was left last is as new as any.
    pub(super) fn is_present(&self, name: InboxName) -> bool {
        self.now.0 < self.end_of(name).plus(TURN).0
    }

    /// When its day or week ends.
    fn end_of(&self, name: InboxName) -> UnixSeconds {
        match name {
            InboxName::Request(day) => Day(day.saturating_add(1)).start(),
            InboxName::Private(generation, week) => {
                let home = self.person.homes.iter().find(|home| home.at().generation() == generation);
                home.map_or(self.now, |home| Week(week).plus(1).start(home.at().offset()))
            }
            InboxName::Own(week) => Week(week).plus(1).start(self.own().offset()),
        }
    }

    /// Seconds until another inbox, or other prekeys, are the present ones.
    pub(super) fn until_turn(&self) -> u64 {
        let (home, prekeys) = (self.home().offset(), prekeys::offset(&self.address()));
        let turns = [home, prekeys].map(|offset| Week::of(self.now, offset).plus(1).start(offset));
        let day = Day(Day::of(self.now).0.saturating_add(1)).start();
        turns.into_iter().chain([day]).map(|turn| turn.since(self.now)).min().unwrap_or(0)
    }

    /// Whether all that can have come there was asked for when the person's program ran last.
    pub(super) fn is_emptied(&self, name: InboxName) -> bool {
        !name.is_own() && self.end_of(name).plus(LATE).0 < self.person.asked
    }

    /// Where the inbox of this name is.
    pub(super) fn placement_of(&self, name: InboxName) -> Option<Placement> {
        match name {
            InboxName::Own(week) => Some(self.own().placement(Week(week))),
            name => self.inbox(name).map(|inbox| inbox.placement()),
        }
    }

    /// What signs for the inbox of this name.
    pub(super) fn secret_of(&self, name: InboxName) -> Option<BlindedSecret> {
        match name {
            InboxName::Own(week) => Some(self.own().secret(Week(week))),
            name => self.inbox(name).map(|inbox| inbox.secret(self.owner)),
        }
    }

    fn inbox(&self, name: InboxName) -> Option<Inbox> {
        match name {
            InboxName::Request(day) => Some(Inbox::request(self.network, self.address(), Day(day))),
            InboxName::Private(generation, week) => {
                let home = self.person.homes.iter().find(|home| home.at().generation() == generation)?;
                let salt = home.salts.get(&week)?;
                Some(Inbox::private(self.network, self.address(), &home.at(), Week(week), salt))
            }
            InboxName::Own(_) => None,
        }
    }
}

impl PassRow {
    pub(super) fn of(pass: &Pass) -> Self {
        Self {
            whereabouts: Hidden::new(&*pass.whereabouts.encode()),
            tickets: Hidden::new(pass.tickets.as_bytes()),
            count: pass.count,
            first: pass.first.0,
            salts: pass.salts.clone(),
        }
    }

    pub(super) fn at(&self) -> Whereabouts {
        Whereabouts::decode(&self.whereabouts.array())
    }

    /// Whether it says more than another: of a later generation, or of later weeks of one.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        (self.at().generation(), self.first) >= (other.at().generation(), other.first)
    }
}

/// The revision of a record that is published weeks ahead: that of everyone's for a week of this number, so that it says
/// neither when its owner's program ran nor whose else it is. It is at least [`OVERTAKE`] before the time then.
fn usual_revision(week: Week) -> u32 {
    week.0.saturating_sub(WEEKS_AHEAD + 1).saturating_mul(WEEK_SECONDS)
}

const LOOK_LABEL: &[u8] = b"trefoil/1 look at a contact";
const SHIFT_LABEL: &[u8] = b"trefoil/1 prekeys revision";
/// Seconds after its revision when a record that was overtaken is sealed again.
const OVERTAKE: u64 = 6 * 3600;
/// Seconds after an inbox's end for which it is looked at like the present one: clocks differ, and deposits take a while.
const TURN: u64 = 2 * 3600;
/// Seconds after an inbox's end until nothing more comes: clocks differ, and replicas repair each other.
const LATE: u64 = 24 * 3600;
const WEEK_SECONDS: u32 = 7 * 24 * 3600;
const WEEK: u64 = WEEK_SECONDS as u64;
