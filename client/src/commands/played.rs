//! A running trefoil that is played: it answers calls as docs/control.md says, and remembers what was asked.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::tz::TimeZone;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::sleep,
};
use trefoil_relay::status_socket::Form;

use super::Output;
use crate::control::{
    Answer, Call, Code, Contact, Delivery, Event, Letter, Line, Problem, Receipts, Request, Said, Standing,
    caller::Caller,
};

/// What is written for a call, in order.
pub(super) enum Reply {
    Answer(Answer),
    Problem(Code, &'static str),
    Event(Event),
    Pause(Duration),
}

/// See the file's head.
pub(super) struct Played {
    pub(super) caller: Caller,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Played {
    /// Answers each call with what `replies` makes of it.
    pub(super) fn start(mut replies: impl FnMut(&Request) -> Vec<Reply> + Send + 'static) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            let (reader, mut writer) = theirs.into_split();
            let mut lines = BufReader::new(reader).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                let Call { id, request } = serde_json::from_str(&line).unwrap();
                noted.lock().unwrap().push(request.clone());
                for reply in replies(&request) {
                    let line = match reply {
                        Reply::Answer(ok) => Line::Done { id, ok },
                        Reply::Problem(code, text) => Line::Failed { id, error: Problem::new(code, text) },
                        Reply::Event(event) => Line::Event { event },
                        Reply::Pause(pause) => {
                            sleep(pause).await;
                            continue;
                        }
                    };
                    let line = serde_json::to_string(&line).unwrap() + "\n";
                    if writer.write_all(line.as_bytes()).await.is_err() {
                        return; // the command has ended
                    }
                }
            }
        });
        Self { caller: Caller::on(ours), asked }
    }

    /// Answers every call with the same.
    pub(super) fn always(answer: Answer) -> Self {
        Self::start(move |_| vec![Reply::Answer(answer.clone())])
    }

    /// What was asked.
    pub(super) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

/// An output into memory, in a time zone two hours east.
pub(super) fn output(bytes: &mut Vec<u8>, form: Form) -> Output<'_> {
    let mut out = Output::new(bytes, form, false);
    out.zone = TimeZone::fixed(jiff::tz::offset(2));
    out
}

/// What was written.
pub(super) fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// A letter of alice's.
pub(super) fn letter(number: u8, text: &str) -> Letter {
    Letter {
        id: format!("{number:032x}"),
        contact: "alice".to_owned(),
        mine: false,
        at: 1_800_000_000 + u64::from(number) * 60,
        hour: 500_000,
        shown: false,
        delivery: None,
        mailboxes: None,
        reason: None,
        said: Said::Text { text: text.to_owned() },
    }
}

/// A letter to alice.
pub(super) fn sent(number: u8, delivery: Delivery) -> Letter {
    let mailboxes = matches!(delivery, Delivery::Queued | Delivery::Accepted).then_some(3);
    Letter { mine: true, shown: true, delivery: Some(delivery), mailboxes, ..letter(number, "hi") }
}

/// A contact.
pub(super) fn contact(name: &str, standing: Standing) -> Contact {
    Contact {
        name: name.to_owned(),
        own_name: String::new(),
        address: format!("{name}-address"),
        standing,
        greeting: String::new(),
        verified: false,
        timer: 0,
        receipts: Receipts::Usual,
        unread: 0,
        missing: 0,
    }
}
