//! One pack of a bundle: the blocks that are there and intact, those that are fetched, and the file they become.

use super::{ExportError, selection::PackSelection};
use crate::{
    excerpt::ExcerptHead,
    layout,
    origin::{Origin, OriginError},
    place::Place,
    publish::Progress,
};
use branchmesh_image::{BlockId, Extents, Location, PackId, index::PACK_MAX};
use bytes::Bytes;
use futures::StreamExt;
use std::time::Duration;

/// How often a line may break before the export is given up.
const ATTEMPTS_MAX: u32 = 3;
/// What a server needs to come back after a restart.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(2);

/// A pack as it is to be in the bundle.
pub(super) struct PackFile {
    pack: PackId,
    /// The file's path and content; `None` if it is there already.
    file: Option<(String, Bytes)>,
    /// Selected bytes that were in the bundle before.
    pub(super) found_bytes: u64,
}

/// A pack in memory, as far as its bytes are known.
#[derive(Default)]
struct Assembled {
    bytes: Vec<u8>,
    extents: Extents,
}

impl PackFile {
    /// Takes what is selected of `pack` from the bundle itself, and the rest from `origin`.
    pub(super) async fn assemble(
        origin: &Origin,
        place: &Place,
        pack: PackId,
        selected: &PackSelection,
        progress: &dyn Progress,
    ) -> Result<Self, ExportError> {
        let mut assembled = Assembled::default();
        let mut missing = selected.blocks.clone();
        if !place.origin().extents_of(&pack).await.is_empty() {
            // What is damaged or missing in the bundle is exactly what has to be fetched.
            let _ = assembled.take(place.origin(), &mut missing, progress).await;
        }
        let found_bytes = assembled.extents.bytes();
        if missing.is_empty() {
            return Ok(Self { pack, file: None, found_bytes });
        }
        let mut attempt = 1;
        while let Err(error) = assembled.take(origin, &mut missing, progress).await {
            if error.is_about_one_file() || attempt == ATTEMPTS_MAX {
                return Err(error.into());
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
            attempt += 1;
        }
        let was_whole = assembled.add_others(place, &pack).await;
        let file = if (selected.is_whole || was_whole) && assembled.is_a_beginning() {
            (layout::pack_path(&pack), assembled.bytes.into())
        } else {
            (layout::excerpt_path(&pack), assembled.to_excerpt().into())
        };
        Ok(Self { pack, file: Some(file), found_bytes })
    }

    /// Writes it, if there is anything to write, in the place of what was there of the pack.
    pub(super) async fn write(self, place: &Place) -> Result<(), ExportError> {
        let Some((path, bytes)) = self.file else { return Ok(()) };
        place.put(&path, bytes).await?;
        for other in [layout::pack_path(&self.pack), layout::excerpt_path(&self.pack)] {
            if other != path {
                place.remove(&other).await?;
            }
        }
        Ok(())
    }
}

impl Assembled {
    /// Takes blocks of `missing` from `origin`: as many as it gives. The first error is told in the end.
    async fn take(
        &mut self,
        origin: &Origin,
        missing: &mut Vec<(Location, BlockId)>,
        progress: &dyn Progress,
    ) -> Result<(), OriginError> {
        let numbered = (0u32..).zip(missing.iter());
        let wanted = numbered.map(|(number, (location, id))| (number, *location, *id)).collect();
        let mut outcome = Ok(());
        let mut blocks = std::pin::pin!(origin.blocks(wanted));
        while let Some(block) = blocks.next().await {
            match block {
                Ok((number, block)) => {
                    let Some((location, _)) = missing.get(number as usize) else { continue };
                    self.put(location.offset, block.bytes());
                    progress.advance(u64::from(location.len));
                }
                Err(error) if outcome.is_ok() => outcome = Err(error),
                Err(_) => {}
            }
        }
        missing.retain(|(location, _)| !self.extents.contains(&location.range()));
        if missing.is_empty() { Ok(()) } else { outcome }
    }

    fn put(&mut self, offset: u32, bytes: &[u8]) {
        let start = offset as usize;
        let end = start + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        if let Ok(end) = u32::try_from(end) {
            self.extents.insert(&(offset..end));
        }
    }

    /// Adds what the bundle has of the pack for other releases, as it is: whoever reads it checks it. Whether the
    /// bundle has the pack's own file.
    async fn add_others(&mut self, place: &Place, pack: &PackId) -> bool {
        const FILE_MAX: usize = 2 * PACK_MAX as usize;
        let whole = place.read_bounded(&layout::pack_path(pack), PACK_MAX as usize).await.ok();
        if let Some(bytes) = &whole {
            self.put_unless_known(0, bytes);
        }
        let excerpt = place.read_bounded(&layout::excerpt_path(pack), FILE_MAX).await.ok();
        let head = excerpt.as_ref().and_then(|bytes| Some((ExcerptHead::from_bytes(bytes).ok()?, bytes)));
        if let Some((head, bytes)) = head {
            for (range, start) in head.places() {
                let place =
                    usize::try_from(start).ok().and_then(|start| bytes.get(start..start + range.len()));
                if let Some(bytes) = place {
                    self.put_unless_known(range.start, bytes);
                }
            }
        }
        whole.is_some()
    }

    /// Puts bytes that nobody has checked where none are that somebody has.
    fn put_unless_known(&mut self, offset: u32, bytes: &[u8]) {
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        let mut new = Extents::default();
        new.insert(&(offset..offset + length));
        new.remove_all(&self.extents);
        for range in new.ranges().to_vec() {
            let inside = (range.start - offset) as usize..(range.end - offset) as usize;
            self.put(range.start, &bytes[inside]);
        }
    }

    /// Whether there is no hole in it.
    fn is_a_beginning(&self) -> bool {
        matches!(self.extents.ranges(), [range] if range.start == 0)
    }

    fn to_excerpt(&self) -> Vec<u8> {
        let mut file = ExcerptHead::new(self.extents.clone()).to_bytes();
        for range in self.extents.ranges() {
            file.extend_from_slice(&self.bytes[range.start as usize..range.end as usize]);
        }
        file
    }
}
