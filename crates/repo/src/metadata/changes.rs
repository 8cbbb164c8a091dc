//! What a waiting change changes, in the words in which it is shown to whoever signs it.

use super::{Metadata, keys_of, signing};
use crate::{
    catalog::{self, Catalog, CatalogEntry, SignedTargets},
    role::RoleName,
};
use jiff::Timestamp;
use tough::schema::{Delegations, Root, Targets};

impl Metadata {
    /// What the new version of a role changes, in words.
    pub(super) fn role_changes(&self, role: &RoleName, new: &Targets) -> Vec<String> {
        let old = self.in_force.role(role);
        let mut changes = key_changes(old.and_then(|old| old.delegations.as_ref()), new.delegations.as_ref());
        let read = |targets: &Targets| {
            let mut catalog = Catalog::default();
            let signed = SignedTargets { role: role.clone(), expires: 0, targets: &targets.targets };
            catalog::gather(&mut catalog, &[signed], &self.content_keys);
            let senseless = targets.targets.len() - catalog.releases.len() - catalog.sealed.len();
            (catalog.releases, senseless)
        };
        let (before, _) = old.map(read).unwrap_or_default();
        let (after, senseless) = read(new);
        changes.extend(release_changes(&before, &after));
        if senseless > 0 {
            changes
                .push(format!("holds {senseless} descriptions that make no sense: readers leave them out"));
        }
        match old {
            None if changes.is_empty() => changes.push("is new, without releases".into()),
            Some(_) if changes.is_empty() => changes.push(time_only(new.expires)),
            None | Some(_) => {}
        }
        changes
    }
}

/// What a new root changes, in words.
pub(super) fn root_changes(old: &Root, new: &Root) -> Vec<String> {
    let describe =
        |root: &Root, role: &RoleName| keys_of(role, root, None).map(|keys| (keys.needed, keys.ids()));
    let mut changes = Vec::new();
    for role in RoleName::TOP {
        if let Some((needed, ids)) = describe(new, &role)
            && describe(old, &role).is_none_or(|before| before != (needed, ids.clone()))
        {
            changes.push(keys_in_words(&role, needed.get(), &ids));
        }
    }
    if changes.is_empty() {
        changes.push(time_only(new.expires));
    }
    changes
}

fn time_only(expires: Timestamp) -> String {
    format!("nothing but its time: signed until {expires}")
}

fn key_changes(old: Option<&Delegations>, new: Option<&Delegations>) -> Vec<String> {
    let names = |delegations: Option<&Delegations>| -> Vec<String> {
        delegations.into_iter().flat_map(|all| &all.roles).map(|role| role.name.clone()).collect()
    };
    let keys = |delegations: Option<&Delegations>, group: &str| {
        let keys = signing::KeySet::of_group(delegations?, group)?;
        Some((keys.needed, keys.ids()))
    };
    let mut changes = Vec::new();
    for group in names(new) {
        let (before, after) = (keys(old, &group), keys(new, &group));
        if let Some((needed, ids)) = after.filter(|after| before.as_ref() != Some(after)) {
            changes.push(keys_in_words(&RoleName::Group(group), needed.get(), &ids));
        }
    }
    let left = names(new);
    changes.extend(
        names(old)
            .into_iter()
            .filter(|name| !left.contains(name))
            .map(|name| format!("removes the group {name}")),
    );
    changes
}

fn keys_in_words(role: &RoleName, needed: u64, ids: &[String]) -> String {
    format!("{role} is signed by {needed} of {} keys from now on: {}", ids.len(), signing::list(ids))
}

fn release_changes(old: &[CatalogEntry], new: &[CatalogEntry]) -> Vec<String> {
    let mut changes = Vec::new();
    for entry in new {
        let Some(before) = old.iter().find(|before| before.id() == entry.id()) else {
            let channels = if entry.channels.is_empty() {
                String::new()
            } else {
                format!(", on {}", entry.channels.join(", "))
            };
            changes.push(format!("adds {}{channels}", entry.name()));
            continue;
        };
        let taken = before.channels.iter().filter(|channel| !entry.channels.contains(channel));
        changes.extend(taken.map(|channel| format!("takes {channel} from {}", entry.name())));
        let given = entry.channels.iter().filter(|channel| !before.channels.contains(channel));
        changes.extend(given.map(|channel| format!("points {channel} to {}", entry.name())));
        let mut same = entry.clone();
        same.channels.clone_from(&before.channels);
        if same != *before {
            changes.push(format!("changes the description of {}", entry.name()));
        }
    }
    let gone = old.iter().filter(|before| !new.iter().any(|entry| entry.id() == before.id()));
    changes.extend(gone.map(|entry| format!("removes {}", entry.name())));
    changes
}
