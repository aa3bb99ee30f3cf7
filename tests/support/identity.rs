//! Self-signed certificates, as a large part of the public Electrum servers use them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use rcgen::{Certificate, CertificateParams, CertifiedKey, KeyPair, PublicKeyData, generate_simple_self_signed};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A key with a certificate that it signed itself, for `localhost` and 127.0.0.1.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    public_key: Vec<u8>,
    key: PrivatePkcs8KeyDer<'static>,
    key_pem: String,
}

impl Identity {
    /// A new one, different each time.
    pub(crate) fn new() -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("ring makes keys");
        Self::of(&cert, &signing_key)
    }

    fn of(certificate: &Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            public_key: key.subject_public_key_info(),
            key: key.serialize_der().into(),
            key_pem: key.serialize_pem(),
        }
    }

    /// The certificate as it travels, for a client that wants to trust or pin it.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its public key, as a configuration pins it.
    pub(crate) fn key_hash(&self) -> String {
        sha256::Hash::hash(&self.public_key).to_string()
    }

    /// Another certificate of the same key, as when it is renewed.
    pub(crate) fn renewed(&self) -> Self {
        let key = KeyPair::from_pem(&self.key_pem).expect("our own key");
        let params = CertificateParams::new(vec!["renewed.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("ring signs");
        Self::of(&certificate, &key)
    }

    /// Writes certificate and key as PEM files into `folder` and returns their paths.
    pub(crate) fn write_to(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        std::fs::write(&certificate, &self.certificate_pem).expect("the test's own folder");
        std::fs::write(&key, &self.key_pem).expect("the test's own folder");
        (certificate, key)
    }

    /// The server's side of TLS with this identity.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone_key()))
            .expect("key and certificate belong together");
        TlsAcceptor::from(Arc::new(config))
    }
}
