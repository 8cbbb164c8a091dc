//! What stands between tough and a source of metadata: tough owns its transport, a source is borrowed, and every
//! file that passes is counted, bounded and remembered.

use super::{Basis, Files, ROOT_MAX, ROOT_UPDATES_MAX, TIMESTAMP_MAX, TrustError};
use crate::{
    layout::{self, METADATA_MAX, TIMESTAMP},
    source::MetadataSource,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use std::fmt;
use tokio::sync::{mpsc, oneshot};
use tough::{Transport, TransportError, TransportErrorKind, TransportStream};
use url::Url;

/// Most groups of a repository.
pub(crate) const GROUPS_MAX: usize = 256;
/// Most files of one set of metadata: new roots, timestamp, snapshot, targets and the groups'.
const FILES_MAX: usize = ROOT_UPDATES_MAX as usize + 3 + GROUPS_MAX;
/// Most bytes of all files of one set of metadata: a node keeps them in memory to relay them.
pub(crate) const ALL_FILES_MAX: usize = 4 * METADATA_MAX;

/// A file that tough wants, and where to send it; `None` if it cannot be had.
pub(super) struct Request {
    name: String,
    reply: oneshot::Sender<Option<Bytes>>,
}

/// tough's side of the counter.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) requests: mpsc::Sender<Request>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relay")
    }
}

#[async_trait]
impl Transport for Relay {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default().to_owned();
        let (reply, answer) = oneshot::channel();
        // Neither end goes away while the other is polled: then there is no file.
        let _ = self.requests.send(Request { name, reply }).await;
        match answer.await {
            Ok(Some(bytes)) => Ok(Box::pin(stream::iter([Ok(bytes)]))),
            Ok(None) | Err(_) => Err(TransportError::new(TransportErrorKind::FileNotFound, url)),
        }
    }
}

/// Our side: answers from what was accepted before, or from the source, and remembers what it gave.
pub(super) struct Desk<'a> {
    basis: &'a Basis<'a>,
    source: &'a dyn MetadataSource,
    reuse: bool,
    /// Whether a file was taken from what had been accepted before.
    pub(super) reused: bool,
    pub(super) files: Files,
    /// The new roots of trust that tough has verified: it asks for nothing more after one that it refuses.
    pub(super) roots: Files,
    /// Why the latest request was not answered.
    pub(super) failure: Option<TrustError>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(basis: &'a Basis<'a>, source: &'a dyn MetadataSource, reuse: bool) -> Self {
        Self { basis, source, reuse, reused: false, files: Files::new(), roots: Files::new(), failure: None }
    }

    pub(super) async fn answer(&mut self, request: Request) {
        let Request { name, reply } = request;
        self.failure = None;
        let given = self.files.iter().filter(|(name, _)| layout::is_root_name(name));
        self.roots = given.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        let file = match self.file(&name).await {
            Ok(bytes) => {
                self.files.insert(name, bytes.clone());
                Some(bytes)
            }
            Err(error) => {
                self.failure = Some(error);
                None
            }
        };
        // tough waits for nothing else.
        let _ = reply.send(file);
    }

    async fn file(&mut self, name: &str) -> Result<Bytes, TrustError> {
        let held: usize = self.files.values().map(Bytes::len).sum();
        if self.files.len() >= FILES_MAX || held >= ALL_FILES_MAX {
            return Err(TrustError::Malformed {
                reason: format!("it has more than {FILES_MAX} files or {ALL_FILES_MAX} bytes"),
            });
        }
        if self.reuse
            && layout::is_versioned_name(name)
            && let Some(bytes) = self.basis.accepted.get(name)
        {
            self.reused = true;
            return Ok(bytes.clone());
        }
        let max = match name {
            TIMESTAMP => TIMESTAMP_MAX,
            _ if layout::is_root_name(name) || name.ends_with(".snapshot.json") => ROOT_MAX,
            _ => METADATA_MAX,
        };
        let file = self.source.metadata(name, max.min(ALL_FILES_MAX - held)).await?;
        file.ok_or_else(|| TrustError::Missing { name: name.into() })
    }
}
