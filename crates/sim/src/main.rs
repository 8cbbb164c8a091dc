//! `branchmesh-sim`: storms from the command line. A seed that ends badly is said with what went wrong, can be made smaller, and
//! its run can be read line by line.

mod figures;

use branchmesh_sim::{
    hostile, seeds,
    storm::{Storm, Verdict, Weather},
};
use clap::Parser;
use std::{
    ops::Range,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

/// Sites with hostile members between two words about how far it is.
const SITES_BETWEEN_WORDS: u64 = 1000;
/// The slowest of them, which are said at the end.
const SLOWEST_SAID: usize = 10;

/// Runs virtual sites through storms of faults, each from a seed, and says which ended badly.
#[derive(Parser)]
#[command(name = "branchmesh-sim", version)]
struct Options {
    /// One storm
    #[arg(long, value_name = "N", conflicts_with = "seeds", required_unless_present_any = ["seeds", "hostile_sites", "figures"])]
    seed: Option<u64>,
    /// Many storms: from the first number up to the second, which is not run
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    seeds: Option<Range<u64>>,
    /// Many sites of ten, three of them hostile from the start: how much longer the others take for it
    #[arg(long, value_name = "A..B", value_parser = parse_range, conflicts_with_all = ["seed", "seeds"])]
    hostile_sites: Option<Range<u64>>,
    /// The figures that are promised of the exchange
    #[arg(long, conflicts_with_all = ["seed", "seeds", "hostile_sites"])]
    figures: bool,
    /// Hosts of the site
    #[arg(long, value_name = "N", default_value_t = 7)]
    hosts: u32,
    /// Blocks of its first release
    #[arg(long, value_name = "N", default_value_t = 200)]
    blocks: u32,
    /// What happens to it
    #[arg(long, value_name = "N", default_value_t = 16)]
    transitions: u32,
    /// How many hosts of a hundred are hostile from the start
    #[arg(long, value_name = "N", default_value_t = 10)]
    hostile: u32,
    /// Nobody becomes hostile in the course of it
    #[arg(long)]
    steady: bool,
    /// With --seed: write everything that happens to standard output
    #[arg(long, conflicts_with = "seeds")]
    trace: bool,
    /// With --seed: leave out what the storm fails without
    #[arg(long, conflicts_with = "seeds")]
    minimise: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let weather = Weather {
        hosts: options.hosts.max(1),
        blocks: options.blocks.max(1),
        transitions: options.transitions,
        hostile_percent: options.hostile,
        turns: !options.steady,
    };
    let is_well = match (options.seed, options.seeds, options.hostile_sites) {
        (Some(seed), ..) => one(&Storm::of_seed(seed, &weather), options.trace, options.minimise),
        (None, Some(seeds), _) => many(seeds, &weather),
        (None, None, Some(seeds)) => hostile_sites(seeds),
        (None, None, None) => figures::print(),
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(storm: &Storm, trace: bool, minimise: bool) -> bool {
    let smaller = (minimise && !storm.run().is_well()).then(|| storm.minimised());
    let storm = smaller.as_ref().unwrap_or(storm);
    let (verdict, text) = storm.run_traced();
    if trace {
        print!("{text}");
    }
    print!("{storm}");
    let Verdict { took, healed, amplification, trace, .. } = &verdict;
    println!("took {took:?}, of this {healed:?} to heal, amplification {amplification:.3}, trace {trace}");
    verdict.wrong.iter().for_each(|wrong| println!("WRONG {wrong}"));
    verdict.is_well()
}

/// All storms of a range, on all cores.
fn many(range: Range<u64>, weather: &Weather) -> bool {
    let done = seeds::on_all_cores(range, |seed| {
        let verdict = Storm::of_seed(seed, weather).run();
        say(seed, &verdict);
        verdict
    });
    let bad = done.iter().filter(|verdict| !verdict.is_well()).count();
    println!("{} storms, {bad} ended badly", done.len());
    spread("amplification", done.iter().map(|verdict| verdict.amplification));
    spread("seconds to heal", done.iter().map(|verdict| verdict.healed.as_secs_f64()));
    bad == 0
}

fn spread(what: &str, values: impl Iterator<Item = f64>) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at =
        |percent: usize| sorted.get((sorted.len().saturating_sub(1)) * percent / 100).copied().unwrap_or(0.0);
    let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
    println!(
        "{what}: mean {mean:.3}, median {:.3}, 90 % {:.3}, 97 % {:.3}, worst {:.3}",
        at(50),
        at(90),
        at(97),
        at(100)
    );
}

fn say(seed: u64, verdict: &Verdict) {
    if let Some(first) = verdict.wrong.first() {
        let first = first.lines().next().unwrap_or_default();
        println!("seed {seed} ended badly after {:?}, {} faults: {first}", verdict.took, verdict.wrong.len());
    }
}

/// All sites of a range, on all cores, and the slowest of them.
fn hostile_sites(range: Range<u64>) -> bool {
    let (all, done) = (range.end - range.start, AtomicU64::new(0));
    let outcomes = hostile::sites(range, |outcome| {
        if !outcome.is_well() {
            say_site(outcome);
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(SITES_BETWEEN_WORDS) {
            println!("{done} of {all} sites");
        }
    });
    let bad = outcomes.iter().filter(|outcome| !outcome.is_well()).count();
    println!("{all} sites, {bad} of them wrong or slower than {} x; the slowest:", hostile::RATIO_MAX);
    outcomes.iter().take(SLOWEST_SAID).for_each(say_site);
    bad == 0
}

fn say_site(outcome: &hostile::Outcome) {
    let hostile::Outcome { seed, ratio, wrong } = outcome;
    println!("  seed {seed}: {ratio:.3} x {}", wrong.as_deref().unwrap_or_default());
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| range.start < range.end).ok_or_else(|| "a range looks like 0..1000".into())
}
