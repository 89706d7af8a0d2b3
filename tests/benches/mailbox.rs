//! How many letters a mailbox takes in a second, and what they cost in memory and on disk.
//!
//! `cargo bench -p trefoil-tests --bench mailbox [-- LETTERS...]`, 20,000 and 100,000 unless named. Short letters with
//! tickets, 1,300 for each inbox in turns, from 256 tasks at once; each is acknowledged when it is on disk. The file is made in a
//! directory of its own under `TMPDIR`: on a disk in memory the figures say nothing. docs/benchmarks.md has some.

use std::{
    fs,
    ops::Range,
    os::unix::fs::MetadataExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rand::{SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;
use trefoil_protocol::{
    address::AddressSecret,
    envelope::SizeClass,
    epoch::UnixSeconds,
    identity::{RelayId, RelaySecret},
    inbox::{Channel, Inbox, WeekSalt, Whereabouts},
    mailbox::{Answer, Ask, Deposit, Owned, Postage, Request},
    params::NetworkId,
    period::{Day, Week},
    stamp::{Minting, Stamped, left},
    ticket::{ListOf, TicketKey, TicketList},
};
use trefoil_relay::mailbox::{Asker, MAILBOX_FILE, Mailbox, Terms};

const NETWORK: NetworkId = NetworkId::from_bytes([1; 32]);
const NOW: UnixSeconds = UnixSeconds(1_750_000_000);
const BINDING: [u8; 32] = [7; 32];
const HERE: Asker<'static> = Asker::Circuit(&BINDING);
const SIZE: u64 = 64 << 30;
const TASKS: usize = 256;
const OF_INBOX: u64 = 1300;
/// What is paid for so much room.
const BITS: u8 = 22;

/// The owner of all inboxes.
struct Owner {
    secret: AddressSecret,
    whereabouts: Whereabouts,
    tickets: TicketKey,
    fill: TicketKey,
    mailbox: RelayId,
}

#[tokio::main]
async fn main() -> Result<()> {
    let named: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let counts = if named.is_empty() { vec![20_000, 100_000] } else { named };
    println!(
        "| letters | deposits a second | memory, MiB | at most, MiB | file, MiB | bytes of a letter | pages listed a second | opened in |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for letters in counts {
        measure(letters).await?;
    }
    Ok(())
}

async fn measure(letters: u64) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(MAILBOX_FILE);
    let owner = Arc::new(Owner::new());
    let mailbox = Arc::new(Mailbox::open(&path, terms())?);
    let inboxes: Arc<Vec<_>> = Arc::new((0..letters.div_ceil(OF_INBOX)).map(|number| owner.inbox(number)).collect());
    for inbox in &*inboxes {
        let frame = mailbox.answer(owner.register(inbox)?, HERE, NOW).await;
        ensure!(matches!(said(&frame)?, Answer::Registered), "tickets were refused: {:?}", said(&frame)?);
    }
    let took = deposit_all(&mailbox, &owner, &inboxes, letters).await?;
    let start = Instant::now();
    for inbox in &*inboxes {
        let frame = mailbox.answer(owner.owned(inbox, Ask::List { after: 0, patience: 0 }), HERE, NOW).await;
        ensure!(matches!(said(&frame)?, Answer::Letters { letters, .. } if !letters.is_empty()), "nothing is listed");
    }
    let listed = inboxes.len() as f64 / start.elapsed().as_secs_f64();
    let (memory, most) = (memory("VmRSS:")?, memory("VmHWM:")?);
    let file = fs::metadata(&path)?.blocks() * 512; // its length is more: it grows in leaps
    drop(mailbox);
    let start = Instant::now();
    let mailbox = Mailbox::open(&path, terms())?;
    let opened = start.elapsed();
    drop(mailbox);
    let (rate, each) = (letters as f64 / took.as_secs_f64(), file as f64 / letters as f64);
    let (file, opened) = (file >> 20, opened.as_secs_f64());
    println!("| {letters} | {rate:.0} | {memory} | {most} | {file} | {each:.0} | {listed:.0} | {opened:.1} s |");
    Ok(())
}

async fn deposit_all(
    mailbox: &Arc<Mailbox>,
    owner: &Arc<Owner>,
    inboxes: &Arc<Vec<Inbox>>,
    letters: u64,
) -> Result<Duration> {
    let (start, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::<Result<()>>::new();
    for _ in 0..TASKS {
        let (mailbox, owner, inboxes, next) =
            (Arc::clone(mailbox), Arc::clone(owner), Arc::clone(inboxes), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= letters {
                    return Ok(());
                }
                let count = inboxes.len() as u64;
                let (inbox, ticket) = (usize::try_from(number % count)?, u16::try_from(number / count)?);
                let inbox = inboxes.get(inbox).context("there is such an inbox")?;
                owner.deposit(&mailbox, inbox, number, ticket).await?;
            }
        });
    }
    for ended in tasks.join_all().await {
        ended?;
    }
    Ok(start.elapsed())
}

