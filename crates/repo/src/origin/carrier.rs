//! The ways to a repository's files, behind one face: HTTP, and `object_store` for folders and clouds.

use super::{
    error::{OriginError, root_cause},
    http::Http,
};
use crate::cloud::{self, Cloud};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{GetOptions, GetResult, ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path};
use std::{io, ops::Range, path::PathBuf, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The bytes of an answer, as they come.
pub(super) type Body = BoxStream<'static, Result<Bytes, OriginError>>;

/// Bytes that are read from a folder at a time.
const LOCAL_READ: u64 = 1 << 20;

/// How an origin's files are read.
#[derive(Clone)]
pub(super) enum Carrier {
    /// A web server.
    Http(Http),
    /// A folder of this machine, and its URL. It is opened anew for each file, because a stick or a network
    /// drive comes and goes.
    Folder(PathBuf, String),
    /// A bucket, and how long an answer may pause.
    Cloud(Cloud, Duration),
}

impl Carrier {
    /// The whole file at `path`, which must have at most `max` bytes.
    pub(super) async fn whole(&self, path: &str, max: usize) -> Result<Body, OriginError> {
        let url = self.shown(path);
        match self {
            Self::Http(http) => http.whole(path, max).await,
            Self::Folder(folder, base) => {
                let store = open(folder, base)?;
                let size = size(&store, path, &url).await?;
                if size > max as u64 {
                    return Err(OriginError::TooLarge { url, max });
                }
                Ok(read(store, path, url, 0..size))
            }
            Self::Cloud(cloud, stall_max) => {
                let answer = ask(cloud, path, None, *stall_max).await?;
                if answer.meta.size > max as u64 {
                    return Err(OriginError::TooLarge { url, max });
                }
                Ok(arriving(answer, url, *stall_max))
            }
        }
    }

    /// The bytes `range` of the file at `path`.
    pub(super) async fn range(&self, path: &str, range: &Range<u64>) -> Result<Body, OriginError> {
        let url = self.shown(path);
        match self {
            Self::Http(http) => http.range(path, range).await,
            Self::Folder(folder, base) => {
                let store = open(folder, base)?;
                if size(&store, path, &url).await? < range.end {
                    return Err(OriginError::Truncated { url, expected: range.end });
                }
                Ok(read(store, path, url, range.clone()))
            }
            Self::Cloud(cloud, stall_max) => {
                let answer = ask(cloud, path, Some(range), *stall_max).await?;
                if answer.range != *range {
                    return Err(OriginError::Truncated { url, expected: range.end });
                }
                Ok(arriving(answer, url, *stall_max))
            }
        }
    }

    /// Lets an answer pause for `stall_max`.
    pub(super) fn wait_for(&mut self, stall_max: Duration) {
        match self {
            Self::Http(http) => http.stall_max = stall_max,
            Self::Cloud(_, pause) => *pause = stall_max,
            Self::Folder(..) => {}
        }
    }

    /// The file's address, for people.
    pub(super) fn shown(&self, path: &str) -> String {
        match self {
            Self::Http(http) => http.shown(path),
            Self::Folder(_, base) => format!("{base}{path}"),
            Self::Cloud(cloud, _) => format!("{}{path}", cloud.url),
        }
    }
}

fn open(folder: &PathBuf, base: &str) -> Result<Arc<dyn ObjectStore>, OriginError> {
    match LocalFileSystem::new_with_prefix(folder) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(OriginError::Unreachable { url: base.into(), reason: root_cause(&error) }),
    }
}

async fn size(store: &Arc<dyn ObjectStore>, path: &str, url: &str) -> Result<u64, OriginError> {
    let meta = store.head(&Path::from(path)).await.map_err(|error| failed(url, error))?;
    Ok(meta.size)
}

fn read(store: Arc<dyn ObjectStore>, path: &str, url: String, range: Range<u64>) -> Body {
    let path = Path::from(path);
    let chunks = stream::unfold(range, move |rest| {
        let (store, path, url) = (store.clone(), path.clone(), url.clone());
        async move {
            if rest.is_empty() {
                return None;
            }
            let end = rest.end.min(rest.start + LOCAL_READ);
            match store.get_range(&path, rest.start..end).await {
                Ok(bytes) => Some((Ok(bytes), end..rest.end)),
                Err(error) => Some((Err(failed(&url, error)), rest.end..rest.end)),
            }
        }
    });
    chunks.boxed()
}

fn failed(url: &str, error: object_store::Error) -> OriginError {
    let url = url.to_owned();
    if let object_store::Error::NotFound { .. } = error {
        return OriginError::NotFound { url };
    }
    OriginError::Io { url, source: io::Error::other(error) }
}

/// The head of a cloud's answer.
async fn ask(
    cloud: &Cloud,
    path: &str,
    range: Option<&Range<u64>>,
    stall_max: Duration,
) -> Result<GetResult, OriginError> {
    let url = format!("{}{path}", cloud.url);
    let options = GetOptions { range: range.cloned().map(Into::into), ..GetOptions::default() };
    let path = Path::from(path);
    let answer = timeout(stall_max, cloud.store.get_opts(&path, options)).await;
    let answer =
        answer.map_err(|_| OriginError::Stalled { url: url.clone(), seconds: stall_max.as_secs() })?;
    answer.map_err(|error| match (cloud::failed(url, &error), range) {
        (OriginError::Truncated { url, .. }, Some(range)) => {
            OriginError::Truncated { url, expected: range.end }
        }
        (error, _) => error,
    })
}

/// The body of a cloud's answer; each pause is bounded, and its first error is its end.
fn arriving(answer: GetResult, url: String, stall_max: Duration) -> Body {
    let chunks = stream::unfold(Some(answer.into_stream()), move |rest| {
        let url = url.clone();
        async move {
            let mut rest = rest?;
            let chunk = match timeout(stall_max, rest.next()).await {
                Err(_) => Err(OriginError::Stalled { url, seconds: stall_max.as_secs() }),
                Ok(chunk) => chunk?.map_err(|error| cloud::failed(url, &error)),
            };
            let rest = chunk.is_ok().then_some(rest);
            Some((chunk, rest))
        }
    });
    chunks.boxed()
}
