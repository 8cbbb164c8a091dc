//! Files from a folder: a disk, a share, a stick, a prestage folder that somebody is still filling.
//!
//! Everything is opened anew for each request, because a stick or a network drive comes and goes, and each wait
//! is bounded, because a dead drive answers nothing at all. A pack may be there whole, or in excerpt
//! ([`crate::excerpt`]), or cut short by a copy that is still under way: what is there is read.

use super::{
    carrier::Body,
    error::OriginError,
    runs::{Located, Run, Wanted},
};
use crate::{
    excerpt::{ExcerptHead, HEAD_START},
    layout,
};
use branchmesh_image::{Extents, PackId, index::PACK_MAX};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// Bytes that are read at a time.
const READ_MAX: u64 = 1 << 20;
/// Threads that may wait for one folder: a drive that never answers keeps them for ever, and must not get them all.
const WAITING_MAX: usize = 16;

/// A folder, and how long it may take to answer.
#[derive(Clone)]
pub(super) struct Folder {
    path: PathBuf,
    /// Its URL, with a slash at the end.
    url: String,
    pub(super) stall_max: Duration,
    /// One for each thread that waits for the folder.
    permits: Arc<Semaphore>,
}

/// What of a pack is there.
#[derive(Default)]
struct Present {
    /// Length of the pack's own file.
    pack: Option<u64>,
    excerpt: Option<ExcerptHead>,
}

impl Folder {
    /// The folder at `path`, whose URL is `url`.
    pub(super) fn new(path: PathBuf, url: String, stall_max: Duration) -> Self {
        Self { path, url, stall_max, permits: Arc::new(Semaphore::new(WAITING_MAX)) }
    }

    /// The whole file at `path`, which must have at most `max` bytes.
    pub(super) async fn whole(&self, path: &str, max: usize) -> Result<Body, OriginError> {
        let url = self.shown(path);
        let file = self.inside(path);
        let (file, size) = self.blocking(&url, move || open(&file)).await?;
        if size > max as u64 {
            return Err(OriginError::TooLarge { url, max });
        }
        Ok(self.read(file, url, 0..size))
    }

    /// The bytes `range` of the file at `path`.
    pub(super) async fn range(&self, path: &str, range: &Range<u64>) -> Result<Body, OriginError> {
        let url = self.shown(path);
        let (file, start) = (self.inside(path), range.start);
        let opened = self.blocking(&url, move || {
            let (mut file, size) = open(&file)?;
            file.seek(SeekFrom::Start(start))?;
            Ok((file, size))
        });
        let (file, size) = opened.await?;
        if size < range.end {
            return Err(OriginError::Truncated { url, expected: range.end });
        }
        Ok(self.read(file, url, range.clone()))
    }

    /// Where the blocks of a run can be read; then why the others cannot.
    pub(super) async fn locate(&self, run: Run) -> Vec<Result<Located, OriginError>> {
        let (pack, excerpt) = (layout::pack_path(&run.pack), layout::excerpt_path(&run.pack));
        let mut problem = None;
        let mut present = Present::default();
        match self.size(&pack).await {
            Ok(size) => present.pack = Some(size),
            Err(error) => problem = Some(error),
        }
        if present.pack.is_none_or(|size| size < run.range().end) {
            match self.excerpt(&excerpt).await {
                Ok(head) => present.excerpt = Some(head),
                // The pack is what was asked for: that it is not there says more.
                Err(OriginError::NotFound { .. } | OriginError::Unreachable { .. }) => {}
                Err(error) => problem = Some(error),
            }
        }
        let mut located: Vec<Result<Located, OriginError>> = Vec::new();
        let mut missing = None;
        for block in run.blocks {
            let Some((path, start)) = present.find(&block, [&pack, &excerpt]) else {
                missing = Some(block);
                continue;
            };
            let offset = u64::from(block.1.offset);
            match located.last_mut() {
                // Beside each other in an excerpt may be what is not beside each other in the pack.
                Some(Ok(last))
                    if last.path == *path && last.end() == start && last.run.range().end == offset =>
                {
                    last.run.blocks.push_back(block);
                }
                Some(_) | None => {
                    let run = Run { pack: run.pack, blocks: [block].into() };
                    located.push(Ok(Located { path: path.clone(), start, run }));
                }
            }
        }
        if let Some((_, location, _)) = missing {
            let end = u64::from(location.offset) + u64::from(location.len);
            let cut_short = OriginError::Truncated { url: self.shown(&pack), expected: end };
            located.push(Err(problem.unwrap_or(cut_short)));
        }
        located
    }

    /// Which bytes of a pack are there, as far as lengths and heads tell.
    pub(super) async fn extents_of(&self, pack: &PackId) -> Extents {
        let mut extents = match self.excerpt(&layout::excerpt_path(pack)).await {
            Ok(head) => head.extents().clone(),
            Err(_) => Extents::default(),
        };
        if let Ok(size) = self.size(&layout::pack_path(pack)).await {
            extents.insert(&(0..u32::try_from(size).unwrap_or(PACK_MAX).min(PACK_MAX)));
        }
        extents
    }

