//! TLS: pins at first use, changed keys, renewed certificates, certificates of version 1.

use std::net::SocketAddr;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::FromHex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, crypto, version};

use super::*;
use crate::source::tls::pins::{Changed, KeyHash, Pin, Pins};
use crate::source::{Source, Trouble, Unfit};

/// Made by `openssl req -new -key … | openssl x509 -req -signkey …`, as ElectrumX's manual has it: version 1.
const V1_CERTIFICATE: &str = "308201163081bd0214294189897f1b619c4de0ff213c8d3c43e7fec777300a06082a8648ce3d040302300d310b300906035504030c0276313020170d3236313132303039323335305a180f32313236313032373039323335305a300d310b300906035504030c0276313059301306072a8648ce3d020106082a8648ce3d0301070342000498b96c113a895fe1c5ff611021aec23cdc32730af0d7df8e2d9d3a9b2f3c140d604641e87982b7c034bfeb40c520e102c009a6c6e77d6caa1ab72c523c53cc5f300a06082a8648ce3d040302034800304502210090e5c2ad161ae51f9614b2cf6e27ebf6c596b7d73584329f0a129890f68e232f02201fce0b1474da4c1b137ab738872e28837a7fb79986a0f04f6be3e7b934d090ca";
const V1_KEY: &str = "308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420c1f788070bb1f7347df2c94c1e069f57603478ccf2c18b1d047db91faac4c7e3a1440342000498b96c113a895fe1c5ff611021aec23cdc32730af0d7df8e2d9d3a9b2f3c140d604641e87982b7c034bfeb40c520e102c009a6c6e77d6caa1ab72c523c53cc5f";

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn self_signed() -> Identity {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    (made.cert.der().clone(), key.into())
}

fn of_version_1() -> Identity {
    let key = PrivatePkcs8KeyDer::from(Vec::from_hex(V1_KEY).unwrap());
    (Vec::from_hex(V1_CERTIFICATE).unwrap().into(), key.into())
}

