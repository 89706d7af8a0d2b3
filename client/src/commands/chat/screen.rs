//! Screen: a conversation, what is being written, and how both are drawn.
//!
//! All that others wrote goes through [`visible`] before it is drawn. Nothing here talks to anybody.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use ratatui::{
    Frame,
    crossterm::event::{Event as Typed, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Paragraph},
};
use trefoil_protocol::limits::{CHAT_KEPT, LETTER_TEXT};

use super::{
    super::{
        history::{said, state},
        output::local,
        visible,
        words::lines,
    },
    input::Input,
};
use crate::control::{Contact, Event, Letter, Problem, Standing};

/// See the file's head.
pub(super) struct Screen {
    pub(super) contact: Contact,
    letters: Vec<Letter>,
    /// Letters of theirs that were drawn, and not told so yet.
    drawn: BTreeSet<String>,
    /// Unread letters of others.
    unread: BTreeMap<String, usize>,
    input: Input,
    /// Rows between the last one and the bottom of the screen.
    back: usize,
    notice: Option<String>,
    zone: TimeZone,
}

/// What the person wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Send(String),
    Quit,
}

impl Screen {
    pub(super) fn new(contact: Contact, all: &[Contact], letters: Vec<Letter>) -> Self {
        let others = all.iter().filter(|other| other.name != contact.name && other.unread > 0);
        let unread = others.map(|other| (other.name.clone(), other.unread)).collect();
        Self {
            contact,
            letters,
            drawn: BTreeSet::new(),
            unread,
            input: Input::default(),
            back: 0,
            notice: None,
            zone: TimeZone::system(),
        }
    }

    /// The same conversation as it is now, with what is being written.
    pub(super) fn renew(&mut self, mut now: Self) {
        std::mem::swap(&mut now.input, &mut self.input);
        now.back = self.back;
        *self = now;
    }

