//! Folders and the names in them: those that a reader sees, and those that are on the disk for sure.
//!
//! Each change of a name is atomic, a rename too. What was not synced survives a power cut up to some point in time,
//! as a file system with a journal leaves it, or in any selection, as POSIX allows.

use super::luck::Luck;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Component, Path},
};

/// A file or a folder, whatever its name.
pub(super) type Node = u64;

/// A name in a folder.
pub(super) type Place = (Node, OsString);

/// The folder in which all paths begin.
const ROOT: Node = 0;

/// All names.
#[derive(Clone)]
pub(super) struct Names {
    folders: BTreeMap<Node, Folder>,
    /// Changes that are not synced, in the order in which they were made.
    changes: Vec<Change>,
}

#[derive(Clone, Default)]
struct Folder {
    seen: BTreeMap<OsString, Node>,
    durable: BTreeMap<OsString, Node>,
}

#[derive(Clone)]
enum Change {
    Add { at: Place, node: Node },
    Take { at: Place, node: Node },
    Move { from: Place, to: Place, node: Node },
}

impl Names {
    pub(super) fn new() -> Self {
        Self { folders: BTreeMap::from([(ROOT, Folder::default())]), changes: Vec::new() }
    }

    /// What has this name.
    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = ROOT;
        for name in components(path) {
            let folder = self.folders.get(&node).ok_or(io::ErrorKind::NotADirectory)?;
            node = *folder.seen.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    /// Where this name is, or would be.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let name = components(path).last().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.find(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        if !self.is_folder(folder) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((folder, name))
    }

    pub(super) fn is_folder(&self, node: Node) -> bool {
        self.folders.contains_key(&node)
    }

    /// The names in a folder.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let folder = self.folders.get(&self.find(path)?).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(folder.seen.keys().cloned().collect())
    }

    pub(super) fn add_file(&mut self, at: Place, node: Node) {
        self.change(Change::Add { at, node });
    }

    pub(super) fn add_folder(&mut self, at: Place, node: Node) {
        self.folders.insert(node, Folder::default());
        self.change(Change::Add { at, node });
    }

    pub(super) fn take(&mut self, path: &Path) -> io::Result<()> {
        let (node, at) = (self.find(path)?, self.place(path)?);
        self.expect_empty(node)?;
        self.change(Change::Take { at, node });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (node, from, target) = (self.find(from)?, self.place(from)?, self.find(to));
        if let Ok(target) = target {
            if self.is_folder(target) != self.is_folder(node) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            self.expect_empty(target)?;
        }
        let to = self.place(to)?;
        self.change(Change::Move { from, to, node });
        Ok(())
    }

    /// Makes the changes in a folder durable, and all earlier ones that they build on.
    pub(super) fn sync(&mut self, path: &Path) -> io::Result<()> {
        let folder = self.find(path)?;
        let mut wanted: Vec<Place> = Vec::new();
        let mut later = Vec::new();
        let mut synced = Vec::new();
        for change in std::mem::take(&mut self.changes).into_iter().rev() {
            let touches = |place: &Place| place.0 == folder || wanted.contains(place);
            if change.places().any(touches) {
                wanted.extend(change.places().cloned());
                synced.push(change);
            } else {
                later.push(change);
            }
        }
        later.reverse();
        self.changes = later;
        for change in synced.iter().rev() {
            change.apply(&mut self.folders, |folder| &mut folder.durable);
        }
        Ok(())
    }

    pub(super) fn cut_power(&mut self, luck: &mut Luck) {
        let in_order = luck.below(2) == 0;
        for change in std::mem::take(&mut self.changes) {
            if luck.keeps() {
                change.apply(&mut self.folders, |folder| &mut folder.durable);
            } else if in_order {
                break;
            }
        }
        for folder in self.folders.values_mut() {
            folder.seen.clone_from(&folder.durable);
        }
    }

    fn expect_empty(&self, node: Node) -> io::Result<()> {
        let is_empty = self.folders.get(&node).is_none_or(|folder| folder.seen.is_empty());
        if is_empty { Ok(()) } else { Err(io::ErrorKind::DirectoryNotEmpty.into()) }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.folders, |folder| &mut folder.seen);
        self.changes.push(change);
    }
}

impl Change {
    /// The names that it changes.
    fn places(&self) -> impl Iterator<Item = &Place> {
        let (one, other) = match self {
            Self::Add { at, .. } | Self::Take { at, .. } => (at, None),
            Self::Move { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(one).chain(other)
    }

    fn apply(
        &self,
        folders: &mut BTreeMap<Node, Folder>,
        side: impl Fn(&mut Folder) -> &mut BTreeMap<OsString, Node>,
    ) {
        let mut names = |place: &Place, put: bool, node: Node| {
            let names = side(folders.entry(place.0).or_default());
            if put {
                names.insert(place.1.clone(), node);
            } else if names.get(&place.1) == Some(&node) {
                names.remove(&place.1);
            }
        };
        match self {
            Self::Add { at, node } => names(at, true, *node),
            Self::Take { at, node } => names(at, false, *node),
            Self::Move { from, to, node } => {
                names(from, false, *node);
                names(to, true, *node);
            }
        }
    }
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    })
}
