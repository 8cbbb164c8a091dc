//! Reading from origins that work, and from those that don't: each fault has its own name.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use async_trait::async_trait;
use branchmesh_image::{BlockId, Index, Location};
use branchmesh_repo::{
    ContentKeys, LoadIndexError, Origin, OriginError, SourceError, Throttle, TrustError, load_index,
    read_catalog,
};
use common::{Fixture, Manner, Server, noise};
use futures::StreamExt;
use std::{
    fs,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Wanted = Vec<(u32, Location, BlockId)>;

async fn published() -> (Fixture, Index) {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", &noise(1, 3 << 20));
    fixture.publish("xp", "1").await.unwrap();
    let index = fixture.index("xp", "1").await;
    (fixture, index)
}

fn all(index: &Index) -> Wanted {
    (0u32..).zip(index.blocks()).map(|(number, block)| (number, block.location(), block.blob.id)).collect()
}

/// Which blocks came, and what went wrong.
async fn fetch(origin: &Origin, wanted: Wanted) -> (Vec<u32>, Vec<OriginError>) {
    let (mut came, mut errors) = (Vec::new(), Vec::new());
    let mut arriving = Box::pin(origin.blocks(wanted));
    while let Some(item) = arriving.next().await {
        match item {
            Ok((number, _)) => came.push(number),
            Err(error) => errors.push(error),
        }
    }
    came.sort_unstable();
    (came, errors)
}

/// The one error of an origin that gives no block.
async fn failure(fixture: &Fixture, index: &Index, manner: Manner) -> (OriginError, Origin) {
    let server = Server::start(&fixture.repo, manner).await;
    let origin = server.origin().patient_for(Duration::from_millis(300));
    let (came, mut errors) = fetch(&origin, all(index)).await;
    assert_eq!((came, errors.len()), (Vec::new(), 1), "{manner:?}: {errors:?}");
    let error = errors.remove(0);
    assert!(error.to_string().contains(&server.url), "{error} does not name the URL");
    (error, origin)
}

#[tokio::test]
async fn each_fault_of_a_web_server_has_its_own_name() {
    let (fixture, index) = published().await;
    let (error, _) = failure(&fixture, &index, Manner::Missing).await;
    assert!(matches!(error, OriginError::NotFound { .. }), "{error:?}");
    let (error, _) = failure(&fixture, &index, Manner::Denied).await;
    assert!(matches!(error, OriginError::Denied { status: 403, .. }), "{error:?}");
    let (error, _) = failure(&fixture, &index, Manner::Broken).await;
    assert!(matches!(error, OriginError::Status { status: 500, .. }), "{error:?}");
    let (error, _) = failure(&fixture, &index, Manner::LoginPage).await;
    assert!(error.to_string().contains("text/html") && error.to_string().contains("login page"), "{error}");
    let (error, _) = failure(&fixture, &index, Manner::WrongRange).await;
    assert!(matches!(error, OriginError::WrongRange { .. }), "{error:?}");
    let (error, _) = failure(&fixture, &index, Manner::Silent).await;
    assert!(matches!(error, OriginError::Stalled { .. }), "{error:?}");

    let (error, origin) = failure(&fixture, &index, Manner::NoRanges).await;
    assert!(matches!(error, OriginError::NoRanges { .. }), "{error:?}");
    assert_eq!(origin.wan_bytes(), 0, "the whole pack was read although no range was offered");
}

#[tokio::test]
async fn what_came_before_a_line_broke_is_not_lost() {
    let (fixture, index) = published().await;
    let sent: usize = index.blocks()[..5].iter().map(|block| block.blob.encoded_len as usize).sum();

    let server = Server::start(&fixture.repo, Manner::StallsAfter(sent + 10)).await;
    let origin = server.origin().patient_for(Duration::from_millis(300));
    let (came, errors) = fetch(&origin, all(&index)).await;
    assert_eq!(came, [0, 1, 2, 3, 4]);
    assert!(matches!(&errors[..], [OriginError::Stalled { .. }]), "{errors:?}");

    let pack = fs::read(fixture.repo.join(fixture.packs().remove(0))).unwrap();
    let origin = Origin::open(hangs_up_after(pack, sent + 10)).unwrap();
    let (came, errors) = fetch(&origin, all(&index)).await;
    assert_eq!(came, [0, 1, 2, 3, 4]);
    assert!(matches!(&errors[..], [OriginError::Unreachable { .. }]), "{errors:?}");
}

/// A server for one request of a whole pack, that promises all and closes the connection after `sent` bytes.
fn hangs_up_after(pack: Vec<u8>, sent: usize) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut line, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            line.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        let (length, last) = (pack.len(), pack.len() - 1);
        let head = format!("content-length: {length}\r\ncontent-range: bytes 0-{last}/{length}");
        line.write_all(format!("HTTP/1.1 206 Partial Content\r\n{head}\r\n\r\n").as_bytes()).unwrap();
        line.write_all(&pack[..sent]).unwrap();
    });
    url
}

