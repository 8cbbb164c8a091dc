//! The site's limit on its line, and its schedule: they hold whoever fetches, and nothing is lost by them.

use crate::classroom::{BLOCKS, Classroom, SECOND};
use branchmesh_exchange::Waiting;
use branchmesh_sim::{HostSpec, SiteSpec, Transition};
use std::time::Duration;

/// To everybody.
const ALL: u32 = u32::MAX;
/// Less than half of what the line carries, in bytes a second.
const LIMIT: u64 = 1_000_000;

#[test]
fn while_the_line_is_closed_nothing_crosses_and_when_it_opens_everybody_completes() {
    let mut room = Classroom::new(21, 6);
    room.run_until_crossed(100);
    room.apply(&Transition::LineCloses(ALL));
    assert_eq!(room.world.fetchers(), []);
    room.run_for(3600 * SECOND);
    // The block that was on its way cannot be stopped.
    assert!(room.crossings() <= 101, "{}", room.crossings());
    for host in room.world.ids() {
        let report = room.report(host);
        assert!(report.blocks_have >= 99, "what came has spread");
        assert_eq!(report.waiting, Some(Waiting::WanClosed { left: None }));
    }
    room.apply(&Transition::LineOpens);
    room.run_to_completion(30 * SECOND);
    assert!(room.crossings() <= BLOCKS + 1, "{}", room.crossings());
}

#[test]
fn a_site_that_starts_with_a_closed_line_learns_of_nothing_before_it_opens() {
    let mut room = Classroom::of(22, SiteSpec::default(), BLOCKS, &[]);
    room.apply(&Transition::LineCloses(ALL));
    for _ in 0..4 {
        room.world.add(HostSpec::default());
    }
    room.run_for(600 * SECOND);
    assert!(room.world.ids().all(|host| room.world.report(host, &room.release).is_none()));
    room.apply(&Transition::LineOpens);
    room.run_to_completion(30 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
}

#[test]
fn a_member_whose_line_is_open_goes_on_for_the_others() {
    let mut room = Classroom::new(23, 6);
    room.run_until_crossed(100);
    let first = room.fetcher();
    let before = room.report(first).bytes.wan;
    // Its number plus one is a mask of its own, and of others that share a bit with it.
    room.apply(&Transition::LineCloses(first.0 + 1));
    room.run_to_take_over();
    assert_ne!(room.fetcher(), first);
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.report(first).bytes.wan, before);
    assert!(room.crossings() <= BLOCKS + 1, "{}", room.crossings());
}

#[test]
fn the_limit_holds_whoever_fetches() {
    let mut room = Classroom::new(24, 6);
    room.apply(&Transition::LineLimit(Some(LIMIT)));
    for crossed in [100, 200, 300] {
        room.run_until_crossed(crossed);
        let killed = room.world.fetchers();
        room.apply(&Transition::KillFetchers);
        room.run_for(6 * SECOND);
        killed.into_iter().for_each(|host| room.apply(&Transition::Start(host)));
    }
    room.run_to_completion(120 * SECOND);
    let least = Duration::from_secs_f64(room.bytes() as f64 / LIMIT as f64);
    assert!(room.now().since_start() > least);
}

#[test]
fn two_fetchers_share_the_limit() {
    let site = SiteSpec { fetchers: 2, ..SiteSpec::default() };
    let mut room = Classroom::of(25, site, BLOCKS, &vec![HostSpec::default(); 6]);
    room.apply(&Transition::LineLimit(Some(LIMIT)));
    room.run_to_completion(120 * SECOND);
    let fetched = room.world.ids().filter(|host| room.report(*host).bytes.wan > 0).count();
    assert_eq!(fetched, 2);
    let least = Duration::from_secs_f64(room.bytes() as f64 / LIMIT as f64);
    let took = room.world.checks().last_crossing(&room.release).unwrap().since_start();
    assert!(took > least && took < least * 5 / 4, "{took:?} for {least:?} of work");
}
