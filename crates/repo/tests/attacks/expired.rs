//! Freeze, and expired metadata: an attacker who hides what is new must show signatures whose time is over.

use crate::common::Fixture;
use branchmesh_repo::{ContentKeys, Trust, TrustError, publish, refresh};
use std::collections::BTreeMap;

async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", b"content");
    fixture.publish("xp", "1").await.unwrap();
    let mut options = fixture.options("ledger", "1");
    options.group = Some("finance".into());
    publish(options, &()).await.unwrap();
    fixture
}

fn node(fixture: &Fixture, name: &str) -> Trust {
    let keys = ContentKeys::in_folder(&fixture.keys).unwrap();
    Trust::open(&fixture.root_json(), &fixture.dir.path().join(name), keys).unwrap()
}

#[tokio::test]
async fn nothing_is_begun_from_a_state_of_which_any_role_has_expired() {
    for role in ["root", "targets", "snapshot", "timestamp"] {
        let fixture = fixture().await;
        let mut believer = node(&fixture, "believer");
        let before = believer.refresh(&fixture.origin()).await.unwrap();
        let no_time = BTreeMap::from([(role.parse().unwrap(), 0)]);
        refresh(&fixture.repo.as_path().into(), &fixture.keys(), &no_time).await.unwrap();
        for mut node in [node(&fixture, "new"), believer] {
            let kept = node.catalog();
            let refused = node.refresh(&fixture.origin()).await;
            assert!(
                matches!(&refused, Err(TrustError::Expired { role: named, .. }) if named == role),
                "{refused:?}"
            );
            assert_eq!(node.catalog(), kept);
        }
        // The owner signs anew, and everybody goes on.
        refresh(&fixture.repo.as_path().into(), &fixture.keys(), &BTreeMap::new()).await.unwrap();
        let after = node(&fixture, "believer").refresh(&fixture.origin()).await.unwrap();
        assert!(!after.expired && after.version > before.version, "{role}: {after:?}");
    }
}

#[tokio::test]
async fn an_expired_group_costs_its_own_releases_only() {
    let fixture = fixture().await;
    let no_time = BTreeMap::from([("finance".parse().unwrap(), 0)]);
    refresh(&fixture.repo.as_path().into(), &fixture.keys(), &no_time).await.unwrap();
    let catalog = node(&fixture, "node").refresh(&fixture.origin()).await.unwrap();
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    assert!(!catalog.expired && catalog.expires > now);
    assert!(catalog.find("ledger", "1").unwrap().expires <= now);
    assert!(catalog.find("xp", "1").unwrap().expires > now);
}
