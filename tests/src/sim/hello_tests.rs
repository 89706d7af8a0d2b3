//! What links tell those who watch them, and a relay that wants to know its clients again: nothing but random bytes.

use std::{sync::Arc, time::Duration};

use quinn::{
    EndpointConfig, NoneTokenLog, TokioRuntime, ValidationTokenConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::{
        self, DigitallySignedStruct, DistinguishedName, SignatureScheme,
        client::{
            AlwaysResolvesClientRawPublicKeys,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
        server::{
            AlwaysResolvesServerRawPublicKeys,
            danger::{ClientCertVerified, ClientCertVerifier},
        },
        sign::CertifiedKey,
    },
};
use tokio::time::{sleep, timeout};
use trefoil_protocol::limits::STREAM_WINDOW;
use trefoil_relay::{
    cells::Circuit,
    endpoint::{DialError, LinkIdentity},
    link::Link,
};

use super::{
    hello::{FirstFlight, Hello, connection_ids, extension, parameter, spin_bits},
    link_tests::{accept, address, cells, circuit, client, endpoint, linked, net, read, relay, relay_id, secret},
    udp::SimNet,
};

/// What somebody of this identity says first when it dials. Nobody answers.
async fn first_words(node: u8, identity: LinkIdentity) -> FirstFlight {
    let net = net(1);
    net.watch();
    let dialled = endpoint(&net, node, identity, 1).dial(relay_id(20), address(20)).await;
    assert!(matches!(dialled, Err(DialError::Timeout)), "{dialled:?}");
    FirstFlight::of(&net.watch())
}

#[tokio::test(start_paused = true)]
async fn clients_and_relays_send_one_client_hello_but_for_its_random_fields() {
    let mut hellos = Vec::new();
    for node in 1..=4 {
        for identity in [LinkIdentity::Anonymous, LinkIdentity::Relay(Arc::new(secret(node)))] {
            let FirstFlight { to_id, from_id, token, hello } = first_words(node, identity).await;
            hellos.push((to_id.len(), from_id.len(), token, hello.without_random_fields()));
        }
    }
    for hello in &hellos[1..] {
        assert_eq!(*hello, hellos[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_hello_says_what_the_specification_has_and_nothing_that_names_or_resumes() {
    let FirstFlight { token, hello, .. } = first_words(1, LinkIdentity::Anonymous).await;
    assert_eq!((&token[..], &hello.session_id[..], &hello.compressions[..]), (&[][..], &[][..], &[0][..]));
    assert_eq!(hello.suites, [0x13, 0x01, 0x13, 0x03], "AES-128-GCM, ChaCha20-Poly1305");
    let extension = |number| hello.extensions.get(&number).map(Vec::as_slice);
    assert_eq!(extension(extension::SUPPORTED_GROUPS), Some(&[0, 2, 0x11, 0xec][..]), "X25519MLKEM768");
    assert_eq!(hello.key_share().len(), 1184 + 32);
    assert_eq!(extension(extension::SIGNATURE_ALGORITHMS), Some(&[0, 2, 0x08, 0x07][..]), "ed25519");
    assert_eq!(extension(extension::CLIENT_CERTIFICATE_TYPE), Some(&[1, 2][..]), "RawPublicKey");
    assert_eq!(extension(extension::SERVER_CERTIFICATE_TYPE), Some(&[1, 2][..]), "RawPublicKey");
    assert_eq!(extension(extension::ALPN), Some(&[&[0, 27, 26][..], ALPN].concat()[..]));
    names_nobody(&hello);

    let window = usize::try_from(STREAM_WINDOW).unwrap();
    let numbers = [
        (parameter::MAX_IDLE_TIMEOUT, Some(60_000)),
        (parameter::INITIAL_MAX_DATA, Some((1 << 62) - 1)),
        (parameter::INITIAL_MAX_STREAM_DATA[0], Some(window)),
        (parameter::INITIAL_MAX_STREAM_DATA[1], Some(window)),
        (parameter::MAX_DATAGRAM_FRAME_SIZE, None),
    ];
    for (id, expected) in numbers {
        assert_eq!(hello.parameter(id), expected, "transport parameter {id}");
    }
    for id in [parameter::INITIAL_MAX_STREAMS_BIDI, parameter::INITIAL_MAX_STREAMS_UNI] {
        assert_eq!(hello.parameter(id).unwrap_or_default(), 0, "transport parameter {id}");
    }
}

/// The ALPN of the network of these tests.
const ALPN: &[u8] = b"trefoil/1 0101010101010101";

fn names_nobody(hello: &Hello) {
    for absent in [extension::SERVER_NAME, extension::SESSION_TICKET, extension::PRE_SHARED_KEY, extension::EARLY_DATA]
    {
        assert!(!hello.extensions.contains_key(&absent), "extension {absent}");
    }
}

/// Two first flights have nothing in common but what all have.
fn share_nothing(first: &FirstFlight, second: &FirstFlight) {
    let ids = |flight: &FirstFlight| [flight.to_id.clone(), flight.from_id.clone()];
    assert!(ids(first).iter().all(|id| !ids(second).contains(id)));
    assert_ne!(first.hello.random, second.hello.random);
    assert_ne!(first.hello.key_share(), second.hello.key_share());
    for FirstFlight { token, hello, .. } in [first, second] {
        assert!(token.is_empty(), "nothing that the relay gave before");
        names_nobody(hello);
    }
    assert_eq!(first.hello.without_random_fields(), second.hello.without_random_fields());
}

#[tokio::test(start_paused = true)]
async fn two_links_of_one_client_to_one_relay_share_no_id_token_or_ticket() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    net.watch();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (dialled, accepted) = linked(&a, &b, 2).await;
        let (mut ours, mut theirs) = circuit(&dialled, &accepted).await;
        ours.writer.write(cells(20)).await.unwrap();
        read(&mut theirs, 20).await;
        drop((ours, theirs, dialled, accepted));
        sleep(Duration::from_secs(60)).await;
        seen.push(net.watch());
    }
    share_nothing(&FirstFlight::of(&seen[0]), &FirstFlight::of(&seen[1]));
    let ids = [connection_ids(&seen[0]), connection_ids(&seen[1])];
    assert!(ids[0].len() >= 3 && ids[0].is_disjoint(&ids[1]), "{ids:?}");
}

/// DER of an Ed25519 public key and of a private one up to the key itself (RFC 8410).
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

fn key(node: u8) -> Arc<CertifiedKey> {
    let secret = secret(node);
    let private = [&PRIVATE[..], &secret.to_bytes()[..]].concat();
    let signs = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&private[..])).unwrap();
    let public = [&PUBLIC[..], secret.id().as_bytes()].concat();
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], signs))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn by_hand(net: &SimNet, node: u8, server: Option<quinn::ServerConfig>) -> quinn::Endpoint {
    let (config, socket) = (EndpointConfig::default(), net.socket(address(node)));
    quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime)).unwrap()
}

