//! Watching a local origin: a cheap look at its timestamp every few seconds, and all that follows when it appears,
//! changes or is still being filled.

use super::{Place, take};
use crate::{
    happening::{Happening, MetadataFrom, Wanted},
    releases::Phase,
    rollout,
    run::Loop,
    shared::Shared,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tracing::info;

/// Longest time between two looks: somebody who plugs in a stick is waiting.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Looks after one local origin until the agent stops.
pub(crate) async fn watch(shared: Arc<Shared>, place: Arc<Place>) {
    let mut seen = None;
    let mut next_pass = Instant::now();
    loop {
        let mark = place.origin.timestamp_mark().await;
        let has_changed = mark != seen;
        if has_changed {
            let words = if mark.is_some() { "here, or has changed" } else { "gone" };
            info!(origin = place.origin.url(), "a local origin is {words}");
            seen = mark;
        }
        // One that is filled slowly, or whose metadata was damaged, gets another chance at each poll.
        if mark.is_some() && (has_changed || Instant::now() >= next_pass) {
            shared.nearby_changed();
            learn(&shared, &place).await;
            take_missing(&shared, &place).await;
            next_pass = Instant::now() + shared.settings.poll;
        }
        tokio::time::sleep(LOOK_MAX.min(shared.settings.poll)).await;
    }
}

/// Learns of newer metadata.
async fn learn(shared: &Arc<Shared>, place: &Place) {
    let result = rollout::refresh_local(shared, &place.origin).await;
    shared.tell(Happening::Metadata(MetadataFrom::Local, result)).await;
}

/// Takes what is missing of the releases that are exchanged already. Those that begin take it on their way.
pub(crate) async fn take_missing(shared: &Arc<Shared>, place: &Place) {
    for Wanted { release, have, .. } in wanted(shared).await {
        let (Some(mut have), Some(held)) = (have, shared.held(&release)) else { continue };
        take(shared, &held, place, &mut have, true).await;
    }
}

/// The releases that are wanted here and on their way or here, as the loop sees them.
pub(crate) fn wanted_by(agent: &Loop) -> Vec<Wanted> {
    let wanted = agent.releases.iter().filter(|(_, release)| release.wanted);
    let begun = wanted.filter_map(|(id, release)| {
        let have = agent.exchange.held(id).cloned();
        let has_begun = have.is_some() || release.phase == Phase::Indexing;
        has_begun.then(|| Wanted { release: *id, name: release.entry.name(), have })
    });
    begun.collect()
}

/// The releases that are wanted here; none once the agent stops.
pub(crate) async fn wanted(shared: &Shared) -> Vec<Wanted> {
    let (answer, answered) = oneshot::channel();
    shared.tell(Happening::Wanted(answer)).await;
    answered.await.unwrap_or_default()
}
