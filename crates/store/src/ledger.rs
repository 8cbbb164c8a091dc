//! The ledger: what this node may claim, in `presence.redb`.
//!
//! Six tables: the ranges present of each pack, the releases, the folders that releases were assembled to, those that are
//! being filled, what people decided about images, and single values. Each write is one durable transaction.

use crate::{
    database::{Database, DbError},
    error::StoreError,
    extents::Extents,
    files::Files,
    image_record::ImageRecord,
    releases::ReleaseRecord,
};
use bincode::{Decode, Encode};
use branchmesh_image::{BlockId, PackId, codec};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use std::path::PathBuf;

const PRESENCE: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("presence v1");
/// With each release's place in the order of arrival.
const RELEASES: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("releases v1");
const FOLDERS: TableDefinition<&str, &[u8]> = TableDefinition::new("folders v1");
/// By release, the hash of the index root for which its partial folder is being filled.
const PARTIALS: TableDefinition<&str, &[u8; 32]> = TableDefinition::new("partials v1");
const IMAGES: TableDefinition<&str, &[u8]> = TableDefinition::new("images v1");
/// Single values that must survive a restart, by name.
const MARKS: TableDefinition<&str, &[u8]> = TableDefinition::new("marks v1");

/// Memory for pages. Presence is held in memory anyway.
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

/// The database.
pub(crate) struct Ledger {
    database: Database,
}

/// The key of a release: no name holds an `@`.
pub(crate) fn key(image: &str, release: &str) -> String {
    format!("{image}@{release}")
}

