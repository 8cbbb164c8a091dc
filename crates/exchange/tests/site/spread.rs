//! What the site is for: every block crosses the WAN once, and everybody has it soon after.

use crate::world::{MS, SECOND, World};
use std::time::Duration;

/// Blocks of the usual test release: about 32 MiB, 13 s of WAN.
const BLOCKS: u32 = 512;

fn wan_time(world: &World, release: branchmesh_wire::IndexId) -> Duration {
    Duration::from_secs_f64(world.segments(&release).bytes() as f64 / world.wan_rate as f64)
}

#[test]
fn a_cold_start_of_eight_takes_each_block_once_over_the_wan() {
    let (mut world, release) = World::classroom(1, 8, BLOCKS);
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
    assert!(world.crossed.values().all(|times| *times == 1));
    let lag = world.now.since(world.last_crossing);
    assert!(lag < SECOND, "the last node was complete {lag:?} after the last WAN byte");
    let wan = wan_time(&world, release);
    let overhead = world.last_crossing.since_start() - wan;
    // Listening, metadata, index and have-maps take their time; the WAN never idles after that.
    assert!(overhead < 4 * SECOND, "the WAN idled for {overhead:?} beside {wan:?} of work");
    assert_eq!(world.fetchers().len(), 1);
}

#[test]
fn thirty_nodes_behind_a_wan_that_one_port_cannot_multiply() {
    // 50 Mbit/s times 30 is more than the fetcher's 200 Mbit/s port: the nodes must trade.
    let (mut world, release) = World::classroom(2, 30, BLOCKS);
    world.wan_rate = 6_250_000;
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
    let lag = world.now.since(world.last_crossing);
    assert!(lag < SECOND, "the last node was complete {lag:?} after the last WAN byte");
}

#[test]
fn a_single_node_fetches_everything_itself() {
    let (mut world, release) = World::classroom(3, 1, BLOCKS);
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
}

#[test]
fn a_late_joiner_takes_nothing_over_the_wan() {
    let (mut world, release) = World::classroom(4, 4, BLOCKS);
    world.run_to_completion(60 * SECOND, release);
    let before = world.now;
    world.join(9, |_| {});
    world.run_to_completion(10 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
    let took = world.now.since(before);
    let bytes = world.segments(&release).bytes();
    let bound = Duration::from_secs_f64(bytes as f64 / world.lan_rate as f64);
    assert!(took < bound * 2 + SECOND, "{took:?} for what the port could carry in {bound:?}");
    assert_eq!(world.report(crate::world::id(9), release).unwrap().bytes.lan, bytes);
}

#[test]
fn an_update_takes_only_what_nobody_on_the_site_holds() {
    let (mut world, first) = World::classroom(5, 5, BLOCKS);
    world.run_to_completion(60 * SECOND, first);
    // A newcomer without anything gets the old blocks from those who trimmed.
    world.join(9, |_| {});
    let (second, new) = world.publish_update("two", first, 10);
    world.run_to_completion(120 * SECOND, second);
    assert_eq!(world.crossings(second), new);
    assert_eq!(world.crossings(first), BLOCKS);
    let old = world.report(crate::world::id(1), second).unwrap();
    assert!(old.bytes.trimmed > 8 * (old.bytes.wan + old.bytes.lan));
    let newcomer = world.report(crate::world::id(9), second).unwrap();
    assert_eq!(newcomer.bytes.trimmed + newcomer.bytes.lan + newcomer.bytes.wan, newcomer.bytes_total);
}

#[test]
fn blocks_of_an_old_release_on_one_member_trim_for_the_site() {
    let (mut world, first) = World::classroom(6, 1, BLOCKS);
    world.run_to_completion(60 * SECOND, first);
    let holder = crate::world::id(1);
    // The holder is cut off from the WAN, and the seed that will be the fetcher has nothing.
    world.kill(holder);
    world.run_for(SECOND);
    let (second, new) = world.publish_update("two", first, 8);
    world.join(20, |config| config.role = branchmesh_wire::Role::Seed);
    world.restart(holder);
    world.run_to_completion(120 * SECOND, second);
    assert_eq!(world.crossings(second), new);
    assert_eq!(world.crossings(first), BLOCKS, "the seed took the old release from the holder");
}

#[test]
fn two_fetchers_split_the_work() {
    let mut world = World::new(7);
    world.fetchers = 2;
    let release = world.publish("one", BLOCKS);
    for number in 11..=16 {
        world.join(number, |_| {});
    }
    world.run_to_completion(60 * SECOND, release);
    let fetched: Vec<u64> = (11..=16)
        .map(|number| world.report(crate::world::id(number), release).unwrap().bytes.wan)
        .filter(|bytes| *bytes > 0)
        .collect();
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    // While the second one is about to begin, the first may take a little of its share.
    assert!(world.crossings(release) <= BLOCKS + BLOCKS / 20, "{}", world.crossings(release));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (mut world, release) = World::classroom(seed, 6, 200);
        world.run_for(5 * SECOND);
        world.kill(world.fetchers()[0]);
        world.run_to_completion(60 * SECOND, release);
        (world.trace, world.now)
    };
    assert_eq!(run(8), run(8));
    assert_ne!(run(8).0, run(9).0);
}

#[test]
fn a_lot_of_seeds_all_end_well() {
    for seed in 100..130 {
        let (mut world, release) = World::classroom(seed, 5, 128);
        world.run_to_completion(60 * SECOND, release);
        assert_eq!(world.crossings(release), 128, "seed {seed}");
        let lag = world.now.since(world.last_crossing);
        assert!(lag < SECOND, "seed {seed}: {lag:?}");
        world.run_for(200 * MS);
    }
}

#[test]
fn a_release_of_a_million_blocks_costs_no_more_per_block() {
    // Each event that scanned all blocks would make this take hours.
    let mut world = World::new(9);
    let release = world.publish("huge", 1 << 20);
    world.join(1, |_| {});
    world.join(2, |_| {});
    world.wan_rate = 100_000_000;
    world.lan_rate = 1_000_000_000;
    world.run_for(8 * SECOND);
    let have = |number| world.report(crate::world::id(number), release).unwrap().blocks_have;
    assert!(have(1).min(have(2)) > 5000, "{} {}", have(1), have(2));
    assert!(world.crossed.values().all(|times| *times == 1));
}

#[test]
fn sixty_nodes_on_a_fast_wan() {
    let (mut world, release) = World::classroom(10, 60, BLOCKS);
    world.wan_rate = 12_500_000;
    world.lan_rate = 125_000_000;
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
    let lag = world.now.since(world.last_crossing);
    assert!(lag < SECOND, "the last node was complete {lag:?} after the last WAN byte");
}