impl Owner {
    fn new() -> Self {
        let rng = &mut StdRng::seed_from_u64(1);
        Self {
            secret: AddressSecret::from_bytes(&[1; 32].into()),
            whereabouts: Whereabouts::generate(rng),
            tickets: TicketKey::generate(rng),
            fill: TicketKey::generate(rng),
            mailbox: terms().identity.id(),
        }
    }

    fn inbox(&self, number: u64) -> Inbox {
        let mut salt = WeekSalt::default();
        salt.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, part)| *byte = part);
        let week = Week::of(NOW, self.whereabouts.offset());
        Inbox::private(&NETWORK, self.secret.address(), &self.whereabouts, week, &salt)
    }

    fn owned(&self, inbox: &Inbox, ask: Ask) -> Request<'static> {
        let channel = Channel { network: &NETWORK, mailbox: &self.mailbox, binding: &BINDING };
        Request::Owned(Owned::sign(inbox.placement(), ask, &channel, &inbox.secret(&self.secret)))
    }

    fn register(&self, inbox: &Inbox) -> Result<Request<'static>> {
        let numbers: Range<u16> = 0..u16::try_from(OF_INBOX)?;
        let grants = [(&self.tickets, numbers)];
        let of = ListOf { inbox: &inbox.placement(), mailbox: &self.mailbox, list: 0 };
        let tickets = TicketList::new(grants, &of, &self.fill)?;
        let name = left(&self.mailbox, 0, &tickets.encode());
        let stamped = Stamped { network: &NETWORK, inbox: &inbox.placement(), letter: &name };
        let stamp = Minting::new(stamped, BITS, Day::of(NOW)).step(u32::MAX).context("there is a stamp")?;
        Ok(self.owned(inbox, Ask::Register { list: 0, tickets, stamp }))
    }

    async fn deposit(&self, mailbox: &Mailbox, inbox: &Inbox, number: u64, ticket: u16) -> Result<()> {
        let envelope: Vec<_> = number.to_le_bytes().into_iter().cycle().take(SizeClass::Short.bytes()).collect();
        let ticket = self.tickets.ticket(&inbox.placement(), ticket, &self.mailbox);
        let deposit =
            Deposit { inbox: inbox.placement(), hours: 336, postage: Postage::Ticket(ticket), envelope: &envelope };
        let frame = mailbox.answer(Request::Deposit(deposit), HERE, NOW).await;
        ensure!(matches!(said(&frame)?, Answer::Accepted(_)), "a letter was refused: {:?}", said(&frame)?);
        Ok(())
    }
}

fn terms() -> Terms {
    Terms { network: NETWORK, identity: RelaySecret::from_bytes(&[3; 32].into()), size: SIZE, rebate: 0 }
}

fn said(frame: &[u8]) -> Result<Answer<'_>> {
    Ok(Answer::decode(frame.get(4..).unwrap_or_default())?)
}

/// A line of this process's status, in MiB.
fn memory(line: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|said| said.strip_prefix(line)).context("Linux tells")?;
    Ok(found.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}
