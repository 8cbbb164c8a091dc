//! What happened, as a hash that tells two runs apart, and as a text for people.

use crate::{host::HostId, transition::Transition, world::World};
use branchmesh_exchange::{Action, Time};
use std::fmt::Write;

/// Bytes that are hashed at once: what is told of one action is short, and hashing many is several times as fast.
const HASHED_AT_ONCE: usize = 64 << 10;

/// What happened so far.
#[derive(Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    unhashed: Vec<u8>,
    text: Option<String>,
}

impl Trace {
    /// A hash over everything that every exchange did, and when. Equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> String {
        self.hasher.clone().update(&self.unhashed).finalize().to_hex()[..32].to_owned()
    }

    /// A line for each transition and each action, if it was kept.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    pub(crate) fn keep(&mut self) {
        self.text.get_or_insert_default();
    }

    pub(crate) fn transition(&mut self, now: Time, transition: &Transition) {
        let line = format!("{} *** {transition:?}\n", Clock(now));
        self.put(line.as_bytes());
        if let Some(text) = &mut self.text {
            *text += &line;
        }
    }

    pub(crate) fn action(&mut self, now: Time, host: HostId, action: &Action) {
        self.put(&now.since_start().as_nanos().to_le_bytes());
        self.put(&host.0.to_le_bytes());
        match action {
            Action::Request { transfer, node, blocks, .. } => {
                self.named(b'r', &transfer.0.to_le_bytes());
                self.put(&node.0);
                self.blocks(blocks);
            }
            Action::Fetch { transfer, blocks, .. } => {
                self.named(b'f', &transfer.0.to_le_bytes());
                self.blocks(blocks);
            }
            Action::Cancel { transfer } => self.named(b'c', &transfer.0.to_le_bytes()),
            Action::Note { node, .. } => self.named(b'n', &node.0),
            Action::Gossip(status) => self.named(b'g', &status.sequence.to_le_bytes()),
            Action::Dial { node, .. } => self.named(b'd', &node.0),
            Action::PollOrigin => self.named(b'p', &[]),
            Action::FetchMetadata { node } => self.named(b'm', &node.0),
            Action::Completed { release } => self.named(b'e', &release.0),
        }
        if let Some(text) = &mut self.text {
            let _ = writeln!(text, "{} {host} {}", Clock(now), Words(action));
        }
    }

    fn named(&mut self, kind: u8, what: &[u8]) {
        self.put(&[kind]);
        self.put(what);
    }

    fn blocks(&mut self, blocks: &[u32]) {
        blocks.iter().for_each(|block| self.put(&block.to_le_bytes()));
    }

    fn put(&mut self, bytes: &[u8]) {
        self.unhashed.extend_from_slice(bytes);
        if self.unhashed.len() >= HASHED_AT_ONCE {
            self.hasher.update(&self.unhashed);
            self.unhashed.clear();
        }
    }
}

/// Seconds since the start.
struct Clock(Time);

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:11.6}", self.0.since_start().as_secs_f64())
    }
}

/// An action on one line.
struct Words<'a>(&'a Action);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Action::Request { transfer, node, blocks, .. } => {
                write!(f, "asks {} for {blocks:?} (transfer {})", HostId::of(node), transfer.0)
            }
            Action::Fetch { transfer, blocks, .. } => {
                write!(f, "fetches {blocks:?} over the WAN (transfer {})", transfer.0)
            }
            Action::Cancel { transfer } => write!(f, "cancels transfer {}", transfer.0),
            Action::Note { node, note } => write!(f, "tells {} {note:?}", HostId::of(node)),
            Action::Gossip(status) => {
                let releases =
                    status.releases.iter().map(|one| format!(" {}/{}", one.bytes_have, one.bytes_total));
                write!(f, "gossips: fetching {}, has{}", status.fetching, releases.collect::<String>())
            }
            Action::Dial { node, .. } => write!(f, "dials {}", HostId::of(node)),
            Action::PollOrigin => write!(f, "asks the origin for news"),
            Action::FetchMetadata { node } => write!(f, "takes the metadata of {}", HostId::of(node)),
            Action::Completed { .. } => write!(f, "has all of a release"),
        }
    }
}

/// What one sees who looks at all screens.
pub(crate) fn picture(world: &World) -> String {
    let mut text = format!("at {}: the origin is {:?}\n", Clock(world.now), world.origin.state);
    for host in &world.hosts {
        let (power, nature, part) = (host.power, host.spec.nature, host.part);
        let _ = write!(text, "{} {power:?} {nature:?} part {part} links {}", host.id, host.links.len());
        let _ = writeln!(
            text,
            " fetcher {} timer {:?}",
            host.exchange.is_fetcher(),
            host.exchange.poll_timeout()
        );
        for release in host.exchange.releases() {
            let Some(report) = host.exchange.release(world.now, &release) else { continue };
            let waiting = report.waiting.map(|waiting| waiting.to_string()).unwrap_or_default();
            let _ = writeln!(
                text,
                "    {}/{} blocks, {} on their way over the WAN, {} over the LAN; {waiting}",
                report.blocks_have, report.blocks_total, report.in_flight_wan, report.in_flight_lan,
            );
        }
    }
    text
}
