//! Spoiled blocks, index parts, descriptions and metadata, through the doors that real ones come through: none is
//! accepted, none panics, and what was believed before stays.
//!
//! `BRANCHMESH_MUTATIONS` says how many there shall be over all tests together, `BRANCHMESH_SEED` which ones. A failure names its
//! seed and its number.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod blocks;
mod corpus;
mod descriptions;
mod index_parts;
mod kept_metadata;
mod metadata;
mod repositories;

use branchmesh_fuzz::mutate::Mutator;
use std::{
    any::Any,
    env,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// Mutations over all tests together: what CI does in half a minute.
const MUTATIONS: u64 = 20_000;
const SEED: u64 = 1;

/// What became of a mutation; the error says what went wrong.
type Verdict = Result<Outcome, String>;

/// What may become of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It was noticed.
    Refused,
    /// It changed nothing that matters.
    Harmless,
}

/// Tries `percent` of all mutations, on all cores. Each core has a state of its own; each mutation has a source of
/// randomness of its own, so that it can be repeated alone.
fn try_all<S>(
    name: &str,
    percent: u64,
    state: impl Fn() -> S + Sync,
    one: impl Fn(&mut S, &mut Mutator) -> Verdict + Sync,
) {
    let seed = setting("BRANCHMESH_SEED", SEED);
    let total = setting("BRANCHMESH_MUTATIONS", MUTATIONS) * percent / 100;
    let only = env::var("BRANCHMESH_MUTATION").ok().map(|number| number.parse().expect("a number"));
    let (first, end) = only.map_or((0, total), |number: u64| (number, number + 1));
    let (next, refused) = (AtomicU64::new(first), AtomicU64::new(0));
    let work = || {
        let mut state = state();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return;
            }
            let mut mutator = Mutator::new(seed, number);
            let verdict = catch_unwind(AssertUnwindSafe(|| one(&mut state, &mut mutator)));
            let verdict = verdict.unwrap_or_else(|panic| Err(format!("panicked: {}", words(&*panic))));
            let reason = match verdict {
                Ok(Outcome::Harmless) => continue,
                Ok(Outcome::Refused) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(reason) => reason,
            };
            // Let the other cores stop, too.
            next.store(end, Ordering::Relaxed);
            panic!(
                "mutation {number} of {name}: {reason}\nrepeat it with \
                 BRANCHMESH_SEED={seed} BRANCHMESH_MUTATION={number} cargo test -p branchmesh-fuzz --test mutations {name}"
            );
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let ends: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        for end in ends {
            end.unwrap_or_else(|panic| panic!("{}", words(&*panic)));
        }
    });
    let refused = refused.into_inner();
    assert!(
        only.is_some() || refused > total / 2,
        "{refused} of {total} mutations of {name} did anything at all"
    );
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("no words")
}
