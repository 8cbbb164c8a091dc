//! debug
use branchmesh_tests::{branch::Branch, netns::Links};
use std::time::{Duration, Instant};
#[test]
fn debug() {
    let mut branch = Branch::new("debug", Links { wan_mbit: 20, lan_mbit: 200 }, 8);
    let (_, size) = branch.publish_first(20 << 20);
    println!("{size:?}");
    branch.start(0..8);
    let start = Instant::now();
    let mark = branch.mark();
    while start.elapsed() < Duration::from_secs(6) {
        let mut line = format!("{:.2} wan {}: ", start.elapsed().as_secs_f64(), branch.wan_bytes_since(&mark));
        for node in &branch.nodes {
            let s = node.status();
            line += &s.map_or("-".into(), |s| s.releases.first().map_or("o".into(), |r| format!("{}{}", &r.state[..2], r.bytes.have * 100 / r.bytes.total.max(1))));
            line += " ";
        }
        println!("{line}");
    }
}
