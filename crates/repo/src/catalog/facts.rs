//! How a release stands in the signed metadata: one TUF target, with the facts that a node needs before it has
//! the index in the custom field `branchmesh`.
//!
//! A public release is described in clear. A group's release shows its group and the id of its index, which
//! whoever carries its blocks knows anyway; the rest, its names before all, is sealed with the group's content key
//! and bound to the target's name, so that it opens where the group's role put it and nowhere else.

use super::{CatalogEntry, CatalogError, Sealed, SealedRelease};
use crate::{
    content_keys::ContentKeys,
    requirement::{REQUIREMENT_MAX, Requirement},
    role::RoleName,
};
use branchmesh_image::{
    BlobRef, BlockId, GroupKey, IndexId, PlainHash, block::BLOCK_ENCODED_MAX, chunk::BLOCK_PLAIN_MAX,
    index::ROOT_PLAIN_MAX, path,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use tough::schema::Target;

/// Version of the facts. A release with a later one is not for this program.
const FACTS_VERSION: u64 = 1;
/// Key of the custom field.
const FACTS_KEY: &str = "branchmesh";
/// What encoding can add to an index root: the same as to a block.
const ENCODING_OVERHEAD: usize = BLOCK_ENCODED_MAX - BLOCK_PLAIN_MAX;
/// Hexadecimal digits of the root's id in the target's name of a group's release: 128 bits never meet by chance.
const ID_DIGITS: usize = 32;

/// Most labels of a release.
const LABELS_MAX: usize = 32;
/// Most bytes of a label's name or value.
const LABEL_MAX: usize = 200;
/// Most requirements of a release.
const REQUIRES_MAX: usize = 32;
/// Most channels that point to one release.
const CHANNELS_MAX: usize = 64;

/// The custom field, as far as everybody may read it.
#[derive(Serialize, Deserialize)]
struct Facts {
    version: u64,
    #[serde(flatten)]
    content: Content,
    root: RootFacts,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "encryption")]
enum Content {
    /// A public release.
    #[serde(rename = "none")]
    Clear(Box<Description>),
    /// A group's release: its description as JSON, sealed, in hexadecimal digits.
    #[serde(rename = "group")]
    Sealed { group: String, sealed: String },
}

/// The encoded root of the index: what anybody may check.
#[derive(Serialize, Deserialize)]
struct RootFacts {
    id: String,
    encoded_len: u32,
}

/// What only those who may hold the release need to know.
#[derive(Serialize, Deserialize)]
struct Description {
    image: String,
    release: String,
    root_plain: String,
    root_plain_len: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    channels: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requires: Vec<String>,
    block_size: u32,
    sequence: u64,
    published: u64,
    encoded_bytes: u64,
    plain_bytes: u64,
    blocks: u32,
}

/// What a target says to this reader.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// All of it.
    Open(Box<CatalogEntry>),
    /// That there is a release of a group whose key is not here.
    Sealed(SealedRelease),
    /// Nothing: it was written for a later version of this program.
    Later,
}

/// The name of the target that describes `entry`.
pub(crate) fn target_name(entry: &CatalogEntry) -> String {
    match &entry.group {
        None => entry.name(),
        Some(group) => format!("{group}/{}", &entry.root.id.to_string()[..ID_DIGITS]),
    }
}

/// The custom field of the target that describes `entry`. A group's release needs the group's content `key`.
pub(crate) fn to_custom(entry: &CatalogEntry, key: Option<&GroupKey>) -> Option<HashMap<String, Value>> {
    let description = Description::of(entry);
    let content = match &entry.group {
        None => Content::Clear(Box::new(description)),
        Some(group) => {
            let json = serde_json::to_vec(&description).expect("strings and integers are JSON");
            let sealed = key?.seal_description(target_name(entry).as_bytes(), &json);
            Content::Sealed { group: group.clone(), sealed: hex::encode(sealed) }
        }
    };
    let root = RootFacts { id: entry.root.id.to_string(), encoded_len: entry.root.encoded_len };
    let facts = Facts { version: FACTS_VERSION, content, root };
    let facts = serde_json::to_value(facts).expect("strings and integers are JSON");
    Some(HashMap::from([(FACTS_KEY.to_owned(), facts)]))
}

