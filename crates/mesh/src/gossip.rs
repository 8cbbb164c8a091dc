//! Statuses in gossipsub: whose word it is.
//!
//! gossipsub signs with the author's key and relays through third nodes, but any key may sign. So each message
//! begins with the author's certificate chain, and is passed on only if the CA signed it, it is of this site, and
//! its key is the one that signed the message. Otherwise one stolen PC could invent a thousand members. That costs
//! about 500 bytes a message.

use crate::{
    certificate::Member,
    limits::{AUTHORS_MAX, CHAIN_MAX, GOSSIP_CHAIN_MAX, STATUSES_BURST, STATUSES_PER_SECOND},
    trust::{Distrust, Trust},
};
use branchmesh_wire::{CodecError, Message, Status};
use libp2p::PeerId;
use rustls_pki_types::CertificateDer;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

/// Most bytes of a message: the chain with its lengths, and the status.
pub(crate) const ENVELOPE_MAX: usize = 1 + CHAIN_MAX * 2 + GOSSIP_CHAIN_MAX + Status::MAX;

/// A message that is not passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GossipError {
    /// Not an envelope.
    #[error("the certificates before the status are damaged")]
    Damaged,
    /// The author is not a member of the site.
    #[error("its author is not of this site: {0}")]
    Author(#[from] Distrust),
    /// Signed with another key than the certificate's.
    #[error("its author signed with another key than that of the certificate")]
    OtherKey,
    /// Not a status, or one of another version.
    #[error("the status {0}")]
    Malformed(#[from] CodecError),
    /// The author says too much.
    #[error("its author sends more than {STATUSES_PER_SECOND} statuses a second")]
    TooOften,
    /// Breaks the limits, or speaks for another node.
    #[error("the status breaks the rules, or is of another version")]
    Unacceptable,
}

/// A member whose chain has been checked.
struct Author {
    member: Member,
    /// Statuses that it may still send now.
    allowance: f64,
    /// When that was.
    seen: Instant,
}

impl Author {
    /// Whether it keeps to its rate: a broken node must not drown out the others.
    fn may_speak(&mut self, now: Instant) -> bool {
        let refilled = (now - self.seen).as_secs_f64() * f64::from(STATUSES_PER_SECOND);
        self.allowance = (self.allowance + refilled).min(f64::from(STATUSES_BURST));
        self.seen = now;
        let allowed = self.allowance >= 1.0;
        self.allowance -= if allowed { 1.0 } else { 0.0 };
        allowed
    }
}

/// Seals our statuses and opens those of others.
pub(crate) struct Gossip {
    trust: Arc<Trust>,
    site: String,
    seal: Vec<u8>,
    /// Chains that have been checked, by hash.
    authors: HashMap<blake3::Hash, Author>,
}

impl Gossip {
    /// For a node of `site` that shows `chain`.
    pub(crate) fn new(trust: Arc<Trust>, site: String, chain: &[CertificateDer<'_>]) -> Self {
        Self { trust, site, seal: seal(chain), authors: HashMap::new() }
    }

    /// The topic of a site. Its name is not shown to those who only see the topic.
    pub(crate) fn topic(site: &str) -> String {
        format!("branchmesh/1/{}", blake3::hash(site.as_bytes()).to_hex())
    }

    /// A message with our status.
    pub(crate) fn seal(&self, status: &Status) -> Vec<u8> {
        [&self.seal[..], &status.to_bytes()].concat()
    }

    /// The status in a message that the key of `author` has signed.
    pub(crate) fn open(
        &mut self,
        author: PeerId,
        message: &[u8],
        now: Instant,
    ) -> Result<Status, GossipError> {
        let (chain, status) = unseal(message).ok_or(GossipError::Damaged)?;
        let sealed = &message[..message.len() - status.len()];
        let known = self.author(sealed, &chain, now)?;
        if known.member.peer != author {
            return Err(GossipError::OtherKey);
        }
        if !known.may_speak(now) {
            return Err(GossipError::TooOften);
        }
        let identity = &known.member.identity;
        let status = Status::from_bytes(status)?;
        if !status.is_acceptable() || status.node != identity.node {
            return Err(GossipError::Unacceptable);
        }
        // Ranks depend on the role: it counts what the CA says, not what the node says of itself.
        let (name, peer_id) = (identity.name.clone(), identity.peer_id.clone());
        Ok(Status { name, peer_id, role: identity.role, ..status })
    }

    fn author(
        &mut self,
        sealed: &[u8],
        chain: &[CertificateDer<'_>],
        now: Instant,
    ) -> Result<&mut Author, Distrust> {
        let hash = blake3::hash(sealed);
        if self.authors.get(&hash).is_none_or(|author| author.member.expires <= SystemTime::now()) {
            self.trust.check(chain)?;
            let member = Member::of(chain.first().ok_or(Distrust::NoCertificate)?)?;
            if member.identity.site != self.site {
                return Err(Distrust::OtherSite(member.identity.site));
            }
            if self.authors.len() >= AUTHORS_MAX {
                self.authors.clear();
            }
            let allowance = f64::from(STATUSES_BURST);
            self.authors.insert(hash, Author { member, allowance, seen: now });
        }
        Ok(self.authors.get_mut(&hash).expect("it was there, or has just been inserted"))
    }
}

/// One byte for the number of certificates; each as a little-endian u16 length and DER.
fn seal(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let count = u8::try_from(chain.len()).expect("the length of the chain was checked when it was loaded");
    let mut bytes = vec![count];
    for certificate in chain {
        let length = u16::try_from(certificate.len()).expect("its bytes were checked when it was loaded");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(certificate);
    }
    bytes
}

fn unseal(message: &[u8]) -> Option<(Vec<CertificateDer<'_>>, &[u8])> {
    let (count, mut rest) = message.split_first()?;
    if usize::from(*count) > CHAIN_MAX {
        return None;
    }
    let mut chain = Vec::with_capacity(usize::from(*count));
    for _ in 0..*count {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (certificate, tail) = tail.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        chain.push(CertificateDer::from(certificate));
        rest = tail;
    }
    Some((chain, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ca::{self, IssueRequest},
        identity::Credentials,
    };
    use branchmesh_wire::{NodeId, Role, WanPolicy, limits::WIRE_VERSION};
    use proptest::prelude::*;
    use std::{path::Path, time::Duration};

    fn credentials(dir: &Path, name: &str, site: &str) -> Credentials {
        if !dir.join(ca::CA_CERTIFICATE).exists() {
            ca::init(dir).unwrap();
        }
        let request = IssueRequest {
            name: name.into(),
            site: site.into(),
            role: Role::Client,
            groups: Vec::new(),
            valid_days: 1,
        };
        let out = dir.join(name);
        ca::issue(dir, &request, &out).unwrap();
        let file = |name| out.join(name);
        Credentials::load(&file("ca.pem"), &file("node.pem"), &file("node.key")).unwrap()
    }

    fn gossip(credentials: &Credentials) -> Gossip {
        let site = credentials.identity().site.clone();
        Gossip::new(credentials.tls().trust().clone(), site, credentials.chain())
    }

    fn status(node: NodeId) -> Status {
        Status {
            version: WIRE_VERSION,
            node,
            name: "a".into(),
            peer_id: "b".into(),
            role: Role::Seed,
            wan_policy: WanPolicy::Fetcher,
            incarnation: 1,
            sequence: 1,
            addresses: Vec::new(),
            fetching: true,
            metadata: 0,
            wan_bytes: 0,
            releases: Vec::new(),
            leaving: false,
        }
    }

    #[test]
    fn a_member_speaks_for_itself_and_the_certificate_for_its_role() {
        let dir = tempfile::tempdir().unwrap();
        let (author, reader) =
            (credentials(dir.path(), "pc-1", "lyon"), credentials(dir.path(), "pc-2", "lyon"));
        let message = gossip(&author).seal(&status(author.identity().node));
        assert!(message.len() < 800, "{} bytes", message.len());
        let mut reader = gossip(&reader);
        for _ in 0..2 {
            let heard = reader.open(author.member().peer, &message, Instant::now()).unwrap();
            assert_eq!((heard.name.as_str(), heard.role), ("pc-1", Role::Client));
            assert_eq!(heard.peer_id, author.identity().peer_id);
        }
        assert_eq!(reader.authors.len(), 1);
    }

    #[test]
    fn nobody_speaks_for_another_or_without_a_certificate_of_the_site() {
        let dir = tempfile::tempdir().unwrap();
        let foreign_dir = tempfile::tempdir().unwrap();
        let author = credentials(dir.path(), "pc-1", "lyon");
        let other = credentials(dir.path(), "pc-2", "lyon");
        let paris = credentials(dir.path(), "pc-3", "paris");
        let foreign = credentials(foreign_dir.path(), "pc-4", "lyon");
        let mut reader = gossip(&other);
        let own = |credentials: &Credentials| gossip(credentials).seal(&status(credentials.identity().node));

        // Another's name under one's own certificate.
        let message = gossip(&author).seal(&status(other.identity().node));
        let error = reader.open(author.member().peer, &message, Instant::now()).unwrap_err();
        assert!(matches!(error, GossipError::Unacceptable), "{error}");
        // Another's certificate under one's own key.
        let error = reader.open(author.member().peer, &own(&other), Instant::now()).unwrap_err();
        assert!(matches!(error, GossipError::OtherKey), "{error}");
        let error = reader.open(paris.member().peer, &own(&paris), Instant::now()).unwrap_err();
        assert!(matches!(error, GossipError::Author(Distrust::OtherSite(_))), "{error}");
        let error = reader.open(foreign.member().peer, &own(&foreign), Instant::now()).unwrap_err();
        assert!(matches!(error, GossipError::Author(Distrust::OtherCa)), "{error}");
        let bare = [&[0][..], &status(author.identity().node).to_bytes()].concat();
        let error = reader.open(author.member().peer, &bare, Instant::now()).unwrap_err();
        assert!(matches!(error, GossipError::Author(Distrust::NoCertificate)), "{error}");
    }

    #[test]
    fn a_remembered_author_expires_with_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let author = credentials(dir.path(), "pc-1", "lyon");
        let message = gossip(&author).seal(&status(author.identity().node));
        let mut reader = gossip(&author);
        reader.open(author.member().peer, &message, Instant::now()).unwrap();
        for remembered in reader.authors.values_mut() {
            remembered.member.expires = SystemTime::now() - Duration::from_secs(1);
        }
        // Asked again, the certificate itself says that it is still valid; it is not the memory that decides.
        reader.open(author.member().peer, &message, Instant::now()).unwrap();
        assert!(reader.authors.values().all(|remembered| remembered.member.expires > SystemTime::now()));
    }

    #[test]
    fn an_author_that_says_too_much_is_not_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let author = credentials(dir.path(), "pc-1", "lyon");
        let message = gossip(&author).seal(&status(author.identity().node));
        let mut reader = gossip(&author);
        let now = Instant::now();
        let mut heard =
            |now| (0..200).filter(|_| reader.open(author.member().peer, &message, now).is_ok()).count();
        assert_eq!(heard(now), STATUSES_BURST as usize);
        assert_eq!(heard(now + Duration::from_secs(1)), STATUSES_PER_SECOND as usize);
        assert_eq!(heard(now + Duration::from_secs(100)), STATUSES_BURST as usize);
    }

    #[test]
    fn any_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let author = credentials(dir.path(), "pc-1", "lyon");
        let message = gossip(&author).seal(&status(author.identity().node));
        let mut reader = gossip(&author);
        let sealed = gossip(&author).seal.len();
        for at in 0..sealed {
            let mut damaged = message.clone();
            damaged[at] ^= 1;
            assert!(reader.open(author.member().peer, &damaged, Instant::now()).is_err(), "byte {at}");
        }
        for length in 0..message.len() {
            assert!(
                reader.open(author.member().peer, &message[..length], Instant::now()).is_err(),
                "{length} bytes"
            );
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some((chain, status)) = unseal(&bytes) {
                prop_assert!(chain.len() <= CHAIN_MAX && status.len() < bytes.len());
            }
        }
    }
}
