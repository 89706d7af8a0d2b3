//! A SOCKS5 client by hand (RFC 1928, RFC 1929, Tor's socks-extensions): what a library hides, a test wants to see.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
};

use super::program::PATIENCE;

/// What the proxy said no with: the reply byte of RFC 1928, section 6.
pub type Refused = u8;

/// Connects to a name through the proxy; `user` keeps streams apart.
///
/// # Errors
/// The reply byte.
///
/// # Panics
/// If the proxy does not speak SOCKS.
pub fn connect(proxy: SocketAddr, user: &str, name: &str, port: u16) -> Result<TcpStream, Refused> {
    request(proxy, user, CONNECT, name, port).expect("the proxy speaks SOCKS").map(|(socket, _)| socket)
}

/// Has a name resolved at the exit.
///
/// # Errors
/// The reply byte.
///
/// # Panics
/// If the proxy does not speak SOCKS.
pub fn resolve(proxy: SocketAddr, user: &str, name: &str) -> Result<Ipv4Addr, Refused> {
    request(proxy, user, RESOLVE, name, 0).expect("the proxy speaks SOCKS").map(|(_, address)| address)
}

/// Connects to the proxy, with bounded patience for its answers.
///
/// # Panics
/// If nothing listens there.
pub fn dial(proxy: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(proxy).expect("the proxy listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket
}

fn request(
    proxy: SocketAddr,
    user: &str,
    command: u8,
    name: &str,
    port: u16,
) -> io::Result<Result<(TcpStream, Ipv4Addr), Refused>> {
    let mut socket = dial(proxy);
    socket.write_all(&[5, 1, 2])?;
    expect(&mut socket, [5, 2])?;
    socket.write_all(&[&[1][..], &counted(user), &counted("")].concat())?;
    expect(&mut socket, [1, 0])?;
    socket.write_all(&[&[5, command, 0, 3][..], &counted(name), &port.to_be_bytes()].concat())?;
    let mut reply = [0; 10];
    socket.read_exact(&mut reply)?;
    let [5, status, 0, 1, a, b, c, d, _, _] = reply else {
        return Err(io::Error::other(format!("the reply {reply:?}")));
    };
    Ok(if status == 0 { Ok((socket, Ipv4Addr::new(a, b, c, d))) } else { Err(status) })
}

fn expect(socket: &mut TcpStream, expected: [u8; 2]) -> io::Result<()> {
    let mut reply = [0; 2];
    socket.read_exact(&mut reply)?;
    if reply == expected { Ok(()) } else { Err(io::Error::other(format!("the reply {reply:?}, not {expected:?}"))) }
}

fn counted(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a test's names are short");
    [&[length], text.as_bytes()].concat()
}

const CONNECT: u8 = 1;
const RESOLVE: u8 = 0xF0;
