//! Keys that were stolen and have been replaced: who has seen the new root of trust does not go back to the thief,
//! although the thief hides what belongs to it.

use crate::{
    common::{Fixture, files_of},
    forge,
    world::{Files, Server},
};
use branchmesh_repo::{ContentKeys, Keys, Trust, TrustError, rotate};

fn files(fixture: &Fixture) -> Files {
    let files = files_of(&fixture.repo.join("metadata")).into_iter();
    files.map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes.into())).collect()
}

#[tokio::test]
async fn a_new_root_counts_from_the_moment_in_which_it_is_seen() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"content");
    fixture.publish("xp", "1").await.unwrap();
    let folder = fixture.dir.path().join("node");
    let open = || Trust::open(&fixture.root_json(), &folder, ContentKeys::default()).unwrap();
    let mut node = open();
    let before = node.refresh(&fixture.origin()).await.unwrap();
    let old = files(&fixture);
    let thief = fixture.dir.path().join("thief");
    std::fs::create_dir(&thief).unwrap();
    std::fs::copy(fixture.keys.join("timestamp.key"), thief.join("timestamp.key")).unwrap();

    let new = Keys::at(&fixture.dir.path().join("new"));
    rotate(&fixture.repo.as_path().into(), &fixture.keys(), &"timestamp".parse().unwrap(), &new, None)
        .await
        .unwrap();
    // What the thief serves: the new root once, and his own timestamp.
    let forged = forge::jumped(&old["timestamp.json"], &thief, 1);
    let mut hidden = old.clone();
    hidden.insert("timestamp.json".into(), forged);
    let mut with_root = hidden.clone();
    with_root.insert("2.root.json".into(), files(&fixture)["2.root.json"].clone());
    let refused = node.refresh(&Server(with_root)).await;
    assert!(matches!(refused, Err(TrustError::BadSignature { .. })), "{refused:?}");

    // From now on he hides the root, from the node as it runs and after it was started again.
    for mut node in [node, open()] {
        let refused = node.refresh(&Server(hidden.clone())).await;
        assert!(matches!(refused, Err(TrustError::BadSignature { .. })), "{refused:?}");
        assert_eq!(node.catalog().as_ref(), Some(&before), "what was believed stays");
        assert!(node.file("2.root.json").is_none(), "neighbours get states that are whole");
    }
    let mut node = open();
    let after = node.refresh(&fixture.origin()).await.unwrap();
    assert_eq!(after.releases, before.releases);
    assert!(node.file("2.root.json").is_some());
    assert!(open().load_local().await.unwrap().is_some());

    // A node that never saw the root cannot know: this is why timestamps expire.
    let fresh = fixture.dir.path().join("fresh");
    let mut fresh = Trust::open(&fixture.root_json(), &fresh, ContentKeys::default()).unwrap();
    assert!(fresh.refresh(&Server(hidden)).await.is_ok());
}

#[tokio::test]
async fn a_node_that_is_killed_while_it_keeps_an_update_has_the_old_one() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"content");
    fixture.publish("xp", "1").await.unwrap();
    let folder = fixture.dir.path().join("node");
    let open = || Trust::open(&fixture.root_json(), &folder, ContentKeys::default()).unwrap();
    let old = open().refresh(&fixture.origin()).await.unwrap();
    let kept = std::fs::read(folder.join("metadata.json")).unwrap();
    fixture.publish("xp", "2").await.unwrap();
    let new = open().refresh(&fixture.origin()).await.unwrap();
    let replaced = std::fs::read(folder.join("metadata.json")).unwrap();
    assert!(replaced != kept && new.version > old.version);

    // The new file is written beside the old one, and takes its name when it is whole and on the disk.
    std::fs::write(folder.join("metadata.json"), &kept).unwrap();
    for written in (0..=replaced.len()).step_by(997).chain([replaced.len()]) {
        std::fs::write(folder.join(".tmp4711"), &replaced[..written]).unwrap();
        assert_eq!(open().load_local().await.unwrap().as_ref(), Some(&old), "{written} bytes were written");
    }
    std::fs::rename(folder.join(".tmp4711"), folder.join("metadata.json")).unwrap();
    assert_eq!(open().load_local().await.unwrap(), Some(new));
}
