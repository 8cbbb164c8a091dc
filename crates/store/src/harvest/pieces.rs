//! Where pieces of files lie, in `harvest.redb`: a memory of what was read, so that nothing is hashed twice.
//!
//! A hint and no truth: losing it costs time, and what is in it is checked before it is used. So syncs are rare. A file
//! that has changed gets a new number, and what was known under the old one is passed over until there is so much of it
//! that clearing it away pays.

use super::HarvestError;
use crate::{database::DbError, unix_time};
use branchmesh_image::{BlockSize, PlainHash};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableError};
use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// By the first half of its plaintext's hash: file, offset, length.
const PIECES: TableDefinition<u128, (u64, u64, u32)> = TableDefinition::new("pieces v1");
/// Files that were read to their end, by path and average block: number, length, time of change, time of reading.
const FILES: TableDefinition<(&str, u32), (u64, u64, u64, u64)> = TableDefinition::new("files v1");
/// The path of each number.
const PATHS: TableDefinition<u64, &str> = TableDefinition::new("paths v1");

/// The next number: none is given twice, because pieces of files that are gone are cleared away late.
const NEXT: TableDefinition<(), u64> = TableDefinition::new("next v1");

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The file's number.
    pub file: u64,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub len: u32,
}

/// What tells whether a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    length: u64,
    /// Time of the last change, in nanoseconds since 1970; 0 for a device.
    modified: u64,
}

impl FileState {
    pub fn of_file(metadata: &fs::Metadata) -> Self {
        let since_1970 = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        // Enough until 2554.
        let nanoseconds = since_1970.and_then(|time| u64::try_from(time.as_nanos()).ok());
        Self { length: metadata.len(), modified: nanoseconds.unwrap_or(1).max(1) }
    }

    pub fn of_device(length: u64) -> Self {
        Self { length, modified: 0 }
    }

    fn is_device(self) -> bool {
        self.modified == 0
    }
}

/// The open database.
pub(super) struct Pieces<'a> {
    path: &'a Path,
    database: &'a redb::Database,
}

/// Changes that become durable together.
pub(super) struct Batch<'a> {
    pieces: &'a Pieces<'a>,
    transaction: redb::WriteTransaction,
    added: usize,
}

/// A look at a state that does not change.
pub(super) struct Lookup<'a> {
    pieces: &'a Pieces<'a>,
    /// It is not there before the first batch.
    table: Option<redb::ReadOnlyTable<u128, (u64, u64, u32)>>,
}

impl<'a> Pieces<'a> {
    /// Those in `database`, whose file is at `path`.
    pub fn new(path: &'a Path, database: &'a redb::Database) -> Self {
        Self { path, database }
    }

    /// Begins to change something; one at a time.
    pub fn batch(&self) -> Result<Batch<'_>, HarvestError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        Ok(Batch { pieces: self, transaction, added: 0 })
    }

    pub fn lookup(&self) -> Result<Lookup<'_>, HarvestError> {
        let open = || -> Result<_, DbError> {
            match self.database.begin_read()?.open_table(PIECES) {
                Ok(table) => Ok(Some(table)),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        Ok(Lookup { pieces: self, table: open().map_err(|error| self.failed(error))? })
    }

    /// The path of a file, unless it has been read again under another number.
    pub fn path(&self, file: u64) -> Result<Option<PathBuf>, HarvestError> {
        let read = || -> Result<_, DbError> {
            let paths = self.database.begin_read()?.open_table(PATHS)?;
            Ok(paths.get(file)?.map(|path| PathBuf::from(path.value())))
        };
        read().map_err(|error| self.failed(error))
    }

    /// Clears away what was known of files as they were before, once it is most of all that is known.
    pub fn forget_the_replaced(&self) -> Result<(), HarvestError> {
        let forget = || -> Result<(), DbError> {
            let transaction = self.database.begin_write()?;
            {
                let paths = transaction.open_table(PATHS)?;
                let known: HashSet<u64> =
                    paths.iter()?.map(|row| Ok(row?.0.value())).collect::<Result<_, DbError>>()?;
                let mut pieces = transaction.open_table(PIECES)?;
                let replaced = pieces
                    .iter()?
                    .filter(|row| row.as_ref().is_ok_and(|(_, piece)| !known.contains(&piece.value().0)))
                    .count();
                if replaced as u64 * 2 <= pieces.len()? {
                    return Ok(());
                }
                pieces.retain(|_, (file, _, _)| known.contains(&file))?;
            }
            Ok(transaction.commit()?)
        };
        forget().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<DbError>) -> HarvestError {
        HarvestError::Pieces(error.into().explain(self.path))
    }
}