/// Reads the target `name` of `role`, whose signature holds until `expires` (Unix seconds).
pub(crate) fn read(
    role: &RoleName,
    name: &str,
    target: &Target,
    expires: u64,
    keys: &ContentKeys,
) -> Result<Reading, CatalogError> {
    let unreadable = |source| CatalogError::Facts { name: name.into(), source };
    let wrong = |reason| CatalogError::Inconsistent { name: name.into(), reason };
    let facts = target.custom.get(FACTS_KEY).cloned().unwrap_or_default();
    if facts.get("version").and_then(Value::as_u64).unwrap_or_default() > FACTS_VERSION {
        return Ok(Reading::Later);
    }
    let Facts { content, root, .. } = serde_json::from_value(facts).map_err(unreadable)?;
    let id = root.id.parse::<BlockId>().map_err(|_| wrong("its index has no readable hash"))?;
    if u64::from(root.encoded_len) != target.length {
        return Err(wrong("its index has two lengths"));
    }
    let (group, description) = match (role, content) {
        (RoleName::Targets, Content::Clear(description)) => (None, *description),
        (RoleName::Group(role), Content::Sealed { group, sealed }) if *role == group => {
            match open(&group, name, &sealed, keys) {
                Ok(json) => (Some(group), serde_json::from_slice(&json).map_err(unreadable)?),
                Err(reason) => {
                    let release = SealedRelease { group, id: IndexId(id.0), reason };
                    check_sealed_name(name, &release).map_err(wrong)?;
                    return Ok(Reading::Sealed(release));
                }
            }
        }
        _ => return Err(wrong("it is of another group than the role that signed it")),
    };
    let entry = description.into_entry(group, id, root.encoded_len, expires).map_err(wrong)?;
    check(&entry)?;
    if target_name(&entry) != name {
        return Err(wrong("it describes another release"));
    }
    Ok(Reading::Open(Box::new(entry)))
}

fn open(group: &str, name: &str, sealed: &str, keys: &ContentKeys) -> Result<Vec<u8>, Sealed> {
    let key = keys.get(group).ok_or(Sealed::NoKey)?;
    let sealed = hex::decode(sealed).map_err(|_| Sealed::WrongKey)?;
    key.open_description(name.as_bytes(), &sealed).map_err(|_| Sealed::WrongKey)
}

fn check_sealed_name(name: &str, release: &SealedRelease) -> Result<(), &'static str> {
    let digits = BlockId(release.id.0).to_string();
    let expected = format!("{}/{}", release.group, &digits[..ID_DIGITS]);
    if name == expected { Ok(()) } else { Err("it names another index than it describes") }
}

/// Fails if a release cannot have these names, labels or sizes.
fn check(entry: &CatalogEntry) -> Result<(), CatalogError> {
    path::check_name(&entry.image)?;
    path::check_name(&entry.release)?;
    entry.channels.iter().try_for_each(|name| path::check_name(name))?;
    let wrong = |reason| Err(CatalogError::Inconsistent { name: entry.name(), reason });
    if entry.channels.len() > CHANNELS_MAX {
        return wrong("too many channels point to it");
    }
    if let Err(reason) = check_labels(&entry.labels, &entry.requires) {
        return wrong(reason);
    }
    let plain = entry.root.plain_len as usize;
    if plain > ROOT_PLAIN_MAX || entry.root.encoded_len as usize > plain + ENCODING_OVERHEAD {
        return wrong("its index is larger than an index can be");
    }
    Ok(())
}

