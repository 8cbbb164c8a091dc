//! A LAN without a way out: one holder of a file, clients that want it and start at the same time, and equal links.
//!
//! Whatever brings the file is a [`Swarm`]: branchmesh or a rival. All are measured by the same counters and the same
//! clock, which begins when the holder's link has carried the first `BEGINNING`: what a program needs to start and
//! to find others is told apart. A client is done when its files are in place.

use crate::{
    claims::{Claims, Figure},
    counters,
    netns::{Links, Site},
    place::Place,
    ports::{Ports, Traffic},
    scratch::Scratch,
    turn::Turn,
    wait,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// The exchange has begun when the holder has sent so many bytes: more than greetings, less than a block each.
const BEGINNING: u64 = 256 << 10;
/// Between two looks at counters and clients: the precision of the times.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two points of a course.
const COURSE_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a full Ethernet frame over the bytes that TCP can put into it: nothing over IP carries more in frames of
/// 1500 bytes.
const FRAME_OVER_PAYLOAD: f64 = 1514.0 / 1448.0;
const GIB: f64 = (1_u64 << 30) as f64;

/// Programs that bring one file from a holder to clients.
pub trait Swarm {
    /// What it is, for people.
    fn name(&self) -> &str;
    /// Bytes that each client must get.
    fn payload(&self) -> u64;
    /// Starts the holder, and returns when it has everything and is ready to give.
    fn start_holder(&mut self, place: &Place);
    /// Starts one more client; doesn't wait.
    fn start_client(&mut self, place: &Place);
    /// Whether a client, by number, has all files in place. Fails the measurement if it runs no longer.
    fn is_done(&mut self, client: usize) -> bool;
    /// The processes of the holder and the clients.
    fn processes(&mut self) -> Vec<u32>;
    /// The clients whose files are not what they should be.
    fn wrong(&self) -> Vec<String>;
}

/// The network.
#[derive(Debug)]
pub struct Lan {
    holder: Place,
    clients: Vec<Place>,
    mbit: u32,
    ports: Ports,
    site: Site,
    scratch: Scratch,
    _turn: Turn,
}

impl Lan {
    /// A switch with a holder and so many clients, each with a link of `mbit` Mbit/s in each direction.
    ///
    /// # Panics
    /// If it cannot be set up.
    #[must_use]
    pub fn new(test: &str, clients: usize, mbit: u32) -> Self {
        let turn = Turn::take();
        let scratch = Scratch::new(test);
        // Nobody is at the other end of the WAN.
        let mut site = Site::new(Links { wan_mbit: mbit, lan_mbit: mbit });
        let holder = site.add_client();
        let clients: Vec<Place> = (0..clients).map(|_| site.add_client()).collect();
        let ports = Ports::new(&site.switch(), site.ports(), scratch.path());
        Self { holder, clients, mbit, ports, site, scratch, _turn: turn }
    }

    /// Where files may be put.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Has `swarm` bring its file from the holder to all clients, at most `limit` long.
    ///
    /// # Panics
    /// If that fails, takes longer, or leaves wrong files.
    #[track_caller]
    pub fn spread(&self, swarm: &mut dyn Swarm, limit: Duration) -> LanRun {
        swarm.start_holder(&self.holder);
        let before = Counted::now(self, swarm);
        let start = Instant::now();
        self.clients.iter().for_each(|place| swarm.start_client(place));

        let mut begun = None;
        let mut done: Vec<Option<f64>> = vec![None; self.clients.len()];
        let mut course = vec![self.ports.look()];
        let base = course[0][0].sent;
        let all = wait::until_every(LOOK_EVERY, limit, || {
            let (now, traffic) = (start.elapsed(), self.ports.look());
            if begun.is_none() && traffic[0].sent - base >= BEGINNING {
                begun = Some(now.as_secs_f64());
            }
            if now >= COURSE_EVERY * u32::try_from(course.len()).unwrap_or(u32::MAX) {
                course.push(traffic);
            }
            for (client, slot) in done.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
                *slot = swarm.is_done(client).then(|| start.elapsed().as_secs_f64());
            }
            done.iter().all(Option::is_some).then_some(())
        });
        let seconds = start.elapsed().as_secs_f64();
        let after = Counted::now(self, swarm);
        let course = Course { looks: course, mbit: self.mbit };
        assert!(all.is_some(), "{}: not done within {limit:?}: {done:?}\n{course}", swarm.name());
        let wrong = swarm.wrong();
        assert!(wrong.is_empty(), "{}: {wrong:?}", swarm.name());

        let begun = begun.unwrap_or(seconds);
        let mut done: Vec<f64> = done.into_iter().flatten().map(|at| at - begun).collect();
        done.sort_by(f64::total_cmp);
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        LanRun {
            swarm: swarm.name().into(),
            mbit: self.mbit,
            payload: swarm.payload(),
            begun,
            done,
            wire_bytes: after.wire_bytes - before.wire_bytes,
            cpu_seconds,
            cores_used: cpu_seconds / seconds,
            cores_busy: (after.machine_seconds - before.machine_seconds) / seconds,
            course,
        }
    }
}

/// What is counted before and after.
struct Counted {
    wire_bytes: u64,
    cpu_seconds: f64,
    machine_seconds: f64,
}

