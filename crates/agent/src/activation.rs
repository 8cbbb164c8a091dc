//! Which release of an image is the current one: what the subscriptions mean, unless somebody decided otherwise.

use crate::{
    comply::Chosen,
    releases::Phase,
    requests::Refused,
    run::Loop,
    versions::{self, Automatic, Publication},
};
use branchmesh_repo::{Selector, Subscription};
use branchmesh_store::StoreError;
use branchmesh_wire::IndexId;
use std::collections::BTreeSet;
use tracing::error;

/// What an image follows from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// The release that was named.
    Release,
    /// What the subscriptions mean.
    Subscription,
}

impl Loop {
    /// Makes the complete releases current that are to be so by themselves.
    pub(crate) fn settle_current(&mut self) {
        let complete = self.releases.iter().filter(|(_, release)| release.is_complete());
        let images: BTreeSet<String> = complete.map(|(_, release)| release.entry.image.clone()).collect();
        for image in images {
            if let Err(error) = self.settle_image(&image) {
                error!(error = crate::in_words(&error), "a release cannot be made the current one");
            }
        }
    }

    fn settle_image(&mut self, image: &str) -> Result<(), StoreError> {
        let target = self.target(image).map(|entry| (entry.id(), entry.release.clone(), entry.sequence));
        if let Some((id, release, sequence)) = target
            && self.releases.is_complete(&id)
            && self.automatic(image, Publication { release: &release, sequence }) == Automatic::Yes
        {
            // First the hold goes: killed in between, the node still follows what is newer.
            self.versions.decide(&self.shared.store, image, |record| {
                record.hold.take_if(|hold| sequence > hold.past);
            })?;
            return self.switch(id);
        }
        let Some(hold) = &self.versions.record(image).hold else { return Ok(()) };
        match self.releases.find(image, &hold.release) {
            Some((id, release)) if release.is_complete() => self.switch(*id),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether what the subscriptions mean becomes current by itself.
    pub(crate) fn automatic(&self, image: &str, target: Publication<'_>) -> Automatic {
        self.versions.automatic(self.shared.settings.update, image, target)
    }

    /// Makes a complete release the current one of its image.
    fn switch(&mut self, id: IndexId) -> Result<(), StoreError> {
        let Some(release) = self.releases.get(&id) else { return Ok(()) };
        if matches!(release.phase, Phase::Active(_)) {
            return Ok(());
        }
        let (image, name) = (release.entry.image.clone(), release.entry.release.clone());
        self.versions.activate(&self.shared.store, &image, &name)?;
        self.releases.show_active(id, &image);
        Ok(())
    }

    /// The release that `activate` means. Without a name, that of the subscriptions, which may not be what the name
    /// of the image alone means.
    pub(crate) fn choose_to_activate(
        &self,
        about: &Subscription,
        image: &str,
        follow: Follow,
    ) -> Result<Chosen, Refused> {
        match self.target(image) {
            Some(entry) if follow == Follow::Subscription => Ok(Chosen {
                image: image.into(),
                release: entry.release.clone(),
                id: Some(entry.id()),
                entry: Some(entry.clone()),
            }),
            Some(_) | None => self.choose(about),
        }
    }

    /// The release that `rollback` means: the newest complete one that is older than the active one.
    pub(crate) fn choose_older(
        &self,
        about: &Subscription,
        image: &str,
        selector: &Selector,
    ) -> Result<Chosen, Refused> {
        let active = self.versions.current(image);
        let active = active.ok_or_else(|| Refused::NothingActive { image: image.into() })?;
        let known = self.releases.find(image, active).map(|(_, release)| release);
        // What the repository has no longer may be newer than anything.
        let age = known.filter(|release| !release.withdrawn).map_or(u64::MAX, |known| known.entry.sequence);
        let named = match selector {
            Selector::Current => None,
            Selector::Named(_) => Some(self.choose(about)?),
        };
        if let Some(chosen) = named {
            if chosen.release != active && chosen.publication().sequence >= age {
                return Err(Refused::NotOlder { release: chosen.name(), active: active.into() });
            }
            return Ok(chosen);
        }
        let older = self.releases.iter().map(|(_, release)| release).filter(|release| {
            release.entry.image == image
                && release.entry.release != active
                && release.is_complete()
                && (release.withdrawn || release.entry.sequence < age)
        });
        older
            .max_by_key(|release| (!release.withdrawn, release.entry.sequence))
            .and_then(|release| self.local(image, &release.entry.release))
            .ok_or_else(|| Refused::NothingOlder { image: image.into(), active: active.into() })
    }

    /// Makes a release the current one because somebody says so, and holds it there. Whoever names what the subscriptions
    /// mean follows them again. Returns whether anything changed.
    pub(crate) fn make_current(&mut self, chosen: &Chosen, follow: Follow) -> Result<bool, Refused> {
        let image = chosen.image.as_str();
        let target = self.target(image).map(|target| (target.id(), target.release.clone(), target.sequence));
        let is_target = target.as_ref().is_some_and(|(id, ..)| Some(*id) == chosen.id);
        let former = self.versions.current(image).map(str::to_owned);
        let former = former.as_deref().map(|release| Publication {
            release,
            sequence: self.releases.find(image, release).map_or(0, |(_, known)| known.sequence()),
        });
        let is_complete = chosen.id.is_some_and(|id| self.releases.is_complete(&id));
        let before = self.versions.record(image).clone();
        let changed = if follow == Follow::Subscription || (is_target && is_complete) {
            self.versions.decide(&self.shared.store, image, |record| record.hold = None)?
        } else if is_complete {
            self.versions.decide(&self.shared.store, image, |record| {
                versions::hold(record, chosen.publication(), former);
            })?
        } else {
            false
        };
        match chosen.id {
            Some(id) if is_complete => {
                let is_current = self.versions.is_current(image, &chosen.release);
                if let Err(error) = self.switch(id) {
                    // The decision must not be carried out later, after its failure was reported.
                    self.versions.decide(&self.shared.store, image, |record| *record = before)?;
                    return Err(error.into());
                }
                Ok(changed || !is_current)
            }
            // It comes by itself, now that nothing holds it back.
            Some(_) if is_target && self.automatic(image, chosen.publication()) == Automatic::Yes => {
                Ok(changed)
            }
            Some(_) | None => {
                self.versions.decide(&self.shared.store, image, |record| *record = before)?;
                let state = chosen.id.map_or("announced", |id| self.state_of(&id));
                Err(Refused::NotComplete { release: chosen.name(), state })
            }
        }
    }
}
