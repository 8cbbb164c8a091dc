//! What the tests share: a repository with sources, a web server that can misbehave, a reader of whole releases.
#![allow(dead_code, missing_docs)] // each test file uses its part

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri, header},
};
use branchmesh_image::{Cipher, Decoder, Extent, Index};
use branchmesh_repo::{
    CatalogEntry, ContentKeys, Keys, Origin, PublishError, PublishOptions, Published, init_with, load_index,
    publish, read_catalog,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// Bytes that do not compress, always the same for a seed (xorshift64*).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An empty repository, its keys, and a folder for sources.
pub struct Fixture {
    pub dir: TempDir,
    pub repo: PathBuf,
    pub keys: PathBuf,
    pub source: PathBuf,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::of("").await
    }

    /// A repository with these thresholds, such as `targets=2/3 root=1/2`.
    pub async fn of(thresholds: &str) -> Self {
        let parse = |text: &str| {
            let (role, threshold) = text.split_once('=').unwrap();
            (role.parse().unwrap(), threshold.parse().unwrap())
        };
        let thresholds = thresholds.split_whitespace().map(parse).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (repo, keys, source) = (path("repo"), path("keys"), path("source"));
        fs::create_dir(&source).unwrap();
        init_with(&repo.as_path().into(), &Keys::at(&keys), &thresholds).await.unwrap();
        Self { dir, repo, keys, source }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn options(&self, image: &str, release: &str) -> PublishOptions {
        let paths = vec![self.source.clone()];
        let options = PublishOptions::new(self.repo.as_path(), self.keys(), image, release, paths);
        PublishOptions { zstd_level: 1, ..options }
    }

    pub async fn publish(&self, image: &str, release: &str) -> Result<Published, PublishError> {
        publish(self.options(image, release), &()).await
    }

    /// Publishes content of its own.
    pub async fn publish_noise(&self, image: &str, release: &str) {
        let seed = release.bytes().map(u64::from).sum();
        self.write("disk.img", &noise(seed, 100_000));
        self.publish(image, release).await.unwrap();
    }

    pub fn keys(&self) -> Keys {
        Keys::at(&self.keys)
    }

    pub fn content_keys(&self) -> ContentKeys {
        ContentKeys::in_folder(&self.keys).unwrap()
    }

    pub fn root_json(&self) -> Vec<u8> {
        fs::read(self.keys.join("root.json")).unwrap()
    }

    pub fn origin(&self) -> Origin {
        Origin::open(self.repo.to_str().unwrap()).unwrap()
    }

    pub async fn entry(&self, image: &str, release: &str) -> CatalogEntry {
        let catalog =
            read_catalog(&self.origin(), Some(&self.root_json()), &self.content_keys()).await.unwrap();
        catalog.find(image, release).unwrap().clone()
    }

    pub async fn index(&self, image: &str, release: &str) -> Index {
        let entry = self.entry(image, release).await;
        load_index(&entry.root, self.cipher(&entry), &self.origin()).await.unwrap()
    }

    pub fn cipher(&self, entry: &CatalogEntry) -> Cipher {
        let Some(group) = &entry.group else { return Cipher::None };
        let line = fs::read_to_string(self.keys.join("groups").join(format!("{group}.key"))).unwrap();
        Cipher::Group(line.parse().unwrap())
    }

    /// All files of the repository, with their content.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files_of(&self.repo)
    }

    /// The only pack, or the first of them.
    pub fn packs(&self) -> Vec<PathBuf> {
        self.snapshot()
            .into_keys()
            .filter(|path| path.extension().is_some_and(|kind| kind == "pack"))
            .collect()
    }

    /// Flips one bit in the middle of a file of the repository.
    pub fn flip(&self, path: &Path) {
        let path = self.repo.join(path);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(path, bytes).unwrap();
    }
}

