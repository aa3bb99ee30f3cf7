//! TLS with two ways to trust: public authorities, else the key seen at first use.
//!
//! A large part of the public servers is self-signed, so the Electrum wallet's way is taken: authorities first, then
//! pin. A server once vouched for must stay so; a pinned key must stay the same; a change is an alarm and ends the
//! handshake. The handshake's signature is always verified: the server has the key that it shows.
//!
//! Decision: what is pinned is the key, not the certificate, so that a renewed certificate of the same key is no alarm
//! (servers renew them every few months). The cost: a server cannot be told to distrust an old certificate of its key.

pub mod pins;
mod spki;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, verify_tls13_signature_with_raw_key};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::TlsState;
use super::error::{SourceError, Trouble, Unfit};
use crate::clock::unix_now;
use crate::config::HostPort;

use pins::{Certificates, Changed, KeyHash, Pin};
use spki::{Spki, of_certificate};

/// What one server's key is held against.
#[derive(Clone)]
pub(super) struct Pinning {
    /// Configured by a person: it alone will do.
    pub(super) configured: Option<KeyHash>,
    /// Remembered.
    pub(super) certificates: Arc<Certificates>,
}

/// Makes the connection secure, or fails. Never falls back to clear text.
pub(super) async fn secure(
    tcp: TcpStream,
    server: &HostPort,
    pinning: &Pinning,
) -> Result<(TlsStream<TcpStream>, TlsState), SourceError> {
    let Pinning { configured, certificates } = pinning;
    let pins = |error| Trouble::Pins(Arc::new(error));
    let known = match configured {
        Some(key) => Some(Pin::Key(*key)),
        None => certificates.known(server).map_err(pins)?,
    };
    let verifier = Arc::new(Verifier::new(known).map_err(tls_error)?);
    let config = ClientConfig::builder_with_details(verifier.provider.clone(), Arc::new(ChainTime))
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(server.host.clone()).map_err(tls_error)?;
    let outcome = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    match (outcome, verifier.found()) {
        (Ok(stream), Some(Found::Good(shown))) => {
            // Only now: the server has proved to own the key.
            if configured.is_none() {
                certificates.shown(server, known, shown).map_err(pins)?;
            }
            Ok((stream, state(known, shown)))
        }
        (_, Some(Found::Bad(Changed { shown, .. }))) if configured.is_some() => Err(Unfit::OtherKey(shown).into()),
        (_, Some(Found::Bad(changed))) => {
            certificates.alarm(server, changed);
            Err(Unfit::KeyChanged { server: server.clone(), changed }.into())
        }
        (Err(error), _) => Err(Trouble::Tls(Arc::new(error)).into()),
        (Ok(_), None) => Err(Trouble::Garbled("a handshake without a certificate").into()),
    }
}

fn state(known: Option<Pin>, shown: Pin) -> TlsState {
    match (shown, known) {
        (Pin::Authority, _) => TlsState::Authority,
        (Pin::Key(_), Some(_)) => TlsState::Pinned,
        (Pin::Key(_), None) => TlsState::FirstUse,
    }
}

/// The time by which certificates are judged: a machine that wakes up in 1970 takes none for one of the future.
#[derive(Debug)]
struct ChainTime;

impl TimeProvider for ChainTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(unix_now())))
    }
}

fn tls_error(error: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    Trouble::Tls(Arc::new(std::io::Error::other(error))).into()
}

/// What the certificate turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// What it has to be, or the first.
    Good(Pin),
    /// Not what is known.
    Bad(Changed),
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Arc<WebPkiServerVerifier>,
    known: Option<Pin>,
    found: Mutex<Option<Found>>,
}

impl Verifier {
    fn new(known: Option<Pin>) -> Result<Self, tokio_rustls::rustls::client::VerifierBuilderError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let roots = Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
        Ok(Self { provider, authorities, known, found: Mutex::new(None) })
    }

    fn found(&self) -> Option<Found> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, vouched: bool, shown: KeyHash) -> Found {
        match self.known {
            None | Some(Pin::Authority) if vouched => Found::Good(Pin::Authority),
            None => Found::Good(Pin::Key(shown)),
            Some(known) if known == Pin::Key(shown) => Found::Good(known),
            Some(known) => Found::Bad(Changed { known, shown, vouched }),
        }
    }
}

fn key_of<'a>(certificate: &'a CertificateDer<'_>) -> Result<Spki<'a>, Error> {
    of_certificate(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let vouched = self.authorities.verify_server_cert(certificate, intermediates, name, ocsp, now).is_ok();
        let shown = KeyHash::of(key_of(certificate)?.der);
        let found = self.judge(vouched, shown);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        match found {
            Found::Bad(_) => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
            Found::Good(_) => Ok(ServerCertVerified::assertion()),
        }
    }

    /// As rustls does it, but with the key of any certificate, of version 1 too.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = key_of(certificate)?;
        let known = self.provider.signature_verification_algorithms;
        let algorithms = known.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let valid = algorithms.flat_map(|(_, algorithms)| algorithms.iter()).any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == spki.algorithm
                && algorithm.verify_signature(spki.key, message, signed.signature()).is_ok()
        });
        match valid {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(key_of(certificate)?.der);
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_once_vouched_for_must_stay_so_and_a_pinned_key_the_same() {
        let [shown, other] = [[1; 32], [2; 32]].map(KeyHash::from);
        let bad = |known, vouched| Found::Bad(Changed { known, shown, vouched });
        let cases = [
            // known, vouched for, verdict
            (None, true, Found::Good(Pin::Authority)),
            (None, false, Found::Good(Pin::Key(shown))),
            (Some(Pin::Authority), true, Found::Good(Pin::Authority)),
            (Some(Pin::Authority), false, bad(Pin::Authority, false)),
            (Some(Pin::Key(shown)), false, Found::Good(Pin::Key(shown))),
            (Some(Pin::Key(shown)), true, Found::Good(Pin::Key(shown))),
            (Some(Pin::Key(other)), false, bad(Pin::Key(other), false)),
            (Some(Pin::Key(other)), true, bad(Pin::Key(other), true)),
        ];
        for (known, vouched, verdict) in cases {
            assert_eq!(Verifier::new(known).unwrap().judge(vouched, shown), verdict, "{known:?} {vouched}");
        }
    }
}