/// Serves one connection: its handshake, and the protocol's. Does not check that key and certificate belong together.
async fn serve(listener: &TcpListener, (certificate, key): &Identity, tls: &'static SupportedProtocolVersion) {
    let provider = Arc::new(crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(key.clone_key()).unwrap();
    let identity = CertifiedKey::new(vec![certificate.clone()], key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[tls])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    let (tcp, _) = listener.accept().await.unwrap();
    if let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(tcp).await {
        let mut server = Script::new(stream);
        server.greet("1.4").await;
        // Until the client has read it.
        let _ = server.hung_up().await;
    }
}

struct Client {
    electrum: Electrum,
    certificates: Arc<Certificates>,
    listener: TcpListener,
}

impl Client {
    async fn new() -> Self {
        Self::with(None, None).await
    }

    /// With a configured pin, and with what is remembered of the server.
    async fn with(pin: Option<[u8; 32]>, known: Option<Pin>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let pins = MemoryPins::default();
        if let Some(known) = known {
            pins.set(&address.to_string().parse().unwrap(), known).unwrap();
        }
        let certificates = Arc::new(Certificates::new(pins));
        let server = Server { address: format!("ssl://{address}").parse().unwrap(), trusted: false, pin };
        let road = road(Arc::clone(&certificates));
        Self { electrum: Electrum::new(server, genesis(), road, Limits::default()), certificates, listener }
    }

    async fn connect(
        &self,
        identity: &Identity,
        tls: &'static SupportedProtocolVersion,
    ) -> Result<TlsState, SourceError> {
        let (sink, _events) = mpsc::channel(EVENT_CAPACITY);
        let connect = async {
            let connected = self.electrum.connect(ME, sink).await?;
            Ok(connected.session.info().tls)
        };
        tokio::join!(serve(&self.listener, identity, tls), connect).1
    }

    fn pin(&self) -> Option<Pin> {
        self.certificates.known(&self.electrum.addr().at).unwrap()
    }
}

fn changed(outcome: &Result<TlsState, SourceError>) -> Option<Changed> {
    match outcome {
        Err(SourceError::Unusable(Unfit::KeyChanged { changed, .. })) => Some(*changed),
        _ => None,
    }
}

/// SHA-256 of its SubjectPublicKeyInfo, as webpki finds it.
fn key_of((certificate, _): &Identity) -> KeyHash {
    let read = tokio_rustls::rustls::server::ParsedCertificate::try_from(certificate).unwrap();
    let spki = read.subject_public_key_info();
    sha256::Hash::hash(&spki).to_byte_array().into()
}

#[tokio::test]
async fn a_key_is_pinned_at_first_use_and_another_one_refused_until_it_is_accepted() {
    let client = Client::new().await;
    let (ours, other) = (self_signed(), self_signed());
    assert_eq!(client.connect(&ours, &version::TLS13).await.unwrap(), TlsState::FirstUse);
    let pin = Pin::Key(key_of(&ours));
    assert_eq!(client.pin(), Some(pin));
    assert_eq!(client.connect(&ours, &version::TLS13).await.unwrap(), TlsState::Pinned);
    let shown = Changed { known: pin, shown: key_of(&other), vouched: false };
    for tls in [&version::TLS12, &version::TLS13] {
        assert_eq!(changed(&client.connect(&other, tls).await), Some(shown));
    }
    assert_eq!(client.certificates.alarms(), [(client.electrum.addr().at.clone(), shown)]);
    assert_eq!(client.pin(), Some(pin));
    assert_eq!(client.connect(&ours, &version::TLS12).await.unwrap(), TlsState::Pinned);
    assert!(client.certificates.alarms().is_empty());

    assert!(changed(&client.connect(&other, &version::TLS13).await).is_some());
    client.certificates.trust(&client.electrum.addr().at, shown.shown).unwrap();
    assert_eq!(client.connect(&other, &version::TLS13).await.unwrap(), TlsState::Pinned);
    assert!(changed(&client.connect(&ours, &version::TLS13).await).is_some());
}

#[tokio::test]
async fn a_renewed_certificate_of_the_same_key_is_no_change() {
    let client = Client::new().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let issue = |name: &str| -> Identity {
        let made = rcgen::CertificateParams::new([name.to_string()]).unwrap().self_signed(&key).unwrap();
        (made.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    };
    let (first, renewed) = (issue("localhost"), issue("another.example"));
    assert_ne!(first.0, renewed.0);
    assert_eq!(client.connect(&first, &version::TLS13).await.unwrap(), TlsState::FirstUse);
    assert_eq!(client.connect(&renewed, &version::TLS13).await.unwrap(), TlsState::Pinned);
}

#[tokio::test]
async fn a_self_signed_certificate_does_not_replace_one_that_was_vouched_for() {
    let client = Client::with(None, Some(Pin::Authority)).await;
    let stranger = self_signed();
    let outcome = client.connect(&stranger, &version::TLS13).await;
    let shown = Changed { known: Pin::Authority, shown: key_of(&stranger), vouched: false };
    assert_eq!(changed(&outcome), Some(shown));
}

#[tokio::test]
async fn a_configured_pin_alone_decides() {
    let ours = self_signed();
    let client = Client::with(Some(key_of(&ours).into()), None).await;
    assert_eq!(client.connect(&ours, &version::TLS13).await.unwrap(), TlsState::Pinned);
    let stranger = self_signed();
    let other = client.connect(&stranger, &version::TLS13).await;
    assert!(
        matches!(&other, Err(SourceError::Unusable(Unfit::OtherKey(shown))) if *shown == key_of(&stranger)),
        "{other:?}"
    );
    assert_eq!(client.pin(), None);
    assert!(client.certificates.alarms().is_empty(), "only the configuration can accept it");
}

#[tokio::test]
async fn a_certificate_of_version_1_is_pinned_like_any_other() {
    for tls in [&version::TLS12, &version::TLS13] {
        let client = Client::new().await;
        assert_eq!(client.connect(&of_version_1(), tls).await.unwrap(), TlsState::FirstUse);
        assert_eq!(client.connect(&of_version_1(), tls).await.unwrap(), TlsState::Pinned);
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_and_not_pinned() {
    for tls in [&version::TLS12, &version::TLS13] {
        let client = Client::new().await;
        let (certificate, _) = of_version_1();
        let outcome = client.connect(&(certificate, self_signed().1), tls).await;
        assert!(matches!(outcome, Err(SourceError::Transient(Trouble::Tls(_)))), "{outcome:?}");
        assert_eq!(client.pin(), None);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_never_spoken_to_in_clear_text() {
    let client = Client::new().await;
    let (sink, _events) = mpsc::channel(EVENT_CAPACITY);
    let server = async {
        let (mut tcp, _) = client.listener.accept().await.unwrap();
        let mut first = [0u8; 1];
        tcp.read_exact(&mut first).await.unwrap();
        // A TLS record of a handshake, not JSON.
        assert_eq!(first, [0x16]);
        tcp.write_all(b"{\"id\":0,\"result\":[\"x\",\"1.4\"]}\n").await.unwrap();
    };
    let ((), outcome) = tokio::join!(server, client.electrum.connect(ME, sink));
    assert!(matches!(outcome, Err(SourceError::Transient(Trouble::Tls(_)))), "{outcome:?}");
}
