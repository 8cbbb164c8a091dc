//! What this program asks of metadata beyond TUF: the shape of the groups' roles, and versions that grow by
//! publishing.
//!
//! Faults of shape cost the whole update, as a bad signature does: a snapshot vouches for all its files, so whoever
//! signed it put the fault in force, and a state without one group would be another state than the signed one. The
//! publisher never signs such a snapshot. What a well-shaped role says is judged release by release
//! (`catalog::gather`).

use super::{Basis, GROUPS_MAX, TrustError};
use crate::{layout::TIMESTAMP, role::RoleName};
use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroU64,
};
use tough::{
    Repository,
    schema::{Signed, Snapshot, Targets, Timestamp},
};

/// How far a version may be ahead of the last one that was believed: a refresh every five minutes for a month.
pub(crate) const VERSION_JUMP_MAX: u64 = 10_000;

/// Fails if tough has accepted what this program does not.
pub(super) fn check(repository: &Repository, basis: &Basis<'_>) -> Result<(), TrustError> {
    check_groups(&repository.targets().signed)?;
    if !is_known_root(repository, basis.root) {
        // New keys may begin with any version: this is how an owner recovers (TUF section 5.3.11).
        return Ok(());
    }
    let Some(before) = Versions::of_accepted(basis) else { return Ok(()) };
    before.check_jumps(&Versions::new(&repository.timestamp().signed, &repository.snapshot().signed))
}

/// Fails unless each group has one role, of its own name, that delegates no further.
pub(crate) fn check_groups(targets: &Targets) -> Result<(), TrustError> {
    let wrong = |name: &str, what: &str| {
        let name: String = name.chars().take(crate::role::GROUP_NAME_MAX).collect();
        Err(TrustError::Malformed { reason: format!("the role of the group {name:?} {what}") })
    };
    let roles = targets.delegations.as_ref().map_or(&[][..], |delegations| &delegations.roles);
    if roles.len() > GROUPS_MAX {
        return Err(TrustError::Malformed { reason: format!("it has more than {GROUPS_MAX} groups") });
    }
    let mut names = HashSet::new();
    for role in roles {
        if RoleName::group(&role.name).is_err() {
            return wrong(&role.name, "has a name that no group can have");
        }
        if !names.insert(role.name.to_ascii_lowercase()) {
            return wrong(&role.name, "is there twice");
        }
        let Some(signed) = &role.targets else { return wrong(&role.name, "has no metadata in the snapshot") };
        if signed.signed.delegations.as_ref().is_some_and(|further| !further.roles.is_empty()) {
            return wrong(&role.name, "delegates to others, which groups cannot");
        }
        let own = format!("{}/", role.name);
        if signed.signed.targets.keys().any(|target| !target.raw().starts_with(&own)) {
            return wrong(&role.name, "speaks about releases that are not the group's");
        }
    }
    Ok(())
}

fn is_known_root(repository: &Repository, root: &[u8]) -> bool {
    let known = serde_json::from_slice::<Signed<tough::schema::Root>>(root);
    known.is_ok_and(|known| known.signed.version == repository.root().signed.version)
}

/// The versions of all files but the roots, by their names in the metadata.
struct Versions(BTreeMap<String, NonZeroU64>);

impl Versions {
    fn new(timestamp: &Timestamp, snapshot: &Snapshot) -> Self {
        let metas = timestamp.meta.iter().chain(&snapshot.meta);
        let files = metas.map(|(name, meta)| (name.clone(), meta.version));
        Self(files.chain([(TIMESTAMP.to_owned(), timestamp.version)]).collect())
    }

    /// Those that were believed before. They verified then; what cannot be read bounds nothing.
    fn of_accepted(basis: &Basis<'_>) -> Option<Self> {
        let timestamp: Signed<Timestamp> = serde_json::from_slice(basis.accepted.get(TIMESTAMP)?).ok()?;
        let snapshot = basis.accepted.iter().find(|(name, _)| name.ends_with(".snapshot.json"))?;
        let snapshot: Signed<Snapshot> = serde_json::from_slice(snapshot.1).ok()?;
        Some(Self::new(&timestamp.signed, &snapshot.signed))
    }

    fn check_jumps(&self, after: &Self) -> Result<(), TrustError> {
        for (file, new) in &after.0 {
            // A group that is new here begins at 1.
            let old = self.0.get(file).map_or(0, |old| old.get());
            if new.get().saturating_sub(old) > VERSION_JUMP_MAX {
                return Err(TrustError::FastForward { file: file.clone(), old, new: new.get() });
            }
        }
        Ok(())
    }
}
