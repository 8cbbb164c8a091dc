//! A private CA, and a web server's certificate of it.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use std::{fs, net::IpAddr, path::Path};

/// The CA's certificate, in the server's folder.
pub const CA: &str = "ca.pem";
/// The server's certificate.
pub const CERTIFICATE: &str = "tls.pem";
/// Its key.
pub const KEY: &str = "tls.key";

/// Makes a CA, and lets it issue a certificate for a server at `address`; all files go into `folder`.
///
/// # Panics
/// If they cannot be made or written.
pub fn issue(folder: &Path, address: IpAddr) {
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text)
            .unwrap_or_else(|error| panic!("cannot write {name} into {}: {error}", folder.display()));
    };
    let key = || KeyPair::generate().expect("the machine has randomness");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "private test CA");
    let ca_key = key();
    let ca_certificate = ca.self_signed(&ca_key).expect("the parameters are complete");
    write(CA, ca_certificate.pem());

    let mut server = CertificateParams::default();
    server.subject_alt_names = vec![SanType::IpAddress(address)];
    let server_key = key();
    let issuer = Issuer::from_params(&ca, &ca_key);
    let certificate = server.signed_by(&server_key, &issuer).expect("the parameters are complete");
    write(CERTIFICATE, certificate.pem());
    write(KEY, server_key.serialize_pem());
}
