//! Builds what `status` shows of each release: how far it is, why it waits, why it stays, and when it goes.

use crate::{
    keeping::Verdict,
    problems::Problem,
    releases::{Phase, Release},
    run::Loop,
    status::{BlocksView, BytesView, ReleaseView},
    versions::{Automatic, Publication},
};
use branchmesh_exchange::{Time, Waiting};
use branchmesh_wire::IndexId;

/// All releases that this node has to do with.
pub(crate) fn release_views(agent: &Loop, now: Time) -> Vec<ReleaseView> {
    let mut verdicts = agent.verdicts();
    let view = |(id, release)| release_view(agent, now, id, release, verdicts.remove(id));
    agent.releases.iter().map(view).collect()
}

fn release_view(
    agent: &Loop,
    now: Time,
    id: &IndexId,
    release: &Release,
    verdict: Option<Verdict>,
) -> ReleaseView {
    let report = agent.exchange.release(now, id);
    let rate = agent.rates.of(id);
    let waiting = report.as_ref().and_then(|report| report.waiting.as_ref());
    // Between two blocks of a fetcher on a thin line there is always a moment of waiting.
    let is_closed = |waiting: &&Waiting| matches!(waiting, Waiting::WanClosed { .. });
    let reason = reason(agent, release, waiting.filter(|waiting| rate == 0 || is_closed(waiting)));
    let state = match (&release.phase, &reason) {
        (Phase::Exchanging, Some(_)) => "waiting",
        (phase, _) => state_name(phase),
    };
    let (blocks, bytes) = match &report {
        Some(report) => (
            BlocksView { total: report.blocks_total.into(), have: report.blocks_have.into() },
            BytesView {
                total: report.bytes_total,
                have: report.bytes.total(),
                wan: report.bytes.wan,
                lan: report.bytes.lan,
                trimmed: report.bytes.trimmed,
            },
        ),
        None => (
            BlocksView { total: release.entry.blocks.into(), have: 0 },
            BytesView { total: release.entry.encoded_bytes, ..BytesView::default() },
        ),
    };
    let left = bytes.total.saturating_sub(bytes.have);
    let path = match &release.phase {
        Phase::Complete(path) | Phase::Active(path) => Some(path.display().to_string()),
        Phase::Announced
        | Phase::Unsuitable(_)
        | Phase::Indexing
        | Phase::Exchanging
        | Phase::Assembling
        | Phase::Failed(_) => None,
    };
    let (image, name) = (&release.entry.image, &release.entry.release);
    let record = agent.versions.record(image);
    ReleaseView {
        image: image.clone(),
        release: name.clone(),
        state: state.into(),
        reason,
        blocks,
        bytes,
        rate,
        eta_seconds: (left > 0 && rate > 0).then(|| left / rate),
        path,
        cost: (release.phase == Phase::Announced && report.is_some()).then_some(left),
        pinned: record.pinned.contains(name),
        held: record.hold.as_ref().is_some_and(|hold| hold.release == *name),
        withdrawn: release.withdrawn,
        kept: verdict.as_ref().and_then(Verdict::words),
        goes: verdict.and_then(|verdict| verdict.goes),
    }
}

/// The state of a phase in the words of the interface. Why blocks do not come is the exchange's to say.
pub(crate) fn state_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Announced => "announced",
        Phase::Unsuitable(_) => "unsuitable",
        Phase::Indexing => "waiting",
        Phase::Exchanging => "fetching",
        Phase::Assembling => "assembling",
        Phase::Complete(_) => "complete",
        Phase::Active(_) => "active",
        Phase::Failed(_) => "failed",
    }
}

/// Why a release is where it is, where that needs an explanation.
fn reason(agent: &Loop, release: &Release, waiting: Option<&Waiting>) -> Option<String> {
    let problem = |kind| agent.problems.get(kind).map(str::to_owned);
    let name = || format!("{}@{}", release.entry.image, release.entry.release);
    match &release.phase {
        Phase::Announced if agent.releases.has_expired(&release.entry) => {
            Some("not begun, because the signed metadata has expired".into())
        }
        Phase::Announced => Some(format!("fetched when somebody accepts it: branchmesh get {}", name())),
        Phase::Unsuitable(unmet) => Some(unmet.clone()),
        Phase::Indexing => Some(match agent.wan_closed_words() {
            Some(closed) => format!("no member has given its index, and {closed}"),
            None => problem(Problem::Origin).unwrap_or_else(|| "its index is on its way".into()),
        }),
        Phase::Exchanging if release.withdrawn => {
            Some("the repository has it no longer: only what is here is served".into())
        }
        Phase::Exchanging => {
            let closed = agent.wan_closed_words();
            let mut reason = match (waiting?, closed) {
                // The exchange does not know what the clock on the wall shows.
                (Waiting::WanClosed { .. }, Some(closed)) => {
                    return Some(format!("no member holds the rest, and {closed}"));
                }
                (waiting, _) => waiting.to_string(),
            };
            // What went wrong in words of its own, where something did.
            for cause in [problem(Problem::Disk), problem(Problem::Origin)].into_iter().flatten() {
                reason = format!("{reason} ({cause})");
            }
            Some(reason)
        }
        Phase::Complete(_) => not_current(agent, release),
        Phase::Assembling | Phase::Active(_) => None,
        Phase::Failed(reason) => Some(reason.clone()),
    }
}

/// Why a complete release that the subscriptions mean is not the current one.
fn not_current(agent: &Loop, release: &Release) -> Option<String> {
    let (image, name) = (release.entry.image.as_str(), release.entry.release.as_str());
    let target = agent.target(image).filter(|target| target.id() == release.entry.id())?;
    match agent.automatic(image, Publication { release: name, sequence: target.sequence }) {
        Automatic::Yes => None,
        Automatic::HeldBack { by } => Some(format!(
            "{image}@{by} was made current instead, until something newer comes: branchmesh activate {image} ends that"
        )),
        Automatic::NotAccepted => {
            Some(format!("suggested: branchmesh get {image}@{name} accepts it, and makes it current"))
        }
        Automatic::Manual => Some(format!("branchmesh activate {image}@{name} makes it current")),
    }
}