    /// Something has happened.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Letter(letter) if letter.contact == self.contact.name => self.put(letter),
            Event::Letter(letter) if !letter.mine && !letter.shown => {
                *self.unread.entry(letter.contact).or_default() += 1
            }
            Event::Contact(contact) if contact.address == self.contact.address => self.contact = contact,
            Event::Contact(contact) if contact.unread == 0 => {
                self.unread.remove(&contact.name);
            }
            Event::Contact(contact) => {
                self.unread.insert(contact.name, contact.unread);
            }
            Event::Letter(_) | Event::File(_) | Event::Missed(_) => {}
        }
    }

    /// What was written was not taken.
    pub(super) fn refuse(&mut self, problem: &Problem, text: String) {
        self.notice = Some(visible(&problem.text));
        self.input.insert(&text);
    }

    /// Letters that were drawn since this was asked last, and not seen before.
    pub(super) fn seen(&mut self) -> Vec<String> {
        let drawn = std::mem::take(&mut self.drawn);
        for letter in self.letters.iter_mut().filter(|letter| drawn.contains(&letter.id)) {
            letter.shown = true;
        }
        drawn.into_iter().collect()
    }

    fn put(&mut self, letter: Letter) {
        match self.letters.iter_mut().find(|known| known.id == letter.id && known.mine == letter.mine) {
            Some(known) => *known = letter,
            None => self.letters.push(letter),
        }
        let too_many = self.letters.len().saturating_sub(CHAT_KEPT);
        self.letters.drain(..too_many);
    }

    /// Takes what the person typed.
    pub(super) fn handle(&mut self, typed: Typed) -> Action {
        match typed {
            Typed::Key(key) if key.kind != KeyEventKind::Release => self.handle_key(key),
            Typed::Paste(text) => {
                self.write(&text.replace("\r\n", "\n").replace('\r', "\n"));
                Action::Nothing
            }
            _ => Action::Nothing, // a new size is drawn anyway
        }
    }

    fn handle_key(&mut self, key: KeyEvent) -> Action {
        self.notice = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Esc => return Action::Quit,
            KeyCode::Char('c') if control => return Action::Quit,
            KeyCode::Char('d') if control && self.input.text().is_empty() => return Action::Quit,
            KeyCode::Char('u') if control => self.input.clear(),
            KeyCode::Char('a') if control => self.input.home(),
            KeyCode::Char('e') if control => self.input.end(),
            KeyCode::Enter if alt => self.write("\n"),
            KeyCode::Enter => return self.send(),
            KeyCode::Char(character) if !control && !alt => self.write(character.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => self.input.backspace(),
            KeyCode::Delete => self.input.delete(),
            KeyCode::Left => self.input.left(),
            KeyCode::Right => self.input.right(),
            KeyCode::Home => self.input.home(),
            KeyCode::End => self.input.end(),
            KeyCode::Up => self.back = self.back.saturating_add(1),
            KeyCode::Down => self.back = self.back.saturating_sub(1),
            KeyCode::PageUp => self.back = self.back.saturating_add(PAGE),
            KeyCode::PageDown => self.back = self.back.saturating_sub(PAGE),
            _ => {}
        }
        Action::Nothing
    }

    fn write(&mut self, text: &str) {
        if self.input.text().len() + text.len() > LETTER_TEXT {
            self.notice = Some(format!("a letter has at most {LETTER_TEXT} bytes: send it as a file"));
        } else {
            self.input.insert(text);
        }
    }

    fn send(&mut self) -> Action {
        if self.input.text().trim().is_empty() {
            return Action::Nothing;
        }
        self.back = 0;
        Action::Send(self.input.take())
    }

    /// Draws all of it.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let rows = [Constraint::Length(1), Constraint::Min(0), Constraint::Length(1), Constraint::Length(INPUT_ROWS)];
        let [head, letters, below, input] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()).reversed(), head);
        self.draw_letters(frame, letters);
        frame.render_widget(Paragraph::new(self.below()).dim(), below);
        self.draw_input(frame, input);
    }

    fn head(&self) -> String {
        let standing = match (self.contact.standing, self.contact.verified) {
            (Standing::Accepted, true) => "verified",
            (Standing::Accepted, false) => "not verified",
            (Standing::Asked, _) => "was asked, and has not answered",
            (Standing::Asks, _) => "asks to be a contact",
            (Standing::Blocked, _) => "blocked",
        };
        let missing = match self.contact.missing {
            0 => String::new(),
            missing => format!(", {missing} letters missing"),
        };
        format!(" {} ({standing}{missing})", visible(&self.contact.name))
    }

    fn below(&self) -> String {
        if let Some(notice) = &self.notice {
            return notice.clone();
        }
        let unread: Vec<_> = self.unread.iter().map(|(name, number)| format!("{}: {number}", visible(name))).collect();
        let unread = if unread.is_empty() { String::new() } else { format!("unread: {}   ", unread.join(", ")) };
        let back = if self.back > 0 { "(further back; Down for what is new)   " } else { "" };
        format!("{back}{unread}Enter sends, Alt-Enter is a new line, Esc ends")
    }

    fn draw_letters(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let width = usize::from(area.width);
        let rows: Vec<(usize, Line<'static>)> = self
            .letters
            .iter()
            .enumerate()
            .flat_map(|(at, letter)| letter_rows(letter, &self.zone, width).into_iter().map(move |row| (at, row)))
            .collect();
        let height = usize::from(area.height);
        self.back = self.back.min(rows.len().saturating_sub(height));
        let end = rows.len() - self.back;
        let shown = &rows[end.saturating_sub(height)..end];
        for letter in shown.iter().map(|(at, _)| &self.letters[*at]) {
            if !letter.mine && !letter.shown {
                self.drawn.insert(letter.id.clone());
            }
        }
        let lines: Vec<_> = shown.iter().map(|(_, line)| line.clone()).collect();
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn draw_input(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::bordered();
        let inner = block.inner(area);
        let width = usize::from(inner.width).max(1);
        let rows = |text: &str| -> Vec<String> { lines(text).iter().flat_map(|line| wrap(line, width)).collect() };
        let before = rows(self.input.before());
        let last = before.last().map(|row| Span::raw(row.as_str()).width()).unwrap_or_default();
        let skipped = before.len().saturating_sub(usize::from(inner.height));
        let shown: Vec<_> = rows(&self.input.text()).into_iter().skip(skipped).map(Line::from).collect();
        frame.render_widget(Paragraph::new(shown).block(block), area);
        let offset = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        let x = inner.x.saturating_add(offset(last)).min(inner.right().saturating_sub(1));
        let y = inner.y.saturating_add(offset(before.len().saturating_sub(skipped + 1)));
        frame.set_cursor_position(Position { x, y });
    }
}

/// A letter as the rows that it takes.
fn letter_rows(letter: &Letter, zone: &TimeZone, width: usize) -> Vec<Line<'static>> {
    let (who, colour) =
        if letter.mine { ("you".to_owned(), Color::Cyan) } else { (visible(&letter.contact), Color::Green) };
    let state = state(letter).map(|state| format!("  [{state}]")).unwrap_or_default();
    let head = Line::from(vec![
        Span::styled(local(letter.at, zone), Style::new().dim()),
        Span::styled(format!(" {who}"), Style::new().fg(colour).bold()),
        Span::styled(state, Style::new().dim()),
    ]);
    let room = width.saturating_sub(INDENT.len()).max(1);
    let text = said(letter).into_iter().flat_map(move |line| wrap(&line, room));
    [head].into_iter().chain(text.map(|row| Line::from(format!("{INDENT}{row}")))).collect()
}

/// A line as rows of at most so many columns, broken at spaces where there are some.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let (mut row, mut columns) = (String::new(), 0);
    for character in line.chars() {
        let taken = Span::raw(character.to_string()).width();
        if columns + taken > width && !row.is_empty() {
            let rest = match row.rfind(' ') {
                Some(space) if character != ' ' => row.split_off(space + 1),
                _ => String::new(),
            };
            columns = Span::raw(rest.as_str()).width();
            rows.push(std::mem::replace(&mut row, rest));
        }
        row.push(character);
        columns += taken;
    }
    rows.push(row);
    rows
}

/// Rows that a page key goes.
const PAGE: usize = 10;
/// What is being written, with its border.
const INPUT_ROWS: u16 = 5;
/// Before what a letter says.
const INDENT: &str = "  ";

#[cfg(test)]
mod tests;
