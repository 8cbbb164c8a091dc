//! What is to be on this node: what its subscriptions mean, what was asked for, and what was pinned, as far as its
//! certificate, its content keys and its facts allow.

use crate::{config::Update, run::Loop};
use branchmesh_repo::{Catalog, CatalogEntry, Sealed, Subscription, Unmet};
use branchmesh_wire::{IndexId, Role};
use std::collections::{BTreeMap, BTreeSet};

/// What is wished of a release that is for this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// A subscription means it.
    pub subscribed: bool,
    /// Somebody asked for it.
    pub asked: bool,
    /// Somebody pinned it.
    pub pinned: bool,
}

impl Loop {
    /// What is wished, without what this machine must not have.
    pub(crate) fn wishes(&self, catalog: &Catalog) -> BTreeMap<IndexId, Wish> {
        let mut wishes = self.named(catalog);
        wishes.retain(|(entry, _)| self.check_suitable(entry).is_ok());
        wishes.into_iter().map(|(entry, wish)| (entry.id(), wish)).collect()
    }

    /// Whether a release is fetched, and not only announced; `is_begun` says that something of it is here.
    pub(crate) fn is_fetched(&self, entry: &CatalogEntry, wish: Wish, is_begun: bool) -> bool {
        // The current one is repaired, whatever was wished since.
        let is_current = is_begun && self.versions.is_current(&entry.image, &entry.release);
        let by_itself = self.shared.settings.update == Update::Auto || self.site_wants.contains(&entry.id());
        wish.asked || wish.pinned || (wish.subscribed && by_itself) || is_current
    }

    /// What is to be the current release of an image, unless somebody decided otherwise: what the first of its
    /// subscriptions means; of an image without, the newest that was asked for.
    pub(crate) fn target(&self, image: &str) -> Option<&CatalogEntry> {
        let catalog = self.releases.catalog()?;
        let meant = self.subscribed(catalog).into_iter().filter(|entry| entry.image == image);
        let mut meant = meant.filter(|entry| self.check_suitable(entry).is_ok()).peekable();
        if meant.peek().is_some() {
            return meant.next();
        }
        let asked = catalog
            .releases
            .iter()
            .filter(|entry| entry.image == image && self.versions.is_asked(image, &entry.release));
        asked.filter(|entry| self.check_suitable(entry).is_ok()).max_by_key(|entry| entry.sequence)
    }

    /// What is wished and this machine must not have, because it lacks what the release requires.
    pub(crate) fn unsuitable<'a>(&self, catalog: &'a Catalog) -> Vec<(&'a CatalogEntry, Unmet)> {
        let unmet = |(entry, _)| self.check_suitable(entry).err().map(|unmet| (entry, unmet));
        self.named(catalog).into_iter().filter_map(unmet).collect()
    }

    /// All that is wished, whatever the machine.
    fn named<'a>(&self, catalog: &'a Catalog) -> Vec<(&'a CatalogEntry, Wish)> {
        let subscribed: BTreeSet<IndexId> =
            self.subscribed(catalog).into_iter().map(CatalogEntry::id).collect();
        let wish = |entry: &'a CatalogEntry| {
            let wish = Wish {
                subscribed: subscribed.contains(&entry.id()),
                asked: self.versions.is_asked(&entry.image, &entry.release),
                pinned: self.versions.is_pinned(&entry.image, &entry.release),
            };
            (wish != Wish::default()).then_some((entry, wish))
        };
        catalog.releases.iter().filter_map(wish).collect()
    }

    /// What the subscriptions mean, in their order.
    fn subscribed<'a>(&self, catalog: &'a Catalog) -> Vec<&'a CatalogEntry> {
        let subscriptions = &self.shared.settings.subscribe;
        let named = subscriptions.iter().flat_map(|subscription| {
            catalog.matching(subscription).into_iter().filter(|entry| {
                // "*" means all that the certificate allows; a release that was named shows why it fails.
                *subscription != Subscription::All || self.is_allowed(entry)
            })
        });
        named.collect()
    }

    /// A seed keeps what its site needs: whoever else fetches what it subscribes to has accepted it for the seed, too.
    /// Returns whether that is news.
    pub(crate) fn notice_site_wants(&mut self) -> bool {
        let settings = &self.shared.settings;
        if settings.role != Role::Seed || settings.update == Update::Auto {
            return false;
        }
        let members = self.exchange.members(self.now());
        let shown = members.into_iter().flat_map(|member| member.status).flat_map(|status| status.releases);
        let known: BTreeSet<IndexId> = self.releases.iter().map(|(id, _)| *id).collect();
        let before = self.site_wants.len();
        self.site_wants.extend(shown.map(|release| release.release).filter(|id| known.contains(id)));
        self.site_wants.len() > before
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
