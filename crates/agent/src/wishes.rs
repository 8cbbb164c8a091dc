//! What is to be on this node: what its subscriptions mean and what was asked for, as far as its certificate, its
//! content keys and its facts allow.

use crate::run::Loop;
use branchmesh_repo::{Catalog, CatalogEntry, Sealed, Subscription, Unmet};
use branchmesh_wire::{IndexId, Role};
use std::collections::{BTreeMap, BTreeSet};

impl Loop {
    /// What is to be here: what the subscriptions mean, and what was asked for.
    pub(crate) fn desired(&self, catalog: &Catalog) -> BTreeSet<IndexId> {
        let subscribed = self.subscribed(catalog).into_iter().map(CatalogEntry::id);
        subscribed.chain(self.releases.asked().iter().copied()).collect()
    }

    /// What is to be the current release: what the subscriptions mean; of other images, what was asked for.
    pub(crate) fn to_activate(&self, catalog: &Catalog) -> Vec<IndexId> {
        let subscribed = self.subscribed(catalog);
        let images: BTreeSet<&str> = subscribed.iter().map(|entry| entry.image.as_str()).collect();
        let asked = catalog.releases.iter().filter(|entry| {
            self.releases.asked().contains(&entry.id()) && !images.contains(entry.image.as_str())
        });
        // In order of publication: the newest of several is the current one in the end.
        let newest: BTreeMap<&str, &CatalogEntry> =
            asked.map(|entry| (entry.image.as_str(), entry)).collect();
        subscribed.into_iter().chain(newest.into_values()).map(CatalogEntry::id).collect()
    }

    /// What the subscriptions mean, as far as it is for this machine.
    fn subscribed<'a>(&self, catalog: &'a Catalog) -> Vec<&'a CatalogEntry> {
        self.named(catalog).into_iter().filter(|entry| self.check_suitable(entry).is_ok()).collect()
    }

    /// What the subscriptions mean and this machine must not have, because it lacks what the release requires.
    pub(crate) fn unsuitable<'a>(&self, catalog: &'a Catalog) -> Vec<(&'a CatalogEntry, Unmet)> {
        let unmet = |entry| self.check_suitable(entry).err().map(|unmet| (entry, unmet));
        self.named(catalog).into_iter().filter_map(unmet).collect()
    }

    fn named<'a>(&self, catalog: &'a Catalog) -> Vec<&'a CatalogEntry> {
        let subscriptions = &self.shared.settings.subscribe;
        let named = subscriptions.iter().flat_map(|subscription| {
            catalog.matching(subscription).into_iter().filter(|entry| {
                // "*" means all that the certificate allows; a release that was named shows why it fails.
                *subscription != Subscription::All || self.is_allowed(entry)
            })
        });
        named.collect()
    }

    /// Whether this node's certificate names the release's group.
    pub(crate) fn is_allowed(&self, entry: &CatalogEntry) -> bool {
        entry.group.as_ref().is_none_or(|group| self.is_member(group))
    }

    fn is_member(&self, group: &str) -> bool {
        self.shared.mesh.identity().groups.iter().any(|own| own == group)
    }

    /// Fails if this machine lacks something that the release requires. A seed carries releases for others,
    /// whatever machine it is itself.
    pub(crate) fn check_suitable(&self, entry: &CatalogEntry) -> Result<(), Unmet> {
        if self.shared.settings.role == Role::Seed {
            return Ok(());
        }
        entry.requires.iter().try_for_each(|requirement| requirement.check(&self.shared.settings.facts))
    }

    /// What keeps the subscriptions from meaning anything, in words.
    pub(crate) fn unheard_wishes(&self) -> Vec<String> {
        let Some(catalog) = self.releases.catalog() else { return Vec::new() };
        let unmatched = self.shared.settings.subscribe.iter().filter(|subscription| {
            **subscription != Subscription::All && catalog.matching(subscription).is_empty()
        });
        let unmatched = unmatched.map(|subscription| {
            format!("the repository shows this node no {subscription}, which the setting subscribe names")
        });
        unmatched.chain(self.sealed_groups(catalog)).collect()
    }

    /// Groups of this node whose releases it cannot open.
    fn sealed_groups(&self, catalog: &Catalog) -> Vec<String> {
        let mut groups: BTreeMap<(&str, bool), usize> = BTreeMap::new();
        for sealed in catalog.sealed.iter().filter(|sealed| self.is_member(&sealed.group)) {
            *groups.entry((&sealed.group, sealed.reason == Sealed::WrongKey)).or_default() += 1;
        }
        let words = |((group, has_key), count): ((&str, bool), usize)| {
            if has_key {
                return format!(
                    "the content key for the group {group} does not open {count} of its releases: it is the key of another \
                     group or repository"
                );
            }
            format!(
                "there is no content key for the group {group}, so that {count} of its releases stay sealed: add it to the \
                 section [keys] of the configuration"
            )
        };
        groups.into_iter().map(words).collect()
    }
}
