//! TLS with two ways to trust: public authorities, else the certificate seen at first use.
//!
//! A large part of the public servers is self-signed, so the Electrum wallet's way is taken: authorities first, then
//! pin. A server once vouched for must stay so; a pinned certificate must stay the same; a change is an alarm and ends the
//! handshake. The handshake's signature is always verified: the server has the key that it shows.

use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::hashes::{Hash, sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, verify_tls13_signature_with_raw_key};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::super::TlsState;
use super::super::error::{SourceError, Trouble, Unfit};
use super::pins::{AUTHORITY, Pinning};
use super::spki::{Spki, of_certificate};
use crate::config::ServerAddr;

/// Makes the connection secure, or fails. Never falls back to clear text.
pub(super) async fn secure(
    tcp: TcpStream,
    server: &ServerAddr,
    pinning: &Pinning,
) -> Result<(TlsStream<TcpStream>, TlsState), SourceError> {
    let pins = &pinning.pins;
    let known = match pinning.configured {
        Some(pin) => Some(pin),
        None => pins.get(server).map_err(|error| Trouble::Pins(Arc::new(error)))?,
    };
    let verifier = Arc::new(Verifier::new(known).map_err(tls_error)?);
    let config = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(server.host().to_string())
        .map_err(|error| Trouble::Tls(Arc::new(std::io::Error::other(error))))?;
    let stream = match TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
        Ok(stream) => stream,
        Err(_) if verifier.found() == Some(Found::Changed) => return Err(Unfit::PinChanged.into()),
        Err(error) => return Err(Trouble::Tls(Arc::new(error)).into()),
    };
    let state = match verifier.found() {
        Some(Found::Authority) => TlsState::Authority,
        Some(Found::Pin(_)) if known.is_some() => TlsState::Pinned,
        Some(Found::Pin(_)) => TlsState::FirstUse,
        Some(Found::Changed) | None => return Err(Unfit::PinChanged.into()),
    };
    // Only now: the server has proved to own the key.
    if known.is_none() {
        let pin = match verifier.found() {
            Some(Found::Pin(pin)) => pin,
            _ => AUTHORITY,
        };
        pins.set(server, pin).map_err(|error| Trouble::Pins(Arc::new(error)))?;
    }
    Ok((stream, state))
}

fn tls_error(error: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    Trouble::Tls(Arc::new(std::io::Error::other(error))).into()
}

/// What the certificate turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Vouched for.
    Authority,
    /// Its hash: the known one, or the first.
    Pin([u8; 32]),
    /// Not what is known.
    Changed,
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Arc<WebPkiServerVerifier>,
    known: Option<[u8; 32]>,
    found: Mutex<Option<Found>>,
}

impl Verifier {
    fn new(known: Option<[u8; 32]>) -> Result<Self, tokio_rustls::rustls::client::VerifierBuilderError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let roots = Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
        Ok(Self { provider, authorities, known, found: Mutex::new(None) })
    }

    fn found(&self) -> Option<Found> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, vouched: bool, shown: [u8; 32]) -> Found {
        match self.known {
            None | Some(AUTHORITY) if vouched => Found::Authority,
            Some(pin) if pin == shown => Found::Pin(pin),
            None => Found::Pin(shown),
            Some(_) => Found::Changed,
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
        let shown = sha256::Hash::hash(certificate).to_byte_array();
        let found = self.judge(vouched, shown);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        match found {
            Found::Changed => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
            Found::Authority | Found::Pin(_) => Ok(ServerCertVerified::assertion()),
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
    fn a_server_once_vouched_for_must_stay_so_and_a_pinned_certificate_the_same() {
        const SHOWN: [u8; 32] = [1; 32];
        const OTHER: [u8; 32] = [2; 32];
        let cases = [
            // known, vouched for, verdict
            (None, true, Found::Authority),
            (None, false, Found::Pin(SHOWN)),
            (Some(AUTHORITY), true, Found::Authority),
            (Some(AUTHORITY), false, Found::Changed),
            (Some(SHOWN), false, Found::Pin(SHOWN)),
            (Some(SHOWN), true, Found::Pin(SHOWN)),
            (Some(OTHER), false, Found::Changed),
            (Some(OTHER), true, Found::Changed),
        ];
        for (known, vouched, verdict) in cases {
            assert_eq!(Verifier::new(known).unwrap().judge(vouched, SHOWN), verdict, "{known:?} {vouched}");
        }
    }
}
