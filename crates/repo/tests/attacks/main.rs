//! Attacks on the signed metadata, by their names in the TUF specification (section 1.5.2), each in many variants.
//!
//! The attacker runs the repository's server, keeps every file that was ever published, and holds one key of each
//! threshold, or all keys of another role or group. Whatever he serves: nobody believes a state that was never
//! published, nobody goes back, and what was believed stays.
//!
//! `BRANCHMESH_VARIANTS=1000 cargo test -p branchmesh-repo --test attacks` tries more than CI does (20 of each kind).

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

#[path = "../common/mod.rs"]
mod common;

mod endless_data;
mod expired;
mod fast_forward;
mod forge;
mod mix_and_match;
mod rollback;
mod stolen_keys;
mod threshold_not_met;
mod world;
mod wrong_role;

use world::World;

/// Random numbers that are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }
}

/// How many variants of each kind of attack are tried.
fn variants() -> u64 {
    std::env::var("BRANCHMESH_VARIANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}
