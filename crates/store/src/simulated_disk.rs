//! Tests only: a disk in memory whose power can be cut and whose operations can be made to fail.
//!
//! It counts operations, and can lose its power after any of them or refuse any of them once. At a power cut,
//! unsynced writes are lost, kept or torn, sector by sector and in any order, and unsynced names are lost or kept
//! ([`Loss`] says how much, and a seed repeats it). A failed sync drops what it should have written, as on Linux.
//! The same calls with the same faults and losses always leave the same disk.

mod content;
mod file;
mod luck;
mod names;

pub(crate) use luck::Loss;

use crate::disk::{Disk, DiskFile, DiskSpace, Found, Open};
use content::Content;
use file::SimulatedFile;
use luck::Luck;
use names::{Names, Node};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Looks at names, lengths or bytes.
    Look,
    /// Writes bytes, punches a hole, or sets a file's length or mode.
    Write,
    /// Adds, moves or removes a name.
    Name,
    /// Syncs a file.
    Sync,
    /// Syncs a folder.
    SyncFolder,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// With this error, and nothing has happened. A sync that fails has dropped what it should have written.
    Error(io::ErrorKind),
    /// The disk is full after half of what was to be written.
    ShortWrite,
}

/// What was done to which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
}

/// The disk. Clones share one.
#[derive(Clone)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

