//! What people decided about the releases of each image: pins, holds, what they asked for, and what is current.
//!
//! Decisions are in the store's ledger before anything is done about them: a node that loses power in between does
//! it after its start. The current release is what the store's pointer names.

use crate::config::Update;
use branchmesh_store::{Hold, ImageRecord, Store, StoreError};
use std::collections::BTreeMap;

/// The decisions about all images.
#[derive(Default)]
pub(crate) struct Versions {
    records: BTreeMap<String, ImageRecord>,
    current: BTreeMap<String, String>,
}

/// A release as far as decisions are about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publication<'a> {
    pub release: &'a str,
    /// Its number; 0 if the repository has it no longer.
    pub sequence: u64,
}

/// Whether the release that the subscriptions mean becomes the current one by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Automatic {
    /// As soon as it is complete.
    Yes,
    /// Somebody made another one current, and this is not newer than what was current then.
    HeldBack {
        /// That other one.
        by: String,
    },
    /// With `suggest`, somebody has to accept it first.
    NotAccepted,
    /// With `manual`, nothing does.
    Manual,
}

impl Versions {
    /// What the store remembers.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let records: BTreeMap<_, _> = store.images_remembered()?.into_iter().collect();
        let mut current = BTreeMap::new();
        for record in store.releases()? {
            if let Some(release) = store.current(&record.image)? {
                current.insert(record.image, release);
            }
        }
        Ok(Self { records, current })
    }

    /// What was decided about an image.
    pub fn record(&self, image: &str) -> &ImageRecord {
        static NOTHING: ImageRecord = ImageRecord::NOTHING;
        self.records.get(image).unwrap_or(&NOTHING)
    }

    /// The release that `current` names.
    pub fn current(&self, image: &str) -> Option<&str> {
        self.current.get(image).map(String::as_str)
    }

    /// Whether `current` names this release.
    pub fn is_current(&self, image: &str, release: &str) -> bool {
        self.current(image) == Some(release)
    }

    pub fn is_pinned(&self, image: &str, release: &str) -> bool {
        self.record(image).pinned.contains(release)
    }

    pub fn is_asked(&self, image: &str, release: &str) -> bool {
        self.record(image).asked.contains(release)
    }

    /// Decides something else about an image. Returns whether that is a change; it is durable then.
    pub fn decide(
        &mut self,
        store: &Store,
        image: &str,
        change: impl FnOnce(&mut ImageRecord),
    ) -> Result<bool, StoreError> {
        let mut record = self.record(image).clone();
        change(&mut record);
        if record == *self.record(image) {
            return Ok(false);
        }
        store.put_image(image, &record)?;
        self.records.insert(image.to_owned(), record);
        Ok(true)
    }

    /// Makes a complete release the current one.
    pub fn activate(&mut self, store: &Store, image: &str, release: &str) -> Result<(), StoreError> {
        store.activate(image, release)?;
        self.current.insert(image.to_owned(), release.to_owned());
        Ok(())
    }

    /// Whether `target`, which the subscriptions mean, becomes the current release of `image` by itself.
    pub fn automatic(&self, update: Update, image: &str, target: Publication<'_>) -> Automatic {
        let record = self.record(image);
        match update {
            Update::Manual => return Automatic::Manual,
            Update::Suggest if !record.asked.contains(target.release) => return Automatic::NotAccepted,
            Update::Suggest | Update::Auto => {}
        }
        match &record.hold {
            Some(hold) if target.sequence <= hold.past && hold.release != target.release => {
                Automatic::HeldBack { by: hold.release.clone() }
            }
            Some(_) | None => Automatic::Yes,
        }
    }
}

/// Holds `chosen` as the current release: nothing that was published up to now, or was current, takes its place.
pub(crate) fn hold(record: &mut ImageRecord, chosen: Publication<'_>, former: Option<Publication<'_>>) {
    let before = record.hold.as_ref().map_or(0, |hold| hold.past);
    let past = before.max(chosen.sequence).max(former.map_or(0, |former| former.sequence));
    record.hold = Some(Hold { release: chosen.release.to_owned(), past });
}