impl Ledger {
    /// Opens the database, makes it if it is not there.
    pub(crate) fn open(path: PathBuf, files: Files) -> Result<Self, StoreError> {
        let ledger = Self { database: Database::new(path, CACHE_BYTES, files) };
        // Tables exist from here on, so that reading them needs no special case.
        ledger.write(|transaction| {
            transaction.open_table(PRESENCE)?;
            transaction.open_table(RELEASES)?;
            transaction.open_table(FOLDERS)?;
            transaction.open_table(PARTIALS)?;
            transaction.open_table(IMAGES)?;
            transaction.open_table(MARKS)?;
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

    /// Whether a release is remembered.
    pub(crate) fn has_release(&self, key: &str) -> Result<bool, StoreError> {
        self.read(|transaction| Ok(transaction.open_table(RELEASES)?.get(key)?.is_some()))
    }

    /// Removes a release's record; what is known of its folder becomes `folder`.
    pub(crate) fn remove_release(&self, key: &str, folder: Option<Folder>) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(RELEASES)?.remove(key)?;
            if let Some(folder) = folder {
                transaction.open_table(FOLDERS)?.insert(key, codec::encode(&folder).as_slice())?;
                transaction.open_table(PARTIALS)?.remove(key)?;
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

    /// For which index a release's partial folder is being filled.
    pub(crate) fn partial(&self, key: &str) -> Result<Option<BlockId>, StoreError> {
        self.read(|transaction| {
            let row = transaction.open_table(PARTIALS)?.get(key)?;
            Ok(row.map(|row| BlockId(*row.value())))
        })
    }

    /// The releases whose partial folders are being filled.
    pub(crate) fn partials(&self) -> Result<Vec<String>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(PARTIALS)?;
            table.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect()
        })
    }

    /// Sets or removes for which index a release's partial folder is being filled.
    pub(crate) fn set_partial(&self, key: &str, identity: Option<&BlockId>) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(PARTIALS)?;
            match identity {
                Some(identity) => table.insert(key, &identity.0)?,
                None => table.remove(key)?,
            };
            Ok(())
        })
    }

    /// What is remembered of images.
    pub(crate) fn images(&self) -> Result<Vec<(String, ImageRecord)>, StoreError> {
        let rows = self.read(|transaction| {
            let table = transaction.open_table(IMAGES)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (image, record) = row?;
                rows.push((image.value().to_owned(), ImageRecord::from_bytes(record.value())));
            }
            Ok(rows)
        })?;
        rows.into_iter()
            .map(|(image, record)| match record {
                Ok(record) => Ok((image, record)),
                Err(error) => Err(self.corrupt(format!("the record of the image {image}: {error}"))),
            })
            .collect()
    }

    /// Replaces or removes what is remembered of an image.
    pub(crate) fn put_image(&self, image: &str, record: Option<&[u8]>) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(IMAGES)?;
            match record {
                Some(record) => table.insert(image, record)?,
                None => table.remove(image)?,
            };
            Ok(())
        })
    }

    /// A single value.
    pub(crate) fn mark(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(MARKS)?;
            Ok(table.get(name)?.map(|row| row.value().to_vec()))
        })
    }

    /// Replaces a single value.
    pub(crate) fn set_mark(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(MARKS)?.insert(name, value)?;
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

    fn with<T>(&self, job: impl FnOnce(&redb::Database) -> Result<T, DbError>) -> Result<T, StoreError> {
        self.database.with(job)?.map_err(|error| error.explain(self.database.path()))
    }

    fn corrupt(&self, reason: String) -> StoreError {
        StoreError::Corrupt { path: self.database.path().to_path_buf(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::Store, system_disk::SystemDisk};
    use branchmesh_image::{Location, VerifiedBlock};
    use std::{collections::HashSet, fs, path::Path, sync::Arc};

    fn open(path: &Path) -> Result<Ledger, StoreError> {
        Ledger::open(path.to_path_buf(), Files::new(Arc::new(SystemDisk)))
    }

    fn extents(ranges: &[(u32, u32)]) -> Extents {
        let mut extents = Extents::default();
        ranges.iter().for_each(|(start, end)| extents.insert(&(*start..*end)));
        extents
    }

    #[test]
    fn claims_are_kept_replaced_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.redb");
        let (a, b) = (PackId::of(b"a"), PackId::of(b"b"));
        let ledger = open(&path).unwrap();
        ledger.set_presence(&[(a, extents(&[(0, 10), (20, 30)])), (b, extents(&[(5, 6)]))]).unwrap();
        ledger.set_presence(&[(a, extents(&[(0, 30)])), (b, Extents::default())]).unwrap();
        drop(ledger);
        let kept = open(&path).unwrap().presence().unwrap();
        assert_eq!(kept, [(a, extents(&[(0, 30)]))]);
    }

    #[test]
    fn a_torn_record_is_named_and_refused() {
        let torn = extents(&[(0, 70_000), (80_000, 90_000)]).to_bytes();
        let overlapping = codec::encode(&vec![(0u32, 10u32), (0, 5)]);
        let beyond = codec::encode(&vec![(u32::MAX, 10u32)]);
        for record in [&torn[..torn.len() - 1], &overlapping, &beyond, b""] {
            let data_dir = tempfile::tempdir().unwrap();
            let pack = PackId::of(b"pack");
            let store = Store::open(data_dir.path()).unwrap();
            store
                .ledger()
                .write(|transaction| {
                    transaction.open_table(PRESENCE)?.insert(&pack.0, record)?;
                    Ok(())
                })
                .unwrap();
            drop(store);
            let error = Store::open(data_dir.path()).err().unwrap();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(&pack.to_string()) && text.contains("presence.redb"), "{text}");
        }
    }

    #[test]
    fn a_torn_release_record_is_named_and_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder.path().join("presence.redb")).unwrap();
        ledger
            .write(|transaction| {
                transaction.open_table(RELEASES)?.insert("xp@7", (0, &b"torn"[..]))?;
                Ok(())
            })
            .unwrap();
        let error = ledger.releases().unwrap_err().to_string();
        assert!(error.contains("xp@7") && error.contains("remove this file"), "{error}");
    }

    #[test]
    fn a_torn_record_of_an_image_is_named_and_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder.path().join("presence.redb")).unwrap();
        ledger.put_image("xp", Some(&b"torn"[..])).unwrap();
        let error = ledger.images().unwrap_err().to_string();
        assert!(error.contains("the image xp") && error.contains("remove this file"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_named_and_one_that_was_never_finished_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("presence.redb");
        for content in [&b"not a database, but somebody's notes"[..], b"", &[0; 100_000]] {
            fs::write(&path, content).unwrap();
            let error = open(&path).err().unwrap();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        }
        fs::remove_file(&path).unwrap();
        fs::write(folder.path().join("presence.new"), [0; 5000]).unwrap();
        let ledger = open(&path).unwrap();
        assert!(ledger.presence().unwrap().is_empty());
        let names: HashSet<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, HashSet::from(["presence.redb".into()]));
    }

    #[test]
    fn blocks_wait_for_a_ledger_that_fails_and_are_committed_when_it_works_again() {
        let data_dir = tempfile::tempdir().unwrap();
        let store = Store::open(data_dir.path()).unwrap();
        let bytes = vec![7; 1000];
        let block = VerifiedBlock::verify(&BlockId::of(&bytes), bytes).unwrap();
        let place = |number: u32| Location { pack: PackId::of(b"pack"), offset: number * 1000, len: 1000 };
        store.write(&place(0), &block).unwrap();

        let (path, away) = (store.ledger().database.path().to_path_buf(), data_dir.path().join("away"));
        store.ledger().database.close();
        fs::rename(&path, &away).unwrap();
        fs::write(&path, "not a database").unwrap();
        assert!(matches!(store.commit(), Err(StoreError::Corrupt { .. })));
        assert_eq!(store.uncommitted_bytes(), 1000);
        store.write(&place(2), &block).unwrap();
        assert!(store.read(&place(0), block.id()).is_ok());

        fs::rename(&away, &path).unwrap();
        store.commit().unwrap();
        assert_eq!(store.uncommitted_bytes(), 0);
        drop(store);
        let store = Store::open(data_dir.path()).unwrap();
        assert!(store.has(&place(0)) && store.has(&place(2)) && !store.has(&place(1)));
    }

    #[test]
    fn it_is_opened_again_after_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder.path().join("presence.redb")).unwrap();
        let failed = ledger.write(|_| -> Result<(), DbError> { Err(redb::Error::PreviousIo.into()) });
        assert!(failed.is_err());
        assert!(!ledger.database.is_open());
        ledger.set_presence(&[(PackId::of(b"a"), extents(&[(0, 10)]))]).unwrap();
        assert_eq!(ledger.presence().unwrap().len(), 1);
    }
}
