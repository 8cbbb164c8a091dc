//! What the signed metadata says: the releases of a repository, and where its channels point.
//!
//! A release is one TUF target named `<image>@<release>`: its length and hash are those of the encoded index
//! root, and its custom field `branchmesh` holds the facts that a node needs before it has the index.

use crate::subscription::{Selector, Subscription};
use branchmesh_image::{
    BlobRef, BlockId, IndexId, PlainHash,
    block::BLOCK_ENCODED_MAX,
    chunk::BLOCK_PLAIN_MAX,
    index::ROOT_PLAIN_MAX,
    path::{self, NameError},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The channel that a bare `NAME` means.
pub(crate) const STABLE: &str = "stable";

/// Version of the facts in a target's custom field. A release with a later one is not for this program.
const FACTS_VERSION: u16 = 1;
/// Key of the custom field.
const FACTS_KEY: &str = "branchmesh";
/// What encoding can add to an index root: the same as to a block.
const ENCODING_OVERHEAD: usize = BLOCK_ENCODED_MAX - BLOCK_PLAIN_MAX;

/// All releases that a verified set of metadata names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// Version of the timestamp that it comes from: the higher, the newer.
    pub version: u64,
    /// When the first of its signatures expires, in Unix seconds.
    pub expires: u64,
    /// Whether that had happened when the catalog was read. What it names may be finished and served; nothing
    /// new may be begun from it, since somebody may be hiding later metadata.
    pub expired: bool,
    /// The releases, in order of publication.
    pub releases: Vec<CatalogEntry>,
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
    /// Number of the publication in this repository: a later one is higher.
    pub sequence: u64,
    /// When it was published, in Unix seconds.
    pub published: u64,
    /// Encoded bytes of all its blocks.
    pub encoded_bytes: u64,
    /// Bytes of all its files.
    pub plain_bytes: u64,
    /// How many blocks it has.
    pub blocks: u32,
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

/// A [`CatalogEntry`] as JSON.
#[derive(Serialize, Deserialize)]
struct Facts {
    version: u16,
    image: String,
    release: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    root: RootFacts,
    channels: Vec<String>,
    sequence: u64,
    published: u64,
    encoded_bytes: u64,
    plain_bytes: u64,
    blocks: u32,
}

/// A [`BlobRef`] as JSON, hashes in hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct RootFacts {
    id: String,
    plain: String,
    encoded_len: u32,
    plain_len: u32,
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

    /// Its name for people, and as a TUF target.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.image, self.release)
    }

    /// The custom field of its target.
    pub(crate) fn to_custom(&self) -> HashMap<String, serde_json::Value> {
        let facts = Facts {
            version: FACTS_VERSION,
            image: self.image.clone(),
            release: self.release.clone(),
            group: self.group.clone(),
            root: RootFacts {
                id: self.root.id.to_string(),
                plain: self.root.plain.to_string(),
                encoded_len: self.root.encoded_len,
                plain_len: self.root.plain_len,
            },
            channels: self.channels.clone(),
            sequence: self.sequence,
            published: self.published,
            encoded_bytes: self.encoded_bytes,
            plain_bytes: self.plain_bytes,
            blocks: self.blocks,
        };
        let facts = serde_json::to_value(facts).expect("strings and integers are JSON");
        HashMap::from([(FACTS_KEY.to_owned(), facts)])
    }

    /// Reads the custom field of the target `name` of `length` bytes; `None` if it was written for a later
    /// version of this program.
    pub(crate) fn from_custom(
        name: &str,
        length: u64,
        custom: &HashMap<String, serde_json::Value>,
    ) -> Result<Option<Self>, CatalogError> {
        let unreadable = |source| CatalogError::Facts { name: name.into(), source };
        let facts = custom.get(FACTS_KEY).cloned().unwrap_or_default();
        let version = facts.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
        if version > u64::from(FACTS_VERSION) {
            return Ok(None);
        }
        let facts: Facts = serde_json::from_value(facts).map_err(unreadable)?;
        let entry = Self {
            root: facts.root.to_blob().ok_or_else(|| CatalogError::Inconsistent {
                name: name.into(),
                reason: "its index has no readable hash",
            })?,
            image: facts.image,
            release: facts.release,
            group: facts.group,
            channels: facts.channels,
            sequence: facts.sequence,
            published: facts.published,
            encoded_bytes: facts.encoded_bytes,
            plain_bytes: facts.plain_bytes,
            blocks: facts.blocks,
        };
        entry.check(name, length)?;
        Ok(Some(entry))
    }

    fn check(&self, name: &str, length: u64) -> Result<(), CatalogError> {
        path::check_name(&self.image)?;
        path::check_name(&self.release)?;
        self.group.iter().chain(&self.channels).try_for_each(|name| path::check_name(name))?;
        let inconsistent = |reason| Err(CatalogError::Inconsistent { name: name.into(), reason });
        if self.name() != name {
            return inconsistent("it describes another release");
        }
        if u64::from(self.root.encoded_len) != length {
            return inconsistent("its index has two lengths");
        }
        let plain = self.root.plain_len as usize;
        if plain > ROOT_PLAIN_MAX || self.root.encoded_len as usize > plain + ENCODING_OVERHEAD {
            return inconsistent("its index is larger than an index can be");
        }
        Ok(())
    }
}

impl RootFacts {
    fn to_blob(&self) -> Option<BlobRef> {
        Some(BlobRef {
            id: self.id.parse::<BlockId>().ok()?,
            plain: self.plain.parse::<PlainHash>().ok()?,
            encoded_len: self.encoded_len,
            plain_len: self.plain_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(image: &str, release: &str, sequence: u64, channels: &[&str]) -> CatalogEntry {
        let root = BlobRef {
            id: BlockId::of(release.as_bytes()),
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
            sequence,
            published: 1_700_000_000,
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
        Catalog { version: 4, expires: 0, expired: false, releases }
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

    #[test]
    fn facts_round_trip() {
        let entry = CatalogEntry { group: Some("finance".into()), ..entry("xp", "7", 2, &["pilot", "test"]) };
        let read = CatalogEntry::from_custom("xp@7", 100, &entry.to_custom()).unwrap();
        assert_eq!(read, Some(entry));
    }

    #[test]
    fn facts_that_contradict_their_target_are_refused_and_later_versions_are_left_out() {
        let custom = entry("xp", "7", 2, &[]).to_custom();
        assert!(CatalogEntry::from_custom("xp@8", 100, &custom).is_err());
        assert!(CatalogEntry::from_custom("xp@7", 101, &custom).is_err());
        assert!(CatalogEntry::from_custom("xp@7", 100, &HashMap::new()).is_err());

        let change = |key: &str, value: serde_json::Value| {
            let mut custom = custom.clone();
            custom.get_mut(FACTS_KEY).unwrap()[key] = value;
            CatalogEntry::from_custom("xp@7", 100, &custom)
        };
        assert!(change("image", "../xp".into()).is_err());
        assert!(change("channels", vec!["a/b"].into()).is_err());
        assert!(change("blocks", (-1).into()).is_err());
        assert!(
            change("root", serde_json::json!({"id": "zz", "plain": "", "encoded_len": 100, "plain_len": 1}))
                .is_err()
        );
        assert!(change("version", 2.into()).unwrap().is_none());
    }
}
