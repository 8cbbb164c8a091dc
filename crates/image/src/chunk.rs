//! Where a file is cut: content-defined blocks (FastCDC 2020), and holes for runs of zeros.
//!
//! The cut points depend on nearby bytes only, so that an insertion or a moved file changes few blocks
//! (Xia et al., "The Design of Fast Content-Defined Chunking", IEEE TPDS 2020). Zeros are looked for in pages
//! of the file, because file systems and disk images allocate in pages; each stretch of data between two holes
//! is cut on its own, so that a hole that grows does not shift the cuts behind it.

use fastcdc::v2020::{FastCDC, Normalization};
use std::io::{self, Read};

/// Smallest block that a cut inside data makes, in bytes. Data between holes, and the end of a file, may be less.
pub const BLOCK_PLAIN_MIN: usize = 16 << 10;
/// Average block, in bytes.
pub const BLOCK_PLAIN_AVERAGE: usize = 64 << 10;
/// Largest block, in bytes.
pub const BLOCK_PLAIN_MAX: usize = 256 << 10;

/// Granularity in which zeros are looked for: the page of file systems and virtual disks.
const PAGE: usize = 4096;
/// Fewest zero bytes inside a file that end a block. Shorter runs compress to nothing inside their block, while
/// each hole costs a cut.
const HOLE_MIN: usize = 16 << 10;
/// Read-ahead, in bytes: enough that one refill serves many cuts.
const BUFFER: usize = 2 << 20;

/// The next stretch of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut {
    /// So many zero bytes.
    Hole(u64),
    /// The plaintext of one block, 1 to [`BLOCK_PLAIN_MAX`] bytes.
    Data(Vec<u8>),
}

/// Cuts everything that a reader gives, with bounded memory.
pub struct Chunker<R> {
    source: R,
    buffer: Vec<u8>,
    /// Unconsumed bytes are `buffer[start..]`.
    start: usize,
    /// Offset in the file of `buffer[start]`.
    offset: u64,
    at_end: bool,
}

impl<R: Read> Chunker<R> {
    /// Cuts `source` from its current position on, which counts as offset 0.
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::with_capacity(BUFFER), start: 0, offset: 0, at_end: false }
    }

    fn next_cut(&mut self) -> io::Result<Option<Cut>> {
        self.fill()?;
        if self.start == self.buffer.len() {
            return Ok(None);
        }
        let data = self.data_ahead();
        if data == 0 { self.hole().map(Some) } else { Ok(Some(self.block(data))) }
    }

    /// Makes sure that a whole block, and the zeros that may follow it, are in the buffer.
    fn fill(&mut self) -> io::Result<()> {
        let needed = BLOCK_PLAIN_MAX + HOLE_MIN + PAGE;
        if self.at_end || self.buffer.len() - self.start >= needed {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let space = (BUFFER - self.buffer.len()) as u64;
        let read = (&mut self.source).take(space).read_to_end(&mut self.buffer)?;
        self.at_end = (read as u64) < space;
        Ok(())
    }

    /// Bytes before the next hole, at most one block and what follows it; 0 if a hole begins here.
    fn data_ahead(&self) -> usize {
        let bytes = &self.buffer[self.start..];
        let to_page = (PAGE - (self.offset % PAGE as u64) as usize) % PAGE;
        let mut page = to_page;
        while page < bytes.len().min(BLOCK_PLAIN_MAX) {
            let zeros = zero_pages(&bytes[page..], HOLE_MIN);
            let reaches_end = self.at_end && page + zeros == bytes.len();
            if zeros >= HOLE_MIN || (zeros > 0 && reaches_end) {
                return page;
            }
            page += zeros + PAGE;
        }
        bytes.len().min(BLOCK_PLAIN_MAX)
    }

    fn block(&mut self, data: usize) -> Cut {
        let bytes = &self.buffer[self.start..self.start + data];
        let cutter = FastCDC::with_level(
            bytes,
            BLOCK_PLAIN_MIN,
            BLOCK_PLAIN_AVERAGE,
            BLOCK_PLAIN_MAX,
            Normalization::Level1,
        );
        let (_, end) = cutter.cut(0, bytes.len());
        let block = bytes[..end].to_vec();
        self.consume(end);
        Cut::Data(block)
    }

    fn hole(&mut self) -> io::Result<Cut> {
        let mut length = 0;
        loop {
            let mut zeros = zero_pages(&self.buffer[self.start..], usize::MAX);
            if !self.at_end {
                // The last page of the buffer may be cut off: the rest of it decides.
                zeros -= zeros % PAGE;
            }
            self.consume(zeros);
            length += zeros as u64;
            if self.at_end || self.buffer.len() - self.start >= PAGE {
                return Ok(Cut::Hole(length));
            }
            self.fill()?;
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }
}

impl<R: Read> Iterator for Chunker<R> {
    type Item = io::Result<Cut>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_cut().transpose()
    }
}