impl Lookup<'_> {
    /// A piece with this plaintext, as far as is known.
    pub fn piece(&self, plain: &PlainHash) -> Result<Option<Piece>, HarvestError> {
        let Some(table) = &self.table else { return Ok(None) };
        let row = table.get(key(plain)).map_err(|error| self.pieces.failed(error))?;
        Ok(row.map(|row| {
            let (file, offset, len) = row.value();
            Piece { file, offset, len }
        }))
    }
}

impl Batch<'_> {
    /// Forgets the files that were removed. What is on a disk that is not there now is remembered: its folder is gone
    /// as well.
    pub fn forget_the_gone(&mut self) -> Result<(), HarvestError> {
        let is_gone = |name: &str| {
            let path = Path::new(name);
            path.parent().is_some_and(Path::is_dir)
                && fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let forget = || -> Result<(), DbError> {
            let mut paths = self.transaction.open_table(PATHS)?;
            self.transaction.open_table(FILES)?.retain(|(name, _), (number, ..)| {
                let is_gone = is_gone(name);
                // Without its path a piece is not found; nothing worse comes of an error here.
                is_gone.then(|| paths.remove(number).map(drop));
                !is_gone
            })?;
            Ok(())
        };
        forget().map_err(|error| self.pieces.failed(error))
    }

    /// Pieces that were added.
    pub fn pieces(&self) -> usize {
        self.added
    }

    /// Whether a file was read to its end as it is now. A device is asked how long ago that was instead.
    pub fn is_known(
        &self,
        path: &Path,
        size: BlockSize,
        state: &FileState,
        device_age_max: Duration,
    ) -> Result<bool, HarvestError> {
        let Some(name) = path.to_str() else { return Ok(false) };
        let look = || -> Result<bool, DbError> {
            let files = self.transaction.open_table(FILES)?;
            let Some(row) = files.get((name, average(size)))? else { return Ok(false) };
            let (_, length, modified, read_at) = row.value();
            let is_young =
                !state.is_device() || unix_time::now() < read_at.saturating_add(device_age_max.as_secs());
            Ok((length, modified) == (state.length, state.modified) && is_young)
        };
        look().map_err(|error| self.pieces.failed(error))
    }

    /// A number for a file that is read now. Nothing is found under it before [`finish`](Self::finish) if its name is
    /// not Unicode: such a file is read each time.
    pub fn begin(&mut self, path: &Path) -> Result<u64, HarvestError> {
        let name = path.to_str().unwrap_or_default();
        let begin = || -> Result<u64, DbError> {
            let mut next = self.transaction.open_table(NEXT)?;
            let number = next.get(())?.map_or(0, |next| next.value());
            next.insert((), number + 1)?;
            self.transaction.open_table(PATHS)?.insert(number, name)?;
            Ok(number)
        };
        begin().map_err(|error| self.pieces.failed(error))
    }

    pub fn add(&mut self, plain: &PlainHash, piece: Piece) -> Result<(), HarvestError> {
        let add = || -> Result<(), DbError> {
            self.transaction.open_table(PIECES)?.insert(key(plain), (piece.file, piece.offset, piece.len))?;
            Ok(())
        };
        add().map_err(|error| self.pieces.failed(error))?;
        self.added += 1;
        Ok(())
    }

    /// A file was read to its end; what was known of it before counts no more.
    pub fn finish(
        &mut self,
        path: &Path,
        size: BlockSize,
        number: u64,
        state: &FileState,
    ) -> Result<(), HarvestError> {
        let Some(name) = path.to_str() else { return Ok(()) };
        let finish = || -> Result<(), DbError> {
            let mut files = self.transaction.open_table(FILES)?;
            let value = (number, state.length, state.modified, unix_time::now());
            let before = files.insert((name, average(size)), value)?.map(|row| row.value().0);
            if let Some(before) = before {
                self.transaction.open_table(PATHS)?.remove(before)?;
            }
            Ok(())
        };
        finish().map_err(|error| self.pieces.failed(error))
    }

    pub fn commit(self) -> Result<(), HarvestError> {
        self.transaction.commit().map_err(|error| self.pieces.failed(error))
    }
}

/// Half a hash is enough for a hint.
fn key(plain: &PlainHash) -> u128 {
    let (half, _) = plain.0.split_at(size_of::<u128>());
    u128::from_be_bytes(half.try_into().expect("a hash has 32 bytes"))
}

fn average(size: BlockSize) -> u32 {
    u32::try_from(size.average()).unwrap_or(u32::MAX)
}
