//! The origin disappears when one complete copy is on the site: what is on the site still spreads.

use branchmesh_tests::{
    branch::{Branch, IMAGE},
    claims::{Claims, Figure},
    netns::Links,
    skip::{Need, have_all},
};
use std::time::Duration;

const CLIENTS: usize = 4;
/// The WAN is not what this test is about.
const LINKS: Links = Links { wan_mbit: 200, lan_mbit: 200 };
const IMAGE_BYTES: u64 = 90 << 20;

#[test]
fn with_one_complete_copy_on_the_site_the_origin_is_not_needed_any_more() {
    let test = "origin gone";
    let needs =
        [Need::Namespaces, Need::Program("nginx"), Need::Program("mkfs.ext4"), Need::Program("qemu-img")];
    if !have_all(test, &needs) {
        return;
    }
    let mut claims = Claims::of(test);
    let mut branch = Branch::new("gone", LINKS, CLIENTS);
    let (image, size) = branch.publish_first(IMAGE_BYTES);

    let before = branch.mark();
    branch.start([0]);
    branch.nodes[0].wait_complete(IMAGE, "1", Duration::from_secs(60));
    claims.note("size of the release", Figure::bytes(size.total()));
    claims.note("bytes over the WAN for the first copy", Figure::bytes(branch.wan_bytes_since(&before)));
    branch.stop_origin();

    let others: Vec<usize> = (1..CLIENTS).collect();
    let since = branch.mark();
    branch.start(others.iter().copied());
    let spread = branch.follow(&others, "1", Duration::from_secs(60), &since);
    claims.holds("the others finish", spread.last().is_some(), &format!("times: {:?}", spread.seconds));
    let wrong = branch.wrong_files(&others, "1", &image);
    claims.holds("all their files equal the source", wrong.is_empty(), &format!("wrong: {wrong:?}"));
    claims.settle();
}
