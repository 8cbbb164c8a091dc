//! A release spreads over one site: the real exchange, in a simulated world.
//!
//! A slice of bounded size is simulated, with blocks of their real size and all waits as they are. A longer release is
//! the slice and more of the same: a second slice of half the size tells what each further byte costs. Larger blocks
//! instead would be wrong: one of them would take longer than the exchange waits for a source that is silent.

use crate::overhead;
use branchmesh_sim::{HostSpec, Measured, SiteSpec, World, release::Release, world::TooLate};
use branchmesh_wire::Role;
use std::time::Duration;

/// Blocks of a slice at most: over a line of 20 Mbit/s, a minute and a half.
const SLICE_BLOCKS_MAX: u32 = 4096;
/// Blocks of a slice at least, so that the start and the end of a spread are not all of it.
const SLICE_BLOCKS_MIN: u32 = 128;
/// Blocks of a slice times the square of the members: so many notes about blocks they send each other. Keeps the largest
/// site within some seconds of work.
const NOTES: u32 = 600_000;
/// Members that are simulated: a larger site is as one of so many. Its agents have no more neighbours, and a block takes
/// one more step at most to the last of them.
const MEMBERS_MAX: u32 = 100;
/// The longest that a slice may take in virtual time: the largest over a line of 10 kbit/s takes two and a half days.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Neighbours that a machine looks for at first. As many find it, so that it has the 32 that an agent of a large site is
/// content with.
const CONNECTIONS: usize = 16;
/// Every run is the same one: a plan does not change when it is made again.
const SEED: u64 = 1;