/// Length of the run of zero pages at the beginning of `bytes` (the last page may be short), at least up to `enough`.
fn zero_pages(bytes: &[u8], enough: usize) -> usize {
    let mut zeros = 0;
    for page in bytes.chunks(PAGE) {
        if zeros >= enough || !is_zero(page) {
            break;
        }
        zeros += page.len();
    }
    zeros
}

fn is_zero(page: &[u8]) -> bool {
    let (words, rest) = page.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cuts(file: &[u8]) -> Vec<Cut> {
        Chunker::new(file).collect::<io::Result<_>>().unwrap()
    }

    fn rebuilt(cuts: &[Cut]) -> Vec<u8> {
        let mut file = Vec::new();
        for cut in cuts {
            match cut {
                Cut::Hole(length) => file.resize(file.len() + usize::try_from(*length).unwrap(), 0),
                Cut::Data(data) => file.extend_from_slice(data),
            }
        }
        file
    }

    #[test]
    fn an_empty_file_has_no_cuts() {
        assert_eq!(cuts(b""), []);
    }

    #[test]
    fn zeros_are_one_hole_however_long() {
        for length in [1, PAGE, PAGE + 1, HOLE_MIN, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER + 5000] {
            assert_eq!(cuts(&vec![0; length]), [Cut::Hole(length as u64)], "{length} zeros");
        }
    }

    #[test]
    fn holes_between_data_are_found_at_every_distance_from_the_refill() {
        for shift in [0, 1, 3, 64, 512] {
            let before = noise(1, BUFFER - shift * PAGE);
            let file = [&before[..], &vec![0; 5 * HOLE_MIN], &noise(2, 100_000)].concat();
            let cuts = cuts(&file);
            assert_eq!(rebuilt(&cuts), file);
            assert!(cuts.contains(&Cut::Hole(5 * HOLE_MIN as u64)), "shift {shift}");
        }
    }

    #[test]
    fn a_hole_across_refills_ends_where_the_data_begins() {
        for before in [1, 1231, 2865, 70_001] {
            let hole = 5 << 20;
            let file = [noise(1, before), vec![0; hole], noise(2, 50_000)].concat();
            let begin = before.next_multiple_of(PAGE);
            let end = (before + hole) / PAGE * PAGE;
            assert!(cuts(&file).contains(&Cut::Hole((end - begin) as u64)), "{before} bytes before the hole");
        }
    }

    #[test]
    fn an_insertion_changes_few_blocks() {
        let old = noise(3, 8 << 20);
        let new = [&old[..3_000_000], b"inserted", &old[3_000_000..]].concat();
        let known: std::collections::HashSet<_> =
            cuts(&old).into_iter().map(|cut| format!("{cut:?}")).collect();
        let changed = cuts(&new).into_iter().filter(|cut| !known.contains(&format!("{cut:?}"))).count();
        assert!((1..=3).contains(&changed), "{changed} blocks changed");
    }

    #[test]
    fn a_failing_reader_is_an_error_not_an_end() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad sector"))
            }
        }
        assert!(Chunker::new(Failing).next().unwrap().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_file_is_rebuilt_from_its_cuts(parts in prop::collection::vec((any::<bool>(), 1usize..3_000_000, any::<u64>()), 0..6)) {
            let mut file = Vec::new();
            for (zero, length, seed) in parts {
                file.extend(if zero { vec![0; length] } else { noise(seed, length) });
            }
            let cuts = cuts(&file);
            for pair in cuts.windows(2) {
                prop_assert!(!matches!(pair, [Cut::Hole(_), Cut::Hole(_)]), "a hole was cut in two");
            }
            for cut in &cuts {
                match cut {
                    Cut::Data(data) => prop_assert!((1..=BLOCK_PLAIN_MAX).contains(&data.len())),
                    Cut::Hole(length) => prop_assert!(*length > 0),
                }
            }
            // Where holes begin and end depends on the file alone, not on how it was read.
            let mut offset = 0u64;
            for cut in &cuts {
                let length = match cut {
                    Cut::Data(data) => data.len() as u64,
                    Cut::Hole(length) => *length,
                };
                if matches!(cut, Cut::Hole(_)) {
                    prop_assert_eq!(offset % PAGE as u64, 0);
                    let end = offset + length;
                    prop_assert!(end.is_multiple_of(PAGE as u64) || end == file.len() as u64);
                }
                offset += length;
            }
            prop_assert_eq!(rebuilt(&cuts), file);
        }
    }
}
