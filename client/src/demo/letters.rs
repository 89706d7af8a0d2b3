//! Letters in the demo: one that is written while its reader is away, and outlives two of the relays that keep it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::{sync::broadcast, task::JoinHandle, time::timeout};
use trefoil_protocol::{
    crypto::{PassphraseCost, Secret},
    identity::RelayId,
};
use trefoil_relay::{clock::Clock, seed::seed};

use super::{PATIENCE, client};
use crate::{
    control::{Answer, Delivery, Event, Request, Said},
    desk::{About, Desk},
    home,
    letters::{
        Letters,
        vault::{Memory, Place, Unlock},
    },
    postman,
    testnet::Testnet,
    tunnel::Client,
};

/// Fewer relays have no circuits of four hops to all mailboxes, once two are gone.
pub(super) const LEAST_RELAYS: usize = 8;
/// For a letter on its way: with two of a few relays gone, most circuits fail until all others know that.
const LETTER_PATIENCE: Duration = Duration::from_secs(180);
/// What Alice writes.
const WORDS: &str = "see you at eight";

/// Somebody, whose program may run or not. What it keeps is in memory.
struct Person {
    name: &'static str,
    disk: Memory,
}

/// A program that runs.
struct Running {
    desk: Arc<Desk>,
    client: Client,
    events: broadcast::Receiver<Event>,
    post: JoinHandle<()>,
}

/// Shows it all.
pub(super) async fn show(testnet: &mut Testnet) -> anyhow::Result<()> {
    let [alice, bob] = ["Alice", "Bob"].map(|name| Person { name, disk: Memory::default() });
    let (mut alice, running_bob) = (alice.start(testnet, true)?, bob.start(testnet, true)?);
    befriend(&mut alice, &running_bob).await?;
    println!("Bob has made an invite, Alice has used it: they are contacts");

    let replicas = running_bob.desk.replicas()?;
    let settled = timeout(LETTER_PATIENCE, running_bob.desk.caught_up()).await;
    settled.context("Bob's program has not told its mailboxes who may write")?;
    running_bob.stop().await;
    println!("Bob's program is off");
    let request = Request::Send { contact: "bob".to_owned(), text: WORDS.to_owned() };
    let Answer::Letter(letter) = alice.ask(request).await? else { bail!("the letter was not taken") };
    let taken = alice.until(&letter.id, Delivery::Accepted).await?;
    println!("Alice writes \"{WORDS}\": accepted by {taken} relays, which keep it for Bob");

    let named: Vec<_> = testnet.file().relays.iter().map(|relay| relay.id).collect();
    let gone: Vec<_> = replicas.iter().copied().filter(|relay| !named.contains(relay)).take(2).collect();
    ensure!(gone.len() == 2, "too few relays keep letters for Bob");
    testnet.kill(&gone).await;
    println!("two of the {} relays that keep Bob's letters are switched off for good", replicas.len());

    let started = Instant::now();
    let mut bob = bob.start(testnet, false)?;
    let (from, text) = bob.letter().await?;
    println!("Bob's program starts, and {:.1} s later it shows  {from}: {text}", started.elapsed().as_secs_f64());
    ensure!(text == WORDS, "it is not what Alice wrote");
    alice.until(&letter.id, Delivery::Delivered).await?;
    println!("Alice is told that it came, {:.1} s after Bob was there\n", started.elapsed().as_secs_f64());
    print!("{}", seen(testnet, &replicas));
    alice.stop().await;
    bob.stop().await;
    Ok(())
}

/// An invite makes contacts of them.
async fn befriend(alice: &mut Running, bob: &Running) -> anyhow::Result<()> {
    let invite = Request::Invite { name: "alice".to_owned(), hours: 1, reusable: false };
    let Answer::Invite(invite) = bob.ask(invite).await? else { bail!("there is no invite") };
    let who = invite.link.context("the invite has no link")?;
    alice.ask(Request::Add { who, name: "bob".to_owned(), greeting: String::new() }).await?;
    timeout(PATIENCE, alice.welcomed()).await.context("Bob's program has not answered the invite")?
}

