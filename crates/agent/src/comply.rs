//! Doing what people ask about releases. Decisions go to the ledger first; what follows from them is the business of
//! wishes, activation and retirement, as after any other change.

use crate::{
    activation::Follow,
    config::Update,
    release_view,
    releases::has_expired,
    requests::{Refused, ReleaseAnswer, Verb},
    run::Loop,
    versions::Publication,
};
use branchmesh_repo::{CatalogEntry, Selector, Subscription};
use branchmesh_store::ImageRecord;
use branchmesh_wire::IndexId;

/// The release that a request is about.
pub(crate) struct Chosen {
    pub image: String,
    pub release: String,
    /// `None` if the repository has it no longer.
    pub entry: Option<CatalogEntry>,
    /// `None` if it is only a name that was pinned.
    pub id: Option<IndexId>,
}

impl Chosen {
    /// Its name for people.
    pub fn name(&self) -> String {
        format!("{}@{}", self.image, self.release)
    }

    /// It as far as decisions are about it.
    pub fn publication(&self) -> Publication<'_> {
        let sequence = self.entry.as_ref().map_or(0, |entry| entry.sequence);
        Publication { release: &self.release, sequence }
    }
}

impl Loop {
    /// Does what somebody asks, or says why not.
    pub(crate) fn comply(&mut self, verb: Verb, about: &Subscription) -> Result<ReleaseAnswer, Refused> {
        let Subscription::Image { image, selector } = about else { return Err(Refused::NotOneImage) };
        let before = self.versions.current(image).map(str::to_owned);
        let (chosen, changed) = match verb {
            Verb::Get => {
                let chosen = self.choose(about)?;
                let changed = self.ask_for(&chosen)?;
                (chosen, changed)
            }
            Verb::Pin => {
                let chosen = match (selector, &before) {
                    (Selector::Current, Some(current)) => self.local(image, current),
                    (Selector::Current, None) | (Selector::Named(_), _) => None,
                };
                let chosen = chosen.map_or_else(|| self.choose(about), Ok)?;
                let changed = self.pin(&chosen)?;
                (chosen, changed)
            }
            Verb::Unpin => self.unpin(about, image, selector)?,
            Verb::Activate => {
                let follow =
                    if *selector == Selector::Current { Follow::Subscription } else { Follow::Release };
                let chosen = self.choose_to_activate(about, image, follow)?;
                let changed = self.make_current(&chosen, follow)?;
                (chosen, changed)
            }
            Verb::Rollback => {
                let chosen = self.choose_older(about, image, selector)?;
                let changed = self.make_current(&chosen, Follow::Release)?;
                (chosen, changed)
            }
        };
        self.reconsider();
        let now = self.versions.current(image);
        let previous = before.filter(|before| now.is_some_and(|now| now != before));
        Ok(self.answer(&chosen, changed, previous))
    }

    fn answer(&self, chosen: &Chosen, changed: bool, previous: Option<String>) -> ReleaseAnswer {
        let (image, release) = (chosen.image.clone(), chosen.release.clone());
        let record = self.versions.record(&image);
        ReleaseAnswer {
            changed,
            state: chosen.id.map_or("announced", |id| self.state_of(&id)).into(),
            pinned: record.pinned.contains(&release),
            held: record.hold.as_ref().is_some_and(|hold| hold.release == release),
            previous,
            image,
            release,
        }
    }

    /// The state of a release in the words of the interface.
    pub(crate) fn state_of(&self, id: &IndexId) -> &'static str {
        self.releases.get(id).map_or("announced", |release| release_view::state_name(&release.phase))
    }

    /// The release that somebody means: what the repository says, otherwise what this node still has.
    pub(crate) fn choose(&self, about: &Subscription) -> Result<Chosen, Refused> {
        let Subscription::Image { image, selector } = about else { return Err(Refused::NotOneImage) };
        let catalog = self.releases.catalog().ok_or(Refused::NotYet)?;
        if let Some(entry) = catalog.resolve(image, selector) {
            return Ok(Chosen {
                image: entry.image.clone(),
                release: entry.release.clone(),
                id: Some(entry.id()),
                entry: Some(entry.clone()),
            });
        }
        let here = match selector {
            Selector::Named(release) => self.local(image, release),
            Selector::Current => None,
        };
        here.ok_or_else(|| Refused::Unknown(about.clone()))
    }

    /// A release of which something is here, by its name.
    pub(crate) fn local(&self, image: &str, release: &str) -> Option<Chosen> {
        let (id, known) = self.releases.find(image, release)?;
        let entry = (!known.withdrawn).then(|| known.entry.clone());
        Some(Chosen { image: image.into(), release: release.into(), entry, id: Some(*id) })
    }

    /// Fails if a release that is not here must not be begun.
    fn check_may_begin(&self, chosen: &Chosen) -> Result<(), Refused> {
        let known = chosen.id.and_then(|id| self.releases.get(&id));
        if known.is_some_and(|release| release.wanted || release.is_complete()) {
            return Ok(());
        }
        let entry = chosen.entry.as_ref().ok_or_else(|| Refused::Withdrawn { release: chosen.name() })?;
        if self.releases.catalog().is_some_and(|catalog| has_expired(catalog, entry)) {
            return Err(Refused::Expired);
        }
        self.check_suitable(entry).map_err(|unmet| Refused::Unsuitable { release: entry.name(), unmet })
    }

    fn ask_for(&mut self, chosen: &Chosen) -> Result<bool, Refused> {
        self.check_may_begin(chosen)?;
        let store = &self.shared.store;
        let changed = self.versions.decide(store, &chosen.image, |record| {
            record.asked.insert(chosen.release.clone());
        })?;
        // Whoever accepts a suggestion means it, also if he went back from that very release before.
        let is_target = self.target(&chosen.image).is_some_and(|target| Some(target.id()) == chosen.id);
        if is_target && self.shared.settings.update == Update::Suggest {
            let sequence = chosen.publication().sequence;
            self.versions.decide(store, &chosen.image, |record| {
                record.hold.take_if(|hold| sequence <= hold.past);
            })?;
        }
        Ok(changed)
    }

    fn pin(&mut self, chosen: &Chosen) -> Result<bool, Refused> {
        self.check_may_begin(chosen)?;
        let pin = |record: &mut ImageRecord| {
            record.pinned.insert(chosen.release.clone());
        };
        Ok(self.versions.decide(&self.shared.store, &chosen.image, pin)?)
    }

    /// Takes a pin away: that of the release that is named; without a name, the only one.
    fn unpin(
        &mut self,
        about: &Subscription,
        image: &str,
        selector: &Selector,
    ) -> Result<(Chosen, bool), Refused> {
        let pinned = &self.versions.record(image).pinned;
        let pinned_only = |release: &str| Chosen {
            image: image.into(),
            release: release.into(),
            entry: None,
            id: self.releases.find(image, release).map(|(id, _)| *id),
        };
        let chosen = match selector {
            // A pin is a name: it may outlive the release.
            Selector::Named(release) if pinned.contains(release) => pinned_only(release),
            Selector::Named(_) => self.choose(about)?,
            Selector::Current => match pinned.iter().collect::<Vec<_>>()[..] {
                [release] => pinned_only(release),
                [] => self.choose(about)?,
                _ => {
                    let releases = pinned.iter().cloned().collect::<Vec<_>>().join(", ");
                    return Err(Refused::SeveralPinned { image: image.into(), releases });
                }
            },
        };
        let changed = self.versions.decide(&self.shared.store, image, |record| {
            record.pinned.remove(&chosen.release);
        })?;
        Ok((chosen, changed))
    }
}