/// All of a site that the course of a spread depends on. Equal sites are simulated once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setting {
    pub clients: u32,
    pub has_seed: bool,
    /// Bytes a second on the line, with all headers.
    pub wan: u64,
    pub lan: u64,
    pub round_trip: Duration,
    pub tls: bool,
    /// Bytes of blocks and indexes that nobody there holds.
    pub bytes: u64,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Bytes of blocks and indexes that crossed the line.
    pub wan_bytes: u64,
    /// From the start until the last of them.
    pub line: Duration,
    /// From then until the last client is done.
    pub lag: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SpreadError {
    /// The site never got everything.
    #[error(transparent)]
    TooLate(#[from] TooLate),
    /// The exchange did what it must not do.
    #[error("the simulated exchange broke a rule: {0}")]
    Violation(String),
}

impl Setting {
    /// Simulates it.
    pub fn spread(&self) -> Result<Spread, SpreadError> {
        if self.bytes == 0 {
            return Ok(Spread { wan_bytes: 0, line: Duration::ZERO, lag: Duration::ZERO });
        }
        let whole = Release::of_bytes("whole", self.bytes).segments.block_count();
        let slice_max = self.slice_blocks();
        let slice = self.simulate(whole.min(slice_max))?;
        if whole <= slice_max {
            return Ok(self.extended(&slice, self.line_seconds_per_byte(), 0.0));
        }
        let half = self.simulate(slice_max / 2)?;
        let bytes = slice.lacking as f64 - half.lacking as f64;
        let line = ((slice.line - half.line) / bytes).max(self.line_seconds_per_byte());
        let last = ((slice.last - half.last) / bytes).max(line);
        Ok(self.extended(&slice, line, last - line))
    }

    /// Clients that are simulated.
    fn simulated_clients(&self) -> u32 {
        self.clients.min(MEMBERS_MAX - u32::from(self.has_seed))
    }

    fn slice_blocks(&self) -> u32 {
        let members = self.simulated_clients() + u32::from(self.has_seed);
        (NOTES / (members * members)).clamp(SLICE_BLOCKS_MIN, SLICE_BLOCKS_MAX)
    }

    fn line_rate(&self) -> u64 {
        overhead::left_for_data(self.wan, overhead::wan(self.tls))
    }

    fn line_seconds_per_byte(&self) -> f64 {
        1.0 / self.line_rate() as f64
    }

    /// The slice, and more of the same up to all bytes, or less: each further byte costs the line and the lag so much.
    fn extended(&self, slice: &Slice, line: f64, lag: f64) -> Spread {
        let further = self.bytes as f64 - slice.lacking as f64;
        let twice = (slice.crossed - slice.lacking) as f64 / slice.lacking as f64;
        Spread {
            wan_bytes: self.bytes + (self.bytes as f64 * twice) as u64,
            line: seconds(slice.line + further * line),
            lag: seconds(slice.last - slice.line + further * lag),
        }
    }

    fn simulate(&self, blocks: u32) -> Result<Slice, SpreadError> {
        let spec = SiteSpec {
            wan_rate: self.line_rate(),
            wan_delay: self.round_trip / 2,
            connections: CONNECTIONS,
            ..SiteSpec::default()
        };
        let mut world = World::new(SEED, spec);
        let release = world.publish(Release::of_blocks("slice", blocks));
        let port = overhead::left_for_data(self.lan, overhead::mesh());
        let client = HostSpec { up: port, down: port, ..HostSpec::default() };
        if self.has_seed {
            world.add(HostSpec { role: Role::Seed, ..client.clone() });
        }
        for _ in 0..self.simulated_clients() {
            world.add(client.clone());
        }
        world.run_to_completion(LIMIT)?;
        if let Some((at, violation)) = world.checks().violations().first() {
            return Err(SpreadError::Violation(format!("{violation}, at {at:?}")));
        }
        Ok(Slice::of(&world.measured(&release)))
    }
}

/// What was simulated, in bytes and seconds.
struct Slice {
    lacking: u64,
    crossed: u64,
    line: f64,
    last: f64,
}

impl Slice {
    fn of(measured: &Measured) -> Self {
        let line = measured.wan_done.unwrap_or(measured.last());
        Self {
            lacking: measured.lacking_bytes.max(1),
            crossed: measured.wan_bytes.max(measured.lacking_bytes),
            line: line.since_start().as_secs_f64(),
            last: measured.last().max(line).since_start().as_secs_f64(),
        }
    }
}

/// No less than none, and no more than can be told.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(clients: u32, bytes: u64) -> Setting {
        let round_trip = Duration::from_millis(40);
        Setting { clients, has_seed: false, wan: 2_500_000, lan: 25_000_000, round_trip, tls: false, bytes }
    }

    #[test]
    fn a_long_release_is_a_slice_and_more_of_the_same() {
        let slice = setting(20, 0);
        let bytes = slice.simulate(slice.slice_blocks() * 2).unwrap();
        let spread = setting(20, bytes.lacking).spread().unwrap();
        assert_eq!(spread.wan_bytes, bytes.lacking);
        assert!((spread.line.as_secs_f64() / bytes.line - 1.0).abs() < 0.01, "{spread:?}, {}", bytes.line);
        let last = (spread.line + spread.lag).as_secs_f64();
        assert!((last / bytes.last - 1.0).abs() < 0.02, "{spread:?}, {}", bytes.last);
    }

    #[test]
    fn a_thin_lan_delays_the_clients_not_the_line() {
        let thin = Setting { lan: 1_250_000, ..setting(8, 64 << 20) }.spread().unwrap();
        let wide = setting(8, 64 << 20).spread().unwrap();
        assert!(wide.lag < Duration::from_secs(2), "{wide:?}");
        assert!(thin.line + thin.lag > (wide.line + wide.lag) * 3 / 2, "{thin:?}, {wide:?}");
    }

    #[test]
    fn days_over_the_thinnest_line_are_planned() {
        let thinnest = Setting { wan: crate::sites::WAN_MIN, ..setting(2, 400 << 20) };
        let spread = thinnest.spread().unwrap();
        assert_eq!(spread.wan_bytes, thinnest.bytes);
        let least = thinnest.bytes as f64 * thinnest.line_seconds_per_byte();
        assert!((1.0..1.01).contains(&(spread.line.as_secs_f64() / least)), "{spread:?}, {least} s");
    }

    #[test]
    fn a_seed_shortens_the_start() {
        let alone = setting(2, 4 << 20).spread().unwrap();
        let seeded = Setting { has_seed: true, ..setting(2, 4 << 20) }.spread().unwrap();
        assert!(seeded.line < alone.line, "{seeded:?}, {alone:?}");
    }
}
