//! Who waits although a source is in reach.
//!
//! Behind a thin line a block takes a minute, and then the others get it within milliseconds: a host waits for another
//! one only from the moment on at which that one has something for it.

use super::Violation;
use crate::{host::Host, wan::OriginState, world::World};
use branchmesh_exchange::Time;
use branchmesh_wire::{BlockSet, IndexId};
use std::collections::BTreeMap;

impl World {
    /// Looks at who waits, and at what is claimed.
    pub(crate) fn check_waits(&mut self) {
        let mut lacking_since = BTreeMap::new();
        let mut violations = Vec::new();
        for host in self.hosts.iter().filter(|host| host.runs() && host.is_honest()) {
            for release in self.releases() {
                if self.sources(host, &release).next().is_some() {
                    let key = (host.id, release);
                    let since = self.checks.lacking_since.get(&key).copied().unwrap_or(self.now);
                    lacking_since.insert(key, since);
                    violations.extend(self.waits_for_member(host, &release, since));
                }
                violations.extend(self.waits_for_origin(host, &release));
                let claims = host.exchange.held(&release).map_or(0, BlockSet::len);
                if claims > host.disk.get(&release).map_or(0, BlockSet::len) {
                    violations.push(Violation::ClaimsWhatIsNotThere { host: host.id });
                }
            }
        }
        self.checks.lacking_since = lacking_since;
        violations.into_iter().for_each(|violation| self.checks.violated(self.now, violation));
    }

    /// The honest members in reach that hold something of a release that a host lacks.
    fn sources<'a>(&'a self, host: &'a Host, release: &'a IndexId) -> impl Iterator<Item = &'a Host> {
        let disk = unfinished(host, release);
        let others = self.hosts.iter().filter(move |other| other.id != host.id && other.is_honest());
        others.filter(move |other| {
            self.reaches(host.id, other.id)
                && disk.zip(other.disk.get(release)).is_some_and(|(disk, held)| {
                    let mut more = held.clone();
                    more.subtract(disk);
                    !more.is_empty()
                })
        })
    }

    fn waits_for_member(&self, host: &Host, release: &IndexId, since: Time) -> Option<Violation> {
        let wait_max = self.checks.wait_max;
        if self.now.since(since.max(host.progress_at)) < wait_max {
            return None;
        }
        let mut plain =
            self.sources(host, release).filter(|other| self.is_plain(host.id, other, release, wait_max));
        plain.next().map(|holder| Violation::Waits { host: host.id, holder: Some(holder.id) })
    }

    fn waits_for_origin(&self, host: &Host, release: &IndexId) -> Option<Violation> {
        let wait_max = self.checks.origin_wait_max;
        unfinished(host, release)?;
        let is_up = self.origin.state == OriginState::Up && self.origin.rotten.is_empty();
        let is_long =
            self.now.since(host.progress_at) >= wait_max && self.now.since(self.origin.since) >= wait_max;
        let crosses = self.checks.last_crossing(release).is_some_and(|at| self.now.since(at) < wait_max);
        let is_open = self.hours.open_to_all_for(self.now, wait_max);
        (is_up && is_long && is_open && !crosses).then_some(Violation::Waits { host: host.id, holder: None })
    }
}

/// What a host holds of a release that it could take more of.
fn unfinished<'a>(host: &'a Host, release: &IndexId) -> Option<&'a BlockSet> {
    let disk = host.disk.get(release).filter(|disk| !disk.is_full())?;
    (host.spec.wanted && !host.disk_full).then_some(disk)
}
