//! The log of both programs, on standard error.
//!
//! At `info` and above it holds no address and no name (docs/operator.md, "Logs"). Libraries do not keep to that: quinn
//! warns with the addresses of peers, the resolver with the names that it was asked for. They are off unless they are
//! named.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Starts the log. `filter` is what to log, in the words of [`EnvFilter`].
///
/// # Errors
/// If it is no filter.
///
/// # Panics
/// If this process has a log already.
pub fn start(filter: &str) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(format!("{LIBRARIES},{filter}"))?;
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    Ok(())
}

const LIBRARIES: &str =
    "quinn=off,quinn_proto=off,quinn_udp=off,hickory_net=off,hickory_proto=off,hickory_resolver=off";