/// Forgets that releases were asked for, once another one of their image is complete. What is on its way stays
/// asked for.
pub(crate) fn fulfil(record: &mut ImageRecord, arrived: &str, is_complete: impl Fn(&str) -> bool) {
    record.asked.retain(|asked| asked == arrived || !is_complete(asked));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(release: &str) -> Publication<'_> {
        Publication { release, sequence: release.parse().unwrap() }
    }

    fn versions(record: ImageRecord) -> Versions {
        Versions { records: BTreeMap::from([("xp".into(), record)]), current: BTreeMap::new() }
    }

    fn held(chosen: &str, former: &str) -> ImageRecord {
        let mut record = ImageRecord::default();
        hold(&mut record, publication(chosen), Some(publication(former)));
        record
    }

    fn follows(record: &ImageRecord, target: &str) -> bool {
        let versions = versions(record.clone());
        versions.automatic(Update::Auto, "xp", publication(target)) == Automatic::Yes
    }

    #[test]
    fn what_was_rolled_back_from_does_not_come_back_but_what_is_newer_does() {
        let record = held("2", "3");
        assert!(!follows(&record, "3") && !follows(&record, "1"));
        assert!(follows(&record, "2") && follows(&record, "4"));
        assert!(follows(&ImageRecord::default(), "1"), "without a hold, channels move as they like");
    }

    #[test]
    fn a_second_rollback_does_not_forget_the_first() {
        let mut record = held("3", "4");
        hold(&mut record, publication("2"), Some(publication("3")));
        assert!(!follows(&record, "4") && follows(&record, "5"));
    }

    #[test]
    fn a_release_newer_than_the_channel_is_held_against_the_channel() {
        let record = held("5", "3");
        assert!(!follows(&record, "3") && !follows(&record, "4") && follows(&record, "6"));
    }

    #[test]
    fn a_release_that_the_repository_has_no_longer_is_held_against_what_was_current() {
        let mut record = ImageRecord::default();
        hold(&mut record, Publication { release: "2", sequence: 0 }, Some(publication("3")));
        assert!(!follows(&record, "3") && follows(&record, "4"));
    }

    #[test]
    fn a_suggestion_wants_to_be_accepted_and_manual_wants_a_command() {
        let mut record = ImageRecord::default();
        let automatic =
            |record: &ImageRecord, update| versions(record.clone()).automatic(update, "xp", publication("3"));
        assert_eq!(automatic(&record, Update::Suggest), Automatic::NotAccepted);
        record.asked.insert("3".into());
        assert_eq!(automatic(&record, Update::Suggest), Automatic::Yes);
        assert_eq!(automatic(&record, Update::Manual), Automatic::Manual);
        hold(&mut record, publication("2"), Some(publication("3")));
        assert_eq!(automatic(&record, Update::Suggest), Automatic::HeldBack { by: "2".into() });
    }

    #[test]
    fn what_was_asked_for_is_remembered_until_another_one_is_complete() {
        let mut record = ImageRecord::default();
        record.asked.extend(["1".to_owned(), "2".into(), "3".into()]);
        fulfil(&mut record, "2", |release| release != "3");
        assert_eq!(record.asked, ["2".to_owned(), "3".into()].into());
    }

    #[test]
    fn a_decision_is_durable_and_one_that_changes_nothing_is_none() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::open(data_dir.path()).unwrap();
        let mut versions = Versions::load(&store).unwrap();
        let pin = |record: &mut ImageRecord| {
            record.pinned.insert("2".into());
        };
        assert!(versions.decide(&store, "xp", pin).unwrap());
        assert!(!versions.decide(&store, "xp", pin).unwrap());
        drop(store);
        let store = Store::open(data_dir.path()).unwrap();
        let versions = Versions::load(&store).unwrap();
        assert!(versions.is_pinned("xp", "2") && !versions.is_pinned("xp", "1"));
        assert!(!versions.is_pinned("win", "2"));
    }
}
