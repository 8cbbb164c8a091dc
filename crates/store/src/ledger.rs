//! The ledger: what this node may claim, in `presence.redb`. The only file that knows redb.
//!
//! Three tables: the ranges present of each pack, the releases, and the folders that releases were assembled to.
//! Each write is one durable transaction. redb refuses to work after an I/O error until it is opened again; the
//! ledger does that at the next use, so that a disk that was full and has space again needs no restart.

use crate::{error::StoreError, extents::Extents, releases::ReleaseRecord};
use bincode::{Decode, Encode};
use branchmesh_image::{BlockId, PackId, codec};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

const PRESENCE: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("presence v1");
/// With each release's place in the order of arrival.
const RELEASES: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("releases v1");
const FOLDERS: TableDefinition<&str, &[u8]> = TableDefinition::new("folders v1");

/// redb's page cache. Presence is held in memory anyway; redb's default is 1 GiB.
const CACHE_BYTES: usize = 4 << 20;
/// Most bytes of a folder's row: a tag and a hash.
const FOLDER_BYTES_MAX: usize = 64;

/// What is known of a release's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Folder {
    /// If it is there, it holds the files of the index whose root has this hash.
    Assembled(BlockId),
    /// It is being removed.
    Retiring,
}

/// The open database.
pub(crate) struct Ledger {
    path: PathBuf,
    database: Mutex<Option<Database>>,
}

