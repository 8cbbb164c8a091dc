//! Who is let in, who is not, and in which words.

use crate::hostile::{Outsider, tls_client};
use crate::support::{IdentityFiles, Node, Organisation, load, status};
use branchmesh_mesh::{CertificateError, Credentials, Distrust, Event, IdentityError};
use quinn::ConnectionError;
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, SystemTime},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn expired(organisation: &Organisation) -> IdentityFiles {
    let now = SystemTime::now();
    organisation.issue_for("pc-expired", "lyon", now - 3 * DAY..now - DAY)
}

#[tokio::test]
async fn nodes_of_another_ca_are_refused_on_both_sides() {
    let (ours, theirs) = (Organisation::new(), Organisation::new());
    let mut node = ours.start("pc-1", &[]).await;
    let mut stranger = theirs.start("pc-2", &[&node]).await;

    let (address, reason) = stranger.refused().await;
    assert_eq!(
        (address, reason.as_str()),
        (node.address(), "the certificate is not from this organisation's CA")
    );
    let (address, reason) = node.refused().await;
    assert_eq!(address.ip(), node.address().ip());
    assert_eq!(reason, "it does not accept this node: our certificate is not from its CA");
    assert!(node.leftovers().is_empty() && stranger.leftovers().is_empty());
}

#[tokio::test]
async fn outsiders_get_a_tls_alert_and_not_one_byte_more_on_the_data_plane() {
    let ours = Organisation::new();
    let mut node = ours.start("pc-1", &[]).await;
    let theirs = Organisation::new();
    let foreign = theirs.issue("pc-2", "lyon");
    let expired = expired(&ours);
    for (identity, alert, words) in [
        (None, 116, "it showed no certificate"),
        (Some(&foreign), 48, "the certificate is not from this organisation's CA"),
        (Some(&expired), 45, "the certificate expired on "),
    ] {
        // It takes any server for its friend, so that only the node can refuse.
        let outsider = Outsider::new(identity);
        let closed = match outsider.connect(node.address()).await {
            // In TLS 1.3 a client is done before the server has looked at its certificate.
            Ok(connection) => {
                let stream = connection.accept_uni().await;
                assert!(stream.is_err(), "the outsider was greeted");
                connection.closed().await
            }
            Err(error) => error,
        };
        let ConnectionError::ConnectionClosed(close) = &closed else { panic!("{words}: {closed:?}") };
        assert_eq!(u64::from(close.error_code), 0x100 + alert, "{words}");
        let (address, reason) = node.refused().await;
        assert_eq!(address, outsider.address());
        assert!(reason.starts_with(words), "{reason}");
    }
    assert!(node.leftovers().is_empty());
}

#[tokio::test]
async fn outsiders_get_a_tls_alert_and_not_one_byte_more_on_the_control_plane() {
    let ours = Organisation::new();
    let mut node = ours.start("pc-1", &[]).await;
    let theirs = Organisation::new();
    let foreign = theirs.issue("pc-2", "lyon");
    let expired = expired(&ours);
    for (identity, words) in [
        (None, "it showed no certificate"),
        (Some(&foreign), "the certificate is not from this organisation's CA"),
        (Some(&expired), "the certificate expired on "),
    ] {
        let config = tls_client(identity, b"branchmesh-control/1");
        let received = tokio::task::spawn_blocking({
            let address = node.address();
            move || talk_tls(address, config)
        })
        .await
        .unwrap();
        assert_eq!(received, 0, "{words}");
        let (_, reason) = node.refused().await;
        assert!(reason.starts_with(words), "{reason}");
    }
    assert!(node.leftovers().is_empty());
}

/// Handshakes, sends something, and counts what comes back before the connection ends.
fn talk_tls(address: SocketAddr, config: rustls::ClientConfig) -> usize {
    let name = "node.invalid".try_into().unwrap();
    let connection = rustls::ClientConnection::new(config.into(), name).unwrap();
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, tcp);
    let _ = stream.write_all(b"hello, is anybody there?");
    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).expect_err("the node ended the connection in peace");
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the node did not end the connection");
    received.len()
}

#[tokio::test]
async fn sites_do_not_mix() {
    let organisation = Organisation::new();
    let mut lyon = organisation.start("pc-lyon", &[]).await;
    let files = organisation.issue("pc-paris", "paris");
    let mut paris = Node::start(files.load(), &[lyon.address()]).await;
    let (address, reason) = paris.refused().await;
    assert_eq!((address, reason.as_str()), (lyon.address(), "it belongs to the site \"lyon\""));
    let (_, reason) = lyon.refused().await;
    assert!(reason.contains("site"), "{reason}");
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    assert!(!lyon.leftovers().iter().any(connected) && !paris.leftovers().iter().any(connected));
}

