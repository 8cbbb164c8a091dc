//! Keeping publishers out of a cloud while gc removes files there.
//!
//! A folder has a lock. A cloud has none, and must not lose a pack between the moment when a publisher finds it there
//! and the moment when its release comes into force. So gc puts a *lease* into the repository, then replaces
//! `timestamp.json`, and only then looks at what is needed:
//!
//! * A publisher that looked at `timestamp.json` before gc replaced it either came into force before that, so that gc
//!   sees its release; or it cannot any more, because the file is replaced only while it is what it began with.
//! * One that looks later looks for the lease next, finds it, and does not begin.
//!
//! The lease has an end, in case that gc is killed; gc itself stops well before that.

use super::{Ground, Place, PlaceError};
use bytes::Bytes;
use jiff::Timestamp;
use object_store::PutMode;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The lease's file.
const LEASE: &str = "gc.json";
/// How long publishers are kept out at most: gc removes many files within it, and it ends before a night does.
const LEASE_TIME: Duration = Duration::from_secs(60 * 60);
/// So long before the end nothing is removed any more: no request takes longer, with all its repetitions.
const LEASE_MARGIN: Duration = Duration::from_secs(15 * 60);

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Terms {
    /// Who holds it, and since when: no two are equal.
    holder: String,
    /// When it ends, in Unix seconds, by the clock of the repository.
    until: u64,
}

/// Held by gc in a cloud.
pub(crate) struct Lease {
    place: Place,
    begun: Instant,
}

impl Place {
    /// Keeps publishers out of a cloud. `None` in a folder, which has a lock.
    pub(crate) async fn lease(&self) -> Result<Option<Lease>, PlaceError> {
        if let Ground::Folder(_) = self.ground {
            return Ok(None);
        }
        let begun = Instant::now();
        let now = self.now().await?;
        let mode = match self.read(LEASE).await? {
            None => PutMode::Create,
            Some((bytes, version)) => match Terms::in_force(&bytes, now) {
                Some(terms) => return Err(terms.refusal()),
                None => PutMode::Update(version),
            },
        };
        let holder = format!("process {}, begun at {}", std::process::id(), Timestamp::now());
        let terms = Terms { holder, until: now.saturating_add(LEASE_TIME.as_secs()) };
        let bytes = serde_json::to_vec(&terms).unwrap_or_default();
        if !self.put_if(LEASE, bytes.into(), mode).await? {
            return Err(Terms { holder: "somebody who was faster".into(), ..terms }.refusal());
        }
        let place = Self { holds_lease: true, ..self.clone() };
        Ok(Some(Lease { place, begun }))
    }

    /// Fails while gc keeps publishers out. To be asked after `timestamp.json` was read.
    pub(super) async fn check_no_lease(&self) -> Result<(), PlaceError> {
        if self.holds_lease {
            return Ok(());
        }
        let Some((bytes, _)) = self.read(LEASE).await? else { return Ok(()) };
        match Terms::in_force(&bytes, self.now().await?) {
            Some(terms) => Err(terms.refusal()),
            None => Ok(()),
        }
    }
}

impl Terms {
    /// The terms in `bytes`, if they still bind. What cannot be read was not written by a gc at work.
    fn in_force(bytes: &Bytes, now: u64) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|terms: &Self| terms.until > now)
    }

    fn refusal(self) -> PlaceError {
        let until = i64::try_from(self.until).ok().and_then(|until| Timestamp::from_second(until).ok());
        PlaceError::Leased { holder: self.holder, until: until.unwrap_or(Timestamp::MAX) }
    }
}

impl Lease {
    /// The repository, where the lease does not keep its holder out.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether it is time to stop.
    pub(crate) fn is_ending(&self) -> bool {
        self.begun.elapsed() >= LEASE_TIME - LEASE_MARGIN
    }

    /// Lets publishers in again.
    pub(crate) async fn end(self) -> Result<(), PlaceError> {
        // After its end it may be another's.
        if self.begun.elapsed() < LEASE_TIME { self.place.remove(LEASE).await } else { Ok(()) }
    }
}
