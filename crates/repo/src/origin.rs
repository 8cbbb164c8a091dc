//! An origin: a repository as a node sees it. HQ's web server, a USB stick, a prestage folder.
//!
//! Metadata and index parts are read whole, blocks as ranges of packs, in few requests that are streamed: each
//! block is given on as soon as its bytes are there and verified. Every wait is bounded, every byte that
//! crossed the WAN is counted, and a [`Throttle`] may slow the reading down.

mod carrier;
mod error;
mod folder;
mod http;
mod runs;

pub use error::OriginError;
pub(crate) use error::root_cause;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
pub(crate) use http::CONNECT_MAX;
pub(crate) use http::STALL_MAX;

use crate::{
    address::{Address, Target, shown},
    cloud::{Cloud, Purpose},
    layout::{self, TIMESTAMP},
    source::{MetadataSource, PartSource, SourceError},
};
use async_trait::async_trait;
use branchmesh_image::{BlobRef, BlockId, Extents, IndexId, Location, PackId, VerifiedBlock};
use bytes::{Bytes, BytesMut};
use carrier::{Body, Carrier};
use folder::Folder;
use futures::{Stream, StreamExt, stream};
use runs::{Located, Wanted, runs};
use std::{
    collections::VecDeque,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use url::Url;

/// Ranges that one call of [`Origin::blocks`] fetches at once: enough to fill a line in spite of the round trip
/// between requests, and few enough to be a modest guest of a web server.
const RANGES_IN_FLIGHT: usize = 4;

/// Slows reading down to a rate, such as a site's WAN limit.
#[async_trait]
pub trait Throttle: Send + Sync {
    /// Returns when `bytes` more may be taken from the line.
    async fn take(&self, bytes: u32);
}

/// A repository that can be read from here. Clones share the connections and the count of bytes.
#[derive(Clone)]
pub struct Origin {
    url: String,
    carrier: Carrier,
    throttle: Option<Arc<dyn Throttle>>,
    wan_bytes: Arc<AtomicU64>,
    is_local: bool,
}

impl Origin {
    /// The repository at `address`. Nothing is read yet.
    pub fn open(address: impl Into<Address>) -> Result<Self, OriginError> {
        let address = address.into();
        let access = &address.access;
        let bad_access = |source| OriginError::Access { url: address.shown(), source };
        access.check().map_err(bad_access)?;
        let (url, carrier) = match address.target()? {
            Target::Folder(folder) => return Self::of_folder(&folder),
            Target::Web(base) => (shown(&base), Carrier::Http(http::Http::open(base, access)?)),
            Target::Cloud(provider, url) => {
                return Ok(Self::of_cloud(Cloud::open(provider, &url, access, Purpose::Reading)?));
            }
        };
        Ok(Self { url, carrier, throttle: None, wan_bytes: Arc::default(), is_local: false })
    }

    /// The same origin, read no faster than `throttle` allows. Local origins are not throttled.
    #[must_use]
    pub fn throttled(mut self, throttle: Arc<dyn Throttle>) -> Self {
        self.throttle = Some(throttle);
        self
    }

    /// The same origin, where an answer may pause for `stall_max` instead of 20 s before it is given up.
    #[must_use]
    pub fn patient_for(mut self, stall_max: Duration) -> Self {
        self.carrier.wait_for(stall_max);
        self
    }

    /// Its URL, without credentials.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is a folder of this machine, which costs no WAN bytes.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Bytes of all bodies that have been read from it; 0 for a local one.
    #[must_use]
    pub fn wan_bytes(&self) -> u64 {
        self.wan_bytes.load(Ordering::Relaxed)
    }

    /// Fetches blocks (index in the release, where it lies, its id), in as few requests as their places allow.
    ///
    /// Blocks come in any order. A damaged one is an `Err` of its own; any other error ends its request, so that
    /// blocks may be missing when the stream ends: each index that did not come must be asked for again.
    pub fn blocks(
        &self,
        wanted: Vec<(u32, Location, BlockId)>,
    ) -> impl Stream<Item = Result<(u32, VerifiedBlock), OriginError>> + Send + 'static {
        let origin = self.clone();
        stream::iter(runs(wanted))
            .map(move |run| {
                let (locating, origin) = (origin.clone(), origin.clone());
                let located = stream::once(async move { locating.carrier.locate(run).await });
                located
                    .flat_map(stream::iter)
                    .flat_map(move |located| match located {
                        Ok(located) => RunReader::new(origin.clone(), located).into_stream().boxed(),
                        Err(error) => stream::iter([Err(error)]).boxed(),
                    })
                    .boxed()
            })
            .flatten_unordered(RANGES_IN_FLIGHT)
    }

    /// When the timestamp of a local origin was changed last, and how long it is: a cheap look at whether the folder
    /// is there and says something new. `None` if it is not there, or no folder.
    pub async fn timestamp_mark(&self) -> Option<(SystemTime, u64)> {
        let Carrier::Folder(folder) = &self.carrier else { return None };
        folder.mark(&layout::metadata_path(TIMESTAMP)).await
    }

    /// Which bytes of a pack a folder holds, as far as lengths and heads tell; nothing is known of other origins.
    pub(crate) async fn extents_of(&self, pack: &PackId) -> Extents {
        match &self.carrier {
            Carrier::Folder(folder) => folder.extents_of(pack).await,
            Carrier::Http(_) | Carrier::Cloud(..) => Extents::default(),
        }
    }

    /// The repository in a cloud, or in what stands in for one.
    pub(crate) fn of_cloud(cloud: Cloud) -> Self {
        let url = cloud.url.clone();
        let carrier = Carrier::Cloud(cloud, STALL_MAX);
        Self { url, carrier, throttle: None, wan_bytes: Arc::default(), is_local: false }
    }

    /// The repository in `folder`, which need not be there yet.
    pub(crate) fn of_folder(folder: &Path) -> Result<Self, OriginError> {
        let bad = |reason: String| OriginError::BadUrl { url: folder.display().to_string(), reason };
        let folder = std::path::absolute(folder).map_err(|error| bad(error.to_string()))?;
        let shown = Url::from_directory_path(&folder)
            .map_err(|()| bad("the folder's path cannot be written as a URL".into()))?
            .to_string();
        let carrier = Carrier::Folder(Folder::new(folder, shown.clone(), STALL_MAX));
        Ok(Self { url: shown, carrier, throttle: None, wan_bytes: Arc::default(), is_local: true })
    }

    /// Reads the whole file at `path`.
    pub(crate) async fn whole(&self, path: &str, max: usize) -> Result<Bytes, OriginError> {
        let mut body = self.carrier.whole(path, max).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.next_chunk(&mut body).await? {
            if bytes.len() + chunk.len() > max {
                return Err(OriginError::TooLarge { url: self.carrier.shown(path), max });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// The next bytes of a body, counted, and paid for before they are used. Not reading on is what slows the
    /// sender down.
    async fn next_chunk(&self, body: &mut Body) -> Result<Option<Bytes>, OriginError> {
        let Some(chunk) = body.next().await.transpose()? else { return Ok(None) };
        if !self.is_local {
            self.wan_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if let Some(throttle) = &self.throttle {
                throttle.take(u32::try_from(chunk.len()).unwrap_or(u32::MAX)).await;
            }
        }
        Ok(Some(chunk))
    }
}

#[async_trait]
impl MetadataSource for Origin {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        if !layout::is_metadata_name(name) {
            return Ok(None);
        }
        match self.whole(&layout::metadata_path(name), max).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(OriginError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl PartSource for Origin {
    async fn part(&self, _release: IndexId, blob: &BlobRef) -> Result<VerifiedBlock, SourceError> {
        let path = layout::index_path(&blob.id);
        let bytes = self.whole(&path, blob.encoded_len as usize).await?;
        let verified = VerifiedBlock::verify(&blob.id, bytes).map_err(|source| OriginError::Damaged {
            url: self.carrier.shown(&path),
            offset: 0,
            block: blob.id,
            source: Box::new(source),
        })?;
        Ok(verified)
    }
}

/// Reads one run, block by block.
struct RunReader {
    origin: Origin,
    path: String,
    /// Bytes of the file that are read.
    range: Range<u64>,
    /// Where in the file the next block begins.
    at: u64,
    blocks: VecDeque<Wanted>,
    /// `None` until the first block is asked for.
    body: Option<Body>,
    buffer: BytesMut,
}

impl RunReader {
    fn new(origin: Origin, located: Located) -> Self {
        let range = located.start..located.end();
        let Located { path, start: at, run } = located;
        Self { origin, path, range, at, blocks: run.blocks, body: None, buffer: BytesMut::new() }
    }

    fn into_stream(self) -> impl Stream<Item = Result<(u32, VerifiedBlock), OriginError>> {
        stream::unfold(self, |mut reader| async move {
            let item = reader.next().await?;
            Some((item, reader))
        })
    }

    async fn next(&mut self) -> Option<Result<(u32, VerifiedBlock), OriginError>> {
        self.blocks.front()?;
        let bytes = self.bytes().await;
        let (index, location, id) = self.blocks.pop_front()?;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                self.blocks = VecDeque::new();
                return Some(Err(error));
            }
        };
        let offset = self.at;
        self.at += u64::from(location.len);
        let verified = VerifiedBlock::verify(&id, bytes).map_err(|source| OriginError::Damaged {
            url: self.origin.carrier.shown(&self.path),
            offset,
            block: id,
            source: Box::new(source),
        });
        Some(verified.map(|block| (index, block)))
    }

    /// The bytes of the first block of what is left of the run.
    async fn bytes(&mut self) -> Result<Bytes, OriginError> {
        let length = self.blocks.front().map_or(0, |(_, location, _)| location.len as usize);
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.origin.carrier.range(&self.path, &self.range).await?,
        };
        while self.buffer.len() < length {
            let Some(chunk) = self.origin.next_chunk(&mut body).await? else {
                let url = self.origin.carrier.shown(&self.path);
                return Err(OriginError::Truncated { url, expected: self.range.end });
            };
            self.buffer.extend_from_slice(&chunk);
        }
        self.body = Some(body);
        Ok(self.buffer.split_to(length).freeze())
    }
}
