//! Sites of which some members are hostile from the start, in great numbers: what they cost the others, against the same
//! site without them.

use crate::{
    scenario::{self, Run, TooLate},
    seeds::on_all_cores,
};
use std::{ops::Range, time::Duration};

/// How much longer the honest members may take for the others' sake.
pub const RATIO_MAX: f64 = 1.5;
/// Members of a site, and how many of a hundred are hostile.
const CLIENTS: u32 = 10;
const HOSTILE_PERCENT: u32 = 30;
/// A small release on a line on which it takes 54 s, as a larger one does on a faster line.
const BYTES: u64 = 16 << 20;
const LINE: u64 = 312_500;

/// What became of one site.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it was made from.
    pub seed: u64,
    /// When the last honest member had everything, as a multiple of the time without hostile ones; infinite if one never had.
    pub ratio: f64,
    /// What must not be and was, or who was left without.
    pub wrong: Option<String>,
}

impl Outcome {
    /// Whether nothing was wrong, and it took no longer than it may.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.wrong.is_none() && self.ratio <= RATIO_MAX
    }
}

/// The site of a seed.
#[must_use]
pub fn site(seed: u64) -> Outcome {
    let honest = CLIENTS - CLIENTS * HOSTILE_PERCENT / 100;
    let runs = scenario::hostile(seed, CLIENTS, BYTES, HOSTILE_PERCENT, LINE)
        .and_then(|run| Ok((run, scenario::hostile(seed, honest, BYTES, 0, LINE)?)));
    match runs {
        Ok((run, alone)) => {
            let ratio = took(&run).as_secs_f64() / took(&alone).as_secs_f64();
            Outcome { seed, ratio, wrong: wrong(&run, honest) }
        }
        Err(TooLate { what, limit, .. }) => {
            let wrong = format!("{what}: not within {limit:?} of virtual time");
            Outcome { seed, ratio: f64::INFINITY, wrong: Some(wrong) }
        }
    }
}

/// The sites of many seeds, the slowest first. `tell` hears of each when it is done.
pub fn sites(seeds: Range<u64>, tell: impl Fn(&Outcome) + Sync) -> Vec<Outcome> {
    let mut outcomes = on_all_cores(seeds, |seed| {
        let outcome = site(seed);
        tell(&outcome);
        outcome
    });
    outcomes.sort_by(|one, other| other.ratio.total_cmp(&one.ratio));
    outcomes
}

fn took(run: &Run) -> Duration {
    run.measured.last().since_start()
}

fn wrong(run: &Run, honest: u32) -> Option<String> {
    let complete = run.measured.completed.len();
    let lacking =
        (complete < honest as usize).then(|| format!("only {complete} of {honest} have everything"));
    run.violations.first().cloned().or(lacking)
}
