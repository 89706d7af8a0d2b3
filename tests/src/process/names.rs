//! A name server for exits: it knows the names of the tests, and nobody on this machine asks it but the relay whose
//! it is. So a name that is found here was looked up at the exit, and the answer can say at which.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
};

/// Where web servers of the tests are: 127.0.0.1.
pub const WEB: &str = "web.test";
/// The address of this name is 127.9.9.N at relay N: it tells which exit was asked.
pub const WHICH_EXIT: &str = "exit.test";
/// A private address, 10.9.9.9, that no policy of the tests names.
pub const PRIVATE: &str = "private.test";
/// There is no such name.
pub const NOWHERE: &str = "nowhere.test";

/// Starts the name server of relay `number` on a free port of 127.0.0.1; it runs until the test's process ends.
///
/// # Panics
/// If there is no free port.
pub fn serve(number: u8) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length], number) {
                let _ = socket.send_to(&answer, from); // who asked may be gone
            }
        }
    });
    address
}

/// RFC 1035, section 4: the query's first question and, when it is for a known name's A record, one answer.
fn answer(query: &[u8], number: u8) -> Option<Vec<u8>> {
    let (header, body) = query.split_at_checked(12)?;
    let (name, name_length) = read_name(body)?;
    let question = body.get(..name_length + 4)?;
    let is_a = question.ends_with(&[0, 1, 0, 1]);
    let address = match name.as_str() {
        WEB => Some(Ipv4Addr::LOCALHOST),
        WHICH_EXIT => Some(Ipv4Addr::new(127, 9, 9, number)),
        PRIVATE => Some(Ipv4Addr::new(10, 9, 9, 9)),
        _ => None,
    };
    let code = if address.is_some() { 0 } else { 3 }; // NXDOMAIN
    let answers = u8::from(is_a && address.is_some());
    let mut bytes = header.get(..2)?.to_vec();
    bytes.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    bytes.extend(question);
    if let (1, Some(address)) = (answers, address) {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}

/// A name in labels, and how many bytes it takes.
fn read_name(bytes: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 0);
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = bytes.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}
