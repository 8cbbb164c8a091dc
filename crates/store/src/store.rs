//! The store itself: opening it, and blocks in and out.
//!
//! No lock is held while a block is read, hashed or written. Whoever makes fresh blocks durable or takes claims
//! back holds the commit turn. Lock order: assembly turn, folder turn, commit turn, presence, ledger.

use crate::{
    assemble::Ahead,
    disk::{Disk, DiskFile, Found, Open},
    error::{ReadError, StoreError},
    extents::Extents,
    files::Files,
    ledger::Ledger,
    packs::Packs,
    parts::Parts,
    presence::{Arrival, Fresh, Presence},
    space::{Floor, Space, Usage},
    system_disk::SystemDisk,
};
use branchmesh_image::{BlockId, Location, PackId, VerifiedBlock, index::PACK_MAX};
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError},
};

/// Most packs with fresh blocks; one more commits. Each holds a file open, and Linux gives a process 1024.
const FRESH_PACKS_MAX: usize = 128;

/// Most attempts at a write that is overtaken by somebody who forgets blocks, which is rare.
const WRITE_ATTEMPTS_MAX: usize = 4;

/// A node's disk. Clones share one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    data_dir: PathBuf,
    images: PathBuf,
    packs: Packs,
    parts: Parts,
    ledger: Ledger,
    space: Space,
    presence: RwLock<Presence>,
    commit_turn: Mutex<()>,
    folder_turn: Mutex<()>,
    assembly_turn: Mutex<Ahead>,
    /// Held, not used: the system frees it when the process ends, however it ends.
    _lock: Arc<dyn DiskFile>,
}

/// Why bytes at a place were not a block.
enum Misread {
    /// Other bytes, or fewer.
    Damaged,
    /// No bytes.
    Io(StoreError),
}

