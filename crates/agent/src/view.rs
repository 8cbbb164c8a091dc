//! Builds what `status` shows from the exchange, the releases, and what the site says of itself.

use crate::{
    hours::Allowed,
    release_view::release_views,
    run::Loop,
    status::{
        BytesView, MemberReleaseView, MemberView, NodeView, PeerView, SiteView, StatusView, amplification,
        strip_text,
    },
};
use branchmesh_exchange::{Exchange, MemberReport, Time};
use branchmesh_wire::{IndexId, NodeId, ReleaseStatus, Role, Status};
use std::collections::BTreeMap;

/// Weight of the newest second in a rate: about ten seconds count.
const RATE_WEIGHT: f64 = 0.2;

/// Rates at which blocks arrive, smoothed; sampled by the loop's housekeeping.
#[derive(Default)]
pub(crate) struct Rates {
    last: Option<(Time, BTreeMap<IndexId, Arrived>)>,
    releases: BTreeMap<IndexId, f64>,
    wan: f64,
    lan: f64,
}

#[derive(Clone, Copy, Default)]
struct Arrived {
    wan: u64,
    lan: u64,
}

impl Rates {
    /// At which a release arrives, in bytes per second.
    pub fn of(&self, release: &IndexId) -> u64 {
        self.releases.get(release).copied().unwrap_or_default() as u64
    }

    pub fn sample(&mut self, exchange: &Exchange, now: Time) {
        let arrived = |release: IndexId| {
            let bytes = exchange.release(now, &release)?.bytes;
            Some((release, Arrived { wan: bytes.wan, lan: bytes.lan }))
        };
        let new: BTreeMap<IndexId, Arrived> = exchange.releases().filter_map(arrived).collect();
        let Some((then, old)) = self.last.replace((now, new.clone())) else { return };
        let seconds = now.since(then).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let (mut wan, mut lan) = (0, 0);
        self.releases.retain(|release, _| new.contains_key(release));
        for (release, now) in new {
            let before = old.get(&release).copied().unwrap_or(now);
            let gained = (now.wan.saturating_sub(before.wan), now.lan.saturating_sub(before.lan));
            (wan, lan) = (wan + gained.0, lan + gained.1);
            let rate = self.releases.entry(release).or_default();
            smooth(rate, (gained.0 + gained.1) as f64 / seconds);
        }
        smooth(&mut self.wan, wan as f64 / seconds);
        smooth(&mut self.lan, lan as f64 / seconds);
    }
}

fn smooth(rate: &mut f64, sample: f64) {
    *rate += (sample - *rate) * RATE_WEIGHT;
    // Below a byte in ten seconds, nothing arrives.
    if *rate < 0.1 {
        *rate = 0.0;
    }
}

/// Connected members by the releases whose index they have.
pub(crate) fn holders(exchange: &Exchange, now: Time) -> BTreeMap<IndexId, Vec<NodeId>> {
    let mut holders: BTreeMap<IndexId, Vec<NodeId>> = BTreeMap::new();
    for member in exchange.members(now).into_iter().filter(|member| member.connected) {
        let releases = member.status.into_iter().flat_map(|status| status.releases);
        for release in releases {
            holders.entry(release.release).or_default().push(member.node);
        }
    }
    holders
}

/// The whole status.
pub(crate) fn status(agent: &Loop) -> StatusView {
    let now = agent.now();
    let members = agent.exchange.members(now);
    StatusView {
        node: node_view(agent, now),
        site: site_view(agent, &members),
        releases: release_views(agent, now),
        peers: members.iter().map(peer_view).collect(),
        harvest: agent.shared.harvest.view(),
    }
}

fn node_view(agent: &Loop, now: Time) -> NodeView {
    let identity = agent.shared.mesh.identity();
    let mut problems = agent.problems.all();
    if agent.releases.expired() {
        problems.push(
            "the signed metadata has expired: nothing new is begun until the repository's is renewed".into(),
        );
    }
    problems.extend(agent.shared.key_problems.iter().cloned());
    problems.extend(agent.unheard_wishes());
    problems.extend(agent.hooks.problems());
    problems.extend(agent.allowed.as_ref().and_then(Allowed::problem));
    NodeView {
        name: identity.name.clone(),
        peer_id: identity.peer_id.clone(),
        site: identity.site.clone(),
        role: role(agent.shared.settings.role),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_seconds: now.since_start().as_secs(),
        problems,
        line: agent.allowed.as_ref().map(Allowed::view).unwrap_or_default(),
    }
}

fn site_view(agent: &Loop, members: &[MemberReport]) -> SiteView {
    let mine = own_status(agent);
    let statuses: Vec<Status> = std::iter::once(&mine)
        .chain(members.iter().filter_map(|member| member.status.as_ref()))
        .cloned()
        .collect();
    let (wan_bytes, unique_bytes, ratio) = amplification(&statuses);
    let me = MemberView { is_self: true, ..member_view(agent, &mine, false) };
    let others = members
        .iter()
        .filter_map(|member| Some(member_view(agent, member.status.as_ref()?, member.connected)));
    let nodes: Vec<MemberView> = std::iter::once(me).chain(others).collect();
    SiteView {
        members: members.len() + 1,
        fetchers: nodes.iter().filter(|node| node.fetching).map(|node| node.peer_id.clone()).collect(),
        amplification: ratio,
        wan_bytes,
        unique_bytes,
        wan_rate: agent.rates.wan as u64,
        lan_rate: agent.rates.lan as u64,
        nodes,
    }
}

/// What this node would gossip now.
fn own_status(agent: &Loop) -> Status {
    agent.with_wan_bytes(agent.exchange.status())
}

fn member_view(agent: &Loop, status: &Status, connected: bool) -> MemberView {
    MemberView {
        name: status.name.clone(),
        peer_id: status.peer_id.clone(),
        role: role(status.role),
        is_self: false,
        fetching: status.fetching,
        connected,
        address: status.addresses.first().map(ToString::to_string).unwrap_or_default(),
        wan_bytes: status.wan_bytes,
        releases: status.releases.iter().map(|release| member_release_view(agent, release)).collect(),
    }
}

fn member_release_view(agent: &Loop, status: &ReleaseStatus) -> MemberReleaseView {
    let (image, release) = agent.releases.name(&status.release);
    let came = status.bytes_wan.saturating_add(status.bytes_lan);
    MemberReleaseView {
        image,
        release,
        complete: status.complete,
        bytes: BytesView {
            total: status.bytes_total,
            have: status.bytes_have,
            wan: status.bytes_wan,
            lan: status.bytes_lan,
            trimmed: status.bytes_have.saturating_sub(came),
        },
        strip: strip_text(&status.strip),
    }
}

fn peer_view(member: &MemberReport) -> PeerView {
    let status = member.status.as_ref();
    let address = status.and_then(|status| status.addresses.first()).map(ToString::to_string);
    PeerView {
        name: member.name.clone(),
        peer_id: status.map(|status| status.peer_id.clone()).unwrap_or_default(),
        address: address.unwrap_or_default(),
        state: if member.connected { "connected" } else { "known" }.into(),
        rate: member.rate.unwrap_or_default(),
    }
}

fn role(role: Role) -> String {
    match role {
        Role::Seed => "seed",
        Role::Client => "client",
    }
    .into()
}
