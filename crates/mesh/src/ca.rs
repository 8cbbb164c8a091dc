//! A small certificate authority for organisations that have none at hand.
//!
//! Two files: `ca.pem`, which every node gets, and `ca.key`, which stays with the administrator. Nothing is ever
//! overwritten: a lost CA key means new certificates for everybody, a lost device key a new node.

use crate::{
    certificate::{CertificateError, check_text, san_uris},
    limits::{GROUPS_MAX, PEM_FILE_MAX},
};
pub use branchmesh_wire::Role;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData, SanType,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Certificate of the CA; every node gets a copy.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// Key of the CA; stays with the administrator.
pub const CA_KEY: &str = "ca.key";
/// Certificate of a node.
pub const NODE_CERTIFICATE: &str = "node.pem";
/// Key of a node.
pub const NODE_KEY: &str = "node.key";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A CA outlives the PCs of a branch.
const CA_VALID_DAYS: u32 = 20 * 365;
/// Certificates are valid from this much before they were made, for machines whose clock is slow.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// Making a CA or a device certificate failed.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file is in the way.
    #[error("{0} exists already and is not overwritten; choose another folder, or move it away")]
    Exists(PathBuf),
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not the files that [`init`] writes.
    #[error("{path} is not what `ca init` made: {reason}")]
    BadCa {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name, site or group that cannot be in a certificate.
    #[error("the certificate would be of no use, it {0}")]
    BadRequest(#[from] CertificateError),
    /// The cryptography failed.
    #[error("cannot make the certificate: {0}")]
    Crypto(#[from] rcgen::Error),
}

/// What a device certificate shall say.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// Name of the device.
    pub name: String,
    /// Its site.
    pub site: String,
    /// Its role.
    pub role: Role,
    /// Groups whose images it may hold.
    pub groups: Vec<String>,
    /// Days from now for which it is valid.
    pub valid_days: u32,
}

/// Makes a CA in `dir`.
pub fn init(dir: &Path) -> Result<(), CaError> {
    let (certificate_path, key_path) = (dir.join(CA_CERTIFICATE), dir.join(CA_KEY));
    refuse_existing(&[&certificate_path, &key_path])?;
    let mut params = CertificateParams::default();
    let validity = from_now(CA_VALID_DAYS);
    (params.not_before, params.not_after) = (validity.start.into(), validity.end.into());
    // P-256, because smart cards and other PKI tools that may take over this key know it.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Each CA has a name of its own: TLS looks for the issuer by name, and says so if it is unknown.
    let fingerprint = blake3::hash(&key.subject_public_key_info()).to_hex();
    params.distinguished_name = common_name(&format!("branchmesh CA {}", &fingerprint[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;

    create_dir(dir)?;
    write_new(&key_path, key.serialize_pem().as_bytes(), Secrecy::Private)?;
    write_new(&certificate_path, certificate.pem().as_bytes(), Secrecy::Public)
}

/// Issues a device certificate with a new key: `out` gets `node.pem`, `node.key` and `ca.pem`.
pub fn issue(dir: &Path, request: &IssueRequest, out: &Path) -> Result<(), CaError> {
    issue_for(dir, request, from_now(request.valid_days), out)
}

/// Like [`issue`], with an exact time of validity instead of `valid_days`.
pub fn issue_for(
    dir: &Path,
    request: &IssueRequest,
    validity: Range<SystemTime>,
    out: &Path,
) -> Result<(), CaError> {
    let (certificate_path, key_path) = (out.join(NODE_CERTIFICATE), out.join(NODE_KEY));
    refuse_existing(&[&certificate_path, &key_path])?;
    let mut params = device_params(request)?;
    (params.not_before, params.not_after) = (validity.start.into(), validity.end.into());
    let ca_pem = read_text(&dir.join(CA_CERTIFICATE))?;
    let issuer = issuer(dir, &ca_pem)?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let certificate = params.signed_by(&key, &issuer)?;

    create_dir(out)?;
    write_new(&key_path, key.serialize_pem().as_bytes(), Secrecy::Private)?;
    write_new(&certificate_path, certificate.pem().as_bytes(), Secrecy::Public)?;
    match write_new(&out.join(CA_CERTIFICATE), ca_pem.as_bytes(), Secrecy::Public) {
        // The administrator may have put it there, or `out` is the CA's own folder.
        Err(CaError::Exists(_)) => Ok(()),
        outcome => outcome,
    }
}

fn device_params(request: &IssueRequest) -> Result<CertificateParams, CaError> {
    check_text("name", &request.name)?;
    check_text("site", &request.site)?;
    request.groups.iter().try_for_each(|group| check_text("group", group))?;
    if request.groups.len() > GROUPS_MAX {
        return Err(CertificateError::TooManyGroups.into());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&request.name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    for uri in san_uris(&request.site, request.role, &request.groups) {
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    }
    Ok(params)
}

fn issuer(dir: &Path, ca_pem: &str) -> Result<Issuer<'static, KeyPair>, CaError> {
    let path = dir.join(CA_KEY);
    let key = KeyPair::from_pem(&read_text(&path)?)
        .map_err(|error| CaError::BadCa { path, reason: error.to_string() })?;
    Issuer::from_ca_cert_pem(ca_pem, key)
        .map_err(|error| CaError::BadCa { path: dir.join(CA_CERTIFICATE), reason: error.to_string() })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn from_now(days: u32) -> Range<SystemTime> {
    let now = SystemTime::now();
    now - CLOCK_SKEW..now + DAY * days
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Private,
}

fn refuse_existing(paths: &[&Path]) -> Result<(), CaError> {
    match paths.iter().find(|path| path.exists()) {
        Some(path) => Err(CaError::Exists(path.to_path_buf())),
        None => Ok(()),
    }
}

fn create_dir(dir: &Path) -> Result<(), CaError> {
    fs::create_dir_all(dir).map_err(|source| CaError::File { action: "create", path: dir.into(), source })
}

fn read_text(path: &Path) -> Result<String, CaError> {
    let failed = |source| CaError::File { action: "read", path: path.into(), source };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(PEM_FILE_MAX).read_to_string(&mut text)).map_err(failed)?;
    Ok(text)
}

fn write_new(path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), CaError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    if secrecy == Secrecy::Private {
        owner_only(&mut options);
    }
    let written = options.open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            return CaError::Exists(path.into());
        }
        CaError::File { action: "write", path: path.into(), source }
    })
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

/// Windows has no mode bits: the file inherits the access list of its folder.
#[cfg(not(unix))]
fn owner_only(_options: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> IssueRequest {
        IssueRequest {
            name: "pc-07".into(),
            site: "lyon".into(),
            role: Role::Client,
            groups: vec!["finance".into()],
            valid_days: 30,
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        let key = fs::read(dir.path().join(CA_KEY)).unwrap();
        assert!(matches!(init(dir.path()), Err(CaError::Exists(_))));
        assert_eq!(fs::read(dir.path().join(CA_KEY)).unwrap(), key);

        let out = dir.path().join("node");
        issue(dir.path(), &request(), &out).unwrap();
        assert!(matches!(issue(dir.path(), &request(), &out), Err(CaError::Exists(_))));
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        init(dir.path()).unwrap();
        issue(dir.path(), &request(), &dir.path().join("node")).unwrap();
        for key in [CA_KEY, "node/node.key"] {
            let mode = fs::metadata(dir.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn useless_requests_and_damaged_cas_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("node");
        assert!(matches!(issue(dir.path(), &request(), &out), Err(CaError::File { .. })));
        init(dir.path()).unwrap();
        for site in ["", "a\nb", &"x".repeat(200)] {
            let request = IssueRequest { site: site.into(), ..request() };
            assert!(matches!(issue(dir.path(), &request, &out), Err(CaError::BadRequest(_))), "{site:?}");
        }
        fs::write(dir.path().join(CA_KEY), "not a key").unwrap();
        assert!(matches!(issue(dir.path(), &request(), &out), Err(CaError::BadCa { .. })));
        assert!(!out.exists());
    }
}
