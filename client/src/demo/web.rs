//! The demo's web server: a page, and a download whose every byte is known to the one who checks it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// The page.
pub(super) const PAGE: &str = "<!doctype html><title>Trefoil</title><p>This page came through three relays.\n";
/// Bytes of the download that are made and checked at once.
const BLOCK: usize = 64 * 1024;

/// A running web server; it ends when dropped.
pub(super) struct Server {
    address: SocketAddr,
    size: u64,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Listens on a free port of 127.0.0.1; the download has `size` bytes.
    pub(super) async fn start(size: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, size)));
        Ok(Self { address, size, _task: task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn download_size(&self) -> u64 {
        self.size
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn serve(listener: TcpListener, size: u64) {
    while let Ok((socket, _)) = listener.accept().await {
        let service = service_fn(move |request: Request<Incoming>| async move {
            Ok::<_, Infallible>(answer(request.uri().path(), size))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

fn answer(path: &str, size: u64) -> Response<BoxBody<Bytes, Infallible>> {
    match path {
        "/" => Response::new(Full::from(PAGE).boxed()),
        "/download" => Response::new(Download { sent: 0, size }.boxed()),
        _ => {
            let mut missing = Response::new(Full::from("There is no such page.\n").boxed());
            *missing.status_mut() = StatusCode::NOT_FOUND;
            missing
        }
    }
}

/// The block that begins at this byte: no two are alike, so a lost or doubled one is noticed.
fn block(start: u64) -> Vec<u8> {
    let mut state = start ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(BLOCK);
    while bytes.len() < BLOCK {
        // xorshift64* (Vigna 2016): fast, and far from any pattern that an error could keep.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes
}

/// The download's body.
struct Download {
    sent: u64,
    size: u64,
}

impl Body for Download {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent == self.size {
            return Poll::Ready(None);
        }
        let mut bytes = block(self.sent);
        bytes.truncate(usize::try_from(self.size - self.sent).unwrap_or(BLOCK));
        self.sent += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.sent)
    }
}

/// Compares a download with what was sent, as it arrives.
#[derive(Default)]
pub(super) struct Check {
    checked: u64,
    block: Vec<u8>,
}

impl Check {
    /// Whether these are the next bytes.
    pub(super) fn accepts(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let within = usize::try_from(self.checked % BLOCK as u64).unwrap_or_default();
            if within == 0 {
                self.block = block(self.checked);
            }
            let length = data.len().min(BLOCK - within);
            let (now, later) = data.split_at(length);
            if self.block.get(within..within + length) != Some(now) {
                return false;
            }
            self.checked += length as u64;
            data = later;
        }
        true
    }

    /// Bytes that were right.
    pub(super) fn checked(&self) -> u64 {
        self.checked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_download_is_accepted_in_any_pieces() {
        let whole: Vec<u8> = (0..3).flat_map(|at| block(at * BLOCK as u64)).collect();
        let mut check = Check::default();
        assert!(whole.chunks(1000).all(|piece| check.accepts(piece)));
        assert_eq!(check.checked(), whole.len() as u64);
    }

    #[test]
    fn a_wrong_lost_or_doubled_byte_is_noticed() {
        let right = block(0);
        let mut wrong = right.clone();
        wrong[777] ^= 1;
        let lost = [&right[..500], &right[501..]].concat();
        let doubled = [&right[..500], &right[499..]].concat();
        for bytes in [wrong, lost, doubled] {
            assert!(!Check::default().accepts(&bytes));
        }
        let mut twice = Check::default();
        assert!(twice.accepts(&right));
        assert!(!twice.accepts(&right), "the same block again");
    }
}