/// What the mailboxes had before them.
fn seen(testnet: &Testnet, replicas: &[RelayId]) -> String {
    let line = |relay: &RelayId| {
        let name = relay.short();
        let Some(status) = testnet.relay(relay).map(|relay| relay.status()) else {
            return format!("  mailbox {name}  is gone, with what it had\n");
        };
        let envelopes = status.mailboxes.map_or(0, |of| of.accepted);
        format!(
            "  mailbox {name}  saw {envelopes:>3} envelopes, for keys that are nobody's; not who wrote, who reads, or what\n"
        )
    };
    replicas.iter().map(line).collect()
}

impl Person {
    fn start(&self, testnet: &Testnet, is_new: bool) -> anyhow::Result<Running> {
        let network = testnet.file();
        let (place, cost) = (Place::Memory(self.disk.clone()), PassphraseCost { kib: 1 << 10, passes: 1 });
        let (unlock, now) = (Unlock::Passphrase("demo", cost), Clock::System.now());
        let about = (network.params.id(), home::settings(&network.params));
        let (seeds, name) = ((Secret::new(seed()), Secret::new(seed())), self.name);
        let letters = match is_new {
            true => Letters::create(&place, &unlock, (&seeds.0, name), about, (now, &seeds.1)),
            false => Letters::open(&place, &unlock, about, (now, &seeds.1)),
        }?;
        let client = client(network.clone())?;
        let about = About {
            profile: "demo".parse().context("a good name")?,
            network: network.params.name.to_string(),
            id: network.params.id(),
            clock: Clock::System,
            named: network.relays.clone(),
        };
        let desk = Desk::new(letters, client.clone(), about);
        let events = desk.events();
        let post = tokio::spawn(postman::run(Arc::clone(&desk), client.clone()));
        Ok(Running { desk, client, events, post })
    }
}

impl Running {
    async fn ask(&self, request: Request) -> anyhow::Result<Answer> {
        Ok(self.desk.handle(request).await?)
    }

    async fn event(&mut self) -> anyhow::Result<Event> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Ok(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Until it is a contact of whoever invited.
    async fn welcomed(&mut self) -> anyhow::Result<()> {
        loop {
            if let Event::Contact(contact) = self.event().await?
                && contact.standing == crate::control::Standing::Accepted
            {
                return Ok(());
            }
        }
    }

    /// Until a letter has come this far: at how many mailboxes it is.
    async fn until(&mut self, id: &str, wanted: Delivery) -> anyhow::Result<u8> {
        let reached = async {
            loop {
                match self.event().await? {
                    Event::Letter(letter) if letter.id == id && letter.delivery == Some(wanted) => {
                        return Ok(letter.mailboxes.unwrap_or(0));
                    }
                    Event::Letter(letter) if letter.id == id && letter.reason.is_some() => {
                        bail!("the letter has failed: {}", letter.reason.unwrap_or_default());
                    }
                    _ => {}
                }
            }
        };
        timeout(LETTER_PATIENCE, reached)
            .await
            .with_context(|| format!("the letter did not become {} in time", serde_json::json!(wanted)))?
    }

    /// The next words that come: who wrote them, and what they are.
    async fn letter(&mut self) -> anyhow::Result<(String, String)> {
        let came = async {
            loop {
                if let Event::Letter(letter) = self.event().await?
                    && let (false, Said::Text { text }) = (letter.mine, letter.said)
                {
                    return Ok((letter.contact, text));
                }
            }
        };
        timeout(LETTER_PATIENCE, came).await.context("the letter has not come in time")?
    }

    /// Ends the program, as at any moment: what it knows is on disk.
    async fn stop(self) {
        self.post.abort();
        let _aborted = self.post.await;
        self.client.close().await;
    }
}
