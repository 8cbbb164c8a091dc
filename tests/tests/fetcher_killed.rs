//! The node that uses the WAN loses power in the middle of its work: another one takes over, nobody loses anything.

use branchmesh_tests::{
    branch::{Branch, IMAGE},
    claims::{Claims, Figure},
    netns::Links,
    skip::{Need, have_all},
    wait,
};
use std::time::Duration;

const CLIENTS: usize = 5;
const LINKS: Links = Links { wan_mbit: 20, lan_mbit: 200 };
const IMAGE_BYTES: u64 = 90 << 20;

#[test]
fn when_the_fetcher_dies_the_others_finish_and_it_catches_up_after_a_restart() {
    let test = "fetcher killed";
    let needs =
        [Need::Namespaces, Need::Program("nginx"), Need::Program("mkfs.ext4"), Need::Program("qemu-img")];
    if !have_all(test, &needs) {
        return;
    }
    let mut claims = Claims::of(test);
    let mut branch = Branch::new("killed", LINKS, CLIENTS);
    let (image, size) = branch.publish_first(IMAGE_BYTES);
    let limit = Duration::from_secs_f64(LINKS.wan_seconds(size.total()) * 2.0 + 40.0);

    let before = branch.mark();
    branch.start(0..CLIENTS);
    let third = wait::until(limit, || (branch.wan_bytes_since(&before) >= size.total() / 3).then_some(()));
    assert!(third.is_some(), "a third of the image has not crossed the WAN within {limit:?}");
    let fetchers = wait::until(Duration::from_secs(5), || {
        Some(branch.fetchers()).filter(|fetchers| fetchers.len() == 1)
    });
    let victim = fetchers.expect("in the middle of a spread, one node says that it uses the WAN")[0];
    branch.nodes[victim].kill();
    let crossed = branch.wan_bytes_since(&before);
    claims.note("crossed the WAN before the fetcher died", Figure::bytes(crossed));

    let others: Vec<usize> = (0..CLIENTS).filter(|node| *node != victim).collect();
    let spread = branch.follow(&others, "1", limit, &before);
    claims.holds("everyone else finishes", spread.last().is_some(), &format!("times: {:?}", spread.seconds));
    claims.note("time of the WAN alone", Figure::seconds(LINKS.wan_seconds(size.total())));
    claims.note("bytes of packs that the origin sent twice", Figure::bytes(spread.packs.repeated()));
    let limit_bytes = Figure::bytes(size.total()).times(1.10);
    claims.at_most("bytes over the WAN", Figure::bytes(spread.wan_bytes), limit_bytes);
    claims.at_least("nodes that used the WAN", Figure::count(spread.packs.clients.len()), Figure::count(2));

    branch.nodes[victim].start();
    branch.nodes[victim].wait_complete(IMAGE, "1", Duration::from_secs(60));
    let everyone: Vec<usize> = (0..CLIENTS).collect();
    let wrong = branch.wrong_files(&everyone, "1", &image);
    claims.holds(
        "all files equal the source, also of the restarted one",
        wrong.is_empty(),
        &format!("{wrong:?}"),
    );
    let total = branch.wan_bytes_since(&before);
    claims.at_most("bytes over the WAN, after the restart", Figure::bytes(total), limit_bytes);
    claims.settle();
}
