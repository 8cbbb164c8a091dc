//! A LAN without a way out: one holder of a file, clients that want it and start at the same time, and equal links.
//!
//! Whatever brings the file is a [`Swarm`]: branchmesh or a rival. All are measured by the same counters and the same
//! clock, which begins when the holder's link has carried the first `BEGINNING`: what a program needs to start and
//! to find others is told apart. A client is done when its files are in place.

use crate::{
    counters,
    course::{COURSE_EVERY, Course},
    lan_run::LanRun,
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

/// The exchange has begun when the holder has sent so many bytes: more than greetings, little against the file.
const BEGINNING: u64 = 256 << 10;
/// Between two looks at counters and clients: the precision of the times.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
        let mut watch = Watch::new(self);
        self.clients.iter().for_each(|place| swarm.start_client(place));
        let all = wait::until_every(LOOK_EVERY, limit, || watch.look(self, swarm).then_some(()));
        let seconds = watch.start.elapsed().as_secs_f64();
        let after = Counted::now(self, swarm);

        let Watch { begun, done, course, .. } = watch;
        let course = Course::new(course, self.mbit);
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

/// What was seen since the clients were started, in seconds from there.
struct Watch {
    start: Instant,
    begun: Option<f64>,
    /// Of each client.
    done: Vec<Option<f64>>,
    /// Counters of all ports, each [`COURSE_EVERY`].
    course: Vec<Vec<Traffic>>,
}

impl Watch {
    fn new(lan: &Lan) -> Self {
        let done = vec![None; lan.clients.len()];
        Self { start: Instant::now(), begun: None, done, course: vec![lan.ports.look()] }
    }

    /// Whether all clients are done.
    fn look(&mut self, lan: &Lan, swarm: &mut dyn Swarm) -> bool {
        let (passed, traffic) = (self.start.elapsed(), lan.ports.look());
        if self.begun.is_none() && traffic[0].sent - self.course[0][0].sent >= BEGINNING {
            self.begun = Some(passed.as_secs_f64());
        }
        if passed >= COURSE_EVERY * u32::try_from(self.course.len()).unwrap_or(u32::MAX) {
            self.course.push(traffic);
        }
        for (client, done) in self.done.iter_mut().enumerate().filter(|(_, done)| done.is_none()) {
            *done = swarm.is_done(client).then(|| self.start.elapsed().as_secs_f64());
        }
        self.done.iter().all(Option::is_some)
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
