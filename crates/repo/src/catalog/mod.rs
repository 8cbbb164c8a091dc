//! What the signed metadata says: the releases of a repository, and where its channels point.

mod facts;
mod gather;

pub(crate) use facts::{Reading, check_labels, read as read_target, target_name, to_custom};
pub(crate) use gather::{SignedTargets, gather};

use crate::{
    requirement::Requirement,
    subscription::{Selector, Subscription},
};
use branchmesh_image::{BlobRef, IndexId, path::NameError};
use std::collections::BTreeMap;

/// The channel that a bare `NAME` means.
pub(crate) const STABLE: &str = "stable";

/// All releases that a verified set of metadata names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Version of the timestamp that it comes from: the higher, the newer.
    pub version: u64,
    /// When the first signature that it as a whole depends on expires, in Unix seconds: those of root, targets,
    /// snapshot and timestamp. Releases of groups may expire earlier.
    pub expires: u64,
    /// Whether that had happened when the catalog was read. What it names may be finished and served; nothing
    /// new may be begun from it, since somebody may be hiding later metadata.
    pub expired: bool,
    /// The releases, in order of publication.
    pub releases: Vec<CatalogEntry>,
    /// Releases of groups that cannot be opened here.
    pub sealed: Vec<SealedRelease>,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Name of the image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// The group whose members may hold it; `None` for a public one.
    pub group: Option<String>,
    /// The root of its index.
    pub root: BlobRef,
    /// The channels that point to it.
    pub channels: Vec<String>,
    /// Free words for people and tools, by name.
    pub labels: BTreeMap<String, String>,
    /// What a machine must have for it.
    pub requires: Vec<Requirement>,
    /// Average bytes of plaintext that a block was cut to.
    pub block_size: u32,
    /// Number of the publication among the public releases, or those of its group: a later one is higher.
    pub sequence: u64,
    /// When it was published, in Unix seconds.
    pub published: u64,
    /// When the signature over its description expires, in Unix seconds.
    pub expires: u64,
    /// Encoded bytes of all its blocks.
    pub encoded_bytes: u64,
    /// Bytes of all its files.
    pub plain_bytes: u64,
    /// How many blocks it has.
    pub blocks: u32,
}

/// A release of a group that cannot be opened here: its names are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRelease {
    /// The group.
    pub group: String,
    /// The name of its index on the wire.
    pub id: IndexId,
    /// Why it stays sealed.
    pub reason: Sealed,
}

/// Why a description stays sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sealed {
    /// The group's content key is not here.
    NoKey,
    /// The content key that is here for the group is not the one that it was sealed with.
    WrongKey,
}

/// The releases of a group that stay sealed for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedGroup {
    /// The group.
    pub group: String,
    /// How many releases.
    pub releases: u64,
    /// Why.
    pub reason: Sealed,
}