    /// When the file at `path` was changed last, and its length; `None` while it cannot be looked at.
    pub(super) async fn mark(&self, path: &str) -> Option<(SystemTime, u64)> {
        let file = self.inside(path);
        let looked = self.blocking(path, move || {
            let found = fs::metadata(file)?;
            Ok((found.modified()?, found.len()))
        });
        looked.await.ok()
    }

    pub(super) fn shown(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Where a file of the repository is on this machine. Component by component: a path that Windows takes literally
    /// knows no slashes.
    fn inside(&self, path: &str) -> PathBuf {
        path.split('/').fold(self.path.clone(), |folder, name| folder.join(name))
    }

    async fn size(&self, path: &str) -> Result<u64, OriginError> {
        let file = self.inside(path);
        self.blocking(&self.shown(path), move || Ok(fs::metadata(file)?.len())).await
    }

    async fn excerpt(&self, path: &str) -> Result<ExcerptHead, OriginError> {
        let url = self.shown(path);
        let file = self.inside(path);
        let head = self.blocking(&url, move || {
            let (mut file, size) = open(&file)?;
            let mut head = vec![0; HEAD_START.min(usize::try_from(size).unwrap_or(HEAD_START))];
            file.read_exact(&mut head)?;
            let Ok(length) = ExcerptHead::length_of(&head) else { return Ok(head) };
            let rest = (length - head.len()) as u64;
            file.take(rest).read_to_end(&mut head)?;
            Ok(head)
        });
        ExcerptHead::from_bytes(&head.await?).map_err(|source| OriginError::Excerpt { url, source })
    }

    /// The next bytes of an open file, as many as `range` has.
    fn read(&self, file: File, url: String, range: Range<u64>) -> Body {
        let (folder, end) = (self.clone(), range.end);
        let chunks = stream::unfold(Some((file, range)), move |rest| {
            let (folder, url) = (folder.clone(), url.clone());
            async move {
                let (mut file, range) = rest.filter(|(_, range)| !range.is_empty())?;
                let next = range.end.min(range.start + READ_MAX);
                let mut bytes = vec![0; usize::try_from(next - range.start).ok()?];
                let read = folder.blocking(&url, move || file.read_exact(&mut bytes).map(|()| (file, bytes)));
                match read.await {
                    Ok((file, bytes)) => Some((Ok(Bytes::from(bytes)), Some((file, next..range.end)))),
                    Err(OriginError::Io { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
                        Some((Err(OriginError::Truncated { url, expected: end }), None))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        chunks.boxed()
    }

    /// Does something with a file on a thread that may wait. A thread that waits for a dead drive is left to it.
    async fn blocking<T: Send + 'static>(
        &self,
        url: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, OriginError> {
        let (folder, permits) = (self.path.clone(), Arc::clone(&self.permits));
        let work = async move {
            let permit = permits.acquire_owned().await;
            let work = spawn_blocking(move || {
                // Held until the thread is free again, however long nobody waits for it any more.
                let _permit = permit;
                work().map_err(|error| (error, folder.is_dir()))
            });
            work.await
        };
        let Ok(done) = timeout(self.stall_max, work).await else {
            return Err(OriginError::Stalled { url: url.into(), seconds: self.stall_max.as_secs() });
        };
        let url = url.to_owned();
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err((error, is_there))) if error.kind() == io::ErrorKind::NotFound => Err(if is_there {
                OriginError::NotFound { url }
            } else {
                OriginError::Unreachable { url: self.url.clone(), reason: "the folder is not there".into() }
            }),
            Ok(Err((source, _))) => Err(OriginError::Io { url, source }),
            Err(stopped) => Err(OriginError::Io { url, source: io::Error::other(stopped) }),
        }
    }
}

impl Present {
    /// The file that holds a block, and where it begins there.
    fn find<'a>(
        &self,
        (_, location, _): &Wanted,
        [pack, excerpt]: [&'a String; 2],
    ) -> Option<(&'a String, u64)> {
        let (start, end) = (location.offset, location.offset.checked_add(location.len)?);
        if self.pack.is_some_and(|size| u64::from(end) <= size) {
            return Some((pack, u64::from(start)));
        }
        let mut places = self.excerpt.as_ref()?.places();
        let (range, begin) = places.find(|(range, _)| range.start <= start && end <= range.end)?;
        Some((excerpt, begin + u64::from(start - range.start)))
    }
}

/// Opens a file, with its length. What is no ordinary file (a pipe that somebody put there) is not opened.
fn open(path: &Path) -> io::Result<(File, u64)> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no ordinary file"));
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