impl Store {
    /// Opens the store below `data_dir`, makes it if it is not there, and clears away what a crash has left.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_on(data_dir, Arc::new(SystemDisk))
    }

    pub(crate) fn open_on(data_dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let files = Files::new(disk);
        let folder = data_dir.join("store");
        let (packs, indexes, temporary) = (folder.join("packs"), folder.join("indexes"), folder.join("tmp"));
        let images = data_dir.join("images");
        for folder in [&packs, &indexes, &temporary, &images] {
            files.create_folder(folder)?;
        }
        let lock = lock(&files, data_dir, &folder.join("lock"))?;
        // Index parts that were being written.
        files.list(&temporary)?.iter().try_for_each(|path| files.remove(path))?;
        files.sync_folder(&folder)?;
        files.sync_folder(data_dir)?;
        let ledger = folder.join("presence.redb");
        if files.examine(&ledger)?.is_none() {
            sync_own_name(&files, data_dir)?;
        }
        let packs = Packs::new(packs, files.clone());
        let ledger = Ledger::open(ledger, files.clone())?;
        let presence = load_presence(&files, &ledger, &packs)?;
        let store = Self {
            inner: Arc::new(Inner {
                data_dir: data_dir.to_path_buf(),
                images,
                packs,
                parts: Parts::new(indexes, temporary, files.clone()),
                ledger,
                space: Space::new(folder, files.clone()),
                presence: RwLock::new(presence),
                commit_turn: Mutex::default(),
                folder_turn: Mutex::default(),
                assembly_turn: Mutex::default(),
                files,
                _lock: lock,
            }),
        };
        store.sweep()?;
        Ok(store)
    }

    /// Whether a block is here.
    #[must_use]
    pub fn has(&self, at: &Location) -> bool {
        self.look()(at)
    }

    /// What [`has`](Self::has) asks, for many blocks at once; writers wait until it is dropped.
    pub(crate) fn look(&self) -> impl Fn(&Location) -> bool {
        let presence = self.presence();
        move |at| check_location(at).is_ok() && presence.has(at)
    }

    /// All that is here, by pack, whatever it is needed for.
    #[must_use]
    pub fn holdings(&self) -> Vec<(PackId, Extents)> {
        self.presence().all().map(|(pack, extents)| (pack, extents.clone())).collect()
    }

    /// Writes a block to its place. It can be read at once, and is claimed after a crash from the next
    /// [`commit`](Self::commit) on. After an error the block has to be fetched again, and so have others of its pack
    /// that were not committed; [`has`](Self::has) tells.
    pub fn write(&self, at: &Location, block: &VerifiedBlock) -> Result<(), StoreError> {
        check_location(at)?;
        if block.bytes().len() != at.len as usize {
            let (expected, found) = (at.len, block.bytes().len());
            return Err(StoreError::WrongLength { id: *block.id(), expected, found });
        }
        for _ in 0..WRITE_ATTEMPTS_MAX {
            match self.write_once(at, block)? {
                Arrival::Fresh { packs } if packs > FRESH_PACKS_MAX => return self.commit(),
                Arrival::Fresh { .. } => return Ok(()),
                Arrival::TooManyHoles => return Err(StoreError::TooManyHoles(at.pack)),
                Arrival::Overtaken => {}
            }
        }
        let overtaken = io::Error::other("blocks of it were forgotten again and again meanwhile");
        Err(StoreError::io("write", &self.packs().path(&at.pack), overtaken))
    }

    /// Makes everything that was written survive a power cut. Packs that cannot be synced lose their fresh blocks,
    /// the others are kept, and the error names the first that failed.
    pub fn commit(&self) -> Result<(), StoreError> {
        let _turn = self.commit_turn();
        let parts = self.parts().sync();
        let mut batch = self.presence_mut().commit_began();
        let blocks = self.sync_packs(&mut batch);
        self.presence_mut().synced(&batch);
        let recorded = self.record_claims();
        if recorded.is_err() {
            self.presence_mut().commit_failed(batch);
        }
        blocks.and(recorded).and(parts)
    }

    /// Bytes of blocks that a crash would lose.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> u64 {
        self.presence().fresh_bytes()
    }

    /// Reads a block and hashes it. One that has rotted is forgotten durably; `at` and `id` must therefore be of
    /// one index entry.
    pub fn read(&self, at: &Location, id: &BlockId) -> Result<VerifiedBlock, ReadError> {
        if !self.has(at) {
            return Err(ReadError::NotHere(*id));
        }
        match self.read_once(at, id) {
            Ok(block) => Ok(block),
            Err(Misread::Io(error)) => Err(error.into()),
            Err(Misread::Damaged) => self.confirm_damage(at, id),
        }
    }

    /// Takes back the claim to these blocks, for example when the disk cannot read them any more.
    pub fn forget(&self, blocks: &[Location]) -> Result<(), StoreError> {
        blocks.iter().try_for_each(check_location)?;
        let _turn = self.commit_turn();
        blocks.iter().for_each(|at| self.presence_mut().forget(at));
        self.record_claims()
    }

    /// Sets how much space must stay free; from then on writes that would take it are refused.
    pub fn set_floor(&self, floor: Floor) {
        self.inner.space.set_floor(floor);
    }

    /// Whether a release is put together just now: whoever [retires](Self::retire) another one waits for that.
    #[must_use]
    pub fn is_assembling(&self) -> bool {
        matches!(self.inner.assembly_turn.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Whether `bytes` more can be stored without taking the space that must stay free.
    #[must_use]
    pub fn has_space_for(&self, bytes: u64) -> bool {
        self.space().check(self.packs().folder(), bytes).is_ok()
    }

    /// How much the store takes and how much is left.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage { pack_bytes: self.presence().bytes(), free_bytes: self.space().free() }
    }

    fn write_once(&self, at: &Location, block: &VerifiedBlock) -> Result<Arrival, StoreError> {
        let epoch = {
            let presence = self.presence();
            if presence.has(at) {
                return Ok(Arrival::Fresh { packs: 0 });
            }
            presence.epoch()
        };
        self.space().claim(u64::from(at.len))?;
        let file = self.packs().writable(&at.pack)?;
        if let Err(error) = file.write_all_at(block.bytes(), u64::from(at.offset)) {
            let _turn = self.commit_turn();
            self.give_up(&at.pack, None);
            return Err(StoreError::io("write", &self.packs().path(&at.pack), error));
        }
        Ok(self.presence_mut().arrived(at, &file, epoch))
    }

    /// Syncs the packs of `batch`. Those that fail leave it, and their blocks are forgotten.
    fn sync_packs(&self, batch: &mut BTreeMap<PackId, Fresh>) -> Result<(), StoreError> {
        let mut folders = HashSet::new();
        let mut outcome = Ok(());
        batch.retain(|pack, fresh| {
            let Err(error) = self.sync_pack(pack, fresh, &mut folders) else { return true };
            tracing::error!(%error, "the blocks that this pack got since the last commit are forgotten");
            self.give_up(pack, Some(&fresh.extents));
            if outcome.is_ok() {
                outcome = Err(error);
            }
            false
        });
        outcome
    }

    fn sync_pack(
        &self,
        pack: &PackId,
        fresh: &Fresh,
        folders: &mut HashSet<PathBuf>,
    ) -> Result<(), StoreError> {
        fresh.file.sync_data().map_err(|error| StoreError::io("sync", &self.packs().path(pack), error))?;
        if fresh.is_new { self.packs().sync_name(pack, folders) } else { Ok(()) }
    }

    /// A write or a sync of this pack failed. The system may have dropped any of its unsynced pages and will not
    /// say so again: a second sync that succeeds proves nothing. The caller holds the commit turn.
    fn give_up(&self, pack: &PackId, syncing: Option<&Extents>) {
        self.presence_mut().pack_failed(pack, syncing);
        self.packs().close(pack);
    }

    /// Brings the ledger up to date. The caller holds the commit turn.
    pub(crate) fn record_claims(&self) -> Result<(), StoreError> {
        let claims = self.presence().to_record();
        if claims.is_empty() {
            return Ok(());
        }
        self.ledger().set_presence(&claims)?;
        self.presence_mut().recorded();
        Ok(())
    }

    fn read_once(&self, at: &Location, id: &BlockId) -> Result<VerifiedBlock, Misread> {
        let file = self.packs().readable(&at.pack).map_err(Misread::Io)?.ok_or(Misread::Damaged)?;
        let mut bytes = vec![0; at.len as usize];
        file.read_exact_at(&mut bytes, u64::from(at.offset)).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return Misread::Damaged;
            }
            Misread::Io(StoreError::io("read", &self.packs().path(&at.pack), error))
        })?;
        VerifiedBlock::verify(id, bytes).map_err(|_| Misread::Damaged)
    }

    /// Reads a damaged block once more while nobody can replace it: it may have been forgotten and fetched again
    /// since, or the damage was in memory and not on the disk.
    fn confirm_damage(&self, at: &Location, id: &BlockId) -> Result<VerifiedBlock, ReadError> {
        let _turn = self.commit_turn();
        if !self.has(at) {
            return Err(ReadError::NotHere(*id));
        }
        self.packs().close(&at.pack);
        match self.read_once(at, id) {
            Ok(block) => return Ok(block),
            Err(Misread::Io(error)) => return Err(error.into()),
            Err(Misread::Damaged) => {}
        }
        tracing::warn!(block = %id, pack = %at.pack, "a block had rotted on this disk; it will be fetched again");
        if let Err(error) = self.remember_rot() {
            tracing::error!(%error, "that a block had rotted is not remembered over a restart");
        }
        self.presence_mut().forget(at);
        if let Err(error) = self.record_claims() {
            // Forgotten in memory, and the next commit tries again.
            tracing::error!(%error, "the ledger still claims a rotten block");
        }
        Err(ReadError::Rotten { id: *id, pack: at.pack })
    }

    pub(crate) fn files(&self) -> &Files {
        &self.inner.files
    }

    /// As the store was opened.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }

    pub(crate) fn images(&self) -> &Path {
        &self.inner.images
    }

    pub(crate) fn packs(&self) -> &Packs {
        &self.inner.packs
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.inner.parts
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    pub(crate) fn space(&self) -> &Space {
        &self.inner.space
    }

    pub(crate) fn presence(&self) -> RwLockReadGuard<'_, Presence> {
        self.inner.presence.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn presence_mut(&self) -> RwLockWriteGuard<'_, Presence> {
        self.inner.presence.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever makes blocks durable or takes claims back.
    pub(crate) fn commit_turn(&self) -> MutexGuard<'_, ()> {
        self.inner.commit_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever puts release folders or the pointer to the active one in place.
    pub(crate) fn folder_turn(&self) -> MutexGuard<'_, ()> {
        self.inner.folder_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a release is put together or taken away: one at a time has all of the disk's speed.
    pub(crate) fn assembly_turn(&self) -> MutexGuard<'_, Ahead> {
        self.inner.assembly_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locations come from signed indexes, which check them too.
fn check_location(at: &Location) -> Result<(), StoreError> {
    let fits = at.offset.checked_add(at.len).is_some_and(|end| end <= PACK_MAX);
    if at.len == 0 || !fits {
        return Err(StoreError::BadLocation { offset: at.offset, len: at.len });
    }
    Ok(())
}

/// Makes the name of a new store's folder survive a power cut, and those of the folders above, which may be as new.
/// Where the agent may not look, an administrator has made them.
fn sync_own_name(files: &Files, data_dir: &Path) -> Result<(), StoreError> {
    for folder in data_dir.ancestors().skip(1) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match files.sync_folder(folder) {
            Ok(()) | Err(StoreError::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes sure that no other process has this store open, as long as the file lives.
fn lock(files: &Files, data_dir: &Path, path: &Path) -> Result<Arc<dyn DiskFile>, StoreError> {
    let file = files.open(path, Open::Create)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(data_dir.to_path_buf())),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::io("lock", path, error)),
    }
}

/// What the ledger claims, without what cannot be: somebody may have removed or cut a pack's file.
fn load_presence(files: &Files, ledger: &Ledger, packs: &Packs) -> Result<Presence, StoreError> {
    let mut kept = ledger.presence()?;
    let (mut changed, mut lost_bytes) = (Vec::new(), 0);
    for (pack, extents) in &mut kept {
        let length = match files.examine(&packs.path(pack))? {
            Some(Found::File(bytes)) => bytes,
            Some(Found::Folder) | None => 0,
        };
        let end = u32::try_from(length).unwrap_or(PACK_MAX).min(PACK_MAX);
        let claimed = extents.bytes();
        extents.remove(&(end..PACK_MAX));
        if extents.bytes() < claimed {
            lost_bytes += claimed - extents.bytes();
            changed.push((*pack, extents.clone()));
        }
    }
    if !changed.is_empty() {
        let packs = changed.len();
        tracing::warn!(packs, lost_bytes, "packs lost blocks while no agent ran; they will be fetched again");
        ledger.set_presence(&changed)?;
    }
    kept.retain(|(_, extents)| !extents.is_empty());
    Ok(Presence::load(kept))
}