pub fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file() && entry.file_name() != "publish.lock")
        .map(|entry| {
            let name = entry.path().strip_prefix(folder).unwrap().to_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Fetches every block of an index from an origin and puts the files together.
pub async fn whole_release(origin: &Origin, index: &Index, cipher: Cipher) -> BTreeMap<PathBuf, Vec<u8>> {
    let wanted =
        (0u32..).zip(index.blocks()).map(|(number, block)| (number, block.location(), block.blob.id));
    let mut encoded = HashMap::new();
    let mut arriving = Box::pin(origin.blocks(wanted.collect()));
    while let Some(item) = arriving.next().await {
        let (number, block) = item.unwrap();
        assert!(encoded.insert(number, block).is_none(), "block {number} came twice");
    }
    let mut decoder = Decoder::new(cipher).unwrap();
    let mut plain =
        |number: u32| decoder.decode(&index.blocks()[number as usize].blob, &encoded[&number]).unwrap();
    let mut files = BTreeMap::new();
    for file in index.files() {
        let mut bytes = Vec::new();
        for extent in &file.extents {
            match extent {
                Extent::Hole(length) => bytes.resize(bytes.len() + usize::try_from(*length).unwrap(), 0),
                Extent::Blocks { first, count } => {
                    (*first..first + count).for_each(|number| bytes.extend(plain(number)));
                }
            }
        }
        files.insert(PathBuf::from(&file.path), bytes);
    }
    files
}

/// How the web server treats requests for packs. Everything else it serves properly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Good,
    NoRanges,
    Missing,
    LoginPage,
    Denied,
    Broken,
    /// Sends so many bytes of a body, then nothing more.
    StallsAfter(usize),
    /// Answers a request for a range with the range one byte further on.
    WrongRange,
    /// Never answers at all.
    Silent,
    /// Sends the client to the same path under `/moved`.
    Redirects,
}

/// A web server on loopback that serves a folder.
pub struct Server {
    pub url: String,
    seen: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    manner: Manner,
    /// Path and range of each request.
    requests: Mutex<Vec<(String, Option<String>)>>,
}

impl Server {
    pub async fn start(folder: &Path, manner: Manner) -> Self {
        let seen = Arc::new(Shared { folder: folder.into(), manner, requests: Mutex::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/repo", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(seen.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen }
    }

    pub fn origin(&self) -> Origin {
        Origin::open(&self.url).unwrap()
    }

    /// The ranges that were asked for, in order.
    pub fn ranges(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().iter().filter_map(|(_, range)| range.clone()).collect()
    }

    /// The paths that were asked for, in order.
    pub fn paths(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }
}

async fn serve(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    shared.requests.lock().unwrap().push((uri.path().into(), range.clone()));
    let (path, moved) = match uri.path().strip_prefix("/moved") {
        Some(path) => (path, true),
        None => (uri.path(), false),
    };
    let path = path.strip_prefix("/repo/").unwrap_or(path).to_owned();
    let manner = if path.starts_with("packs/") { shared.manner } else { Manner::Good };
    let status = |status: StatusCode| Response::builder().status(status).body(Body::empty()).unwrap();
    match manner {
        Manner::Missing => return status(StatusCode::NOT_FOUND),
        Manner::Denied => return status(StatusCode::FORBIDDEN),
        Manner::Broken => return status(StatusCode::INTERNAL_SERVER_ERROR),
        Manner::Silent => std::future::pending().await,
        Manner::LoginPage => {
            let page = Response::builder().header(header::CONTENT_TYPE, "text/html; charset=utf-8");
            return page.body(Body::from("<html>Please log in</html>")).unwrap();
        }
        Manner::Redirects if !moved => {
            let there = format!("/moved/repo/{path}");
            let answer = Response::builder().status(StatusCode::TEMPORARY_REDIRECT);
            return answer.header(header::LOCATION, there).body(Body::empty()).unwrap();
        }
        Manner::Redirects | Manner::Good | Manner::NoRanges | Manner::StallsAfter(_) | Manner::WrongRange => {
        }
    }
    let Ok(bytes) = tokio::fs::read(shared.folder.join(&path)).await else {
        return status(StatusCode::NOT_FOUND);
    };
    let Some(range) = range.filter(|_| manner != Manner::NoRanges) else {
        return Response::new(Body::from(bytes));
    };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (mut first, mut last) = (first.parse::<usize>().unwrap(), last.parse::<usize>().unwrap());
    if first >= bytes.len() {
        return status(StatusCode::RANGE_NOT_SATISFIABLE);
    }
    if manner == Manner::WrongRange {
        (first, last) = (first + 1, last + 1);
    }
    last = last.min(bytes.len() - 1);
    let total = bytes.len();
    let body = Bytes::from(bytes).slice(first..=last);
    let answer = Response::builder()
        .status(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{total}"))
        .header(header::CONTENT_LENGTH, body.len());
    let body = match manner {
        Manner::StallsAfter(after) => {
            let sent = stream::iter([Ok::<_, std::io::Error>(body.slice(..after.min(body.len())))]);
            Body::from_stream(sent.chain(stream::pending()))
        }
        Manner::Good
        | Manner::NoRanges
        | Manner::Missing
        | Manner::LoginPage
        | Manner::Denied
        | Manner::Broken
        | Manner::WrongRange
        | Manner::Silent
        | Manner::Redirects => Body::from(body),
    };
    answer.body(body).unwrap()
}
