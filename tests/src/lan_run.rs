//! What a spread on a LAN came to, against what physics allows.

use crate::{
    claims::{Claims, Figure},
    course::{COURSE_EVERY, Course},
};

/// Bytes of a full Ethernet frame over the bytes that TCP can put into it: nothing over IP carries more in frames of
/// 1500 bytes.
pub const FRAME_OVER_PAYLOAD: f64 = 1514.0 / 1448.0;
const GIB: f64 = (1_u64 << 30) as f64;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_with_one_copy_in_full_frames() {
        let run = LanRun {
            swarm: "a test".into(),
            mbit: 100,
            payload: 144_800_000,
            begun: 0.5,
            done: vec![12.112, 15.14],
            wire_bytes: 2 * 151_400_000,
            cpu_seconds: 0.0,
            cores_used: 0.0,
            cores_busy: 0.0,
            course: Course::new(Vec::new(), 100),
        };
        let close = |measured: f64, expected: f64| (measured - expected).abs() < 1e-6;
        assert!(close(run.bound(), 12.112), "{}", run.bound());
        assert!(close(run.first(), 1.0) && close(run.last(), 1.25), "{} {}", run.first(), run.last());
        assert!(close(run.wire_over_payload(), 1514.0 / 1448.0), "{}", run.wire_over_payload());
    }
}
