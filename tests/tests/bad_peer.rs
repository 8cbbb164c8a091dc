//! Bad input from other nodes: a rotten store, a stranger, an expired certificate.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    free_address::free_address,
    hq::{Headquarters, files_below, flip_bit},
    loopback::{IMAGE, Loopback},
    nginx::Manner,
    node::Node,
    skip::{Need, have_all},
    wait,
};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    SanType,
};
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

const BYTES: u64 = 6 << 20;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_flipped_bit_in_a_peers_store_is_noticed_and_healed_from_the_origin() {
    if !have_all("bit-store", &[Need::Program("nginx")]) {
        return;
    }
    let world = Loopback::new("bit-store");
    let (source, _) = world.publish(BYTES);
    let address = free_address();
    let nginx = world.serve_at(address, Manner::Proper);
    let mut rotten = world.node("rotten", &[nginx.url()]);
    rotten.start();
    rotten.wait_complete(IMAGE, "1", LIMIT);
    rotten.stop();
    drop(nginx);
    let packs = files_below(&rotten.settings.data_dir.join("store/packs"));
    assert!(!packs.is_empty(), "the node's store has no packs");
    packs.iter().for_each(|pack| flip_bit(pack));

    rotten.start();
    let mut other = world.node("other", &[&format!("http://{address}")]);
    other.settings.bootstrap = vec![rotten.settings.listen.to_string()];
    other.start();
    let status = other.wait_for("having all that is intact", LIMIT, |status| {
        status
            .release(IMAGE, "1")
            .is_some_and(|release| release.blocks.total - release.blocks.have == packs.len() as u64)
    });
    let release = status.release(IMAGE, "1").unwrap();
    assert_ne!(release.bytes.lan, 0, "{release:?}");
    assert!(!other.release_folder(IMAGE, "1").exists(), "files are in place without all blocks");

    let _nginx = world.serve_at(address, Manner::Proper);
    other.wait_complete(IMAGE, "1", Duration::from_secs(90));
    assert_eq!(other.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
}

#[test]
fn a_node_of_another_ca_gets_nowhere() {
    let world = Loopback::new("other-ca");
    world.publish(BYTES);
    let mut member = world.node("member", &[&world.folder_origin()]);
    member.start();
    member.wait_complete(IMAGE, "1", LIMIT);

    let strangers = Headquarters::new(&world.path().join("elsewhere"));
    let mut stranger = world.node("stranger", &[]);
    let identity = world.path().join("stranger-identity");
    strangers.issue("stranger", "desk", &[], &identity);
    stranger.settings.identity.ca = identity.join("ca.pem");
    stranger.settings.identity.cert = identity.join("node.pem");
    stranger.settings.identity.key = identity.join("node.key");
    is_refused(&mut member, &mut stranger, &["certificate"]);
}

#[test]
fn a_node_whose_certificate_has_expired_gets_nowhere() {
    let world = Loopback::new("expired-peer");
    world.publish(BYTES);
    let mut stranger = world.node("late", &[]);
    // It starts while its certificate is valid, and meets the others when it is not any more.
    let valid = Duration::from_secs(8);
    let end = SystemTime::now() + valid;
    issue_until(&world.hq, end, &stranger);
    stranger.start();
    stranger.wait_for("up", valid, |_| true);
    thread::sleep(end.duration_since(SystemTime::now()).unwrap_or_default() + Duration::from_secs(1));

    let mut member = world.node("member", &[&world.folder_origin()]);
    member.settings.bootstrap = vec![stranger.settings.listen.to_string()];
    member.start();
    member.wait_complete(IMAGE, "1", LIMIT);
    expect_refusal(&mut member, &mut stranger, &["expired"]);
}

#[test]
fn an_expired_certificate_is_named_at_the_start() {
    let world = Loopback::new("expired-own");
    let mut node = world.node("late", &[]);
    issue_until(&world.hq, SystemTime::now() - Duration::from_secs(3600), &node);
    let cert = node.settings.identity.cert.display().to_string();
    node.start();
    expect_failed_start(&mut node, &["expired", &cert]);
}

#[test]
fn a_certificate_of_another_ca_is_named_at_the_start() {
    let world = Loopback::new("wrong-ca");
    let strangers = Headquarters::new(&world.path().join("elsewhere"));
    let mut node = world.node("pc-01", &[]);
    node.settings.identity.ca = strangers.ca().join("ca.pem");
    node.start();
    expect_failed_start(&mut node, &["CA"]);
}

/// Starts a stranger that knows a member's address, and sees it refused.
#[track_caller]
fn is_refused(member: &mut Node, stranger: &mut Node, words: &[&str]) {
    stranger.settings.bootstrap = vec![member.settings.listen.to_string()];
    stranger.start();
    expect_refusal(member, stranger, words);
}

#[track_caller]
fn expect_refusal(member: &mut Node, stranger: &mut Node, words: &[&str]) {
    let said = wait::until(LIMIT, || {
        let log = member.log().to_lowercase();
        words.iter().all(|word| log.contains(&word.to_lowercase())).then_some(())
    });
    assert!(said.is_some(), "the member's log does not say {words:?}\n{}", member.agent().tail());
    for node in [member, &mut *stranger] {
        let status = node.status().expect("refusing and being refused ends no agent");
        let connected = status.peers.iter().filter(|peer| peer.state == "connected").count();
        assert_eq!((status.site.members, connected), (1, 0), "{status:#?}");
    }
    assert!(!stranger.release_folder(IMAGE, "1").exists(), "the stranger has the image");
    assert!(stranger.status().is_some_and(|status| status.releases.is_empty()), "it knows of the release");
}

#[track_caller]
fn expect_failed_start(node: &mut Node, words: &[&str]) {
    let status = node.agent().wait(Duration::from_secs(20));
    let log = node.log();
    assert!(status.is_some_and(|status| status.code().is_some_and(|code| code != 0 && code != 101)), "{log}");
    let missing: Vec<_> =
        words.iter().filter(|word| !log.to_lowercase().contains(&word.to_lowercase())).collect();
    assert!(missing.is_empty(), "it does not say {missing:?}:\n{log}");
}

/// Gives a node a certificate that is valid until `end`, made as an organisation's own PKI would make it.
fn issue_until(hq: &Headquarters, end: SystemTime, node: &Node) {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let ca_key = KeyPair::from_pem(&read(&hq.ca().join("ca.key"))).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read(&hq.ca().join("ca.pem")), ca_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, node.name.as_str());
    params.not_before = (end - Duration::from_secs(24 * 3600)).into();
    params.not_after = end.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    for uri in ["branchmesh:site:desk", "branchmesh:role:client"] {
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    }
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(&node.settings.identity.cert, certificate.pem()).unwrap();
    fs::write(&node.settings.identity.key, key.serialize_pem()).unwrap();
}
