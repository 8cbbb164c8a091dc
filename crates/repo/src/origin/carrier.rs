//! The ways to a repository's files, behind one face: HTTP, folders, and `object_store` for clouds.

use super::{
    error::OriginError,
    folder::Folder,
    http::Http,
    runs::{Located, Run},
};
use crate::{
    cloud::{self, Cloud},
    layout,
};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use object_store::{GetOptions, GetResult, ObjectStore, path::Path};
use std::{ops::Range, time::Duration};
use tokio::time::timeout;

/// The bytes of an answer, as they come.
pub(super) type Body = BoxStream<'static, Result<Bytes, OriginError>>;

/// How an origin's files are read.
#[derive(Clone)]
pub(super) enum Carrier {
    /// A web server.
    Http(Http),
    /// A folder of this machine.
    Folder(Folder),
    /// A bucket, and how long an answer may pause.
    Cloud(Cloud, Duration),
}

impl Carrier {
    /// The whole file at `path`, which must have at most `max` bytes.
    pub(super) async fn whole(&self, path: &str, max: usize) -> Result<Body, OriginError> {
        let url = self.shown(path);
        match self {
            Self::Http(http) => http.whole(path, max).await,
            Self::Folder(folder) => folder.whole(path, max).await,
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
            Self::Folder(folder) => folder.range(path, range).await,
            Self::Cloud(cloud, stall_max) => {
                let answer = ask(cloud, path, Some(range), *stall_max).await?;
                if answer.range != *range {
                    return Err(OriginError::Truncated { url, expected: range.end });
                }
                Ok(arriving(answer, url, *stall_max))
            }
        }
    }

    /// Where the blocks of a run can be read; then why the others cannot. A server is simply asked for the pack.
    pub(super) async fn locate(&self, run: Run) -> Vec<Result<Located, OriginError>> {
        match self {
            Self::Http(_) | Self::Cloud(..) => {
                let (path, start) = (layout::pack_path(&run.pack), run.range().start);
                vec![Ok(Located { path, start, run })]
            }
            Self::Folder(folder) => folder.locate(run).await,
        }
    }

    /// Lets an answer pause for `stall_max`.
    pub(super) fn wait_for(&mut self, stall_max: Duration) {
        match self {
            Self::Http(http) => http.stall_max = stall_max,
            Self::Cloud(_, pause) => *pause = stall_max,
            Self::Folder(folder) => folder.stall_max = stall_max,
        }
    }

    /// The file's address, for people.
    pub(super) fn shown(&self, path: &str) -> String {
        match self {
            Self::Http(http) => http.shown(path),
            Self::Folder(folder) => folder.shown(path),
            Self::Cloud(cloud, _) => format!("{}{path}", cloud.url),
        }
    }
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
