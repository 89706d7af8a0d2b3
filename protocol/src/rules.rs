//! Who may say what, and when: the table *type × hop × state*, on both sides of a circuit.
//!
//! Specification: docs/protocol.md, "Who may say what". Whatever is not allowed closes the circuit: a message that
//! a client silently dropped would be a covert channel for a bad hop. What concerns a single stream is in `stream.rs`;
//! this file decides what reaches it.

use crate::{
    limits::{MAX_EXTENDS, MAX_HOPS, MAX_PAD_BUDGET},
    message::Message,
};

/// A message that its sender must not send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// This side never says this.
    #[error("a message that this side never sends")]
    Direction,
    /// `Extend` at a hop that has a next hop, is extending, or was asked too often.
    #[error("an Extend that is not allowed now")]
    Extend,
    /// `Extended` that is not owed.
    #[error("an Extended that nobody asked for")]
    Extended,
    /// Padding beyond what was asked for.
    #[error("padding that nobody asked for")]
    Padding,
}

/// A hop's rules for what the origin says to it.
#[derive(Debug, Default)]
pub struct HopRules {
    extension: Extension,
    extends: u8,
    padding_owed: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extension {
    #[default]
    None,
    Owed,
    Done,
}

impl HopRules {
    /// Checks a message from the origin, and takes note of it.
    pub fn check(&mut self, message: &Message<'_>) -> Result<(), Violation> {
        match message {
            Message::Extend { .. } if self.extension == Extension::None && self.extends < MAX_EXTENDS => {
                self.extension = Extension::Owed;
                self.extends += 1;
                Ok(())
            }
            Message::Extend { .. } => Err(Violation::Extend),
            Message::PadStart { budget } => {
                let owed = self.padding_owed.saturating_add(*budget);
                if owed > MAX_PAD_BUDGET {
                    return Err(Violation::Padding);
                }
                self.padding_owed = owed;
                Ok(())
            }
            Message::Open { .. }
            | Message::Data { .. }
            | Message::Credit { .. }
            | Message::Close { .. }
            | Message::Padding => Ok(()),
            Message::Extended { .. } | Message::ExtendFailed(_) | Message::Opened { .. } => Err(Violation::Direction),
        }
    }

    /// The extension that was owed has been made.
    pub fn extend_done(&mut self) {
        self.extension = Extension::Done;
    }

    /// The extension that was owed has failed; the origin may ask again.
    pub fn extend_failed(&mut self) {
        self.extension = Extension::None;
    }

    /// Whether there is a next hop to pass cells on to.
    pub fn has_next(&self) -> bool {
        self.extension == Extension::Done
    }

    /// Takes the padding cells that are owed to the origin.
    pub fn take_padding(&mut self) -> u16 {
        std::mem::take(&mut self.padding_owed)
    }
}

/// The origin's rules for what hops say to it.
#[derive(Debug)]
pub struct OriginRules {
    hops: usize,
    extending: bool,
    padding_budget: [u16; MAX_HOPS],
}

impl OriginRules {
    /// A circuit of one hop.
    pub fn new() -> Self {
        Self { hops: 1, extending: false, padding_budget: [0; MAX_HOPS] }
    }

    /// Hops so far.
    pub fn hops(&self) -> usize {
        self.hops
    }

    /// Notes that the last hop is being asked to extend. `false` if it must not be: one is under way, or there are six.
    pub fn start_extend(&mut self) -> bool {
        let allowed = !self.extending && self.hops < MAX_HOPS;
        self.extending |= allowed;
        allowed
    }

    /// Notes that `hop` was sent a `PadStart`.
    pub fn start_padding(&mut self, hop: usize, budget: u16) {
        if let Some(before) = self.padding_budget.get_mut(hop) {
            *before = before.saturating_add(budget);
        }
    }

    /// Checks a message from `hop`, and takes note of it.
    pub fn check(&mut self, hop: usize, message: &Message<'_>) -> Result<(), Violation> {
        match message {
            Message::Extended { .. } | Message::ExtendFailed(_) => {
                if !self.extending || hop + 1 != self.hops {
                    return Err(Violation::Extended);
                }
                self.extending = false;
                self.hops += usize::from(matches!(message, Message::Extended { .. }));
                Ok(())
            }
            Message::Padding => {
                let budget = self.padding_budget.get_mut(hop).ok_or(Violation::Padding)?;
                *budget = budget.checked_sub(1).ok_or(Violation::Padding)?;
                Ok(())
            }
            Message::Opened { .. } | Message::Data { .. } | Message::Credit { .. } | Message::Close { .. } => Ok(()),
            Message::Extend { .. } | Message::Open { .. } | Message::PadStart { .. } => Err(Violation::Direction),
        }
    }
}

impl Default for OriginRules {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