/// Fails with the reason if a release cannot have these labels and requirements.
pub(crate) fn check_labels(
    labels: &BTreeMap<String, String>,
    requires: &[Requirement],
) -> Result<(), &'static str> {
    if requires.len() > REQUIRES_MAX {
        return Err("there are more than 32 requirements");
    }
    let is_bad = |text: &String| text.len() > LABEL_MAX || text.chars().any(char::is_control);
    if labels.len() > LABELS_MAX {
        return Err("there are more than 32 labels");
    }
    if labels.iter().any(|(name, value)| name.is_empty() || is_bad(name) || is_bad(value)) {
        return Err("a label has no name, more than 200 bytes, or control characters");
    }
    Ok(())
}

impl Description {
    fn of(entry: &CatalogEntry) -> Self {
        Self {
            image: entry.image.clone(),
            release: entry.release.clone(),
            root_plain: entry.root.plain.to_string(),
            root_plain_len: entry.root.plain_len,
            channels: entry.channels.clone(),
            labels: entry.labels.clone(),
            requires: entry.requires.iter().map(Requirement::to_string).collect(),
            block_size: entry.block_size,
            sequence: entry.sequence,
            published: entry.published,
            encoded_bytes: entry.encoded_bytes,
            plain_bytes: entry.plain_bytes,
            blocks: entry.blocks,
        }
    }

