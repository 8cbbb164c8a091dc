//! Which plaintext has a block already, in the repository or in the release that is being made: as many as there
//! are, in a few MiB of memory.
//!
//! A table of all blocks of a group may be larger than memory, and forgetting some would store and send them
//! twice. So it lies in a temporary database, in the system's folder for temporary files, of which only a cache
//! is held; for images of some GiB that is all of it. The file vanishes with the process, however it ends.

use branchmesh_image::{BlobRef, BlockEntry, BlockId, PackId, PlainHash};
use redb::{Builder, Database, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::{collections::HashMap, path::PathBuf};

/// Memory for the parts of the table that are in use.
const CACHE_BYTES: usize = 32 << 20;

/// Block id, encoded and plain length, number of its pack, offset in it.
type Row = [u8; 48];

const KNOWN: TableDefinition<&[u8; 32], Row> = TableDefinition::new("known");
const SEEN: TableDefinition<&[u8; 32], u32> = TableDefinition::new("seen");

/// The temporary table cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the temporary table of blocks in {folder} cannot be used; make room there, or name another folder in TMPDIR (on Windows: TEMP)"
)]
pub struct BlockTableError {
    folder: PathBuf,
    #[source]
    source: Box<redb::Error>,
}

/// Blocks of earlier releases, and blocks of this one.
pub(super) struct BlockTable {
    /// Never committed: nobody reads the file again.
    transaction: WriteTransaction,
    _database: Database,
    packs: Vec<PackId>,
    pack_numbers: HashMap<PackId, u32>,
}

/// The table while a release's blocks are looked up in it.
pub(super) struct Lookup<'a> {
    known: Table<'a, &'static [u8; 32], Row>,
    seen: Table<'a, &'static [u8; 32], u32>,
    packs: &'a [PackId],
    /// How many blocks the release has.
    count: u32,
}

/// What a block is to the release. The number is its index there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The release has it.
    Again(u32),
    /// The repository has it.
    Known(u32, BlockEntry),
    /// Nobody has it.
    New(u32),
}

impl BlockTable {
    pub(super) fn new() -> Result<Self, BlockTableError> {
        let file = tempfile::tempfile().map_err(|error| failed(redb::Error::Io(error)))?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_file(file).map_err(failed)?;
        let transaction = database.begin_write().map_err(failed)?;
        Ok(Self { transaction, _database: database, packs: Vec::new(), pack_numbers: HashMap::new() })
    }

    /// Adds blocks of the repository. Of two with the same plaintext the one that came first stays.
    pub(super) fn add_known(
        &mut self,
        blocks: impl Iterator<Item = BlockEntry>,
    ) -> Result<(), BlockTableError> {
        let mut rows: Vec<_> = blocks.map(|block| (block.blob.plain, self.row(&block))).collect();
        // Neighbours in the table are cheaper to add one after the other.
        rows.sort_by_key(|(plain, _)| *plain);
        let mut known = self.transaction.open_table(KNOWN).map_err(failed)?;
        for (plain, row) in rows {
            let before = known.insert(&plain.0, row).map_err(failed)?.map(|row| row.value());
            if let Some(before) = before {
                known.insert(&plain.0, before).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Begins a release.
    pub(super) fn lookup(&self) -> Result<Lookup<'_>, BlockTableError> {
        let known = self.transaction.open_table(KNOWN).map_err(failed)?;
        let seen = self.transaction.open_table(SEEN).map_err(failed)?;
        Ok(Lookup { known, seen, packs: &self.packs, count: 0 })
    }

    fn row(&mut self, block: &BlockEntry) -> Row {
        let packs = &mut self.packs;
        let pack = *self.pack_numbers.entry(block.pack).or_insert_with(|| {
            packs.push(block.pack);
            u32::try_from(packs.len() - 1).expect("2^32 packs do not fit into memory")
        });
        let mut row = [0; 48];
        row[..32].copy_from_slice(&block.blob.id.0);
        let numbers = [block.blob.encoded_len, block.blob.plain_len, pack, block.offset];
        for (bytes, number) in row[32..].as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        row
    }
}

impl Lookup<'_> {
    /// Looks for the next block, which belongs to the release from now on.
    pub(super) fn meet(&mut self, plain: &PlainHash) -> Result<Met, BlockTableError> {
        let index = self.count;
        // Most blocks are new to the release: one operation for these, two for the others.
        let before = self.seen.insert(&plain.0, index).map_err(failed)?.map(|index| index.value());
        if let Some(before) = before {
            self.seen.insert(&plain.0, before).map_err(failed)?;
            return Ok(Met::Again(before));
        }
        self.count += 1;
        let known = self.known.get(&plain.0).map_err(failed)?;
        Ok(match known {
            Some(row) => Met::Known(index, entry(plain, &row.value(), self.packs)),
            None => Met::New(index),
        })
    }

    /// How many blocks the release has.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }
}

fn entry(plain: &PlainHash, row: &Row, packs: &[PackId]) -> BlockEntry {
    let (id, rest) = row.split_first_chunk().expect("a row begins with an id");
    let number = |at: usize| u32::from_le_bytes(rest.as_chunks().0[at]);
    let blob = BlobRef { id: BlockId(*id), plain: *plain, encoded_len: number(0), plain_len: number(1) };
    BlockEntry { blob, pack: packs[number(2) as usize], offset: number(3) }
}

fn failed(error: impl Into<redb::Error>) -> BlockTableError {
    BlockTableError { folder: std::env::temp_dir(), source: Box::new(error.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u32, pack: u32) -> BlockEntry {
        let name = number.to_le_bytes();
        BlockEntry {
            blob: BlobRef {
                id: BlockId::of(&name),
                plain: PlainHash::of(&name),
                encoded_len: number + 1,
                plain_len: number + 2,
            },
            pack: PackId::of(&pack.to_le_bytes()),
            offset: number + 3,
        }
    }

    #[test]
    fn each_block_is_met_as_what_it_is() {
        let mut table = BlockTable::new().unwrap();
        table.add_known((0..1000).map(|number| block(number, number / 100))).unwrap();
        // Another place for the same plaintext does not replace the first.
        table.add_known((500..1500).map(|number| block(number, 77))).unwrap();
        let mut lookup = table.lookup().unwrap();
        let mut index = 0;
        for number in (400..2000).step_by(3) {
            let expected = match number {
                0..1000 => Met::Known(index, block(number, number / 100)),
                1000..1500 => Met::Known(index, block(number, 77)),
                _ => Met::New(index),
            };
            let plain = PlainHash::of(&number.to_le_bytes());
            assert_eq!(lookup.meet(&plain).unwrap(), expected);
            assert_eq!(lookup.meet(&plain).unwrap(), Met::Again(index));
            index += 1;
        }
        assert_eq!(lookup.count(), index as usize);
        assert_eq!(lookup.meet(&PlainHash::of(&403u32.to_le_bytes())).unwrap(), Met::Again(1));
    }
}
