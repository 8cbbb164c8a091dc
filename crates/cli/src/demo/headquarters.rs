//! The demo's headquarters: a certificate authority, a repository, and a web server behind a thin line.

use crate::{commands::publish::publish, failure::Failure, text};
use axum::{Router, body::Body, extract::Request, middleware::Next, response::Response};
use branchmesh_agent::{
    TokenBucket,
    ca::{self, IssueRequest, Role},
    units::Rate,
};
use branchmesh_repo::{Keys, PublishOptions, Published};
use futures::StreamExt;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

/// zstd level of the demo: its minute should be spent on spreading.
const ZSTD_LEVEL: i32 = 1;

/// A running headquarters.
pub struct Headquarters {
    folder: PathBuf,
    address: SocketAddr,
    line: Arc<Line>,
    published: Mutex<Vec<Published>>,
}

/// The line to the site.
struct Line {
    limit: TokenBucket,
    /// Bytes that crossed it.
    bytes: AtomicU64,
    /// When the last one did.
    last: Mutex<Instant>,
}

impl Headquarters {
    /// Makes CA and repository in `folder`, and serves the repository at `rate`.
    pub async fn found(folder: &Path, rate: Rate) -> Result<Self, Failure> {
        let failed = |what, error: &dyn std::error::Error| Failure::failed(what, error);
        ca::init(&folder.join("ca")).map_err(|error| failed("no CA was made", &error))?;
        let (repo, keys) = (folder.join("repo"), folder.join("keys"));
        branchmesh_repo::init(&repo.as_path().into(), &Keys::at(&keys))
            .await
            .map_err(|error| failed("no repository was made", &error))?;
        let line = Arc::new(Line {
            limit: TokenBucket::new(rate),
            bytes: AtomicU64::new(0),
            last: Mutex::new(Instant::now()),
        });
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|error| failed("the web server does not start", &error))?;
        let address =
            listener.local_addr().map_err(|error| failed("the web server does not start", &error))?;
        let through = Arc::clone(&line);
        let router = Router::new().fallback_service(ServeDir::new(repo)).layer(axum::middleware::from_fn(
            move |request: Request, next: Next| {
                let line = Arc::clone(&through);
                async move { thin(line, next.run(request).await) }
            },
        ));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { folder: folder.into(), address, line, published: Mutex::default() })
    }

    /// Publishes a release to the channel `stable`.
    pub async fn publish(&self, image: &str, release: &str, files: &[PathBuf]) -> Result<(), Failure> {
        let (repo, keys) = (self.folder.join("repo"), Keys::at(&self.folder.join("keys")));
        let options = PublishOptions {
            channels: vec!["stable".into()],
            zstd_level: ZSTD_LEVEL,
            ..PublishOptions::new(repo.as_path(), keys, image, release, files.to_vec())
        };
        let (published, took) = publish(options).await?;
        eprintln!(
            "{image}@{release} is published: {} in {} blocks, {} of them new ({} encoded), in {}",
            text::bytes(published.plain_bytes),
            published.blocks,
            published.new_blocks,
            text::bytes(published.new_bytes),
            text::span(took)
        );
        self.published.lock().unwrap_or_else(PoisonError::into_inner).push(published);
        Ok(())
    }

    /// Issues a device certificate, and gives its folder.
    pub fn issue(&self, name: &str, site: &str) -> Result<PathBuf, Failure> {
        let request = IssueRequest {
            name: name.into(),
            site: site.into(),
            role: Role::Client,
            groups: Vec::new(),
            valid_days: 2,
        };
        let out = self.folder.join(name);
        ca::issue(&self.folder.join("ca"), &request, &out)
            .map_err(|error| Failure::failed("no certificate was issued", &error))?;
        Ok(out)
    }

    /// Where the site finds the repository.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The repository's first root of trust.
    pub fn root_of_trust(&self) -> PathBuf {
        self.folder.join("keys").join("root.json")
    }

    /// Bytes that have crossed the line so far.
    pub fn bytes_sent(&self) -> u64 {
        self.line.bytes.load(Ordering::Relaxed)
    }

    /// When the last byte crossed the line.
    pub fn last_sent(&self) -> Instant {
        *self.line.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encoded bytes of blocks and index that the newest release added.
    pub fn newest_bytes(&self) -> u64 {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.last().map_or(0, |published| published.new_bytes + published.index_bytes)
    }
}

/// Lets a response pass at the line's rate.
fn thin(line: Arc<Line>, response: Response) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().then(move |chunk| {
            let line = Arc::clone(&line);
            async move {
                if let Ok(chunk) = &chunk {
                    line.limit.take(chunk.len() as u64).await;
                    line.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    *line.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                }
                chunk
            }
        }))
    })
}
