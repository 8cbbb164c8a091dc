//! `branchmesh-sim --figures`: the figures that the project promises of the exchange, measured at full size.

use branchmesh_sim::scenario::{self, LAN_100, Run, TooLate};
use std::time::Instant;

const MIB: u64 = 1 << 20;
/// The release that the figures are about: 54 s of the line.
const BYTES: u64 = 128 * MIB;
/// Sites that are simulated at once, and the release that they get: 13 s of their lines.
const SITES: u32 = 100;
const SITES_BYTES: u64 = 32 * MIB;
/// 20 Mbit/s, in bytes a second.
const LINE: u64 = 2_500_000;

/// Measures and prints all; whether everybody got everything and nothing was wrong.
pub fn print() -> bool {
    let mut well = true;
    println!("cold start, 20 Mbit/s of WAN");
    for clients in [2, 4, 8, 16, 32, 64] {
        well &= say(clients, scenario::cold_start(1, clients, BYTES));
    }
    println!("the fetcher is killed five times");
    for clients in [4, 8, 32] {
        well &= say(clients, scenario::fetcher_killed(1, clients, BYTES, 5));
    }
    println!("the LAN falls apart and heals five times");
    for clients in [4, 8, 16] {
        well &= say(clients, scenario::split(1, clients, BYTES, 5));
    }
    println!("30 of 100 are hostile");
    for clients in [10, 20, 40] {
        well &= say(clients, scenario::hostile(1, clients, BYTES, 30, LINE));
    }
    println!("cold start of {SITES} sites of 100 clients, a release of {} MiB", SITES_BYTES / MIB);
    well &= say_sites();
    println!("LAN only, 100 Mbit/s, one holder");
    for clients in [2, 4, 8, 16, 32, 64] {
        well &= say_lan(clients);
    }
    well
}

fn say(clients: u32, run: Result<Run, TooLate>) -> bool {
    let run = match run {
        Ok(run) => run,
        Err(late) => {
            println!("  {clients:3} clients: {late}");
            return false;
        }
    };
    let measured = &run.measured;
    println!(
        "  {clients:3} clients: amplification {:.4}, the last after {:.1} s, {:.2} s behind the WAN; longest pause {:.1} s",
        measured.amplification(),
        measured.last().since_start().as_secs_f64(),
        measured.site_lag().as_secs_f64(),
        measured.longest_pause.as_secs_f64(),
    );
    run.violations.iter().for_each(|violation| println!("    WRONG {violation}"));
    run.violations.is_empty()
}

fn say_lan(clients: u32) -> bool {
    let (run, bound) = match scenario::lan_only(1, clients, BYTES, LAN_100) {
        Ok(run) => run,
        Err(late) => {
            println!("  {clients:3} clients: {late}");
            return false;
        }
    };
    let bound = bound.as_secs_f64();
    let first = run.measured.completed.first().map_or(0.0, |(at, _)| at.since_start().as_secs_f64());
    let last = run.measured.last().since_start().as_secs_f64();
    println!(
        "  {clients:3} clients: the first {:.3} x, the last {:.3} x of {bound:.2} s",
        first / bound,
        last / bound
    );
    run.violations.iter().for_each(|violation| println!("    WRONG {violation}"));
    run.violations.is_empty()
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long the simulation takes is no time of the simulated world"
)]
fn say_sites() -> bool {
    let begun = Instant::now();
    let runs = match scenario::sites(1, SITES, 100, SITES_BYTES) {
        Ok(runs) => runs,
        Err(late) => {
            println!("  {late}");
            return false;
        }
    };
    let worst = runs.iter().map(|run| run.measured.amplification()).fold(0.0, f64::max);
    let last = runs.iter().map(|run| run.measured.last()).max().unwrap_or_default();
    let lag = runs.iter().map(|run| run.measured.site_lag()).max().unwrap_or_default();
    println!(
        "  amplification {worst:.4} at most, the last of all after {:.1} s, at most {:.2} s behind its WAN; {} events",
        last.since_start().as_secs_f64(),
        lag.as_secs_f64(),
        runs.iter().map(|run| run.events).sum::<u64>(),
    );
    println!("  simulated in {:.0} s", begun.elapsed().as_secs_f64());
    runs.iter().flat_map(|run| &run.violations).for_each(|violation| println!("    WRONG {violation}"));
    runs.iter().all(|run| run.violations.is_empty())
}
