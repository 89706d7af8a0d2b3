//! Local TCP servers that a test knows every byte of.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    iter,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use tokio::net::TcpSocket;

/// A port of 127.0.0.1 that answers nobody, as a machine that is switched off: its queue of connections is full.
pub struct Unanswering {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

/// A server with a thread for each connection. It stops to accept when dropped; connections end as their peers do.
pub struct Server {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves connections on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let accepting = thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept()
                && !stop.load(Ordering::Acquire)
            {
                let serve = serve.clone();
                thread::spawn(move || serve(socket)); // a peer that goes away is the test's business
            }
        });
        Self { address, stopped, accepting: Some(accepting) }
    }

    /// A web server. `GET /N` answers with N bytes of [`pattern`], `POST` with the SHA-256 of what was sent.
    pub fn web() -> Self {
        Self::start(web)
    }

    /// Sends back what it gets, at once.
    pub fn echo() -> Self {
        Self::start(|mut socket| io::copy(&mut socket.try_clone()?, &mut socket).map(|_| ()))
    }

    /// Reads until the peer has sent all, and only then answers: `got N bytes`.
    pub fn after_the_end() -> Self {
        Self::start(|mut socket| {
            let bytes = io::copy(&mut socket, &mut io::sink())?;
            writeln!(socket, "got {bytes} bytes")?;
            socket.shutdown(Shutdown::Both)
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Unanswering {
    /// Takes a free port.
    ///
    /// # Panics
    /// If there is none, or if it answers on.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime is small");
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            socket.listen(1)?.into_std()
        });
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let queue: Vec<_> = iter::from_fn(connect).take(64).collect();
        assert!(queue.len() < 64, "a queue of one connection takes more and more");
        Self { listener, _queue: queue }
    }

    /// The port.
    ///
    /// # Panics
    /// Never.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("a bound socket has an address").port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _ = accepting.join(); // it cannot panic
        }
    }
}

/// A port of 127.0.0.1 where nothing listens: it was free just now.
///
/// # Panics
/// If there is none.
pub fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The bytes of a download, no two blocks of which are alike.
pub fn pattern() -> impl Read {
    Pattern { state: 1, block: Vec::new(), read: 0 }
}

/// The SHA-256 of all that can be read, as hexadecimal digits.
///
/// # Errors
/// Those of the reader.
pub fn hash(mut from: impl Read) -> io::Result<String> {
    let mut hash = Context::new(&SHA256);
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&piece[..read]),
        }
    }
}

struct Pattern {
    state: u64,
    block: Vec<u8>,
    read: usize,
}

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.block.len() {
            self.next_block();
        }
        let read = (&self.block[self.read..]).read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl Pattern {
    fn next_block(&mut self) {
        self.block.clear();
        for _ in 0..8192 {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            self.block.extend(self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()); // xorshift64* (Vigna 2016)
        }
        self.read = 0;
    }
}

fn web(mut socket: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(socket.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut length, mut expects) = (0, false);
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        let field = field.trim_end().to_ascii_lowercase();
        match field.split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().map_err(io::Error::other)?,
            Some(("expect", _)) => expects = true,
            Some(_) => {}
        }
    }
    let mut words = request.split(' ');
    match (words.next(), words.next().and_then(|path| path.strip_prefix('/')?.parse::<u64>().ok())) {
        (Some("GET"), Some(size)) => {
            respond(&mut socket, "200 OK", size)?;
            io::copy(&mut pattern().take(size), &mut socket)?;
        }
        (Some("POST"), _) => {
            if expects {
                socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let hash = hash(reader.take(length))?;
            respond(&mut socket, "200 OK", 64)?;
            socket.write_all(hash.as_bytes())?;
        }
        _ => respond(&mut socket, "404 Not Found", 0)?,
    }
    socket.shutdown(Shutdown::Write)
}

fn respond(socket: &mut TcpStream, status: &str, length: u64) -> io::Result<()> {
    write!(socket, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}
