//! What the site is for: every block crosses the WAN once, and everybody has it soon after.

use crate::classroom::{BLOCKS, Classroom, SECOND};
use branchmesh_sim::{HostId, HostSpec, SiteSpec, Transition};
use branchmesh_wire::Role;
use std::time::Duration;

/// Ports of 1 Gbit/s, in bytes a second.
const GIGABIT: u64 = 125_000_000;

fn assert_each_crossed_once(room: &Classroom) {
    let crossings = room.world.checks().crossings(&room.release);
    assert!(crossings.values().all(|times| *times == 1));
}

#[test]
fn a_cold_start_of_eight_keeps_the_wan_busy_and_is_done_with_it() {
    let mut room = Classroom::new(1, 8);
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
    assert_each_crossed_once(&room);
    assert!(room.lag() < SECOND, "the last node was complete {:?} after the last WAN byte", room.lag());
    let work = Duration::from_secs_f64(room.bytes() as f64 / SiteSpec::default().wan_rate as f64);
    let took = room.world.checks().last_crossing(&room.release).unwrap().since_start();
    // Listening, metadata, index and have-maps take their time; the WAN never idles after that.
    assert!(took < work + 4 * SECOND, "the WAN took {took:?} for {work:?} of work");
    assert_eq!(room.world.fetchers().len(), 1);
}

#[test]
fn thirty_nodes_behind_a_wan_that_one_port_cannot_multiply() {
    // 50 Mbit/s times 30 is more than the fetcher's 200 Mbit/s port: the nodes must trade.
    let site = SiteSpec { wan_rate: 6_250_000, ..SiteSpec::default() };
    let mut room = Classroom::of(2, site, BLOCKS, &vec![HostSpec::default(); 30]);
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
    assert!(room.lag() < SECOND, "the last node was complete {:?} after the last WAN byte", room.lag());
}

#[test]
fn sixty_nodes_on_a_fast_wan() {
    let site = SiteSpec { wan_rate: 12_500_000, ..SiteSpec::default() };
    let host = HostSpec { up: GIGABIT, down: GIGABIT, ..HostSpec::default() };
    let mut room = Classroom::of(10, site, BLOCKS, &vec![host; 60]);
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
    assert!(room.lag() < SECOND, "the last node was complete {:?} after the last WAN byte", room.lag());
}

#[test]
fn a_single_node_fetches_everything_itself() {
    let mut room = Classroom::new(3, 1);
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
}

#[test]
fn a_late_joiner_takes_nothing_over_the_wan() {
    let mut room = Classroom::new(4, 4);
    room.run_to_completion(60 * SECOND);
    let before = room.now();
    let joiner = room.world.add(HostSpec::default());
    room.run_to_completion(10 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
    let took = room.now().since(before);
    let bound = Duration::from_secs_f64(room.bytes() as f64 / HostSpec::default().down as f64);
    assert!(took < bound * 2 + SECOND, "{took:?} for what the port could carry in {bound:?}");
    assert_eq!(room.report(joiner).bytes.lan, room.bytes());
}

#[test]
fn an_update_takes_only_what_nobody_on_the_site_holds() {
    let mut room = Classroom::new(5, 5);
    room.run_to_completion(60 * SECOND);
    // A newcomer without anything gets the old blocks from those who trimmed.
    let newcomer = room.world.add(HostSpec::default());
    let second = room.world.publish_update("release 2", 10).unwrap();
    room.run_to_completion(120 * SECOND);
    assert_eq!(room.world.checks().crossings_total(&second), BLOCKS.div_ceil(10));
    assert_eq!(room.crossings(), BLOCKS);
    let old = room.world.report(HostId(0), &second).unwrap();
    assert!(old.bytes.trimmed > 8 * (old.bytes.wan + old.bytes.lan));
    let new = room.world.report(newcomer, &second).unwrap();
    assert_eq!(new.bytes.trimmed + new.bytes.lan + new.bytes.wan, new.bytes_total);
}

#[test]
fn blocks_of_an_old_release_on_one_member_trim_for_the_site() {
    let mut room = Classroom::new(6, 1);
    room.run_to_completion(60 * SECOND);
    let holder = HostId(0);
    // The holder is away when the release appears, and the seed that will be the fetcher has nothing.
    room.apply(&Transition::Kill(holder));
    room.run_for(SECOND);
    let second = room.world.publish_update("release 2", 8).unwrap();
    room.world.add(HostSpec { role: Role::Seed, ..HostSpec::default() });
    room.apply(&Transition::Start(holder));
    room.run_to_completion(120 * SECOND);
    assert_eq!(room.world.checks().crossings_total(&second), BLOCKS.div_ceil(8));
    assert_eq!(room.crossings(), BLOCKS, "the seed took the old release from the holder");
}

#[test]
fn two_fetchers_split_the_work() {
    let site = SiteSpec { fetchers: 2, ..SiteSpec::default() };
    let mut room = Classroom::of(7, site, BLOCKS, &vec![HostSpec::default(); 6]);
    room.run_to_completion(60 * SECOND);
    let fetched: Vec<u64> = room.world.ids().map(|host| room.report(host).bytes.wan).collect();
    assert_eq!(fetched.iter().filter(|bytes| **bytes > 0).count(), 2, "{fetched:?}");
    // While the second one is about to begin, the first may take a little of its share.
    assert!(room.crossings() <= BLOCKS + BLOCKS / 20, "{}", room.crossings());
}

#[test]
fn a_lot_of_seeds_all_end_well() {
    for seed in 100..130 {
        let blocks = 128;
        let mut room = Classroom::of(seed, SiteSpec::default(), blocks, &vec![HostSpec::default(); 5]);
        room.run_to_completion(60 * SECOND);
        assert_eq!(room.crossings(), blocks, "seed {seed}");
        assert!(room.lag() < SECOND, "seed {seed}: {:?}", room.lag());
    }
}

#[test]
fn a_release_of_a_million_blocks_costs_no_more_per_block() {
    // Each event that scanned all blocks would make this take hours.
    let site = SiteSpec { wan_rate: 100_000_000, ..SiteSpec::default() };
    let host = HostSpec { up: 8 * GIGABIT, down: 8 * GIGABIT, ..HostSpec::default() };
    let mut room = Classroom::of(9, site, 1 << 20, &[host.clone(), host]);
    room.run_for(8 * SECOND);
    let have = [HostId(0), HostId(1)].map(|host| room.report(host).blocks_have);
    assert!(have.iter().all(|blocks| *blocks > 5000), "{have:?}");
    assert_each_crossed_once(&room);
    room.assert_well();
}
