//! Many seeds on all cores: a run belongs to one thread, and runs know nothing of each other.

use std::{
    num::NonZero,
    ops::Range,
    panic::resume_unwind,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// What each seed comes to, in their order, however the runs were dealt out. Panics if a run does.
pub fn on_all_cores<T: Send>(seeds: Range<u64>, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let taken = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        taken.take_while(|seed| *seed < seeds.end).map(|seed| (seed, run(seed))).collect::<Vec<_>>()
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut done: Vec<(u64, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(seed, _)| *seed);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_is_run_once_and_answers_in_its_place() {
        assert_eq!(on_all_cores(3..100, |seed| seed * 2), (3..100).map(|seed| seed * 2).collect::<Vec<_>>());
        assert_eq!(on_all_cores(3..3, |seed| seed), [0; 0]);
    }
}
