//! Roots of trust that were verified before the state that they vouch for has arrived.
//!
//! A new root counts from the moment in which it is seen (TUF section 5.3.8): it may take the keys away from a thief,
//! who would like to hide it and go on with the old ones. So it is kept although the update that brought it failed. What
//! was believed under the root before stays usable, and is the measure of rollback as long as the keys of
//! timestamp and snapshot are the same (section 5.3.11).

use crate::{layout, role::RoleName, tuf::Files};
use bytes::Bytes;
use tough::schema::{Root, Signed};

/// What the names of such roots begin with in the kept file.
const KEPT_PREFIX: &str = "ahead/";

/// New roots, each of which follows the one before.
#[derive(Default)]
pub(crate) struct NewRoots(Files);

impl NewRoots {
    /// Those of `files` that follow `base` without a gap, each signed by the one before and by itself.
    pub(crate) fn after(base: &[u8], files: &Files) -> Self {
        let mut roots = Files::new();
        let Some(mut last) = parse(base) else { return Self::default() };
        while let Some(version) = last.signed.version.checked_add(1)
            && let name = RoleName::Root.versioned_file(version)
            && let Some(bytes) = files.get(&name)
            && let Some(next) = parse(bytes)
            && next.signed.version == version
            && last.signed.verify_role(&next).is_ok()
            && next.signed.verify_role(&next).is_ok()
        {
            roots.insert(name, bytes.clone());
            last = next;
        }
        Self(roots)
    }

    /// Takes those out that [`to_kept`](Self::to_kept) put beside other files.
    pub(crate) fn take_kept(kept: &mut Files) -> Files {
        let ahead = kept.extract_if(.., |name, _| name.starts_with(KEPT_PREFIX));
        ahead.map(|(name, bytes)| (name[KEPT_PREFIX.len()..].to_owned(), bytes)).collect()
    }

    /// The roots under names that keep them apart from those that a state was accepted with.
    pub(crate) fn to_kept(&self) -> impl Iterator<Item = (String, Bytes)> {
        self.0.iter().map(|(name, bytes)| (format!("{KEPT_PREFIX}{name}"), bytes.clone()))
    }

    pub(crate) fn files(&self) -> &Files {
        &self.0
    }

    /// The last of them.
    pub(crate) fn newest(&self) -> Option<&Bytes> {
        self.0.iter().max_by_key(|(name, _)| layout::root_version(name)).map(|(_, bytes)| bytes)
    }

    /// Whether timestamp or snapshot have other keys than under `base`.
    pub(crate) fn change_online_keys(&self, base: &[u8]) -> bool {
        let Some(newest) = self.newest() else { return false };
        let keys = |bytes: &[u8], role: &RoleName| {
            parse(bytes)?.signed.roles.remove(&role.kind()).map(|role| role.keyids)
        };
        [RoleName::Timestamp, RoleName::Snapshot].iter().any(|role| keys(base, role) != keys(newest, role))
    }
}

fn parse(bytes: &[u8]) -> Option<Signed<Root>> {
    serde_json::from_slice(bytes).ok()
}