    fn into_entry(
        self,
        group: Option<String>,
        id: BlockId,
        encoded_len: u32,
        expires: u64,
    ) -> Result<CatalogEntry, &'static str> {
        let plain = self
            .root_plain
            .parse::<PlainHash>()
            .map_err(|_| "its index has no readable hash of its plaintext")?;
        if self.requires.iter().any(|text| text.len() > REQUIREMENT_MAX) {
            return Err("a requirement is too long");
        }
        let requires = self.requires.iter().map(|text| text.parse::<Requirement>());
        let requires = requires.collect::<Result<_, _>>().map_err(|_| "a requirement cannot be read")?;
        Ok(CatalogEntry {
            image: self.image,
            release: self.release,
            group,
            root: BlobRef { id, plain, encoded_len, plain_len: self.root_plain_len },
            channels: self.channels,
            labels: self.labels,
            requires,
            block_size: self.block_size,
            sequence: self.sequence,
            published: self.published,
            expires,
            encoded_bytes: self.encoded_bytes,
            plain_bytes: self.plain_bytes,
            blocks: self.blocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::entry;
    use serde_json::json;
    use tough::schema::Hashes;

    const EXPIRES: u64 = 2_000_000_000;

    fn target(entry: &CatalogEntry, key: Option<&GroupKey>) -> Target {
        Target {
            length: entry.root.encoded_len.into(),
            hashes: Hashes { sha256: vec![0; 32].into(), _extra: HashMap::new() },
            custom: to_custom(entry, key).unwrap(),
            _extra: HashMap::new(),
        }
    }

    fn finance() -> RoleName {
        RoleName::group("finance").unwrap()
    }

    fn full(group: Option<&str>) -> CatalogEntry {
        CatalogEntry {
            group: group.map(Into::into),
            labels: BTreeMap::from([("ticket".into(), "CHG-4711".into())]),
            requires: vec!["engine >= 6.1".parse().unwrap()],
            expires: EXPIRES,
            ..entry("xp", "7", 2, &["pilot", "test"])
        }
    }

    #[test]
    fn facts_of_public_and_group_releases_round_trip() {
        let key = GroupKey::generate().unwrap();
        let keys = ContentKeys::from_iter([("finance".to_owned(), key.clone())]);
        for (role, group) in [(RoleName::Targets, None), (finance(), Some("finance"))] {
            let entry = full(group);
            let target = target(&entry, Some(&key));
            let read = read(&role, &target_name(&entry), &target, EXPIRES, &keys).unwrap();
            assert_eq!(read, Reading::Open(Box::new(entry)));
        }
    }

    #[test]
    fn a_group_release_shows_its_group_and_index_and_nothing_else() {
        let key = GroupKey::generate().unwrap();
        let entry = full(Some("finance"));
        let target = target(&entry, Some(&key));
        let name = target_name(&entry);
        let text = format!("{name}{}", serde_json::to_string(&target).unwrap());
        // What is sealed stands there as random hexadecimal digits: a word of such digits alone may come up by chance.
        for word in ["xp", "pilot", "ticket", "CHG-4711", "engine", &entry.root.plain.to_string()] {
            assert!(!text.contains(word), "{word:?} is in clear: {text}");
        }
        let other = ContentKeys::from_iter([("finance".to_owned(), GroupKey::generate().unwrap())]);
        for (keys, reason) in [(ContentKeys::default(), Sealed::NoKey), (other, Sealed::WrongKey)] {
            let sealed = SealedRelease { group: "finance".into(), id: entry.id(), reason };
            assert_eq!(read(&finance(), &name, &target, EXPIRES, &keys).unwrap(), Reading::Sealed(sealed));
        }
    }

    #[test]
    fn a_role_speaks_for_its_own_releases_only() {
        let key = GroupKey::generate().unwrap();
        let keys = ["finance", "hr"].map(|group| (group.to_owned(), key.clone()));
        let keys = ContentKeys::from_iter(keys);
        let (public, secret) = (full(None), full(Some("finance")));
        let hr = RoleName::group("hr").unwrap();
        for (role, entry) in
            [(&finance(), &public), (&hr, &public), (&RoleName::Targets, &secret), (&hr, &secret)]
        {
            let target = target(entry, Some(&key));
            let refused = read(role, &target_name(entry), &target, EXPIRES, &keys);
            assert!(matches!(refused, Err(CatalogError::Inconsistent { .. })), "{role}: {refused:?}");
        }
        // A sealed description that is moved to another name does not open there.
        let moved = target(&secret, Some(&key));
        let there = format!("finance/{}", "0".repeat(ID_DIGITS));
        assert!(read(&finance(), &there, &moved, EXPIRES, &keys).is_err());
    }

    #[test]
    fn facts_that_contradict_their_target_are_refused_and_later_versions_are_left_out() {
        let good = target(&full(None), None);
        let try_read = |name: &str, target: &Target| {
            read(&RoleName::Targets, name, target, EXPIRES, &ContentKeys::default())
        };
        assert!(try_read("xp@8", &good).is_err());
        assert!(try_read("xp@7", &Target { length: 101, ..good.clone() }).is_err());
        assert!(try_read("xp@7", &Target { custom: HashMap::new(), ..good.clone() }).is_err());

        let change = |key: &str, value: Value| {
            let mut target = good.clone();
            target.custom.get_mut(FACTS_KEY).unwrap()[key] = value;
            try_read("xp@7", &target)
        };
        let many = |count| (0..count).map(|n| (n.to_string(), "x".into())).collect::<BTreeMap<_, String>>();
        for (key, value) in [
            ("image", "../xp".into()),
            ("channels", json!(["a/b"])),
            ("channels", vec!["a"; CHANNELS_MAX + 1].into()),
            ("labels", json!({"": "x"})),
            ("labels", json!({"a": "\u{7}"})),
            ("labels", json!(many(LABELS_MAX + 1))),
            ("requires", json!(["engine"])),
            ("requires", vec!["engine >= 6.1"; REQUIRES_MAX + 1].into()),
            ("blocks", (-1).into()),
            ("encryption", "group".into()),
            ("encryption", "rot13".into()),
            ("root_plain", "zz".into()),
            ("root_plain_len", u32::MAX.into()),
            ("root", json!({"id": "zz", "encoded_len": 100})),
            ("version", "1".into()),
        ] {
            assert!(change(key, value.clone()).is_err(), "{key} = {value} was accepted");
        }
        assert_eq!(change("version", 2.into()).unwrap(), Reading::Later);
    }
}