/// Signed metadata that is no catalog: a publisher's mistake.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A target without the facts, or with others.
    #[error("the release {name:?} has no readable description")]
    Facts {
        /// The target.
        name: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The facts contradict the target, or are impossible.
    #[error("the description of the release {name:?} contradicts itself: {reason}")]
    Inconsistent {
        /// The target.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name that cannot be used.
    #[error("a release has a name that is not allowed")]
    Name(#[from] NameError),
}

impl Catalog {
    /// The release `image@release`.
    #[must_use]
    pub fn find(&self, image: &str, release: &str) -> Option<&CatalogEntry> {
        self.releases.iter().find(|entry| entry.image == image && entry.release == release)
    }

    /// The release that `selector` means for `image`.
    #[must_use]
    pub fn resolve(&self, image: &str, selector: &Selector) -> Option<&CatalogEntry> {
        match selector {
            Selector::Current => self.channel(image, STABLE).or_else(|| self.newest(image)),
            Selector::Named(name) => self.channel(image, name).or_else(|| self.find(image, name)),
        }
    }

    /// The releases that `subscription` means: at most one of each image.
    #[must_use]
    pub fn matching(&self, subscription: &Subscription) -> Vec<&CatalogEntry> {
        match subscription {
            Subscription::Image { image, selector } => self.resolve(image, selector).into_iter().collect(),
            Subscription::All => {
                self.images().filter_map(|image| self.resolve(image, &Selector::Current)).collect()
            }
        }
    }

    /// The names of all images, sorted.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let images: BTreeMap<&str, ()> =
            self.releases.iter().map(|entry| (entry.image.as_str(), ())).collect();
        images.into_keys()
    }

    /// What cannot be opened here, by group.
    #[must_use]
    pub fn sealed_groups(&self) -> Vec<SealedGroup> {
        let mut groups: Vec<SealedGroup> = Vec::new();
        for SealedRelease { group, reason, .. } in &self.sealed {
            match groups.iter_mut().find(|known| known.group == *group && known.reason == *reason) {
                Some(known) => known.releases += 1,
                None => groups.push(SealedGroup { group: group.clone(), releases: 1, reason: *reason }),
            }
        }
        groups
    }

    fn channel(&self, image: &str, channel: &str) -> Option<&CatalogEntry> {
        // A channel points to one release; should two claim it, the later publication wins.
        self.releases
            .iter()
            .rev()
            .find(|entry| entry.image == image && entry.channels.iter().any(|candidate| candidate == channel))
    }

    fn newest(&self, image: &str) -> Option<&CatalogEntry> {
        self.releases.iter().rev().find(|entry| entry.image == image)
    }
}

impl CatalogEntry {
    /// Its name on the wire.
    #[must_use]
    pub fn id(&self) -> IndexId {
        IndexId(self.root.id.0)
    }

    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.image, self.release)
    }
}

impl SealedGroup {
    /// What an administrator can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        let group = &self.group;
        match self.reason {
            Sealed::NoKey => format!(
                "the group's content key is not here: give it with --content-key {group}=FILE, or the folder of all keys with --keys DIR"
            ),
            Sealed::WrongKey => {
                "the content key that was given for the group is not the one that they were sealed with"
                    .into()
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use branchmesh_image::{BlockId, PlainHash};

    pub(crate) fn entry(image: &str, release: &str, sequence: u64, channels: &[&str]) -> CatalogEntry {
        let root = BlobRef {
            id: BlockId::of(format!("encoded {release}").as_bytes()),
            plain: PlainHash::of(release.as_bytes()),
            encoded_len: 100,
            plain_len: 200,
        };
        CatalogEntry {
            image: image.into(),
            release: release.into(),
            group: None,
            root,
            channels: channels.iter().map(|&channel| channel.to_owned()).collect(),
            labels: BTreeMap::new(),
            requires: Vec::new(),
            block_size: 64 << 10,
            sequence,
            published: 1_700_000_000,
            expires: 2_000_000_000,
            encoded_bytes: 5000,
            plain_bytes: 9000,
            blocks: 3,
        }
    }

    fn catalog() -> Catalog {
        let releases = vec![
            entry("xp", "6", 1, &["stable"]),
            entry("xp", "7", 2, &["pilot"]),
            entry("kiosk", "1", 3, &[]),
            entry("kiosk", "2", 4, &[]),
        ];
        Catalog { version: 4, expires: 0, expired: false, releases, sealed: Vec::new() }
    }

    fn resolved(text: &str) -> Vec<String> {
        let catalog = catalog();
        catalog.matching(&text.parse().unwrap()).into_iter().map(CatalogEntry::name).collect()
    }

    #[test]
    fn a_name_means_stable_then_the_newest_a_channel_comes_before_a_release() {
        assert_eq!(resolved("xp"), ["xp@6"]);
        assert_eq!(resolved("kiosk"), ["kiosk@2"]);
        assert_eq!(resolved("xp@pilot"), ["xp@7"]);
        assert_eq!(resolved("kiosk@1"), ["kiosk@1"]);
        assert_eq!(resolved("*"), ["kiosk@2", "xp@6"]);
        assert_eq!(resolved("xp@9"), [""; 0]);
        assert_eq!(resolved("win@7"), [""; 0]);
    }
}