/// Any of redb's errors.
struct DbError(Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for DbError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

/// The key of a release: no name holds an `@`.
pub(crate) fn key(image: &str, release: &str) -> String {
    format!("{image}@{release}")
}

impl Ledger {
    /// Opens the database, makes it if it is not there.
    pub(crate) fn open(path: PathBuf) -> Result<Self, StoreError> {
        let ledger = Self { path, database: Mutex::default() };
        // Tables exist from here on, so that reading them needs no special case.
        ledger.write(|transaction| {
            transaction.open_table(PRESENCE)?;
            transaction.open_table(RELEASES)?;
            transaction.open_table(FOLDERS)?;
            Ok(())
        })?;
        Ok(ledger)
    }

    /// The ranges of all packs.
    pub(crate) fn presence(&self) -> Result<Vec<(PackId, Extents)>, StoreError> {
        let rows = self.read(|transaction| {
            let table = transaction.open_table(PRESENCE)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (pack, record) = row?;
                rows.push((PackId(*pack.value()), Extents::from_bytes(record.value())));
            }
            Ok(rows)
        })?;
        rows.into_iter()
            .map(|(pack, extents)| match extents {
                Ok(extents) => Ok((pack, extents)),
                Err(error) => Err(self.corrupt(format!("the record of pack {pack}: {error}"))),
            })
            .collect()
    }

    /// Replaces the ranges of some packs, all or none.
    pub(crate) fn set_presence(&self, packs: &[(PackId, Extents)]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(PRESENCE)?;
            for (pack, extents) in packs {
                if extents.is_empty() {
                    table.remove(&pack.0)?;
                } else {
                    table.insert(&pack.0, extents.to_bytes().as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// All releases, in the order in which they were first put here.
    pub(crate) fn releases(&self) -> Result<Vec<ReleaseRecord>, StoreError> {
        let mut rows = self.read(|transaction| {
            let table = transaction.open_table(RELEASES)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (name, value) = row?;
                let (arrival, record) = value.value();
                rows.push((arrival, name.value().to_owned(), ReleaseRecord::from_bytes(record)));
            }
            Ok(rows)
        })?;
        rows.sort_by_key(|(arrival, ..)| *arrival);
        rows.into_iter()
            .map(|(_, name, record)| {
                record.map_err(|error| self.corrupt(format!("the record of {name}: {error}")))
            })
            .collect()
    }

    /// Adds or replaces a release; a replaced one keeps its place in the order.
    pub(crate) fn put_release(&self, record: &ReleaseRecord) -> Result<(), StoreError> {
        let key = key(&record.image, &record.release);
        self.write(|transaction| {
            let mut table = transaction.open_table(RELEASES)?;
            let mut arrivals = Vec::new();
            for row in table.iter()? {
                let (name, value) = row?;
                arrivals.push((name.value() == key, value.value().0));
            }
            let own = arrivals.iter().find_map(|(is_own, arrival)| is_own.then_some(*arrival));
            let next = arrivals.iter().map(|(_, arrival)| arrival + 1).max().unwrap_or(0);
            table.insert(key.as_str(), (own.unwrap_or(next), record.to_bytes().as_slice()))?;
            Ok(())
        })
    }

    /// Removes a release's record; what is known of its folder becomes `folder`.
    pub(crate) fn remove_release(&self, key: &str, folder: Option<Folder>) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(RELEASES)?.remove(key)?;
            if let Some(folder) = folder {
                transaction.open_table(FOLDERS)?.insert(key, codec::encode(&folder).as_slice())?;
            }
            Ok(())
        })
    }

    /// What is known of a release's folder.
    pub(crate) fn folder(&self, key: &str) -> Result<Option<Folder>, StoreError> {
        let row = self.read(|transaction| {
            let row = transaction.open_table(FOLDERS)?.get(key)?;
            Ok(row.map(|row| row.value().to_vec()))
        })?;
        row.map(|row| self.decode_folder(key, &row)).transpose()
    }

    /// All rows of folders.
    pub(crate) fn folders(&self) -> Result<Vec<(String, Folder)>, StoreError> {
        let rows = self.read(|transaction| {
            let table = transaction.open_table(FOLDERS)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (name, folder) = row?;
                rows.push((name.value().to_owned(), folder.value().to_vec()));
            }
            Ok(rows)
        })?;
        rows.into_iter()
            .map(|(name, row)| {
                let folder = self.decode_folder(&name, &row)?;
                Ok((name, folder))
            })
            .collect()
    }

    /// Sets or removes what is known of a release's folder.
    pub(crate) fn set_folder(&self, key: &str, folder: Option<Folder>) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(FOLDERS)?;
            match folder {
                Some(folder) => table.insert(key, codec::encode(&folder).as_slice())?,
                None => table.remove(key)?,
            };
            Ok(())
        })
    }

    fn decode_folder(&self, key: &str, row: &[u8]) -> Result<Folder, StoreError> {
        codec::decode::<_, FOLDER_BYTES_MAX>(row)
            .map_err(|error| self.corrupt(format!("the folder of {key}: {error}")))
    }

    fn read<T>(
        &self,
        job: impl FnOnce(&redb::ReadTransaction) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        self.with(|database| job(&database.begin_read()?))
    }

    fn write<T>(
        &self,
        job: impl FnOnce(&redb::WriteTransaction) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let result = job(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    fn with<T>(&self, job: impl FnOnce(&Database) -> Result<T, DbError>) -> Result<T, StoreError> {
        let mut slot = self.lock();
        let database = match slot.take() {
            Some(database) => database,
            None => open_database(&self.path).map_err(|error| self.explain(error))?,
        };
        let result = job(&database);
        // A database that has met an error is closed: the next use opens, and where necessary repairs it.
        if result.is_ok() {
            *slot = Some(database);
        }
        result.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: DbError) -> StoreError {
        if matches!(*error.0, redb::Error::DatabaseAlreadyOpen) {
            return StoreError::InUse(self.path.clone());
        }
        if let redb::Error::Io(source) = *error.0 {
            return StoreError::io("use", &self.path, source);
        }
        self.corrupt(error.0.to_string())
    }

    fn corrupt(&self, reason: String) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), reason }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_database(path: &Path) -> Result<Database, DbError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    // redb takes an empty file for a new database only through `create`; a crash may leave one.
    let is_new = fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    Ok(if is_new { builder.create(path)? } else { builder.open(path)? })
}
