//! The figures that are promised of the exchange, at sizes that CI has the time for. `branchmesh-sim --figures` measures
//! them at full size.

#![allow(clippy::unwrap_used, reason = "a world that is not as it should be is a failed test")]

use branchmesh_sim::{
    hostile,
    scenario::{self, LAN_100, Run},
};
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// Sites with hostile members in CI. `branchmesh-sim --hostile-sites 0..100000` runs more of them.
const HOSTILE_SEEDS: u64 = 1000;
/// Sites of 100 clients.
const LARGE_SITES: u64 = 15;

fn check(what: &str, run: &Run, amplification: f64) {
    let measured = &run.measured;
    println!("{what}: amplification {:.4}, lag {:?}", measured.amplification(), measured.site_lag());
    assert_eq!(run.violations, [""; 0], "{what}");
    assert!(measured.amplification() <= amplification, "{what}: {}", measured.amplification());
}

#[test]
fn a_cold_start_takes_each_block_once_over_the_wan_and_spreads_it_at_once() {
    for (clients, bytes) in [(2, 64), (4, 64), (8, 64), (16, 32), (32, 32), (64, 16)] {
        let run = scenario::cold_start(1, clients, bytes * MIB).unwrap();
        check(&format!("{clients} clients"), &run, 1.02);
        assert_eq!(run.measured.completed.len(), clients as usize);
        assert!(
            run.measured.site_lag() <= Duration::from_secs(2),
            "{clients}: {:?}",
            run.measured.site_lag()
        );
    }
}

#[test]
fn a_large_site_takes_no_byte_twice() {
    for seed in 0..LARGE_SITES {
        let run = scenario::cold_start(seed, 100, MIB).unwrap();
        check(&format!("100 clients, seed {seed}"), &run, 1.0);
        assert_eq!(run.measured.completed.len(), 100);
    }
}

#[test]
fn a_small_release_comes_once_over_the_thinnest_line() {
    for kilobits in [10, 32, 64, 256] {
        let (bytes, rate) = (MIB, kilobits * 125);
        for seed in 0..5 {
            let run = scenario::thin_line(seed, 4, bytes, rate).unwrap();
            check(&format!("{kilobits} kbit/s, seed {seed}"), &run, 1.02);
            assert_eq!(run.measured.completed.len(), 4);
            let least = run.measured.lacking_bytes as f64 / rate as f64;
            let took = run.measured.last().since_start().as_secs_f64();
            assert!(took <= least * 1.05 + 10.0, "{kilobits} kbit/s: {took} s for {least} s");
        }
    }
}

#[test]
fn a_fetcher_that_is_killed_again_and_again_costs_little() {
    for seed in 0..10 {
        let run = scenario::fetcher_killed(seed, 8, 64 * MIB, 5).unwrap();
        check(&format!("seed {seed}"), &run, 1.05);
        assert!(run.measured.longest_pause <= Duration::from_secs(6), "{:?}", run.measured.longest_pause);
    }
}

#[test]
fn a_lan_that_falls_apart_and_heals_costs_what_the_parts_fetch_alone() {
    for seed in 0..10 {
        let run = scenario::split(seed, 8, 64 * MIB, 4).unwrap();
        check(&format!("seed {seed}"), &run, 1.15);
    }
}

#[test]
fn a_spread_on_the_lan_alone_is_near_its_bound_at_every_size() {
    for clients in [2, 4, 8, 16, 32, 64] {
        let (run, bound) = scenario::lan_only(1, clients, 128 * MIB, LAN_100).unwrap();
        assert_eq!(run.violations, [""; 0]);
        assert_eq!(run.measured.wan_bytes, 0);
        let ratio = run.measured.last().since_start().as_secs_f64() / bound.as_secs_f64();
        println!("{clients} clients: last {ratio:.3} x the bound");
        assert!(ratio <= 1.10, "{clients} clients: {ratio}");
    }
}

#[test]
fn hostile_members_delay_the_others_by_half_at_most() {
    let outcomes = hostile::sites(0..HOSTILE_SEEDS, |_| {});
    let slowest = &outcomes[0];
    println!("{HOSTILE_SEEDS} sites: the slowest took {:.3} x (seed {})", slowest.ratio, slowest.seed);
    let bad: Vec<_> = outcomes.iter().filter(|outcome| !outcome.is_well()).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
