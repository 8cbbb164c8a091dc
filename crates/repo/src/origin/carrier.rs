//! The two ways to a repository's files, behind one face: HTTP, and object_store (folders now, S3 and others
//! through the same code).

use super::{
    error::{OriginError, root_cause},
    http::Http,
};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path};
use std::{io, ops::Range, path::PathBuf, sync::Arc};

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
}

impl Carrier {
    /// The whole file at `path`, which must have at most `max` bytes.
    pub(super) async fn whole(&self, path: &str, max: usize) -> Result<Body, OriginError> {
        let (store, url) = match self {
            Self::Http(http) => return http.whole(path, max).await,
            Self::Folder(folder, base) => (open(folder, base)?, format!("{base}{path}")),
        };
        let size = size(&store, path, &url).await?;
        if size > max as u64 {
            return Err(OriginError::TooLarge { url, max });
        }
        Ok(read(store, path, url, 0..size))
    }

    /// The bytes `range` of the file at `path`.
    pub(super) async fn range(&self, path: &str, range: &Range<u64>) -> Result<Body, OriginError> {
        let (store, url) = match self {
            Self::Http(http) => return http.range(path, range).await,
            Self::Folder(folder, base) => (open(folder, base)?, format!("{base}{path}")),
        };
        if size(&store, path, &url).await? < range.end {
            return Err(OriginError::Truncated { url, expected: range.end });
        }
        Ok(read(store, path, url, range.clone()))
    }

    /// The file's address, for people.
    pub(super) fn shown(&self, path: &str) -> String {
        match self {
            Self::Http(http) => http.shown(path),
            Self::Folder(_, base) => format!("{base}{path}"),
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