impl Counted {
    fn now(lan: &Lan, swarm: &mut dyn Swarm) -> Self {
        let shaped = counters::shaped(&lan.site.switch());
        let to_clients = lan.site.ports().into_iter().skip(1).filter_map(|port| shaped.get(&port).copied());
        let used = swarm.processes().into_iter().filter_map(counters::usage);
        Self {
            wire_bytes: to_clients.sum(),
            cpu_seconds: used.map(|usage| usage.cpu_seconds).sum(),
            machine_seconds: counters::machine_cpu_seconds().unwrap_or_default(),
        }
    }
}

/// What a spread on a LAN came to.
#[derive(Debug)]
pub struct LanRun {
    /// What brought the file.
    pub swarm: String,
    /// Each link, in Mbit/s.
    pub mbit: u32,
    /// Bytes that each client had to get, without headers of packets.
    pub payload: u64,
    /// Seconds from the start of the first client to the beginning of the exchange.
    pub begun: f64,
    /// Seconds from there until each client's files were in place, ascending.
    pub done: Vec<f64>,
    /// Bytes of all frames that went to clients, with all headers.
    pub wire_bytes: u64,
    /// Processor time of all processes of the swarm, from the start of the first client to the end.
    pub cpu_seconds: f64,
    /// Processors that the swarm kept busy on the average.
    pub cores_used: f64,
    /// Processors of the machine that were busy on the average, with whatever: a figure near their number says that
    /// the machine was the limit.
    pub cores_busy: f64,
    /// Who was idle when.
    pub course: Course,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
impl LanRun {
    /// The least time that physics allows: T >= max(F / u, F / d, N F / (u + N u)) for N clients, which is F / u where
    /// all links are equal. F is the payload in full Ethernet frames with the headers of TCP, whatever was used.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.payload as f64 * FRAME_OVER_PAYLOAD * 8.0 / (f64::from(self.mbit) * 1e6)
    }

    /// Time of the first client over the bound.
    #[must_use]
    pub fn first(&self) -> f64 {
        self.done[0] / self.bound()
    }

    /// Time of the last client over the bound.
    #[must_use]
    pub fn last(&self) -> f64 {
        self.done[self.done.len() - 1] / self.bound()
    }

    /// Bytes on the clients' links, with all headers, over what they had to get.
    #[must_use]
    pub fn wire_over_payload(&self) -> f64 {
        self.wire_bytes as f64 / (self.payload * self.done.len() as u64) as f64
    }

    /// Processor time of the swarm for each GiB that a client got.
    #[must_use]
    pub fn cpu_per_gib(&self) -> f64 {
        self.cpu_seconds / ((self.payload * self.done.len() as u64) as f64 / GIB)
    }

    /// Shows everything, and claims that the last client is done within so many times the bound.
    pub fn claim(&self, claims: &mut Claims, limit: f64) {
        let what = format!("{} clients at {} Mbit/s", self.done.len(), self.mbit);
        claims.at_most(&format!("{what}: last client / bound"), ratio(self.last()), ratio(limit));
        claims.note(&format!("{what}: first client / bound"), ratio(self.first()));
        claims.note(&format!("{what}: bound"), Figure::seconds(self.bound()));
        claims.say(&format!("{what}: clients done, seconds"), &format!("{:.2?}", self.done));
        claims.note(
            &format!("{what}: from the clients' start to the beginning of that"),
            Figure::seconds(self.begun),
        );
        claims.note(&format!("{what}: bytes on the wire / payload"), ratio(self.wire_over_payload()));
        claims
            .note(&format!("{what}: CPU seconds of all agents per GiB delivered"), ratio(self.cpu_per_gib()));
        claims.note(&format!("{what}: processors that all agents kept busy"), ratio(self.cores_used));
        claims.note(&format!("{what}: processors of the machine that were busy"), ratio(self.cores_busy));
        claims.say(
            &format!("{what}: percent of each link used, each {COURSE_EVERY:?}"),
            &self.course.to_string(),
        );
    }
}

fn ratio(value: f64) -> Figure {
    Figure::ratio(value)
}

/// The counters of all ports, each `COURSE_EVERY` since the start of the clients; the holder's port comes first.
#[derive(Debug)]
pub struct Course {
    looks: Vec<Vec<Traffic>>,
    mbit: u32,
}

impl Course {
    #[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
    fn percents(&self, port: usize, of: impl Fn(Traffic) -> u64) -> Vec<u64> {
        let full = f64::from(self.mbit) * 1e6 / 8.0 * COURSE_EVERY.as_secs_f64();
        let steps = self.looks.windows(2).map(|pair| of(pair[1][port]) - of(pair[0][port]));
        steps.map(|bytes| (bytes as f64 / full * 100.0).round() as u64).collect()
    }
}

impl std::fmt::Display for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n          holder sends      {:?}", self.percents(0, |traffic| traffic.sent))?;
        for port in 1..self.looks[0].len() {
            write!(
                f,
                "\n          client {port} receives {:?}",
                self.percents(port, |traffic| traffic.received)
            )?;
            write!(
                f,
                "\n          client {port} sends    {:?}",
                self.percents(port, |traffic| traffic.sent)
            )?;
        }
        Ok(())
    }
}
