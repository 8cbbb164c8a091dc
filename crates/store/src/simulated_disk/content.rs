//! What is in a file: what a reader sees, and what is on the disk for sure.
//!
//! Between the two lie the changes that were not synced. After a sync that failed they are dropped as Linux drops
//! them: readers still see them, a later sync neither writes them nor complains, and a power cut may take them.

use super::luck::Luck;

/// A file's bytes.
#[derive(Clone, Default)]
pub(super) struct Content {
    seen: Bytes,
    durable: Bytes,
    /// In the order in which they were made, from the first that is not synced on.
    changes: Vec<(Change, Fate)>,
}

/// Bytes up to a length. The zeros at their end are not held: a database begins as a megabyte of them.
#[derive(Clone, Default)]
struct Bytes {
    held: Vec<u8>,
    len: usize,
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
        self.seen.len
    }

    /// All that a reader sees.
    pub(super) fn seen(&self) -> Vec<u8> {
        self.seen.all()
    }

    /// Fills `buffer`; whether there was so much.
    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> bool {
        self.seen.read(buffer, offset)
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
        let change = Change::Write { offset, bytes: vec![!self.seen.held[offset]] };
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
    fn apply(&self, file: &mut Bytes) {
        match self {
            Self::Write { offset, bytes } => file.put(*offset, bytes),
            Self::Length(len) => file.set_len(*len),
            Self::Hole { offset, len } => file.clear(*offset, *len),
        }
    }

    /// Leaves some of its sectors on the disk, or the length that it brought with nothing behind it.
    fn tear(&self, file: &mut Bytes, sector: usize, luck: &mut Luck) {
        let Self::Write { offset, bytes } = self else {
            if luck.keeps() {
                self.apply(file);
            }
            return;
        };
        let (mut from, end) = (*offset, offset + bytes.len());
        if end > file.len && luck.keeps() {
            file.set_len(end);
        }
        while from < end {
            let to = ((from / sector + 1) * sector).min(end);
            if luck.keeps() {
                file.put(from, &bytes[from - offset..to - offset]);
            }
            from = to;
        }
    }
}

impl Bytes {
    /// All of them, with the zeros at their end.
    fn all(&self) -> Vec<u8> {
        let mut all = self.held.clone();
        all.resize(self.len, 0);
        all
    }

    fn read(&self, buffer: &mut [u8], offset: usize) -> bool {
        if offset + buffer.len() > self.len {
            return false;
        }
        let held = self.held.get(offset..).unwrap_or_default();
        let (from_held, zeros) = buffer.split_at_mut(held.len().min(buffer.len()));
        from_held.copy_from_slice(&held[..from_held.len()]);
        zeros.fill(0);
        true
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.held.len() < end {
            self.held.resize(end, 0);
        }
        self.held[offset..end].copy_from_slice(bytes);
        self.len = self.len.max(end);
    }

    fn set_len(&mut self, len: usize) {
        self.held.truncate(len);
        self.len = len;
    }

    fn clear(&mut self, offset: usize, len: usize) {
        let end = self.held.len();
        self.held[offset.min(end)..(offset + len).min(end)].fill(0);
    }
}