/// A relay that gives everybody session tickets and address tokens, to know them again.
fn curious_relay(net: &SimNet, node: u8) -> quinn::Endpoint {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anybody))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key(node))));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    assert!(tls.send_tls13_tickets > 0 && tls.session_storage.can_cache());
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(2).log(Arc::new(NoneTokenLog));
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    config.validation_token_config(tokens);
    by_hand(net, node, Some(config))
}

/// How a client dials that takes every ticket and token that it gets, and shows it the next time.
fn naive_client() -> quinn::ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key(30))));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// Takes any key for a relay's, and none for a client's.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        panic!("TLS 1.2")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        panic!("TLS 1.2")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// What the naive client says first at its second link to whoever listens at this address.
async fn second_words_of_a_naive_client(net: &SimNet, node: u8) -> FirstFlight {
    let (endpoint, config) = (by_hand(net, 1, None), naive_client());
    for _ in 0..2 {
        net.watch();
        let connection = endpoint.connect_with(config.clone(), address(node), "a.name").unwrap().await.unwrap();
        sleep(Duration::from_secs(1)).await; // what the relay has to give is here
        connection.close(0_u32.into(), b"");
        sleep(Duration::from_secs(10)).await;
    }
    FirstFlight::of(&net.watch())
}

/// Accepts for ever.
fn accepting(endpoint: quinn::Endpoint) {
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(incoming) = endpoint.accept().await {
            held.push(incoming.await.unwrap());
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_gives_tickets_and_tokens_never_sees_them_again() {
    let net = net(1);
    accepting(curious_relay(&net, 2));
    let naive = second_words_of_a_naive_client(&net, 2).await;
    let shown = naive.hello.extensions.contains_key(&extension::PRE_SHARED_KEY);
    assert!(shown && !naive.token.is_empty(), "another client would show both");

    let ours = client(&net, 3);
    let mut flights = Vec::new();
    for _ in 0..2 {
        net.watch();
        let link = ours.dial(relay_id(2), address(2)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        drop(link);
        sleep(Duration::from_secs(10)).await;
        flights.push(FirstFlight::of(&net.watch()));
    }
    share_nothing(&flights[0], &flights[1]);
}

#[tokio::test(start_paused = true)]
async fn a_relay_gives_no_tickets_and_no_tokens_to_whoever_would_take_them() {
    let net = net(1);
    let b = relay(&net, 2);
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(accept(&b).await);
        }
    });
    let naive = second_words_of_a_naive_client(&net, 2).await;
    let shown = naive.hello.extensions.contains_key(&extension::PRE_SHARED_KEY);
    assert!(!shown && naive.token.is_empty(), "{naive:?}");
}

#[tokio::test(start_paused = true)]
async fn the_spin_bit_of_both_sides_is_random() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    for _ in 0..4 {
        let (dialled, accepted) = linked(&a, &b, 2).await;
        let (mut ours, mut theirs) = circuit(&dialled, &accepted).await;
        net.watch();
        tokio::join!(async { ours.writer.write(cells(400)).await.unwrap() }, read(&mut theirs, 400));
        tokio::join!(async { theirs.writer.write(cells(400)).await.unwrap() }, read(&mut ours, 400));
        let seen = net.watch();
        for node in [1, 2] {
            let bits = spin_bits(seen.iter().filter(|packet| packet.from == address(node)));
            let changes = bits.windows(2).filter(|pair| pair[0] != pair[1]).count();
            let expected = bits.len() * 2 / 5..bits.len() * 3 / 5; // one that spins changes once in a round trip
            assert!(bits.len() > 400 && expected.contains(&changes), "{changes} of {}", bits.len());
        }
    }
}

/// How many circuits can be opened at once, without a word from the other side.
async fn at_once(link: &Link, held: &mut Vec<Circuit>) -> usize {
    while let Ok(opened) = timeout(Duration::ZERO, link.open_circuit()).await {
        held.push(opened.unwrap());
    }
    held.len()
}

#[tokio::test(start_paused = true)]
async fn a_stranger_may_open_8_circuits_before_its_handshake_is_done_and_256_after_it() {
    let net = net(1);
    let (a, b) = (client(&net, 1), relay(&net, 2));
    let accepted = tokio::spawn(async move { accept(&b).await });
    let dialled = a.dial(relay_id(2), address(2)).await.unwrap(); // the relay has not heard the end of it
    let mut held = Vec::new();
    assert_eq!(at_once(&dialled, &mut held).await, 8);
    let _accepted = accepted.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(at_once(&dialled, &mut held).await, 256);
}
