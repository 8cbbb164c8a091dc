//! Reading packs, several at a time, and checking every block that a release needs of them.

use super::{
    ATTEMPT_PAUSE, ATTEMPTS_MAX, FileCount, Reader, VerifyError,
    damage::{DamageKind, Damages},
    to_check::{Expected, PackToCheck, ToCheck},
};
use crate::{
    content_keys::ContentKeys,
    origin::{Origin, OriginError, root_cause},
    publish::Progress,
};
use branchmesh_image::{BlockError, BlockId, Decoder, Location, PackId, VerifiedBlock};
use futures::StreamExt;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tokio::task::JoinSet;

/// Packs that are read at once: enough to keep some cores hashing while others wait for the line. Each holds some
/// blocks at a time, never a whole pack.
const PACKS_IN_FLIGHT: usize = 4;

/// What came of one pack.
struct Checked {
    pack: PackId,
    /// Bytes of its blocks.
    bytes: u64,
    /// The first thing that was found to be wrong, and at which offsets.
    damage: Option<(DamageKind, BTreeSet<u32>)>,
}

/// Reads all packs; gives how many, and the bytes of their blocks.
pub(super) async fn check_packs(
    reader: &Reader,
    to_check: ToCheck,
    damages: &mut Damages,
    progress: &dyn Progress,
) -> Result<FileCount, VerifyError> {
    let mut count = FileCount::default();
    let mut note = |checked: Checked| {
        count.add(checked.bytes);
        progress.advance(checked.bytes);
        if let Some((kind, offsets)) = checked.damage {
            damages.pack(checked.pack, kind, offsets);
        }
    };
    let mut checks: JoinSet<Result<Checked, OriginError>> = JoinSet::new();
    for pack in to_check.into_packs() {
        if checks.len() >= PACKS_IN_FLIGHT {
            note(finished(&mut checks).await?);
        }
        checks.spawn(check(reader.origin.clone(), reader.keys.clone(), pack));
    }
    while !checks.is_empty() {
        note(finished(&mut checks).await?);
    }
    Ok(count)
}

async fn finished(checks: &mut JoinSet<Result<Checked, OriginError>>) -> Result<Checked, VerifyError> {
    match checks.join_next().await {
        Some(Ok(checked)) => Ok(checked?),
        Some(Err(_)) | None => Err(VerifyError::Interrupted),
    }
}

/// Reads the blocks of one pack. When the line breaks, those that are missing are asked for again.
async fn check(origin: Origin, keys: ContentKeys, pack: PackToCheck) -> Result<Checked, OriginError> {
    let mut check = PackCheck::new(pack, keys);
    for attempt in 1.. {
        match check.read(&origin).await {
            Ok(()) => break,
            Err(error) if attempt >= ATTEMPTS_MAX => return Err(error),
            Err(_) => tokio::time::sleep(ATTEMPT_PAUSE).await,
        }
    }
    Ok(check.finish())
}

/// A pack that is being checked.
struct PackCheck {
    pack: PackId,
    blocks: Vec<(Location, Expected)>,
    /// Numbers of the blocks that have not come.
    pending: BTreeSet<u32>,
    decoders: Decoders,
    damage: Option<(DamageKind, BTreeSet<u32>)>,
}

impl PackCheck {
    fn new(PackToCheck { pack, blocks }: PackToCheck, keys: ContentKeys) -> Self {
        let pending = (0u32..).zip(&blocks).map(|(number, _)| number).collect();
        let decoders = Decoders { keys, by_group: HashMap::new() };
        Self { pack, blocks, pending, decoders, damage: None }
    }

    /// Reads what is pending. Fails if it is the origin's fault that something still is.
    async fn read(&mut self, origin: &Origin) -> Result<(), OriginError> {
        let wanted = self.pending.iter().map(|&number| self.wanted(number));
        let mut arriving = std::pin::pin!(origin.blocks(wanted.collect()));
        // Should a run end without a word, its file does.
        let (mut of_file, mut of_origin) = (DamageKind::Short, None);
        while let Some(item) = arriving.next().await {
            match item {
                Ok((number, block)) => self.arrived(number, &block),
                Err(OriginError::Damaged { offset, block, .. }) => self.damaged(offset, &block),
                Err(error) => match DamageKind::of(&error) {
                    Some(kind) => of_file = kind,
                    None => of_origin = Some(error),
                },
            }
        }
        if let Some(error) = of_origin {
            return Err(error);
        }
        if of_file == DamageKind::Short {
            self.read_until_end(origin).await?;
        }
        for number in std::mem::take(&mut self.pending) {
            self.note(of_file.clone(), number);
        }
        Ok(())
    }

    /// Reads the pending blocks of a file that is too short, one by one: those before its end are not lost.
    async fn read_until_end(&mut self, origin: &Origin) -> Result<(), OriginError> {
        for number in self.pending.clone() {
            let wanted = vec![self.wanted(number)];
            match std::pin::pin!(origin.blocks(wanted)).next().await {
                Some(Ok((number, block))) => self.arrived(number, &block),
                Some(Err(OriginError::Damaged { offset, block, .. })) => self.damaged(offset, &block),
                Some(Err(error)) => return DamageKind::of(&error).map(drop).ok_or(error),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn arrived(&mut self, number: u32, block: &VerifiedBlock) {
        self.pending.remove(&number);
        let (_, expected) = &self.blocks[number as usize];
        if let Err(kind) = self.decoders.check(expected, block) {
            self.note(kind, number);
        }
    }

    fn damaged(&mut self, offset: u64, id: &BlockId) {
        let is_it = |number: &u32| {
            let (location, expected) = self.block(*number);
            u64::from(location.offset) == offset && expected.blob.id == *id
        };
        if let Some(number) = self.pending.iter().copied().find(is_it) {
            self.pending.remove(&number);
            self.note(DamageKind::Damaged, number);
        }
    }

    fn note(&mut self, kind: DamageKind, number: u32) {
        let offset = self.block(number).0.offset;
        self.damage.get_or_insert_with(|| (kind, BTreeSet::new())).1.insert(offset);
    }

    fn wanted(&self, number: u32) -> (u32, Location, BlockId) {
        let (location, expected) = self.block(number);
        (number, *location, expected.blob.id)
    }

    /// Numbers are those of `blocks`: they were given out by [`new`](Self::new).
    fn block(&self, number: u32) -> &(Location, Expected) {
        &self.blocks[number as usize]
    }

    fn finish(self) -> Checked {
        let bytes = self.blocks.iter().map(|(location, _)| u64::from(location.len)).sum();
        Checked { pack: self.pack, bytes, damage: self.damage }
    }
}

/// Decoders for the groups of a pack's blocks: of one group, unless somebody mixed them up.
struct Decoders {
    keys: ContentKeys,
    by_group: HashMap<Option<Arc<str>>, Decoder>,
}

impl Decoders {
    /// Whether the block decodes to what the index says, as far as its key is here.
    fn check(&mut self, expected: &Expected, block: &VerifiedBlock) -> Result<(), DamageKind> {
        let undecodable = |error: BlockError| DamageKind::Undecodable(root_cause(&error));
        let group = &expected.group;
        if !self.by_group.contains_key(group) {
            let Some(cipher) = self.keys.cipher(group.as_deref()) else { return Ok(()) };
            let decoder = Decoder::new(cipher).map_err(undecodable)?;
            self.by_group.insert(group.clone(), decoder);
        }
        let Some(decoder) = self.by_group.get_mut(group) else { return Ok(()) };
        decoder.decode(&expected.blob, block).map(drop).map_err(undecodable)
    }
}
