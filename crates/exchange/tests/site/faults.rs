//! Nodes die, the origin dies, links are cut: everybody who is left ends with everything.

use crate::world::{MS, Nature, SECOND, World, id};

const BLOCKS: u32 = 512;

fn run_to_a_third(world: &mut World, release: branchmesh_wire::IndexId) {
    world.run_until(30 * SECOND, "a third", |world| world.crossings(release) >= BLOCKS / 3);
}

#[test]
fn a_killed_fetcher_is_replaced_and_little_crosses_twice() {
    for seed in 10..20 {
        let (mut world, release) = World::classroom(seed, 8, BLOCKS);
        run_to_a_third(&mut world, release);
        let fetcher = world.fetchers()[0];
        world.kill(fetcher);
        let killed = world.now;
        let crossed = world.crossings(release);
        world.run_until(5 * SECOND, "take-over", |world| world.crossings(release) > crossed + 1);
        assert!(world.now.since(killed) < SECOND, "{:?}", world.now.since(killed));
        world.run_to_completion(60 * SECOND, release);
        let extra = world.crossings(release) - BLOCKS;
        assert!(extra <= 4, "seed {seed}: {extra} blocks crossed twice");
        assert!(world.now.since(world.last_crossing) < SECOND);
        world.restart(fetcher);
        world.run_to_completion(30 * SECOND, release);
        assert_eq!(world.crossings(release), BLOCKS + extra, "the restarted one needs nothing from the WAN");
    }
}

#[test]
fn a_silent_fetcher_is_replaced_within_five_seconds() {
    let (mut world, release) = World::classroom(21, 8, BLOCKS);
    run_to_a_third(&mut world, release);
    let fetcher = world.fetchers()[0];
    world.kill_silently(fetcher);
    let crossed = world.crossings(release);
    world.run_until(5 * SECOND, "take-over", |world| world.crossings(release) > crossed + 1);
    world.run_to_completion(60 * SECOND, release);
    assert!(world.crossings(release) <= BLOCKS + 8);
}

#[test]
fn a_fetcher_that_says_goodbye_is_replaced_at_once() {
    let (mut world, release) = World::classroom(22, 4, BLOCKS);
    run_to_a_third(&mut world, release);
    let left = world.now;
    world.leave(world.fetchers()[0]);
    world.run_until(5 * SECOND, "take-over", |world| !world.fetchers().is_empty());
    assert!(world.now.since(left) < SECOND);
    world.run_to_completion(60 * SECOND, release);
    assert!(world.crossings(release) <= BLOCKS + 8);
}

#[test]
fn the_origin_may_go_once_a_complete_copy_is_here() {
    let (mut world, release) = World::classroom(23, 6, BLOCKS);
    world.run_until(60 * SECOND, "one copy", |world| world.lacking(&release).len() < 6);
    world.origin_up = false;
    world.join(9, |_| {});
    world.run_to_completion(20 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
}

#[test]
fn an_origin_that_comes_back_is_used_again_and_asked_by_one_at_a_time() {
    let (mut world, release) = World::classroom(24, 5, BLOCKS);
    run_to_a_third(&mut world, release);
    world.origin_up = false;
    for _ in 0..600 {
        world.run_for(200 * MS);
        assert!(world.fetchers().len() <= 2, "{:?}", world.fetchers());
    }
    world.origin_up = true;
    world.run_to_completion(400 * SECOND, release);
    assert!(world.crossings(release) <= BLOCKS + 8, "{}", world.crossings(release));
}

#[test]
fn every_node_killed_and_restarted_at_some_time() {
    for seed in 30..36 {
        let (mut world, release) = World::classroom(seed, 6, BLOCKS);
        for number in 1..=6 {
            world.run_for(2 * SECOND);
            world.kill(id(number));
            world.run_for(300 * MS);
            world.restart(id(number));
        }
        world.run_to_completion(90 * SECOND, release);
        let extra = world.crossings(release) - BLOCKS;
        assert!(extra <= BLOCKS / 10, "seed {seed}: {extra} blocks crossed twice");
    }
}

#[test]
fn a_split_site_converges_when_it_is_whole_again() {
    let (mut world, release) = World::classroom(40, 8, BLOCKS);
    world.run_for(4 * SECOND);
    world.partition(|node| node.0[0] % 2);
    world.run_for(8 * SECOND);
    assert_eq!(world.fetchers().len(), 2, "each part has its own");
    let crossed = world.crossings(release);
    world.partition(|_| 0);
    world.run_to_completion(60 * SECOND, release);
    world.run_for(5 * SECOND);
    assert_eq!(world.fetchers().len(), 1);
    let after = world.crossings(release) - crossed;
    let missing_somewhere = BLOCKS.saturating_sub(crossed / 2);
    assert!(after <= missing_somewhere + 16, "{after} crossed after, {missing_somewhere} were missing");
}

#[test]
fn a_node_that_cannot_store_does_not_stop_the_others() {
    let (mut world, release) = World::classroom(41, 4, BLOCKS);
    world.run_for(3 * SECOND);
    // The worst case: it is the fetcher.
    let fetcher = world.fetchers()[0];
    world.set_nature(fetcher, Nature::DiskFull);
    world.run_to_completion(120 * SECOND, release);
}

#[test]
fn a_block_that_is_damaged_at_the_origin_delays_only_itself() {
    let (mut world, release) = World::classroom(42, 3, BLOCKS);
    world.origin_bad.insert(100);
    world.run_until(60 * SECOND, "all but one", |world| {
        (1..=3).all(|number| {
            world.report(id(number), release).is_some_and(|report| report.blocks_have == BLOCKS - 1)
        })
    });
    let fetcher = world.fetchers()[0];
    let report = world.report(fetcher, release).unwrap();
    assert!(report.waiting.unwrap().to_string().contains("damaged at the origin"));
    world.origin_bad.clear();
    world.run_to_completion(320 * SECOND, release);
    assert!(world.crossings(release) < BLOCKS + 10);
}

#[test]
fn blocks_that_rot_on_a_disk_come_back_from_the_neighbours() {
    let (mut world, release) = World::classroom(43, 3, BLOCKS);
    world.run_to_completion(60 * SECOND, release);
    let now = world.now;
    let one = world.nodes.get_mut(&id(1)).unwrap();
    one.completed.clear();
    one.disk.insert(release, branchmesh_wire::BlockSet::empty(BLOCKS));
    one.exchange.handle_blocks_lost(now, release, &(0..BLOCKS).collect::<Vec<_>>());
    world.run_to_completion(20 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
}
