//! Real programs through a real network: each test starts relays and a proxy as processes of their own.
//!
//! They need Debian's curl, faketime, git, netcat-openbsd and python3: see `.ci/run`. A missing one is a failure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod curl;
mod deaths;
mod failures;
mod leave;
mod letters;
mod load;
mod logs;
mod mistakes;
mod outage;
mod pipes;
mod search;
mod status;
mod stops;
mod strays;
mod up;

use std::{
    net::SocketAddr,
    process::Command,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use trefoil_tests::process::{
    binaries::installed,
    network::{RealClient, RealNetwork},
};

/// For downloads and uploads on a busy machine.
const LONG: Duration = Duration::from_secs(300);
const MIB: u64 = 1 << 20;

/// Tests that measure hold it alone.
static MACHINE: RwLock<()> = RwLock::new(());

fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// A network of this many relays, and a proxy in it.
fn network(relays: u8) -> (RealNetwork, RealClient) {
    let network = RealNetwork::start(relays);
    let proxy = network.proxy();
    (network, proxy)
}

/// `curl` that fails on HTTP errors, and reads no settings but these.
fn curl(proxy: &str) -> Command {
    let mut curl = installed("curl", "curl");
    curl.args(["--disable", "--silent", "--show-error", "--fail", "--noproxy", "", "--proxy", proxy]);
    curl.args(["--max-time", "240"]);
    curl
}

fn socks5h(address: SocketAddr) -> String {
    format!("socks5h://{address}")
}
