//! Who is at the other end of a link: TLS 1.3 with raw Ed25519 public keys (RFC 7250).
//!
//! Specification: docs/protocol.md, "Links". X25519MLKEM768 is the only key exchange on offer, so no other can be
//! negotiated. The key expected of a relay is held by the verifier of that one dial, never by a server name. Nothing
//! here resumes a session, issues a ticket, sends early data or names a server.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, ServerConfig,
    SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite, kx_group},
        verify_tls13_signature_with_raw_key,
    },
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use trefoil_protocol::{
    crypto::is_signing_key,
    identity::{RelayId, RelaySecret},
};
use zeroize::Zeroizing;

/// The TLS settings of one endpoint.
pub(crate) struct Tls {
    client: ClientConfig,
    server: Option<Arc<QuicServerConfig>>,
}

/// DER of an Ed25519 public key up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER of an Ed25519 private key up to the seed itself (RFC 8410).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The TLS alert with which a dialler refuses a relay that shows another key: `access_denied`.
pub(crate) const ALERT_WRONG_KEY: u8 = 49;
/// The TLS alert of a relay of another network: `no_application_protocol`.
pub(crate) const ALERT_WRONG_NETWORK: u8 = 120;

impl Tls {
    /// The settings of a node of this network: a relay's, or an anonymous client's without a secret.
    pub(crate) fn new(secret: Option<&RelaySecret>, network: &[u8; 32]) -> Self {
        let key = secret.map(certified_key);
        let alpn = vec![alpn(network)];
        Self { client: client_config(key.clone(), alpn.clone()), server: key.map(|key| server_config(key, alpn)) }
    }

    /// For one dial, in which the peer must show exactly this relay's key.
    pub(crate) fn client(&self, expected: RelayId) -> Arc<QuicClientConfig> {
        self.client_who_accepts(Arc::new(Accepted::Relay(spki(expected))))
    }

    /// For meeting whoever is there: the peer may show any relay's key.
    pub(crate) fn client_of_any(&self) -> Arc<QuicClientConfig> {
        self.client_who_accepts(Arc::new(Accepted::AnyRelay))
    }

    fn client_who_accepts(&self, verifier: Arc<dyn ServerCertVerifier>) -> Arc<QuicClientConfig> {
        let mut config = self.client.clone();
        config.dangerous().set_certificate_verifier(verifier);
        Arc::new(QuicClientConfig::try_from(config).expect("the provider has the suite of Initial packets"))
    }

    /// For accepting; `None` for anonymous clients, who cannot.
    pub(crate) fn server(&self) -> Option<Arc<QuicServerConfig>> {
        self.server.clone()
    }
}

/// The relay that a connected peer has proved to be; `None` if it is anonymous.
pub(crate) fn peer(connection: &quinn::Connection) -> Option<RelayId> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    shown.first().and_then(|key| relay_id(key))
}

/// `trefoil/1 ` and the first 8 bytes of the network id as hexadecimal.
fn alpn(network: &[u8; 32]) -> Vec<u8> {
    let id: String = network.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("trefoil/1 {id}").into_bytes()
}

fn client_config(key: Option<Arc<CertifiedKey>>, alpn: Vec<Vec<u8>>) -> ClientConfig {
    let shows: Arc<dyn ResolvesClientCert> = match key {
        Some(key) => Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)),
        None => Arc::new(Anonymous),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Accepted::Relay([0; SPKI]))) // replaced for each dial
        .with_client_cert_resolver(shows);
    config.alpn_protocols = alpn;
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config
}

fn server_config(key: Arc<CertifiedKey>, alpn: Vec<Vec<u8>>) -> Arc<QuicServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(Accepted::AnyRelay))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    config.alpn_protocols = alpn;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(QuicServerConfig::try_from(config).expect("the provider has the suite of Initial packets"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![kx_group::X25519MLKEM768],
        ..aws_lc_rs::default_provider()
    })
}

fn certified_key(secret: &RelaySecret) -> Arc<CertifiedKey> {
    let der = Zeroizing::new([&PKCS8_PREFIX[..], &secret.to_bytes()[..]].concat());
    let key = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&der[..]))
        .expect("a prefix and 32 bytes are an Ed25519 key");
    let shown = CertificateDer::from(spki(secret.id()).to_vec());
    Arc::new(CertifiedKey::new(vec![shown], key))
}

const SPKI: usize = SPKI_PREFIX.len() + 32;

fn spki(id: RelayId) -> [u8; SPKI] {
    let mut der = [0; SPKI];
    der[..SPKI_PREFIX.len()].copy_from_slice(&SPKI_PREFIX);
    der[SPKI_PREFIX.len()..].copy_from_slice(id.as_bytes());
    der
}

fn relay_id(spki: &[u8]) -> Option<RelayId> {
    let key: [u8; 32] = spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    is_signing_key(&key).then(|| RelayId::from_bytes(key))
}

fn verify_signature(
    message: &[u8],
    key: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.as_ref()), signed, &algorithms)
}

fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SelectedUnofferedCipherSuite.into()) // never reached: TLS 1.2 is not on offer
}

/// Whose keys are accepted; of diallers, those who show none are, too.
#[derive(Debug)]
enum Accepted {
    Relay([u8; SPKI]),
    AnyRelay,
}

impl Accepted {
    fn judge(&self, shown: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let is_accepted = match self {
            Self::Relay(key) => shown.as_ref() == key,
            Self::AnyRelay => relay_id(shown).is_some(),
        };
        if chain.is_empty() && is_accepted {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

impl ServerCertVerifier for Accepted {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(shown, chain).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Accepted {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(shown, chain).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Shows no key, in a ClientHello that is like a relay's.
#[derive(Debug)]
struct Anonymous;

impl ResolvesClientCert for Anonymous {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alpn_names_the_network() {
        assert_eq!(alpn(&[0x0a; 32]), b"trefoil/1 0a0a0a0a0a0a0a0a");
    }

    #[test]
    fn a_key_survives_its_der_form_and_nothing_else_is_a_key() {
        let id = RelaySecret::from_bytes(&Zeroizing::new([7; 32])).id();
        let der = spki(id);
        assert_eq!(relay_id(&der), Some(id));
        for length in 0..der.len() {
            assert_eq!(relay_id(&der[..length]), None);
        }
        assert_eq!(relay_id(&[&der[..], &[0]].concat()), None);
    }

    #[test]
    fn a_weak_key_is_not_an_identity() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        assert_eq!(relay_id(&spki(RelayId::from_bytes(identity_point))), None);
    }

    #[test]
    fn a_dialler_keeps_nothing_that_a_later_dial_could_resume() {
        let dialling = Tls::new(None, &[1; 32]).client;
        assert_eq!(format!("{:?}", dialling.resumption), format!("{:?}", Resumption::disabled()));
        assert!(!dialling.enable_sni && !dialling.enable_early_data);
    }

    #[test]
    fn only_hybrid_key_exchange_is_on_offer() {
        let groups: Vec<_> = provider().kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [rustls::NamedGroup::X25519MLKEM768]);
    }
}
