//! Where a file is cut: content-defined blocks (FastCDC 2020), and holes for runs of zeros.
//!
//! The cut points depend on nearby bytes only, so that an insertion or a moved file changes few blocks
//! (Xia et al., "The Design of Fast Content-Defined Chunking", IEEE TPDS 2020). Zeros are looked for in pages
//! of the file, because file systems and disk images allocate in pages; each stretch of data between two holes
//! is cut on its own, so that a hole that grows does not shift the cuts behind it.

use crate::block_size::BlockSize;
use fastcdc::v2020::{FastCDC, Normalization};
use std::io::{self, Read};

/// Largest block of any [`BlockSize`], in bytes: what readers allow.
pub const BLOCK_PLAIN_MAX: usize = 256 << 10;

/// Granularity in which zeros are looked for, in bytes: the page of file systems and virtual disks.
pub const PAGE: usize = 4096;
/// Fewest zero bytes inside a file that end a block. Shorter runs compress to nothing inside their block, while
/// each hole costs a cut.
const HOLE_MIN: usize = 16 << 10;
/// Read-ahead, in bytes: enough that one refill serves many cuts.
const BUFFER: usize = 2 << 20;

/// What is cut: bytes, and what is known of them without reading.
pub trait Source: Read {
    /// Passes over zeros that follow and need not be read. A multiple of [`PAGE`], unless they reach the end.
    ///
    /// It is asked in the middle of zeros only, so that it cannot change where a file is cut.
    fn skip_zeros(&mut self) -> io::Result<u64> {
        Ok(0)
    }
}

impl Source for &[u8] {}

/// The next stretch of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut {
    /// So many zero bytes.
    Hole(u64),
    /// The plaintext of one block, 1 to [`BLOCK_PLAIN_MAX`] bytes.
    Data(Vec<u8>),
}

/// Cuts everything that a reader gives, with bounded memory.
pub struct Chunker<S> {
    source: S,
    size: BlockSize,
    buffer: Vec<u8>,
    /// Unconsumed bytes are `buffer[start..]`.
    start: usize,
    /// Offset in the file of `buffer[start]`.
    offset: u64,
    at_end: bool,
}

impl<S: Source> Chunker<S> {
    /// Cuts `source` from its current position on, which counts as offset 0.
    pub fn new(source: S, size: BlockSize) -> Self {
        Self { source, size, buffer: Vec::with_capacity(BUFFER), start: 0, offset: 0, at_end: false }
    }

    fn next_cut(&mut self) -> io::Result<Option<Cut>> {
        self.fill()?;
        if self.start == self.buffer.len() {
            return Ok(None);
        }
        let data = self.data_ahead();
        if data == 0 { self.hole().map(Some) } else { Ok(Some(self.block(data))) }
    }

