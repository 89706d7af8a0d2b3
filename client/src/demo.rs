//! `trefoil demo`: a network, a download through it, and a letter, with what each relay could know.
//!
//! Everything in it is the real thing: relays with mailboxes, proxy, an HTTP server and an HTTP client that talks SOCKS, and
//! the programs of two people. It succeeds only if every byte arrived as it was sent.

mod letters;
mod picture;
mod web;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Response, Uri, body::Incoming};
use hyper_util::{
    client::legacy::{
        Client as HttpClient,
        connect::{HttpConnector, proxy::SocksV5},
    },
    rt::TokioExecutor,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use trefoil_relay::{clock::Clock, endpoint::Congestion, network::NetworkFile, seed::seed};

use crate::{
    cli, guards,
    proxy::{Exposure, Proxy},
    state::State,
    testnet::Testnet,
    tunnel::{Client, Isolation, Setup},
};

/// For anything that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// The name by which the demo's own streams are kept apart, as any program's would be.
const USER: &str = "demo";

/// Runs the demo; `shutdown` ends it early.
///
/// # Errors
/// If anything did not work, or a byte was wrong.
pub async fn run(arguments: &cli::Demo, shutdown: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        done = show(arguments) => done,
        () = shutdown.cancelled() => anyhow::bail!("interrupted"),
    }
}

async fn show(arguments: &cli::Demo) -> anyhow::Result<()> {
    let (network, testnet) = network(arguments).await?;
    surf(arguments, network, testnet.is_some()).await?;
    let Some(mut testnet) = testnet else { return Ok(()) };
    if arguments.relays >= letters::LEAST_RELAYS {
        letters::show(&mut testnet).await?;
    } else {
        println!("no letters: they are shown with {} relays or more", letters::LEAST_RELAYS);
    }
    testnet.stop().await;
    Ok(())
}

/// A page and a download through circuits.
async fn surf(arguments: &cli::Demo, network: NetworkFile, is_new: bool) -> anyhow::Result<()> {
    if is_new {
        println!("{} relays on this machine, which have found each other", arguments.relays);
    }

    let server = web::Server::start(arguments.size << 20).await.context("cannot start the web server")?;
    println!("a web server on http://{}", server.address());

    let started = Instant::now();
    let client = client(network)?;
    let proxy = Proxy::bind("127.0.0.1:0".parse().context("a good address")?, Exposure::Loopback).await?;
    let socks = proxy.local_addr();
    println!("a SOCKS proxy on {socks}\n");
    let end = CancellationToken::new();
    let running: JoinHandle<()> = tokio::spawn(proxy.run(client.clone(), end.clone()));

    fetch_page(socks, &server, started).await?;
    let path = client.paths(&isolation()).pop().context("the page came, but through no circuit")?;
    print!("\n{}\n", picture::draw(&path, server.address()));
    download(socks, &server).await?;

    end.cancel();
    running.await.context("the proxy failed")?;
    client.close().await;
    println!();
    Ok(())
}

/// A client that keeps nothing.
fn client(network: NetworkFile) -> anyhow::Result<Client> {
    let sockets = guards::system_sockets(&network.params, Congestion::default());
    let NetworkFile { params, relays: bootstrap } = network;
    let (clock, state, own) = (Clock::System, State::none(), Vec::new());
    let (lan, dht, new_guards) = (None, None, false);
    let setup = Setup { params, bootstrap, own, sockets, clock, state, lan, dht, new_guards, seed: seed() };
    Ok(Client::start(setup)?)
}

/// The network that was named, or a new one.
async fn network(arguments: &cli::Demo) -> anyhow::Result<(NetworkFile, Option<Testnet>)> {
    if let Some(file) = &arguments.network {
        return Ok((NetworkFile::load(file)?, None));
    }
    let testnet = Testnet::start(arguments.relays).await?;
    Ok((testnet.file().clone(), Some(testnet)))
}

/// What the proxy makes of the demo's user name.
fn isolation() -> Isolation {
    Isolation::new(&[b"password", USER.as_bytes(), b""])
}

async fn fetch_page(socks: SocketAddr, server: &web::Server, started: Instant) -> anyhow::Result<()> {
    let page = get(socks, &server.url("/")).await?;
    let body = timeout(PATIENCE, page.into_body().collect()).await.context("the page did not end")??.to_bytes();
    ensure!(body == web::PAGE, "the page is not the one that was sent");
    println!("fetched a page, {} ms after the client's start", started.elapsed().as_millis());

    let again = Instant::now();
    let page = get(socks, &server.url("/")).await?;
    println!("fetched it again: first byte after {:.1} ms", again.elapsed().as_secs_f64() * 1000.0);
    page.into_body().collect().await?;
    Ok(())
}

async fn download(socks: SocketAddr, server: &web::Server) -> anyhow::Result<()> {
    let size = server.download_size();
    let progress = ProgressBar::new(size)
        .with_style(ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}")?);
    let started = Instant::now();
    let mut body = get(socks, &server.url("/download")).await?.into_body();
    let mut expected = web::Check::default();
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.context("the download stalled")? {
        if let Ok(data) = frame.context("the download broke")?.into_data() {
            ensure!(expected.accepts(&data), "byte {} of the download or one near it is wrong", expected.checked());
            progress.set_position(expected.checked());
        }
    }
    progress.finish_and_clear();
    ensure!(expected.checked() == size, "the download ended after {} of {size} bytes", expected.checked());
    let seconds = started.elapsed().as_secs_f64();
    let speed = size as f64 / seconds / 1e6;
    println!("downloaded {} MiB in {seconds:.2} s: {speed:.0} MB/s, every byte as it was sent", size >> 20);
    Ok(())
}

/// Asks for a page through the proxy, as any program would.
async fn get(socks: SocketAddr, url: &str) -> anyhow::Result<Response<Incoming>> {
    let proxy: Uri = format!("http://{socks}").parse()?;
    let connector = SocksV5::new(proxy, HttpConnector::new()).with_auth(USER.to_owned(), String::new());
    let http = HttpClient::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let response = timeout(PATIENCE, http.get(url.parse()?)).await.context("no answer")?;
    let response = response.context("the request failed")?;
    ensure!(response.status().is_success(), "the web server answered {}", response.status());
    Ok(response)
}