struct State {
    names: Names,
    files: BTreeMap<Node, Content>,
    nodes: Node,
    /// The handle that has locked a file.
    locks: BTreeMap<Node, u64>,
    handles: u64,
    /// Handles of an earlier boot are dead.
    boot: u64,
    is_on: bool,
    done: Vec<Operation>,
    power_ends_after: Option<usize>,
    fails: Option<(usize, Failure)>,
    fails_next: Vec<(Kind, &'static str, Failure)>,
    after_write: Option<Box<dyn FnOnce() + Send>>,
}

impl SimulatedDisk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            names: Names::new(),
            files: BTreeMap::new(),
            nodes: 0,
            locks: BTreeMap::new(),
            handles: 0,
            boot: 0,
            is_on: true,
            done: Vec::new(),
            power_ends_after: None,
            fails: None,
            fails_next: Vec::new(),
            after_write: None,
        })))
    }

    /// Another disk, as this one is now.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state();
        Self(Arc::new(Mutex::new(State {
            names: state.names.clone(),
            files: state.files.clone(),
            locks: state.locks.clone(),
            done: state.done.clone(),
            fails_next: state.fails_next.clone(),
            after_write: None,
            ..*state
        })))
    }

    /// What was done since the power came on, in order.
    pub(crate) fn done(&self) -> Vec<Operation> {
        self.state().done.clone()
    }

    /// Cuts the power when so many operations were done since it came on.
    pub(crate) fn end_power_after(&self, operations: usize) {
        self.state().power_ends_after = Some(operations);
    }

    /// Cuts the power now.
    pub(crate) fn cut_power(&self) {
        self.state().is_on = false;
    }

    /// The power comes back, after a loss. Faults are gone, and so is every file that was open.
    pub(crate) fn power_on(&self, loss: Loss) {
        let mut state = self.state();
        let mut luck = Luck::new(loss);
        state.names.cut_power(&mut luck);
        state.files.values_mut().for_each(|content| content.cut_power(&mut luck));
        state.locks.clear();
        state.boot += 1;
        state.is_on = true;
        state.done.clear();
        state.power_ends_after = None;
        state.fails = None;
        state.fails_next.clear();
    }

    /// Lets the operation fail that comes after so many, counted since the power came on.
    pub(crate) fn fail_after(&self, operations: usize, failure: Failure) {
        self.state().fails = Some((operations, failure));
    }

    /// Lets the next operation of a kind fail whose path ends like this.
    pub(crate) fn fail_next(&self, kind: Kind, path_end: &'static str, failure: Failure) {
        self.state().fails_next.push((kind, path_end, failure));
    }

    /// Takes back what was not yet made to fail.
    pub(crate) fn no_faults(&self) {
        let mut state = self.state();
        state.fails = None;
        state.fails_next.clear();
    }

    /// Called once, after the next write has reached its file and before the writer goes on.
    pub(crate) fn after_next_write(&self, call: impl FnOnce() + Send + 'static) {
        self.state().after_write = Some(Box::new(call));
    }

    /// A byte of a file becomes another one, which is none of anybody's operations.
    pub(crate) fn rot(&self, path: &Path, offset: u32) {
        let mut state = self.state();
        let node = state.names.find(path).expect("the file is there");
        state.files.get_mut(&node).expect("it has a content").rot(offset as usize);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One more operation; how it fails, if it does.
    fn next(&mut self, kind: Kind, path: &Path) -> Result<(), Failure> {
        let number = self.done.len();
        if self.power_ends_after.is_some_and(|end| number >= end) {
            self.is_on = false;
        }
        if !self.is_on {
            return Err(Failure::Error(io::ErrorKind::NotConnected));
        }
        self.done.push(Operation { kind, path: path.to_path_buf() });
        if let Some((_, failure)) = self.fails.take_if(|(after, _)| *after <= number) {
            return Err(failure);
        }
        let is_meant = |(of, end, _): &(Kind, &str, Failure)| {
            *of == kind && path.to_str().is_some_and(|path| path.ends_with(end))
        };
        match self.fails_next.iter().position(is_meant) {
            Some(at) => Err(self.fails_next.remove(at).2),
            None => Ok(()),
        }
    }

    fn look(&mut self, path: &Path) -> io::Result<()> {
        Ok(self.next(Kind::Look, path)?)
    }

    fn new_node(&mut self) -> Node {
        self.nodes += 1;
        self.nodes
    }

    fn create_folder(&mut self, path: &Path) -> io::Result<()> {
        if self.names.find(path).is_ok_and(|node| self.names.is_folder(node)) {
            return Ok(());
        }
        path.parent().map_or(Ok(()), |parent| self.create_folder(parent))?;
        self.next(Kind::Name, path)?;
        let (place, node) = (self.names.place(path)?, self.new_node());
        self.names.add_folder(place, node);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let node = self.names.find(path)?;
        if self.names.is_folder(node) {
            for name in self.names.list(path)? {
                self.remove(&path.join(name))?;
            }
        }
        self.next(Kind::Name, path)?;
        self.names.take(path)
    }

    fn create_file(&mut self, path: &Path) -> io::Result<Node> {
        path.parent().map_or(Ok(()), |parent| self.create_folder(parent))?;
        self.next(Kind::Name, path)?;
        let (place, node) = (self.names.place(path)?, self.new_node());
        self.names.add_file(place, node);
        self.files.insert(node, Content::default());
        Ok(node)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(kind) => kind.into(),
            Failure::ShortWrite => io::ErrorKind::StorageFull.into(),
        }
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let node = match (state.names.find(path), how) {
            (Ok(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(node), Open::Read | Open::Write | Open::Create) => {
                state.look(path)?;
                node
            }
            (Err(error), Open::Read | Open::Write) => {
                state.look(path)?;
                return Err(error);
            }
            (Err(_), Open::Create | Open::CreateNew) => state.create_file(path)?,
        };
        if state.names.is_folder(node) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.handles += 1;
        let (handle, boot) = (state.handles, state.boot);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), path: path.to_path_buf(), node, handle, boot }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.state().create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.next(Kind::Name, to)?;
        state.names.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.names.find(path).is_err() {
            return state.look(path);
        }
        state.remove(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.state();
        state.look(folder)?;
        Ok(state.names.list(folder)?.into_iter().map(|name| folder.join(name)).collect())
    }

    fn examine(&self, path: &Path) -> io::Result<Found> {
        let mut state = self.state();
        state.look(path)?;
        let node = state.names.find(path)?;
        Ok(state.files.get(&node).map_or(Found::Folder, |content| Found::File(content.len() as u64)))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.next(Kind::SyncFolder, path)?;
        state.names.sync(path)
    }

    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.look(from)?;
        let from = state.names.find(from)?;
        let node = state.create_file(to)?;
        let bytes = state.files.get(&from).map(Content::seen).unwrap_or_default();
        state.files.entry(node).or_default().write(&bytes, 0);
        Ok(())
    }

    fn space(&self, _folder: &Path) -> io::Result<DiskSpace> {
        Ok(DiskSpace { free: u64::MAX / 4, total: u64::MAX / 2 })
    }
}
