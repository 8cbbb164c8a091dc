//! Fast-forward: versions that jump far ahead, so that nothing the owner publishes later is newer.

use crate::{
    Dice,
    common::Fixture,
    forge::Forgery,
    variants,
    world::{Server, world},
};
use branchmesh_repo::{ContentKeys, Keys, Trust, TrustError, rotate};
use tough::schema::{Snapshot, Timestamp};

/// The jump that is too far; one less is as far as publishing may go unseen.
const TOO_FAR: u64 = 10_001;

#[tokio::test]
async fn versions_that_jump_further_than_publishing_explains_are_refused() {
    let world = world().await;
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let jump = TOO_FAR
            + if dice.below(2) == 0 { dice.next() % 100 } else { dice.next() >> dice.below(40).max(1) };
        let mut forgery = Forgery::new(world);
        let role = *dice.one_of(&["timestamp", "snapshot", "targets", "finance", "hr"]);
        match role {
            "timestamp" => forgery.change(role, &["timestamp"], |timestamp: &mut Timestamp| {
                timestamp.version = timestamp.version.saturating_add(jump);
            }),
            "snapshot" => {
                forgery.change(role, &["snapshot"], |snapshot: &mut Snapshot| {
                    snapshot.version = snapshot.version.saturating_add(jump);
                });
                let signed = forgery.read::<Snapshot>("snapshot");
                let bytes = forgery.files[&forgery.name("snapshot")].clone();
                forgery.files.insert(format!("{}.snapshot.json", signed.signed.version), bytes);
                forgery.fit_timestamp(&["timestamp"]);
            }
            role => {
                let keys: &[&str] = match role {
                    "targets" => &["targets", "targets-2"],
                    "finance" => &["group-finance", "group-finance-2"],
                    _ => &["group-hr"],
                };
                forgery.change(role, keys, |targets: &mut tough::schema::Targets| {
                    targets.version = targets.version.saturating_add(jump);
                });
                let signed = forgery.read::<tough::schema::Targets>(role);
                let bytes = forgery.files[&forgery.name(role)].clone();
                forgery.files.insert(format!("{}.{role}.json", signed.signed.version), bytes);
                forgery.fit(role, &["snapshot", "timestamp"]);
            }
        }
        let mut node = world.believer(world.newest()).await;
        let refused = node.refresh(&Server(forgery.files)).await;
        assert!(matches!(refused, Err(TrustError::FastForward { .. })), "{role} by {jump}: {refused:?}");
        assert_eq!(node.catalog().as_ref(), Some(&world.newest().catalog));
    }
}

#[tokio::test]
async fn new_keys_of_snapshot_and_timestamp_end_what_a_thief_began() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"content");
    fixture.publish("xp", "1").await.unwrap();
    let folder = fixture.dir.path().join("node");
    let mut node = Trust::open(&fixture.root_json(), &folder, ContentKeys::default()).unwrap();
    let genuine = node.refresh(&fixture.origin()).await.unwrap();

    // The thief of the timestamp's key jumps as far as it goes unnoticed.
    let thief = Keys::at(&fixture.keys);
    let files = crate::common::files_of(&fixture.repo.join("metadata"));
    let mut files: crate::world::Files =
        files.into_iter().map(|(path, bytes)| (path.to_str().unwrap().into(), bytes.into())).collect();
    let jumped = crate::forge::jumped(&files["timestamp.json"], thief.folder(), TOO_FAR - 1);
    files.insert("timestamp.json".into(), jumped);
    node.refresh(&Server(files)).await.unwrap();
    assert!(matches!(node.refresh(&fixture.origin()).await, Err(TrustError::Rollback { .. })));

    let repo = fixture.repo.as_path().into();
    for role in ["timestamp", "snapshot"] {
        let new = Keys::at(&fixture.dir.path().join("new"));
        let outcome = rotate(&repo, &fixture.keys(), &role.parse().unwrap(), &new, None).await.unwrap();
        assert!(outcome.missing.is_empty(), "{outcome:?}");
        std::fs::copy(new.folder().join(format!("{role}.key")), fixture.keys.join(format!("{role}.key")))
            .unwrap();
    }
    let recovered = node.refresh(&fixture.origin()).await.unwrap();
    assert_eq!(recovered.releases, genuine.releases);
    assert!(recovered.version > genuine.version && recovered.version < TOO_FAR);
}
