//! What a device certificate says: who the node is, and where its key leads.
//!
//! The CN is the device's name; SAN URIs `branchmesh:site:…`, `branchmesh:role:…` and `branchmesh:group:…` carry
//! the rest, percent-encoded. Nothing here checks who signed: callers hand in certificates that TLS has
//! verified, or that [`Trust`](crate::trust::Trust) has.

use crate::limits::GROUPS_MAX;
use branchmesh_wire::{Identity, NodeId, Role, limits::NAME_MAX};
use libp2p::{
    PeerId,
    identity::{PublicKey, ecdsa, ed25519},
};
use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519},
    prelude::FromDer,
    time::ASN1Time,
};

const SITE: &str = "branchmesh:site:";
const ROLE: &str = "branchmesh:role:";
const GROUP: &str = "branchmesh:group:";

/// A certificate that cannot name a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CertificateError {
    /// Not X.509, or damaged.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// A kind of key that libp2p cannot name.
    #[error("has a key of type {0}; use Ed25519 or P-256")]
    KeyType(String),
    /// No `branchmesh:site:` in the SAN.
    #[error("names no site; it needs a SAN URI such as branchmesh:site:lyon")]
    NoSite,
    /// No CN.
    #[error("has no common name (CN), which is the name of the device")]
    NoName,
    /// Empty, too long, control characters, or not percent-encoded.
    #[error("has an unusable {what}: 1 to {NAME_MAX} bytes without control characters are expected")]
    BadText {
        /// Which text.
        what: &'static str,
    },
    /// A role that this version does not know.
    #[error("has the role {0:?}; known are seed and client")]
    UnknownRole(String),
    /// More groups than anyone needs.
    #[error("names more than {GROUPS_MAX} groups")]
    TooManyGroups,
}

/// A node as its certificate describes it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Who.
    pub(crate) identity: Identity,
    /// libp2p's name of its key.
    pub(crate) peer: PeerId,
    /// Until when the certificate is valid.
    pub(crate) expires: SystemTime,
}

impl Member {
    /// Reads a certificate whose signature has been checked.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| CertificateError::Unreadable(error.to_string()))?;
        let peer = public_key(&parsed)?.to_peer_id();
        let mut identity = Identity {
            node: NodeId::of_public_key(parsed.public_key().raw),
            peer_id: peer.to_string(),
            name: common_name(&parsed)?,
            site: String::new(),
            role: Role::Client,
            groups: Vec::new(),
        };
        read_san(&parsed, &mut identity)?;
        if identity.site.is_empty() {
            return Err(CertificateError::NoSite);
        }
        Ok(Self { identity, peer, expires: system_time(parsed.validity().not_after) })
    }
}

/// A moment as text, for messages.
pub(crate) fn date(seconds_since_epoch: u64) -> String {
    i64::try_from(seconds_since_epoch)
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .map_or_else(|| format!("second {seconds_since_epoch}"), |time| time.to_string())
}

/// The SAN URIs of a certificate with this site, role and groups.
pub(crate) fn san_uris(site: &str, role: Role, groups: &[String]) -> Vec<String> {
    let role = match role {
        Role::Seed => "seed",
        Role::Client => "client",
    };
    let mut uris = vec![format!("{SITE}{}", percent_encode(site)), format!("{ROLE}{role}")];
    uris.extend(groups.iter().map(|group| format!("{GROUP}{}", percent_encode(group))));
    uris
}

/// Checks a name, site or group.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), CertificateError> {
    let usable = !text.is_empty() && text.len() <= NAME_MAX && !text.chars().any(char::is_control);
    usable.then_some(()).ok_or(CertificateError::BadText { what })
}

fn public_key(certificate: &X509Certificate<'_>) -> Result<PublicKey, CertificateError> {
    let spki = certificate.public_key();
    let unreadable = |error: &dyn std::fmt::Display| CertificateError::Unreadable(error.to_string());
    if spki.algorithm.algorithm == OID_SIG_ED25519 {
        let key = ed25519::PublicKey::try_from_bytes(&spki.subject_public_key.data);
        return Ok(key.map_err(|error| unreadable(&error))?.into());
    }
    if spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        // libp2p knows only P-256 of the elliptic curves.
        let key = ecdsa::PublicKey::try_decode_der(spki.raw);
        return key
            .map(PublicKey::from)
            .map_err(|_| CertificateError::KeyType("another elliptic curve".into()));
    }
    Err(CertificateError::KeyType(spki.algorithm.algorithm.to_id_string()))
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<String, CertificateError> {
    let name = certificate.subject().iter_common_name().next().ok_or(CertificateError::NoName)?;
    let name = name.as_str().map_err(|_| CertificateError::BadText { what: "name" })?;
    check_text("name", name)?;
    Ok(name.to_owned())
}

fn read_san(certificate: &X509Certificate<'_>, identity: &mut Identity) -> Result<(), CertificateError> {
    let san = certificate
        .subject_alternative_name()
        .map_err(|error| CertificateError::Unreadable(error.to_string()))?
        .ok_or(CertificateError::NoSite)?;
    for name in &san.value.general_names {
        let GeneralName::URI(uri) = name else { continue };
        if let Some(site) = uri.strip_prefix(SITE) {
            identity.site = decoded("site", site)?;
        } else if let Some(role) = uri.strip_prefix(ROLE) {
            identity.role = match role {
                "seed" => Role::Seed,
                "client" => Role::Client,
                other => return Err(CertificateError::UnknownRole(other.to_owned())),
            };
        } else if let Some(group) = uri.strip_prefix(GROUP) {
            identity.groups.push(decoded("group", group)?);
        }
    }
    if identity.groups.len() > GROUPS_MAX {
        return Err(CertificateError::TooManyGroups);
    }
    Ok(())
}

fn decoded(what: &'static str, encoded: &str) -> Result<String, CertificateError> {
    let text = percent_decode(encoded).ok_or(CertificateError::BadText { what })?;
    check_text(what, &text)?;
    Ok(text)
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

fn system_time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_readable() {
        assert!(date(0).contains("1970"), "{}", date(0));
        assert!(date(u64::MAX).starts_with("second"));
    }

    proptest! {
        #[test]
        fn any_text_survives_percent_encoding(text in ".{0,60}") {
            let encoded = percent_encode(&text);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decode(&encoded), Some(text));
        }

        #[test]
        fn hostile_text_and_certificates_never_panic(text in "[%0-9a-fA-F]{0,12}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = percent_decode(&text);
            prop_assert!(Member::of(&CertificateDer::from(bytes)).is_err());
        }
    }
}