#[tokio::test]
async fn a_company_ca_may_issue_p256_keys() {
    let organisation = Organisation::new();
    let files = organisation.issue_by_hand(
        "pc-p256",
        &PKCS_ECDSA_P256_SHA256,
        &["branchmesh:site:lyon", "branchmesh:role:seed", "https://example.com/other"],
    );
    let mut ed25519 = organisation.start("pc-1", &[]).await;
    let mut p256 = Node::start(files.load(), &[ed25519.address()]).await;
    p256.meet(&mut ed25519).await;
    // Its PeerId is a hash, from which no key can be read: gossip has to carry it.
    p256.mesh.gossip(status(&p256, 1));
    ed25519.status_of(p256.id(), 1).await;
    ed25519.mesh.gossip(status(&ed25519, 1));
    p256.status_of(ed25519.id(), 1).await;
}

#[test]
fn identities_that_do_not_make_a_node_are_explained() {
    let organisation = Organisation::new();
    let good = organisation.issue("pc-1", "lyon");
    let (ca, cert, key) = (good.path("ca.pem"), good.path("node.pem"), good.path("node.key"));
    let identity = good.load();
    assert_eq!(identity.identity().site, "lyon");
    assert!(identity.expires() > SystemTime::now());

    let missing = good.path("missing.pem");
    for (ca, cert, key) in [(&missing, &cert, &key), (&ca, &missing, &key), (&ca, &cert, &missing)] {
        let error = Credentials::load(ca, cert, key).unwrap_err();
        assert!(matches!(&error, IdentityError::Unreadable { path, .. } if *path == missing), "{error}");
    }
    let garbage = good.path("garbage.pem");
    fs::write(&garbage, b"\xff\x00 not PEM").unwrap();
    for (ca, cert, key) in
        [(&garbage, &cert, &key), (&ca, &garbage, &key), (&ca, &cert, &garbage), (&ca, &cert, &ca)]
    {
        let error = Credentials::load(ca, cert, key).unwrap_err();
        assert!(matches!(error, IdentityError::NotPem { .. }), "{error}");
    }

    let other = organisation.issue("pc-2", "lyon");
    let error = Credentials::load(&ca, &cert, &other.path("node.key")).unwrap_err();
    assert!(matches!(error, IdentityError::KeyMismatch { .. }), "{error}");
    let foreign = Organisation::new();
    let foreign_ca = foreign.ca_dir().join("ca.pem");
    let error = Credentials::load(&foreign_ca, &cert, &key).unwrap_err();
    assert!(matches!(error, IdentityError::Distrusted { reason: Distrust::OtherCa, .. }), "{error}");
    let old = expired(&organisation);
    let error = Credentials::load(&ca, &old.path("node.pem"), &old.path("node.key")).unwrap_err();
    assert!(matches!(error, IdentityError::Distrusted { reason: Distrust::Expired(_), .. }), "{error}");
    assert!(error.to_string().contains("expired on"), "{error}");
    let now = SystemTime::now();
    let early = organisation.issue_for("pc-early", "lyon", now + DAY..now + 2 * DAY);
    let error = Credentials::load(&ca, &early.path("node.pem"), &early.path("node.key")).unwrap_err();
    assert!(matches!(error, IdentityError::Distrusted { reason: Distrust::NotYetValid(_), .. }), "{error}");
}

#[test]
fn certificates_that_name_no_node_are_explained() {
    let organisation = Organisation::new();
    let issue = |name: &str, algorithm, san: &[&str]| {
        let files = organisation.issue_by_hand(name, algorithm, san);
        Credentials::load(&files.path("ca.pem"), &files.path("node.pem"), &files.path("node.key"))
            .unwrap_err()
    };
    let p256 = &PKCS_ECDSA_P256_SHA256;
    for (number, (san, expected)) in [
        (&["branchmesh:role:seed"][..], CertificateError::NoSite),
        (&[], CertificateError::NoSite),
        (&["branchmesh:site:"], CertificateError::BadText { what: "site" }),
        (&["branchmesh:site:a%0"], CertificateError::BadText { what: "site" }),
        (&["branchmesh:site:a%0Ab"], CertificateError::BadText { what: "site" }),
        (&["branchmesh:site:lyon", "branchmesh:role:king"], CertificateError::UnknownRole("king".into())),
    ]
    .into_iter()
    .enumerate()
    {
        let error = issue(&format!("bad-{number}"), p256, san);
        assert!(
            matches!(&error, IdentityError::Certificate { reason, .. } if *reason == expected),
            "{error}"
        );
    }
    let error = issue("p384", &PKCS_ECDSA_P384_SHA384, &["branchmesh:site:lyon"]);
    let IdentityError::Certificate { reason: CertificateError::KeyType(_), .. } = error else {
        panic!("{error}")
    };
}

#[test]
fn sites_and_groups_may_have_any_name() {
    let organisation = Organisation::new();
    let site = "Saint-Étienne / 2e étage: 50 %";
    let files = organisation.issue("pc-1", site);
    assert_eq!(load(&files.dir, &files.dir).identity().site, site);
}
