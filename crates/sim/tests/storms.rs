//! After any storm the site ends with everything, and the checkers have seen nothing that must not be.
//!
//! `branchmesh-sim --seeds 0..100000` runs more of them; `branchmesh-sim --seed N --minimise --trace` tells what happened.

use branchmesh_sim::{
    seeds,
    storm::{Storm, Weather},
};

/// Storms in CI.
const STORMS: u64 = 300;

#[test]
fn after_any_storm_the_site_ends_with_everything() {
    let (verdicts, bad) = storms(0..STORMS, &Weather::default());
    let mean = verdicts.iter().sum::<f64>() / STORMS as f64;
    println!("{STORMS} storms: mean amplification {mean:.3}");
    assert!(bad.is_empty(), "{bad:#?}");
    // Parts that each fetch for themselves, and blocks that were lost with their only holder: each may cost the bytes
    // again, and several come together.
    assert!(mean < 1.5, "mean amplification {mean}");
}

#[test]
fn after_a_storm_of_a_larger_and_more_hostile_site_too() {
    // Hostile members are nearly as many as honest ones already: none may turn.
    let weather = Weather { hosts: 20, blocks: 100, transitions: 40, hostile_percent: 40, turns: false };
    let (_, bad) = storms(0..STORMS / 10, &weather);
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let run = |seed| Storm::of_seed(seed, &Weather::default()).run().trace;
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

fn storms(range: std::ops::Range<u64>, weather: &Weather) -> (Vec<f64>, Vec<String>) {
    let verdicts = seeds::on_all_cores(range.clone(), |seed| Storm::of_seed(seed, weather).run());
    let bad = range.zip(&verdicts).filter_map(|(seed, verdict)| {
        let first = verdict.wrong.first()?;
        Some(format!("seed {seed} with {weather:?}: {first}"))
    });
    (verdicts.iter().map(|verdict| verdict.amplification).collect(), bad.collect())
}
