//! Endless data: files that never end, or are longer than what vouches for them says.

use crate::{Dice, common, forge::Forgery, variants, world::world};
use axum::{Router, body::Body, extract::Path, http::StatusCode, response::IntoResponse};
use branchmesh_repo::{METADATA_MAX, Origin};
use bytes::Bytes;
use futures::stream;
use std::time::Duration;

const ROLES: [&str; 5] = ["timestamp", "snapshot", "targets", "finance", "hr"];

#[tokio::test]
async fn files_that_are_longer_than_announced_are_refused() {
    let world = world().await;
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let mut forgery = Forgery::new(world);
        let role = ROLES[dice.below(ROLES.len())];
        let name = forgery.name(role);
        let length = if role == "timestamp" { (64 << 10) + 1 } else { 1 + dice.below(100_000) };
        let padded = [&forgery.files[&name][..], &vec![b' '; length]].concat();
        forgery.files.insert(name, padded.into());
        let mut node = world.node().await;
        let result = node.refresh(&crate::world::Server(forgery.files.clone())).await;
        assert!(result.is_err() && node.catalog().is_none(), "{length} more bytes of {role} were believed");
        world.nobody_believes(&forgery.files, &format!("{length} more bytes of {role}")).await;
    }
}

#[tokio::test]
async fn a_server_that_never_stops_sending_is_cut_off() {
    let world = world().await;
    for role in ROLES {
        let (files, endless) = (world.newest().files.clone(), Forgery::new(world).name(role));
        let serve = move |Path(name): Path<String>| async move {
            if name == endless {
                let chunk = Bytes::from(common::noise(1, 64 << 10));
                return Body::from_stream(stream::repeat_with(move || {
                    Ok::<_, std::io::Error>(chunk.clone())
                }))
                .into_response();
            }
            files
                .get(&name)
                .map_or(StatusCode::NOT_FOUND.into_response(), |bytes| bytes.clone().into_response())
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let app = Router::new().route("/metadata/{name}", axum::routing::get(serve));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

        let origin = Origin::open(&url).unwrap();
        let mut node = world.node().await;
        let refresh = tokio::time::timeout(Duration::from_secs(60), node.refresh(&origin));
        assert!(refresh.await.expect("it ends").is_err(), "{role} never ended, and was believed");
        assert!(node.catalog().is_none());
        let most = 2 * METADATA_MAX as u64;
        assert!(origin.wan_bytes() < most, "{role}: {} bytes were read", origin.wan_bytes());
        server.abort();
    }
}
