//! Whom this node believes: certificates of the organisation's CA, and nothing else.
//!
//! Both planes and the gossip ask here. A rejected handshake leaves its reason behind in words, because the TLS
//! libraries hand on only an alert number.

use crate::certificate::{CertificateError, date};
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a peer, or this node itself, was not believed. The texts follow the name of whose certificate it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Distrust {
    /// Signed by somebody else.
    #[error("the certificate is not from this organisation's CA")]
    OtherCa,
    /// No longer valid.
    #[error("the certificate expired on {0}")]
    Expired(String),
    /// Not valid yet: more often a wrong clock than a wrong certificate.
    #[error("the certificate is not valid before {0}; compare the clocks")]
    NotYetValid(String),
    /// None was shown.
    #[error("it showed no certificate")]
    NoCertificate,
    /// The extended key usage lacks client or server authentication.
    #[error("the certificate is not made for TLS client and server authentication")]
    WrongPurpose,
    /// From the CA, but it cannot name a node.
    #[error("the certificate {0}")]
    Unusable(#[from] CertificateError),
    /// TLS failed in another way.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// A node of the organisation, but of another site.
    #[error("it belongs to the site {0:?}")]
    OtherSite(String),
    /// It speaks another version of the messages.
    #[error("it speaks version {theirs} of the protocol, this node version {ours}; update the older one")]
    OtherVersion {
        /// Its version.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// The other side did not believe us.
    #[error("it does not accept this node: {0}")]
    RefusedUs(String),
}

/// What made the last handshake with a verifier fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<Distrust>>>);

impl Verdict {
    /// The reason, if a certificate was rejected.
    pub(crate) fn distrust(&self) -> Option<Distrust> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &outcome {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(distrust(error));
        }
        outcome
    }
}

/// The organisation's CA and the cryptography with which its signatures are checked.
#[derive(Debug)]
pub(crate) struct Trust {
    roots: RootCertStore,
    clients: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Trusts exactly these CA certificates.
    pub(crate) fn new(ca: &[CertificateDer<'static>]) -> Result<Self, Error> {
        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        for certificate in ca {
            roots.add(certificate.clone())?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { roots, clients, provider })
    }

    /// The cryptography in use.
    pub(crate) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Checks a chain outside of a handshake: leaf first. Both purposes must be allowed.
    pub(crate) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<(), Distrust> {
        let Some((leaf, intermediates)) = chain.split_first() else { return Err(Distrust::NoCertificate) };
        let now = UnixTime::now();
        self.check_server(leaf, intermediates, now).map_err(|error| distrust(&error))?;
        self.clients.verify_client_cert(leaf, intermediates, now).map_err(|error| distrust(&error))?;
        Ok(())
    }

    fn check_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let leaf = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.roots, intermediates, now, algorithms)
    }
}

/// Verifies one handshake. Nodes have no DNS names: a server is believed for its certificate, not for its
/// address, and the caller learns from the certificate whom it has reached.
#[derive(Debug)]
pub(crate) struct Verifier {
    trust: Arc<Trust>,
    verdict: Verdict,
}

impl Verifier {
    /// A verifier for one handshake, and where it will leave its verdict.
    pub(crate) fn new(trust: Arc<Trust>) -> (Arc<Self>, Verdict) {
        let verdict = Verdict::default();
        (Arc::new(Self { trust, verdict: verdict.clone() }), verdict)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verdict.note(self.trust.check_server(leaf, intermediates, now))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verdict.note(self.trust.clients.verify_tls13_signature(message, certificate, signature))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.clients.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The name of the CA is nobody's business before the certificate was shown.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verdict.note(self.trust.clients.verify_client_cert(leaf, intermediates, now))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verdict.note(self.trust.clients.verify_tls13_signature(message, certificate, signature))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.clients.supported_verify_schemes()
    }
}

/// A TLS error in our words.
#[allow(clippy::wildcard_enum_match_arm)] // rustls has its own words for the rest.
pub(crate) fn distrust(error: &Error) -> Distrust {
    let certificate = match error {
        Error::InvalidCertificate(certificate) => certificate,
        Error::NoCertificatesPresented => return Distrust::NoCertificate,
        Error::AlertReceived(alert) => return Distrust::RefusedUs(alert_words(u8::from(*alert))),
        other => return Distrust::Tls(other.to_string()),
    };
    match certificate {
        TlsCertificateError::UnknownIssuer | TlsCertificateError::BadSignature => Distrust::OtherCa,
        TlsCertificateError::ExpiredContext { not_after, .. } => Distrust::Expired(date(not_after.as_secs())),
        TlsCertificateError::Expired => Distrust::Expired("an unknown day".into()),
        TlsCertificateError::NotValidYetContext { not_before, .. } => {
            Distrust::NotYetValid(date(not_before.as_secs()))
        }
        TlsCertificateError::NotValidYet => Distrust::NotYetValid("an unknown day".into()),
        TlsCertificateError::InvalidPurpose | TlsCertificateError::InvalidPurposeContext { .. } => {
            Distrust::WrongPurpose
        }
        other => Distrust::Unusable(CertificateError::Unreadable(other.to_string())),
    }
}

/// What an alert of the other side says about our certificate (RFC 8446, 6.2).
pub(crate) fn alert_words(alert: u8) -> String {
    match alert {
        42 | 43 | 46 => "it cannot use our certificate".into(),
        44 => "our certificate is revoked".into(),
        45 => "our certificate has expired, by its clock".into(),
        // 51: its CA has the name of ours, but another key.
        48 | 51 => "our certificate is not from its CA".into(),
        116 => "it wants a certificate".into(),
        other => format!("TLS alert {other}"),
    }
}

/// aws-lc-rs with TLS 1.3 only, and AES-128 first: it needs the least CPU per byte on any PC of the last decade.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..aws_lc_rs::default_provider()
    }
}
