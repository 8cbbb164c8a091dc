//! What is in a file: what a reader sees, and what is on the disk for sure.
//!
//! Between the two lie the changes that were not synced. After a sync that failed they are dropped as Linux drops
//! them: readers still see them, a later sync neither writes them nor complains, and a power cut may take them.

use super::luck::Luck;

/// A file's bytes.
#[derive(Clone, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// In the order in which they were made, from the first that is not synced on.
    changes: Vec<(Change, Fate)>,
}

#[derive(Clone)]
enum Change {
    Write {
        offset: usize,
        bytes: Vec<u8>,
    },
    Length(usize),
    /// A hole, which is inside the file.
    Hole {
        offset: usize,
        len: usize,
    },
}

#[derive(Clone, PartialEq, Eq)]
enum Fate {
    /// The next sync writes it.
    Cached,
    /// No sync writes it any more.
    Dropped,
    /// On the disk; it waits for an older one that is not.
    Synced,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// All that a reader sees.
    pub(super) fn seen(&self) -> Vec<u8> {
        self.seen.clone()
    }

    /// Fills `buffer`; whether there was so much.
    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> bool {
        let Some(bytes) = self.seen.get(offset..offset + buffer.len()) else { return false };
        buffer.copy_from_slice(bytes);
        true
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        self.change(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.change(Change::Length(len));
    }

    pub(super) fn punch(&mut self, offset: usize, len: usize) {
        self.change(Change::Hole { offset, len });
    }

    /// A byte becomes another one, for readers and on the disk.
    pub(super) fn rot(&mut self, offset: usize) {
        let change = Change::Write { offset, bytes: vec![!self.seen[offset]] };
        change.apply(&mut self.seen);
        self.changes.push((change, Fate::Synced));
    }

    pub(super) fn sync(&mut self) {
        for (_, fate) in &mut self.changes {
            if *fate == Fate::Cached {
                *fate = Fate::Synced;
            }
        }
        let settled = self.changes.iter().take_while(|(_, fate)| *fate == Fate::Synced).count();
        for (change, _) in self.changes.drain(..settled) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn fail_sync(&mut self) {
        for (_, fate) in &mut self.changes {
            if *fate == Fate::Cached {
                *fate = Fate::Dropped;
            }
        }
    }

    pub(super) fn cut_power(&mut self, luck: &mut Luck) {
        let sector = [512, 4096][luck.below(2)];
        for (change, fate) in std::mem::take(&mut self.changes) {
            match fate {
                Fate::Synced => change.apply(&mut self.durable),
                Fate::Cached | Fate::Dropped => change.tear(&mut self.durable, sector, luck),
            }
        }
        self.seen.clone_from(&self.durable);
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.changes.push((change, Fate::Cached));
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(file, *offset, bytes),
            // A new file's zeros come from the system, which makes them when they are looked at.
            Self::Length(len) if file.is_empty() => *file = vec![0; *len],
            Self::Length(len) => file.resize(*len, 0),
            Self::Hole { offset, len } => {
                let end = file.len();
                file[(*offset).min(end)..(offset + len).min(end)].fill(0);
            }
        }
    }

    /// Leaves some of its sectors on the disk, or the length that it brought with nothing behind it.
    fn tear(&self, file: &mut Vec<u8>, sector: usize, luck: &mut Luck) {
        let Self::Write { offset, bytes } = self else {
            if luck.keeps() {
                self.apply(file);
            }
            return;
        };
        let (mut from, end) = (*offset, offset + bytes.len());
        if end > file.len() && luck.keeps() {
            file.resize(end, 0);
        }
        while from < end {
            let to = ((from / sector + 1) * sector).min(end);
            if luck.keeps() {
                put(file, from, &bytes[from - offset..to - offset]);
            }
            from = to;
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}
