//! This node's own identity: certificate, key and CA from three PEM files, checked as strictly as a peer's.

use crate::{
    certificate::{CertificateError, Member},
    limits::{CHAIN_MAX, GOSSIP_CHAIN_MAX, PEM_FILE_MAX},
    tls::Tls,
    trust::{Distrust, Trust},
};
use branchmesh_wire::Identity;
use libp2p::identity::{Keypair, ecdsa};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use x509_parser::{
    der_parser::{ber::BerObject, der::parse_der},
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519},
};

/// The identity files do not make a node.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} holds no {expected} in PEM form ({reason})")]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// What was expected in it.
        expected: &'static str,
        /// What was found.
        reason: String,
    },
    /// A kind of key that cannot name a node.
    #[error("the key in {path} is {kind}; issue the device a certificate with an Ed25519 or P-256 key")]
    KeyType {
        /// Which file.
        path: PathBuf,
        /// What it is.
        kind: String,
    },
    /// Key and certificate are of two nodes.
    #[error("the key in {key} does not belong to the certificate in {cert}")]
    KeyMismatch {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        cert: PathBuf,
    },
    /// The certificate is not from this CA, or no longer or not yet valid.
    #[error("{cert}, checked against {ca}: {reason}")]
    Distrusted {
        /// File of the certificate.
        cert: PathBuf,
        /// File of the CA.
        ca: PathBuf,
        /// Why it is not believed.
        reason: Distrust,
    },
    /// The certificate does not name a node, for example for want of a site.
    #[error("the certificate in {cert} {reason}")]
    Certificate {
        /// File of the certificate.
        cert: PathBuf,
        /// What is missing.
        reason: CertificateError,
    },
    /// More intermediate certificates than the gossip has room for.
    #[error(
        "{cert} holds more than {CHAIN_MAX} certificates or {GOSSIP_CHAIN_MAX} bytes; leave the intermediates out and put the issuing CA into the ca file"
    )]
    ChainTooLong {
        /// File of the certificate.
        cert: PathBuf,
    },
    /// The CA cannot be used.
    #[error("the CA in {ca} cannot be used: {reason}")]
    BadCa {
        /// File of the CA.
        ca: PathBuf,
        /// What TLS says.
        reason: String,
    },
}

/// Everything with which a node proves who it is.
#[derive(Clone)]
pub struct Credentials {
    member: Member,
    keypair: Keypair,
    chain: Vec<CertificateDer<'static>>,
    tls: Tls,
}

impl Credentials {
    /// Loads and checks the identity files.
    ///
    /// `cert` holds the device certificate and, after it, intermediates if there are any.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, IdentityError> {
        let roots = certificates(ca)?;
        let trust = Trust::new(&roots)
            .map_err(|error| IdentityError::BadCa { ca: ca.into(), reason: error.to_string() })?;
        let chain = certificates(cert)?;
        check_chain_size(cert, &chain)?;
        let private_key = private_key(key)?;
        trust.check(&chain).map_err(|reason| IdentityError::Distrusted {
            cert: cert.into(),
            ca: ca.into(),
            reason,
        })?;
        let member = Member::of(&chain[0])
            .map_err(|reason| IdentityError::Certificate { cert: cert.into(), reason })?;

        let keypair = libp2p_keypair(&private_key)
            .map_err(|kind| IdentityError::KeyType { path: key.into(), kind: kind.into() })?;
        if keypair.public().to_peer_id() != member.peer {
            return Err(IdentityError::KeyMismatch { key: key.into(), cert: cert.into() });
        }
        let certified = CertifiedKey::from_der(chain.clone(), private_key, trust.provider())
            .map_err(|_| IdentityError::KeyMismatch { key: key.into(), cert: cert.into() })?;
        warn_if_others_can_read(key);
        let tls = Tls::new(Arc::new(trust), Arc::new(certified));
        Ok(Self { member, keypair, chain, tls })
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.member.identity
    }

    /// When the certificate runs out.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.member.expires
    }

    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }
}

impl std::fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("member", &self.member).finish_non_exhaustive()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bytes = read(path)?;
    let expected = "certificate";
    let certificates = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::NotPem { path: path.into(), expected, reason: error.to_string() })?;
    if certificates.is_empty() {
        return Err(IdentityError::NotPem { path: path.into(), expected, reason: "none found".into() });
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| IdentityError::NotPem {
        path: path.into(),
        expected: "private key",
        reason: error.to_string(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PEM_FILE_MAX).read_to_end(&mut bytes))
        .map_err(|source| IdentityError::Unreadable { path: path.into(), source })?;
    Ok(bytes)
}

fn check_chain_size(cert: &Path, chain: &[CertificateDer<'_>]) -> Result<(), IdentityError> {
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    if chain.len() > CHAIN_MAX || bytes > GOSSIP_CHAIN_MAX {
        return Err(IdentityError::ChainTooLong { cert: cert.into() });
    }
    Ok(())
}

/// The same key for libp2p, or what kind of key it is instead.
fn libp2p_keypair(key: &PrivateKeyDer<'_>) -> Result<Keypair, &'static str> {
    const OTHER: &str = "neither Ed25519 nor P-256";
    match key {
        PrivateKeyDer::Pkcs8(pkcs8) => from_pkcs8(pkcs8.secret_pkcs8_der()).ok_or(OTHER),
        PrivateKeyDer::Sec1(sec1) => from_sec1(sec1.secret_sec1_der()).ok_or(OTHER),
        PrivateKeyDer::Pkcs1(_) => Err("RSA"),
        _ => Err(OTHER),
    }
}

/// RFC 5958: SEQUENCE { version, SEQUENCE { algorithm, parameters }, OCTET STRING key, … }.
fn from_pkcs8(der: &[u8]) -> Option<Keypair> {
    let (_, document) = parse_der(der).ok()?;
    let [_version, algorithm, key, ..] = fields(&document)? else { return None };
    let algorithm = fields(algorithm)?;
    let key = key.as_slice().ok()?;
    let oid = algorithm.first()?.as_oid().ok()?;
    if *oid == OID_SIG_ED25519 {
        // RFC 8410: the key is again an OCTET STRING.
        let (_, seed) = parse_der(key).ok()?;
        return Keypair::ed25519_from_bytes(seed.as_slice().ok()?.to_vec()).ok();
    }
    let is_p256 = *oid == OID_KEY_TYPE_EC_PUBLIC_KEY && *algorithm.get(1)?.as_oid().ok()? == OID_EC_P256;
    if is_p256 { from_sec1(key) } else { None }
}

/// RFC 5915: SEQUENCE { version, OCTET STRING scalar, … }. Another curve's scalar makes another public key, which
/// the comparison with the certificate finds.
fn from_sec1(der: &[u8]) -> Option<Keypair> {
    let (_, document) = parse_der(der).ok()?;
    let [_version, scalar, ..] = fields(&document)? else { return None };
    let secret = ecdsa::SecretKey::try_from_bytes(scalar.as_slice().ok()?).ok()?;
    Some(ecdsa::Keypair::from(secret).into())
}

fn fields<'a, 'der>(object: &'a BerObject<'der>) -> Option<&'a [BerObject<'der>]> {
    object.as_sequence().ok().map(Vec::as_slice)
}

#[cfg(unix)]
fn warn_if_others_can_read(key: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = std::fs::metadata(key) else { return };
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(key = %key.display(), "other users can read the device key; run: chmod 600 on it");
    }
}

/// Windows keeps an access list instead, which only its own tools can judge.
#[cfg(not(unix))]
fn warn_if_others_can_read(_key: &Path) {}