    /// Makes sure that a whole block, and the zeros that may follow it, are in the buffer. What is in the buffer
    /// ends with a whole page, or with the file.
    fn fill(&mut self) -> io::Result<()> {
        let needed = self.size.max() + HOLE_MIN + PAGE;
        if self.at_end || self.buffer.len() - self.start >= needed {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let beyond_page = (self.offset + BUFFER as u64) % PAGE as u64;
        let space = (BUFFER - self.buffer.len()) as u64 - beyond_page;
        let read = (&mut self.source).take(space).read_to_end(&mut self.buffer)?;
        self.at_end = (read as u64) < space;
        Ok(())
    }

    /// Bytes before the next hole, at most one block and what follows it; 0 if a hole begins here.
    fn data_ahead(&self) -> usize {
        let bytes = &self.buffer[self.start..];
        let to_page = (PAGE - (self.offset % PAGE as u64) as usize) % PAGE;
        let mut page = to_page;
        while page < bytes.len().min(self.size.max()) {
            let zeros = zero_pages(&bytes[page..], HOLE_MIN);
            let reaches_end = self.at_end && page + zeros == bytes.len();
            if zeros >= HOLE_MIN || (zeros > 0 && reaches_end) {
                return page;
            }
            page += zeros + PAGE;
        }
        bytes.len().min(self.size.max())
    }

    fn block(&mut self, data: usize) -> Cut {
        let bytes = &self.buffer[self.start..self.start + data];
        let (min, average, max) = (self.size.min(), self.size.average(), self.size.max());
        // Without normalization a cut depends on the bytes before it alone, not on the cut before it
        // (docs/decisions/0008).
        let cutter = FastCDC::with_level(bytes, min, average, max, Normalization::Level0);
        let (_, end) = cutter.cut(0, bytes.len());
        let block = bytes[..end].to_vec();
        self.consume(end);
        Cut::Data(block)
    }

    fn hole(&mut self) -> io::Result<Cut> {
        let mut length = 0;
        loop {
            let zeros = zero_pages(&self.buffer[self.start..], usize::MAX);
            self.consume(zeros);
            length += zeros as u64;
            if self.at_end || self.start < self.buffer.len() {
                return Ok(Cut::Hole(length));
            }
            let skipped = self.source.skip_zeros()?;
            self.offset += skipped;
            length += skipped;
            self.fill()?;
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }
}

impl<S: Source> Iterator for Chunker<S> {
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
        cuts_of(file, BlockSize::default())
    }

    fn cuts_of(source: impl Source, size: BlockSize) -> Vec<Cut> {
        Chunker::new(source, size).collect::<io::Result<_>>().unwrap()
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
        impl Source for Failing {}
        assert!(Chunker::new(Failing, BlockSize::default()).next().unwrap().is_err());
    }

    #[test]
    fn blocks_have_the_size_that_was_asked_for() {
        let file = noise(4, 16 << 20);
        for size in BlockSize::ALL {
            let lengths: Vec<usize> = cuts_of(&file[..], size)
                .iter()
                .map(|cut| match cut {
                    Cut::Data(data) => data.len(),
                    Cut::Hole(_) => panic!("noise has no holes"),
                })
                .collect();
            let (last, others) = lengths.split_last().unwrap();
            assert!(others.iter().all(|length| (size.min()..=size.max()).contains(length)), "{size}");
            assert!((1..=size.max()).contains(last));
            let average = file.len() / lengths.len();
            assert!((size.average() / 2..size.average() * 2).contains(&average), "{size}: {average} bytes");
        }
    }

    /// A file whose zeros beyond a multiple of the page are known to the file system.
    struct Sparse<'a> {
        file: &'a [u8],
        at: usize,
        skipped: usize,
    }

    impl Read for Sparse<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = (&self.file[self.at..]).read(buffer)?;
            self.at += read;
            Ok(read)
        }
    }

    impl Source for &mut Sparse<'_> {
        fn skip_zeros(&mut self) -> io::Result<u64> {
            let zeros = self.file[self.at..].iter().take_while(|byte| **byte == 0).count();
            let to_end = self.at + zeros == self.file.len();
            let skipped = if to_end { zeros } else { zeros - zeros % PAGE };
            self.at += skipped;
            self.skipped += skipped;
            Ok(skipped as u64)
        }
    }

    #[test]
    fn zeros_that_are_not_read_change_no_cut() {
        for (before, tail) in [(0, 0), (70_001, 50_000), (BUFFER - 1, 1), (3 * BUFFER + 77, PAGE), (1, 0)] {
            let hole = 9 * BUFFER + 1234;
            let file = [noise(1, before), vec![0; hole], noise(2, tail)].concat();
            for size in BlockSize::ALL {
                let mut sparse = Sparse { file: &file, at: 0, skipped: 0 };
                assert_eq!(cuts_of(&mut sparse, size), cuts_of(&file[..], size), "{before} {tail} {size}");
                assert!(sparse.skipped > hole - 2 * BUFFER, "{} of {hole} skipped", sparse.skipped);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_file_is_rebuilt_from_its_cuts(
            parts in prop::collection::vec((any::<bool>(), 1usize..3_000_000, any::<u64>()), 0..6),
            size in prop::sample::select(&BlockSize::ALL[..]),
        ) {
            let mut file = Vec::new();
            for (zero, length, seed) in parts {
                file.extend(if zero { vec![0; length] } else { noise(seed, length) });
            }
            let cuts = cuts_of(&file[..], size);
            for pair in cuts.windows(2) {
                prop_assert!(!matches!(pair, [Cut::Hole(_), Cut::Hole(_)]), "a hole was cut in two");
            }
            for cut in &cuts {
                match cut {
                    Cut::Data(data) => prop_assert!((1..=size.max()).contains(&data.len())),
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
