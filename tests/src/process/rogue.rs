//! A relay that a test plays among real ones: it is listed, and can be dialled, as any other; but it does not do what a
//! relay does.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
    time::{Duration, sleep, timeout},
};
use trefoil_protocol::{
    descriptor::{Descriptor, Record},
    directory::Request,
    entry::{RelayEntry, Weight},
    epoch::Epoch,
    exit_summary::ExitSummary,
    identity::{OnionSecret, RelaySecret},
    limits::CELL,
    params::NetworkParams,
    work::{Search, Work},
};
use trefoil_relay::{
    clock,
    endpoint::{Congestion, Endpoint, LinkIdentity, LinkOptions},
    link::Link,
    network::NetworkFile,
    opened::{Arrival, Opened},
    questions::Questions,
    sources::Loopback,
};

use super::network::{EXIT_POLICY, free_address};

/// For a peer to say that it has had enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// What it does instead.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// It answers circuits and questions with random bytes, and opens circuits and asks questions of them.
    Garbage,
    /// It accepts links and whatever is opened on them, and says nothing.
    Silence,
}

/// A running one. It ends when it is dropped.
pub struct Rogue {
    runtime: Option<Runtime>,
}

/// What its tasks share.
struct Player {
    params: NetworkParams,
    secret: RelaySecret,
    descriptor: Descriptor,
    endpoint: Endpoint,
    manner: Manner,
}

impl Rogue {
    /// Starts one at 127.`machine`.0.1 in the network of this file. It tells the file's first relay of itself.
    ///
    /// # Panics
    /// If the file names no relay, or there is no port.
    pub fn start(network: &Path, machine: u8, manner: Manner) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime is small");
        let NetworkFile { params, relays } = NetworkFile::load(network).expect("the test has written it");
        let first = relays.into_iter().next().expect("the network names a relay");
        let player = Arc::new(runtime.block_on(async { Player::new(params, machine, manner) }));
        runtime.spawn(accept(Arc::clone(&player)));
        runtime.spawn(keep_listed(player, first));
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Player {
    fn new(params: NetworkParams, machine: u8, manner: Manner) -> Self {
        let mut rng = StdRng::seed_from_u64(machine.into());
        let secret = RelaySecret::generate(&mut rng);
        let address = free_address(machine);
        let exit: toml::Table = format!("policy = {EXIT_POLICY}").parse().expect("a policy in TOML");
        let exit = exit.get("policy").cloned().and_then(|policy| policy.try_into().ok());
        let descriptor = Descriptor {
            relay: secret.id(),
            onion_key: OnionSecret::generate(&mut rng).public(),
            addresses: address.to_string().parse().expect("a relay's address"),
            weight: Weight::One,
            exit: ExitSummary::of(&exit.expect("a policy")),
            mailbox: false,
            leaving: false,
            family: None,
            issued: Epoch(0),
            lifetime: params.directory.lifetime,
            work: Work::default(),
        };
        let work = Search::new(&params, secret.id()).step(u32::MAX).expect("a test network asks for little");
        let identity = LinkIdentity::Relay(Arc::new(RelaySecret::from_bytes(&secret.to_bytes())));
        let (network, congestion) = (*params.id().as_bytes(), Congestion::default());
        let options = LinkOptions { identity, network, congestion, loopback: Loopback::Exempt };
        let endpoint = Endpoint::bind(address, &options).expect("the port was free just now");
        Self { params, secret, descriptor: Descriptor { work, ..descriptor }, endpoint, manner }
    }

    /// Its record for this epoch.
    fn record(&self) -> Record {
        let issued = Epoch::of(clock::now(), &self.params.directory);
        Descriptor { issued, ..self.descriptor.clone() }.sign(&self.params.id(), &self.secret)
    }
}

/// Tells a relay of itself once in each epoch, for as long as it is listened to.
async fn keep_listed(player: Arc<Player>, relay: RelayEntry) {
    let epoch = Duration::from_secs(player.params.directory.epoch.get().into());
    loop {
        let told = tell(&player, &relay).await;
        if let (Some(link), Manner::Garbage) = (told, player.manner) {
            send_garbage(&link).await;
        }
        sleep(epoch).await;
    }
}

async fn tell(player: &Player, relay: &RelayEntry) -> Option<Link> {
    let link = player.endpoint.dial(relay.id, relay.addresses.iter().next()?).await.ok()?;
    let mut questions = Questions::on(&link).await.ok()?;
    let record = player.record();
    questions.ask(&Request::Push { records: vec![record.bytes()], frauds: vec![] }).await.ok()?;
    questions.finish();
    Some(link)
}

/// Opens circuits and directory streams that begin with nonsense.
async fn send_garbage(link: &Link) {
    for _ in 0..8 {
        let Ok(mut stream) = link.open_directory().await else { return };
        {
            let (mut answer, mut question) = stream.halves();
            let _ = question.write_all(&garbage(4096)).await; // the peer may have had enough
            let _ = timeout(PATIENCE, answer.read(&mut [0])).await; // until it has read it
        }
        stream.finish();
        let Ok(mut circuit) = link.open_circuit().await else { return };
        let _ = circuit.writer.write(Bytes::from(garbage(CELL))).await;
        let _ = timeout(PATIENCE, circuit.reader.cells()).await;
    }
}

async fn accept(player: Arc<Player>) {
    while let Some(arriving) = player.endpoint.accept().await {
        let manner = player.manner;
        tokio::spawn(async move {
            let Ok(link) = arriving.finish().await else { return };
            let mut held = Vec::new();
            while let Ok(opened) = link.accept().await {
                match manner {
                    Manner::Silence => held.push(opened),
                    Manner::Garbage => drop(tokio::spawn(answer_with_garbage(opened))),
                }
            }
        });
    }
}

async fn answer_with_garbage(opened: Opened) {
    match opened.arrive().await {
        Ok(Arrival::Circuit(mut circuit, _)) => {
            let _ = circuit.writer.write(Bytes::from(garbage(CELL))).await; // the peer may be gone
        }
        Ok(Arrival::Directory(mut stream) | Arrival::Mailbox(mut stream)) => {
            let _ = stream.halves().1.write_all(&garbage(4096)).await;
            stream.finish();
        }
        Err(_) => {}
    }
}

fn garbage(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(length as u64).fill_bytes(&mut bytes);
    bytes
}
