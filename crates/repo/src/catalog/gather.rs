//! From the roles of a repository to one catalog.
//!
//! The public releases come first, then the groups in the order in which targets delegates to them. An image
//! belongs to the first role that names it: nobody can slip a release under the name of an image that comes before.
//! A release that makes no sense is left out with a warning, and costs nobody the others: one team's mistake must
//! not hide another team's releases.

use super::{
    Catalog, CatalogEntry, SealedRelease,
    facts::{self, Reading},
};
use crate::{content_keys::ContentKeys, role::RoleName};
use std::collections::{HashMap, HashSet};
use tough::{TargetName, schema::Target};

/// The targets of one role.
pub(crate) struct SignedTargets<'a> {
    pub(crate) role: RoleName,
    /// When its signature expires, in Unix seconds.
    pub(crate) expires: u64,
    pub(crate) targets: &'a HashMap<TargetName, Target>,
}

/// Adds the releases of `roles`, which come in their order, to `catalog`.
pub(crate) fn gather(catalog: &mut Catalog, roles: &[SignedTargets<'_>], keys: &ContentKeys) {
    let mut owners: HashMap<String, &RoleName> = HashMap::new();
    let mut ids = HashSet::new();
    let mut sorted = Vec::new();
    for (number, signed) in roles.iter().enumerate() {
        let (entries, sealed) = read_role(signed, keys);
        catalog.sealed.extend(sealed);
        let mut published = 0;
        for entry in entries {
            // Folders on Windows make no difference between capitals and small letters.
            let owner = *owners.entry(entry.image.to_lowercase()).or_insert(&signed.role);
            if *owner != signed.role {
                tracing::warn!(role = %signed.role, %owner, id = %entry.root.id, "a release is left out: its image belongs to another role");
                continue;
            }
            if !ids.insert(entry.id()) {
                tracing::warn!(role = %signed.role, id = %entry.root.id, "a release is left out: another one has the same index");
                continue;
            }
            // Clocks of publishers differ; within a role the sequence decides.
            published = entry.published.max(published);
            sorted.push(((published, number, entry.sequence), entry));
        }
    }
    sorted.sort_by_key(|(key, _)| *key);
    catalog.releases.extend(sorted.into_iter().map(|(_, entry)| entry));
    catalog.sealed.sort_by(|a, b| (&a.group, a.id.0).cmp(&(&b.group, b.id.0)));
}

/// The releases of one role in the order of publication, no name twice.
fn read_role(signed: &SignedTargets<'_>, keys: &ContentKeys) -> (Vec<CatalogEntry>, Vec<SealedRelease>) {
    let (mut entries, mut sealed) = (Vec::new(), Vec::new());
    for (name, target) in signed.targets {
        let name = name.raw();
        match facts::read(&signed.role, name, target, signed.expires, keys) {
            Ok(Reading::Open(entry)) => entries.push(*entry),
            Ok(Reading::Sealed(release)) => sealed.push(release),
            Ok(Reading::Later) => {
                tracing::warn!(role = %signed.role, target = name, "a release is left out: it needs a newer branchmesh");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(role = %signed.role, target = name, error, "a release is left out: its description makes no sense");
            }
        }
    }
    entries.sort_by_key(|entry: &CatalogEntry| (entry.sequence, entry.root.id.0));
    let mut names = HashSet::new();
    entries.retain(|entry| {
        let is_first = names.insert(entry.name());
        if !is_first {
            tracing::warn!(role = %signed.role, id = %entry.root.id, "a release is left out: an earlier one has its name");
        }
        is_first
    });
    (entries, sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{tests::entry, to_custom};
    use branchmesh_image::{BlockId, GroupKey};
    use tough::schema::Hashes;

    fn keys() -> ContentKeys {
        ["finance", "hr"].map(|group| (group.to_owned(), GroupKey::generate().unwrap())).into_iter().collect()
    }

    fn signed(
        group: Option<&str>,
        entries: &[CatalogEntry],
        keys: &ContentKeys,
    ) -> HashMap<TargetName, Target> {
        let target = |entry: &CatalogEntry| {
            let mut entry = CatalogEntry { group: group.map(Into::into), ..entry.clone() };
            let unique = format!("{}{group:?}{}", entry.name(), entry.sequence);
            entry.root.id = BlockId::of(unique.as_bytes());
            let custom = to_custom(&entry, group.and_then(|group| keys.get(group))).unwrap();
            let hashes = Hashes { sha256: vec![0; 32].into(), _extra: HashMap::new() };
            let target = Target { length: 100, hashes, custom, _extra: HashMap::new() };
            (TargetName::new(facts::target_name(&entry)).unwrap(), target)
        };
        entries.iter().map(target).collect()
    }

    #[test]
    fn an_image_belongs_to_the_first_role_that_names_it_and_a_name_to_the_first_release() {
        let keys = keys();
        let at = |published, entry| CatalogEntry { published, ..entry };
        let public =
            signed(None, &[at(10, entry("xp", "1", 1, &[])), at(5, entry("xp", "2", 2, &[]))], &keys);
        let finance = signed(
            Some("finance"),
            &[
                at(7, entry("XP", "9", 1, &[])),
                at(8, entry("desk", "1", 2, &[])),
                at(9, entry("desk", "1", 3, &[])),
            ],
            &keys,
        );
        let hr = signed(
            Some("hr"),
            &[at(1, entry("desk", "5", 1, &[])), at(2, entry("kiosk", "1", 2, &[]))],
            &keys,
        );
        let role = |role: &str, targets| SignedTargets { role: role.parse().unwrap(), expires: 77, targets };
        let roles = [role("targets", &public), role("finance", &finance), role("hr", &hr)];
        let mut catalog = Catalog::default();
        gather(&mut catalog, &roles, &keys);
        let names: Vec<String> = catalog.releases.iter().map(CatalogEntry::name).collect();
        assert_eq!(names, ["kiosk@1", "desk@1", "xp@1", "xp@2"]);
        assert_eq!(catalog.find("desk", "1").unwrap().sequence, 2);
        assert!(catalog.sealed.is_empty() && catalog.releases.iter().all(|entry| entry.expires == 77));

        let mut catalog = Catalog::default();
        gather(&mut catalog, &roles, &ContentKeys::default());
        assert_eq!((catalog.releases.len(), catalog.sealed.len()), (2, 5));
    }
}
