//! Steps: what is done when something is due, and when a mailbox has answered.
//!
//! Specification: docs/protocol.md, "Mailbox streams" and "Delivery". This file leads to where things are done, and does
//! what listing and fetching needs.

use trefoil_protocol::{
    address::Address,
    envelope::LetterId,
    identity::RelayId,
    mailbox::{Answer, Refusal},
    period::Week,
    prekeys,
};

use super::{
    LettersError,
    agenda::Job,
    errand::{Errand, What},
    inbox::Transit,
    opening::Verdict,
    person::InboxName,
    work::{Ring, Work},
};

impl Work<'_> {
    pub(super) fn job(&mut self, job: Job, transit: &mut Transit, ring: Ring<'_>) -> Result<Vec<Errand>, LettersError> {
        match job {
            Job::Plan => {
                self.upkeep()?;
                self.end_restoring()?;
                self.plan_visits(transit, ring);
                self.plan_chores(transit, ring)?;
                self.wake(PLAN.min(self.until_turn()), Job::Plan);
                Ok(vec![])
            }
            Job::Deliver(serial) => self.deliver(serial, transit, ring),
            Job::Look(contact, week) => self.look((contact, week), transit, ring),
            Job::Confirm(contact) => self.confirm(contact).map(|()| vec![]),
            Job::Tidy => self.tidy().map(|()| vec![]),
            Job::BackUp => self.back_up().map(|()| vec![]),
            Job::Restore => self.restore().map(|()| vec![]),
            Job::Renew => Ok(vec![]), // `Letters` does it, with the vault to itself
        }
    }

    pub(super) fn answered(
        &mut self,
        errand: &Errand,
        answer: Option<&Answer<'_>>,
        transit: &mut Transit,
        ring: Ring<'_>,
    ) -> Result<(), LettersError> {
        match &errand.what {
            What::Deposit { serial, .. } => self.deposited(errand, *serial, answer),
            What::Look { contact, week } => {
                self.look_answered((*contact, *week), transit, answer);
                Ok(())
            }
            What::Register { .. } | What::Publish { .. } => self.chore_done(errand, transit, answer),
            What::List { inbox, .. } => self.listed((*inbox, errand.mailbox), answer, transit, ring),
            What::Fetch { inbox, letter, .. } => {
                self.fetched((*inbox, errand.mailbox), (letter, answer), transit, ring)
            }
            What::Delete { inbox, .. } => {
                if !matches!(answer, Some(Answer::Deleted)) {
                    self.visit_failed(transit, &(*inbox, errand.mailbox), ring);
                }
                Ok(())
            }
        }
    }

    /// What waits at a mailbox: what is new is fetched, what has come before is deleted.
    fn listed(
        &mut self,
        key: (InboxName, RelayId),
        answer: Option<&Answer<'_>>,
        transit: &mut Transit,
        ring: Ring<'_>,
    ) -> Result<(), LettersError> {
        let Some(Answer::Letters { next, letters }) = answer else {
            self.visit_failed(transit, &key, ring);
            return Ok(());
        };
        let watch = self.watch(transit, &key, ring);
        let Some(visit) = transit.visits.get_mut(&key) else { return Ok(()) };
        let has_more = !letters.is_empty() && *next > visit.after;
        let is_odd = !letters.is_empty() && !has_more; // it says what it said before, and would do so for ever
        visit.after = visit.after.max(*next);
        for listed in letters {
            if !self.is_seen(&listed.letter)? {
                visit.fetch.push_back(*listed);
            } else if !key.0.is_own() {
                visit.delete.push(listed.letter);
            }
        }
        let requests = self.look_requests();
        if has_more {
            visit.due = self.now.0;
        } else if is_odd {
            visit.fail(self.now.0);
        } else if visit.rest(self.now.0, watch, requests, self.rng) {
            self.look_elsewhere(transit, &key);
        }
        Ok(())
    }

    fn fetched(
        &mut self,
        key: (InboxName, RelayId),
        (letter, answer): (&LetterId, Option<&Answer<'_>>),
        transit: &mut Transit,
        ring: Ring<'_>,
    ) -> Result<(), LettersError> {
        transit.forget_doubts(self.now.0);
        let Some(visit) = transit.visits.get_mut(&key) else { return Ok(()) };
        let listed = visit.fetch.pop_front();
        match answer {
            Some(Answer::Letter(envelope)) if LetterId::of(envelope) == *letter => {
                if let InboxName::Own(week) = key.0 {
                    if self.sheet_came(week, envelope)? == Verdict::Useless {
                        visit.note_useless(self.now.0);
                    }
                    return Ok(()); // it stays there: the phrase may be needed again
                }
                let verdict = self.take(key.0, envelope, |id| transit.is_checked(id))?;
                if let Verdict::Later { contact } = verdict {
                    transit.doubt(contact, self.now.0);
                    return Ok(());
                }
                if let Some(visit) = transit.visits.get_mut(&key) {
                    visit.delete.extend(listed.map(|listed| listed.letter));
                    if verdict == Verdict::Useless {
                        visit.note_useless(self.now.0);
                    }
                }
                if let Verdict::Met { contact } = verdict {
                    transit.met(contact, self.now.0);
                }
            }
            Some(Answer::Refused(Refusal::Gone)) => visit.note_gone(self.now.0),
            _ => self.visit_failed(transit, &key, ring),
        }
        Ok(())
    }

    pub(super) fn week_of(&self, contact: u32) -> Result<u32, LettersError> {
        let address = Address::from_bytes(self.contact(contact)?.address).map_err(|_| LettersError::Damaged)?;
        let offset = prekeys::offset(&address);
        Ok(Week::of(self.now, offset).0)
    }
}

/// Seconds between two looks at what there has to be.
const PLAN: u64 = 3600;
