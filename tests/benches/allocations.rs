//! Allocations of a whole network in one process: a download through three relays, every allocation counted.
//!
//! `cargo bench -p trefoil-tests --bench allocations`. Client, relays and web server share one thread, so that all of
//! them are counted, quinn and tokio included. What remains when the transfer's cells double is what cells cost.

use std::io;

use allocation_counter::{AllocationInfo, measure};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use trefoil_client::{
    guards,
    state::State,
    testnet::Testnet,
    tunnel::{Client, Isolation, Setup, Stream},
};
use trefoil_protocol::{host::Host, limits::MAX_DATA, message::Target};
use trefoil_relay::{clock::Clock, endpoint::Congestion, seed::seed};

const RELAYS: usize = 3;
const WARM_UP: usize = 4 << 20;
const MEASURED: usize = 64 << 20;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (client, testnet, mut stream) = runtime.block_on(start())?;
    runtime.block_on(receive(&mut stream, WARM_UP))?;
    let mut received = Ok(());
    let made = measure(|| received = runtime.block_on(receive(&mut stream, MEASURED)));
    received?;
    print(&made);
    runtime.block_on(async {
        drop(stream);
        client.close().await;
        testnet.stop().await;
    });
    Ok(())
}

async fn start() -> anyhow::Result<(Client, Testnet, Stream)> {
    let testnet = Testnet::start(RELAYS).await?;
    let file = testnet.file().clone();
    let sockets = guards::system_sockets(&file.params, Congestion::default());
    let client = Client::start(Setup {
        params: file.params,
        bootstrap: file.relays,
        own: Vec::new(),
        sockets,
        clock: Clock::System,
        state: State::none(),
        lan: None,
        dht: None,
        new_guards: false,
        seed: seed(),
    })?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { give(listener.accept().await?.0).await });
    let target = Target::Exit { host: Host::Address(address.ip()), port: address.port() };
    let stream = client.open(&Isolation::default(), target).await?;
    Ok((client, testnet, stream))
}

/// Gives bytes without end.
async fn give(mut socket: TcpStream) -> io::Result<()> {
    let piece = vec![7; 64 * 1024];
    loop {
        socket.write_all(&piece).await?;
    }
}

async fn receive(stream: &mut Stream, length: usize) -> anyhow::Result<()> {
    let (mut received, mut piece) = (0, Vec::new());
    while received < length {
        received += stream.receive(&mut piece).await?;
    }
    Ok(())
}

fn print(made: &AllocationInfo) {
    let cells = MEASURED.div_ceil(MAX_DATA);
    let nodes = RELAYS + 1;
    let each = made.count_total as f64 / (cells * nodes) as f64;
    println!("| cells | nodes | allocations | per cell and node | bytes per cell and node |");
    println!("|---:|---:|---:|---:|---:|");
    let bytes = made.bytes_total as f64 / (cells * nodes) as f64;
    println!("| {cells} | {nodes} | {} | {each:.2} | {bytes:.0} |", made.count_total);
}