#[tokio::test]
async fn nobody_at_the_address_is_said_within_seconds() {
    let (_fixture, index) = published().await;
    // Reserved for a service that has long been extinct (RFC 1078), and given to nobody by chance.
    let port = 1;
    let url = format!("http://user:secret@127.0.0.1:{port}/repo");
    let origin = Origin::open(&url).unwrap();
    let (came, errors) = fetch(&origin, all(&index)).await;
    assert!(came.is_empty());
    let [error @ OriginError::Unreachable { .. }] = &errors[..] else { panic!("{errors:?}") };
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused"), "{text}");
    assert!(!text.contains("secret") && !origin.url().contains("secret"), "{text} {}", origin.url());
    let unread = read_catalog(&origin, None, &ContentKeys::default()).await;
    assert!(matches!(unread, Err(TrustError::Source(SourceError::Origin(OriginError::Unreachable { .. })))));
}

#[tokio::test]
async fn a_damaged_block_is_named_and_the_others_arrive() {
    let (fixture, index) = published().await;
    let pack = fixture.packs().remove(0);
    fixture.flip(&pack);
    let middle = fs::metadata(fixture.repo.join(&pack)).unwrap().len() / 2;
    let hit = index.blocks().iter().position(|block| {
        (u64::from(block.offset)..u64::from(block.offset + block.blob.encoded_len)).contains(&middle)
    });
    let hit = hit.unwrap();
    let server = Server::start(&fixture.repo, Manner::Good).await;
    for origin in [server.origin(), fixture.origin()] {
        let (came, errors) = fetch(&origin, all(&index)).await;
        assert_eq!(came.len(), index.blocks().len() - 1);
        let [error @ OriginError::Damaged { block, offset, .. }] = &errors[..] else { panic!("{errors:?}") };
        assert_eq!((*block, *offset), (index.blocks()[hit].blob.id, u64::from(index.blocks()[hit].offset)));
        assert!(error.is_about_one_file());
        assert!(!came.contains(&u32::try_from(hit).unwrap()));
    }
}

#[tokio::test]
async fn a_pack_that_is_too_short_is_said_to_be() {
    let (fixture, index) = published().await;
    let pack = fixture.repo.join(fixture.packs().remove(0));
    let bytes = fs::read(&pack).unwrap();
    fs::write(&pack, &bytes[..100]).unwrap();
    let last: Wanted = all(&index).split_off(index.blocks().len() - 1);
    let server = Server::start(&fixture.repo, Manner::Good).await;
    for origin in [server.origin(), fixture.origin()] {
        let (came, errors) = fetch(&origin, last.clone()).await;
        assert!(came.is_empty());
        assert!(matches!(&errors[..], [OriginError::Truncated { .. }]), "{errors:?}");
    }
}

#[tokio::test]
async fn only_wanted_bytes_are_asked_for_in_as_few_requests_as_possible() {
    let (fixture, index) = published().await;
    let server = Server::start(&fixture.repo, Manner::Good).await;
    let origin = server.origin();
    let mut wanted = all(&index);
    wanted.remove(10);
    let bytes: u64 = wanted.iter().map(|(_, location, _)| u64::from(location.len)).sum();
    let (came, errors) = fetch(&origin, wanted).await;
    assert_eq!((came.len(), errors.len()), (index.blocks().len() - 1, 0));
    assert_eq!(server.ranges().len(), 2);
    assert_eq!(origin.wan_bytes(), bytes);
    let (came, errors) = fetch(&origin, Vec::new()).await;
    assert_eq!((came.len(), errors.len()), (0, 0));
}

