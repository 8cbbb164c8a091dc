//! How a rollout goes at one site, in each of three ways: with the mesh, with a cache at the site, without either.

use crate::{
    clock::{Schedule, Stretch},
    overhead,
    spread::{Setting, Spread},
};
use std::time::Duration;

/// One thing for each way to bring releases to a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways<T> {
    /// Clients give each other what they hold.
    pub mesh: T,
    /// A cache at the site fetches everything once, and the clients take it from there.
    pub cache: T,
    /// Each client fetches everything for itself.
    pub alone: T,
}

impl<T> Ways<T> {
    /// The same for each way.
    pub fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Ways<U> {
        Ways { mesh: change(&self.mesh), cache: change(&self.cache), alone: change(&self.alone) }
    }

    /// Each with its name.
    pub fn named(&self) -> [(&'static str, &T); 3] {
        [("mesh", &self.mesh), ("cache", &self.cache), ("alone", &self.alone)]
    }
}

/// The course of a rollout at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Bytes of blocks and indexes that cross the line.
    pub wan_bytes: u64,
    /// The same with the headers of packets, HTTP and TLS.
    pub wire_bytes: u64,
    /// When the line is used.
    pub stretches: Vec<Stretch>,
    /// When the last client has everything, from midnight before the first day.
    pub done: Duration,
    /// Downloads from the origin at the same time.
    pub downloads: u32,
    /// Bytes a second that they ask the origin for at most, with all headers.
    pub rate: u64,
}

/// What is known of a course before anybody looks at the clock.
struct Need {
    wan_bytes: u64,
    /// How long the line is in use.
    line: Duration,
    /// How long after its last byte the last client is done.
    lag: Duration,
    downloads: u32,
}

impl Course {
    /// All ways at a site; `None` if one of them takes longer than ten years.
    pub(crate) fn all(setting: &Setting, spread: &Spread, schedule: &Schedule) -> Option<Ways<Self>> {
        let course = |need: Need| need.course(setting, schedule);
        Some(Ways {
            mesh: course(mesh(spread))?,
            cache: course(cache(setting))?,
            alone: course(alone(setting))?,
        })
    }

    /// How long the line is in use.
    #[must_use]
    pub fn line(&self) -> Duration {
        self.stretches.iter().map(|stretch| stretch.to - stretch.from).sum()
    }
}

impl Need {
    fn course(self, setting: &Setting, schedule: &Schedule) -> Option<Course> {
        let stretches = schedule.stretches(self.line)?;
        let line_done = stretches.last()?.to;
        let begun = if self.line.is_zero() { schedule.start() } else { line_done };
        Some(Course {
            wan_bytes: self.wan_bytes,
            wire_bytes: (self.wan_bytes as f64 * overhead::wan(setting.tls)).round() as u64,
            stretches,
            done: begun + self.lag,
            downloads: self.downloads,
            rate: setting.wan.min(setting.lan.saturating_mul(self.downloads.into())),
        })
    }
}

fn mesh(spread: &Spread) -> Need {
    Need { wan_bytes: spread.wan_bytes, line: spread.line, lag: spread.lag, downloads: 1 }
}

/// A cache that passes on what it is still fetching, with one port for all clients.
fn cache(setting: &Setting) -> Need {
    let line = passing(setting, setting.bytes, setting.wan);
    let port = passing(setting, setting.bytes * u64::from(setting.clients), setting.lan);
    Need { wan_bytes: setting.bytes, line, lag: port.saturating_sub(line), downloads: 1 }
}

/// All clients share the line, and none is done much before the others.
fn alone(setting: &Setting) -> Need {
    let wan_bytes = setting.bytes * u64::from(setting.clients);
    let line = passing(setting, wan_bytes, setting.wan).max(passing(setting, setting.bytes, setting.lan));
    Need { wan_bytes, line, lag: Duration::ZERO, downloads: setting.clients }
}

/// How long bytes over HTTP take on a link.
fn passing(setting: &Setting, bytes: u64, rate: u64) -> Duration {
    let seconds = bytes as f64 * overhead::wan(setting.tls) / rate as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn setting(clients: u32, wan: u64, lan: u64) -> Setting {
        let round_trip = Duration::from_millis(40);
        Setting { clients, has_seed: true, wan, lan, round_trip, tls: false, bytes: GB }
    }

    fn seconds(duration: Duration) -> f64 {
        duration.as_secs_f64().round()
    }

    #[test]
    fn without_the_mesh_each_client_brings_its_bytes_over_the_line() {
        let course = alone(&setting(8, 2_500_000, 125_000_000))
            .course(&setting(8, 2_500_000, 0), &Schedule::default());
        let course = course.unwrap();
        assert_eq!((course.wan_bytes, course.downloads), (8 * GB, 8));
        // 8 GB of 1448 bytes in frames of 1514 with 0.1 % of HTTP, at 2.5 MB/s.
        assert_eq!(course.wire_bytes / 1000, 8_373_005);
        assert_eq!(seconds(course.done), 3349.0);
        // A port that is thinner than the share of the line.
        assert_eq!(seconds(alone(&setting(1, 125_000_000, 1_250_000)).line), 837.0);
    }

    #[test]
    fn a_cache_takes_everything_once_and_its_port_may_take_longer_than_the_line() {
        let thin = cache(&setting(8, 2_500_000, 125_000_000));
        assert_eq!((thin.wan_bytes, seconds(thin.line), thin.lag), (GB, 419.0, Duration::ZERO));
        let crowded = cache(&setting(100, 12_500_000, 12_500_000));
        assert_eq!((seconds(crowded.line), seconds(crowded.line + crowded.lag)), (84.0, 8373.0));
    }

    #[test]
    fn the_mesh_is_done_its_lag_after_its_line_and_needs_no_window_for_it() {
        let hour = Duration::from_secs(3600);
        let night = Schedule::new(1, "00:00".parse().unwrap(), &["22:00-23:00".parse().unwrap()]);
        let spread = Spread { wan_bytes: GB, line: hour, lag: hour / 2 };
        let ways = Course::all(&setting(8, 2_500_000, 125_000_000), &spread, &night).unwrap();
        assert_eq!(ways.mesh.done, hour * 23 + hour / 2);
        assert_eq!(ways.mesh.line(), hour);
    }

    #[test]
    fn where_nothing_is_lacking_everybody_is_done_at_the_start() {
        let setting = Setting { bytes: 0, ..setting(8, 2_500_000, 125_000_000) };
        let night = Schedule::new(2, "01:00".parse().unwrap(), &["22:00-23:00".parse().unwrap()]);
        let ways = Course::all(&setting, &setting.spread().unwrap(), &night).unwrap();
        assert!(ways.named().iter().all(|(_, course)| course.done == night.start() && course.wan_bytes == 0));
    }
}
