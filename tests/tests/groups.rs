//! Images of groups: opened by members with the right content key, and by nobody else, who is told why.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    images,
    loopback::{IMAGE, Loopback},
    run::run,
    status::Status,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const BYTES: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);
const GROUP: &str = "finance";

#[test]
fn a_member_opens_the_image_and_the_others_are_told_what_they_lack() {
    let world = Loopback::new("groups");
    let source = publish(&world);
    let origin = world.folder_origin();
    let key = world.hq.content_key(GROUP);
    let [mut member, mut keyless, mut mistaken, mut broken] = ["member", "keyless", "mistaken", "broken"]
        .map(|name| {
            let mut node = world.node(name, &[&origin]);
            node.join(&world.hq, GROUP);
            node
        });
    keyless.settings.keys.clear();
    mistaken.settings.keys.insert(GROUP.into(), wrong_key(&world, &key));
    broken.settings.keys.insert(GROUP.into(), world.path().join("nowhere.key"));
    let mut stranger = world.node("stranger", &[&origin]);
    stranger.settings.keys.insert(GROUP.into(), key);
    for node in [&mut member, &mut keyless, &mut mistaken, &mut broken, &mut stranger] {
        node.settings.subscribe = vec![IMAGE.into()];
        node.start();
    }

    member.wait_complete(IMAGE, "1", LIMIT);
    assert_eq!(member.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
    keyless.wait_for("told that it has no key", LIMIT, |status| {
        has_problem(status, &["no content key", GROUP]) && has_problem(status, &[IMAGE, "subscribe"])
    });
    mistaken.wait_for("told that its key is wrong", LIMIT, |status| {
        has_problem(status, &["does not open", GROUP])
    });
    broken.wait_for("told that its key cannot be read", LIMIT, |status| {
        has_problem(status, &["nowhere.key", "cannot be opened", GROUP])
    });
    // It could open the image, but its certificate does not let it have it.
    let refused = stranger.wait_for("told that it is no member", LIMIT, |status| {
        status.release(IMAGE, "1").is_some_and(|release| release.state == "failed")
    });
    let reason = refused.release(IMAGE, "1").unwrap().reason.clone().unwrap();
    assert!(reason.contains("certificate") && reason.contains(GROUP), "{reason}");
    for node in [&keyless, &mistaken, &broken, &stranger] {
        assert!(!node.release_folder(IMAGE, "1").exists(), "{} has the image", node.name);
    }
}

fn publish(world: &Loopback) -> PathBuf {
    let source = world.path().join("disk.img");
    images::make_blob(&source, BYTES);
    let mut publish = world.hq.publish_command(IMAGE, "1", &[source.as_path()]);
    run(publish.args(["--group", GROUP]), LIMIT).expect_ok();
    source
}

/// A content key in the right form that is not the group's.
fn wrong_key(world: &Loopback, key: &Path) -> PathBuf {
    let line = fs::read_to_string(key).unwrap();
    let (prefix, digits) = line.trim().rsplit_once(':').unwrap();
    let path = world.path().join("wrong.key");
    fs::write(&path, format!("{prefix}:{}", digits.chars().rev().collect::<String>())).unwrap();
    path
}

fn has_problem(status: &Status, words: &[&str]) -> bool {
    status.node.problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)))
}
