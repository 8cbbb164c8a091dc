//! What one sees of a site from outside: who is there, what each machine says of itself, and how far everybody is.

use crate::{
    host::{Host, HostId},
    release::Release,
    world::World,
};
use branchmesh_exchange::{MemberReport, ReleaseReport, Time};
use branchmesh_wire::IndexId;

impl World {
    /// How long it has run.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// The site's machines.
    pub fn ids(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..u32::try_from(self.hosts.len()).unwrap_or(u32::MAX)).map(HostId)
    }

    /// The releases, in the order in which they were published.
    pub fn releases(&self) -> impl Iterator<Item = IndexId> + '_ {
        self.releases.iter().map(|release| release.id)
    }

    /// A release that was published.
    #[must_use]
    pub fn release(&self, id: &IndexId) -> Option<&Release> {
        self.releases.iter().find(|release| release.id == *id)
    }

    /// Bytes of a block; none of a release that is not there.
    pub(crate) fn bytes_of(&self, release: &IndexId, block: u32) -> u64 {
        self.release(release).map_or(0, |release| release.bytes_of(block))
    }

    /// Whether everybody who runs, is honest and wants the releases has all of them.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let all = self.releases.len();
        let lacking =
            |host: &&Host| host.runs() && host.is_honest() && host.spec.wanted && host.completed.len() < all;
        !self.hosts.iter().any(|host| lacking(&host))
    }

    /// Since when a machine has all of a release; `None` if it lacks some, is not there, or has not found out since it
    /// was started last.
    #[must_use]
    pub fn completed_at(&self, host: HostId, release: &IndexId) -> Option<Time> {
        self.hosts.get(host.index())?.completed.get(release).copied()
    }

    /// The live hosts that say that they use the WAN.
    #[must_use]
    pub fn fetchers(&self) -> Vec<HostId> {
        let live = self.hosts.iter().filter(|host| host.runs() && host.exchange.is_fetcher());
        live.map(|host| host.id).collect()
    }

    /// What a machine's agent says of a release; `None` if it knows nothing of it.
    #[must_use]
    pub fn report(&self, host: HostId, release: &IndexId) -> Option<ReleaseReport> {
        self.hosts.get(host.index())?.exchange.release(self.now, release)
    }

    /// What a machine's agent says of the other members.
    #[must_use]
    pub fn members(&self, host: HostId) -> Vec<MemberReport> {
        self.hosts.get(host.index()).map(|host| host.exchange.members(self.now)).unwrap_or_default()
    }

    /// Requests that a machine has got from the others so far.
    #[must_use]
    pub fn requests_received(&self, host: HostId) -> u32 {
        self.hosts.get(host.index()).map_or(0, |host| host.asked)
    }

    /// What one sees who looks at all screens.
    #[must_use]
    pub fn picture(&self) -> String {
        crate::trace::picture(self)
    }
}
