//! `trefoil chat`: a screen to write and read with one contact.
//!
//! The terminal is as it was before, however this ends. A letter counts as seen when it was drawn.

mod input;
mod screen;

use std::{io::stdout, thread};

use anyhow::Context;
use ratatui::{
    DefaultTerminal,
    crossterm::{
        event::{self, DisableBracketedPaste, EnableBracketedPaste},
        execute,
    },
};
use tokio::sync::mpsc;
use trefoil_protocol::limits::HISTORY_SHOWN;

use self::screen::{Action, Screen};
use super::{Ended, ask, contact::contacts, history::letters, visible};
use crate::control::{Answer, Contact, Event, Request, caller::Caller};

pub(super) async fn run(name: &str, caller: &mut Caller) -> anyhow::Result<Ended> {
    let mut screen = open(name, caller).await?;
    let mut terminal = Terminal::start()?;
    let mut typed = typed();
    loop {
        terminal.0.draw(|frame| screen.draw(frame)).context("cannot draw")?;
        mark_seen(&mut screen, caller).await?;
        tokio::select! {
            input = typed.recv() => match input.map(|input| screen.handle(input)) {
                None | Some(Action::Quit) => return Ok(Ended::Done),
                Some(Action::Send(text)) => send(&mut screen, caller, text).await?,
                Some(Action::Nothing) => {}
            },
            event = caller.event() => match event? {
                Event::Missed(_) => screen.renew(open(name, caller).await?),
                event => screen.happen(event),
            },
        }
    }
}

/// The conversation as it is.
async fn open(name: &str, caller: &mut Caller) -> anyhow::Result<Screen> {
    caller.call(Request::Follow).await?;
    let all = ask(caller, Request::Contacts, contacts).await?;
    let is_meant = |contact: &&Contact| contact.name == name || contact.address == name;
    let contact = all.iter().find(is_meant).cloned();
    let contact = contact.with_context(|| format!("nobody is called {}: see `trefoil contact list`", visible(name)))?;
    let contact_name = Some(contact.name.clone());
    let most = Some(HISTORY_SHOWN);
    let history = Request::History { contact: contact_name, since: None, search: None, unread: false, most };
    let letters = ask(caller, history, letters).await?;
    Ok(Screen::new(contact, &all, letters))
}

async fn send(screen: &mut Screen, caller: &mut Caller, text: String) -> anyhow::Result<()> {
    let request = Request::Send { contact: screen.contact.name.clone(), text: text.clone() };
    let sent = ask(caller, request, |answer| if let Answer::Letter(letter) = answer { Some(letter) } else { None });
    match sent.await {
        Ok(letter) => screen.happen(Event::Letter(letter)),
        Err(crate::control::caller::CallError::Problem(problem)) => screen.refuse(&problem, text),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn mark_seen(screen: &mut Screen, caller: &mut Caller) -> anyhow::Result<()> {
    let letters = screen.seen();
    if !letters.is_empty() {
        caller.call(Request::Shown { contact: screen.contact.name.clone(), letters }).await?;
    }
    Ok(())
}

/// What the person types, until the program ends.
fn typed() -> mpsc::Receiver<event::Event> {
    let (sender, receiver) = mpsc::channel(TYPED);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal while it is ours; dropped, it is as it was. A panic restores it, too, before it says anything.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn start() -> anyhow::Result<Self> {
        let terminal = Self(ratatui::try_init().context("chat needs a terminal")?);
        execute!(stdout(), EnableBracketedPaste).context("cannot use the terminal")?;
        Ok(terminal)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = execute!(stdout(), DisableBracketedPaste); // there is no one left to tell
        ratatui::restore();
    }
}

/// Keys that wait.
const TYPED: usize = 64;