#[derive(Default)]
struct Counter(AtomicU64);

#[async_trait]
impl Throttle for Counter {
    async fn take(&self, bytes: u32) {
        self.0.fetch_add(u64::from(bytes), Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_byte_of_the_wan_passes_the_throttle() {
    let (fixture, index) = published().await;
    let server = Server::start(&fixture.repo, Manner::Good).await;
    let counter = Arc::new(Counter::default());
    let origin = server.origin().throttled(counter.clone());
    read_catalog(&origin, None, &ContentKeys::default()).await.unwrap();
    let (came, _) = fetch(&origin, all(&index)).await;
    assert_eq!(came.len(), index.blocks().len());
    assert_eq!(counter.0.load(Ordering::Relaxed), origin.wan_bytes());
    assert!(origin.wan_bytes() > index.encoded_bytes());
}

#[tokio::test]
async fn redirects_are_followed() {
    let (fixture, index) = published().await;
    let server = Server::start(&fixture.repo, Manner::Redirects).await;
    let (came, errors) = fetch(&server.origin(), all(&index)).await;
    assert_eq!((came.len(), errors.len()), (index.blocks().len(), 0), "{errors:?}");
    assert!(server.paths().iter().any(|path| path.starts_with("/moved/")));
}

#[tokio::test]
async fn a_flipped_bit_in_the_index_is_refused() {
    let (fixture, _) = published().await;
    let entry = fixture.entry("xp", "1").await;
    let server = Server::start(&fixture.repo, Manner::Good).await;
    for part in fixture.snapshot().into_keys().filter(|path| path.starts_with("indexes")) {
        fixture.flip(&part);
        for origin in [server.origin(), fixture.origin()] {
            let refused = load_index(&entry.root, fixture.cipher(&entry), &origin).await.unwrap_err();
            let LoadIndexError::Source(SourceError::Origin(error)) = refused else { panic!("{refused:?}") };
            let OriginError::Damaged { url, .. } = &error else { panic!("{error:?}") };
            assert!(url.contains(part.file_name().unwrap().to_str().unwrap()), "{error}");
        }
        fixture.flip(&part);
    }
    load_index(&entry.root, fixture.cipher(&entry), &server.origin()).await.unwrap();
}

#[tokio::test]
async fn a_folder_may_come_and_go() {
    let (fixture, index) = published().await;
    let stick = fixture.dir.path().join("stick");
    let origin = Origin::open(stick.to_str().unwrap()).unwrap();
    assert!(origin.is_local());
    let (_, errors) = fetch(&origin, all(&index)).await;
    assert!(matches!(&errors[..], [OriginError::Unreachable { .. }]), "{errors:?}");
    fs::rename(&fixture.repo, &stick).unwrap();
    let (came, errors) = fetch(&origin, all(&index)).await;
    assert_eq!((came.len(), errors.len()), (index.blocks().len(), 0), "{errors:?}");
}

#[test]
fn addresses_that_are_no_origin_are_refused() {
    for url in [
        "ftp://example.com/repo",
        "http://",
        "s3://",
        "gs:///repo",
        "https://a.example/repo?token=hush",
        "s3://a/b#c",
    ] {
        let refused =
            Origin::open(url).err().map(|error| (matches!(error, OriginError::BadUrl { .. }), error));
        let (is_bad_url, error) = refused.unwrap_or_else(|| panic!("{url} was accepted"));
        assert!(is_bad_url && !error.to_string().contains("hush"), "{error}");
    }
    // Windows knows folders of other hosts, Unix doesn't.
    assert_eq!(Origin::open("file://host/share/repo").is_err(), cfg!(unix));
    assert!(!Origin::open("https://images.example.com/repo").unwrap().is_local());
}
