//! The bytes of a source file, without reading the holes that its file system knows of.
//!
//! Zeros that are read pass at the speed of memory, but a hole still costs the kernel pages that it fills with
//! zeros, in place of something worth caching: a thin disk of 1 TiB with 20 GiB in it would take minutes.
//! Systems without a safe call for it (Windows) read the zeros. The result is the same.

use branchmesh_image::Source;
use std::{
    fs::File,
    io::{self, Read},
};

/// A file from its current position on, up to a limit.
pub(crate) struct Content<'a> {
    file: &'a File,
    /// Bytes up to the limit.
    left: u64,
}

impl<'a> Content<'a> {
    pub(crate) fn new(file: &'a File, limit: u64) -> Self {
        Self { file, left: limit }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.take(self.left).read(buffer)?;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Source for Content<'_> {
    fn skip_zeros(&mut self) -> io::Result<u64> {
        let skipped = hole::skip(self.file, self.left)?;
        self.left -= skipped;
        Ok(skipped)
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "freebsd"))]
mod hole {
    use branchmesh_image::chunk::PAGE;
    use rustix::{
        fs::{SeekFrom, seek},
        io::Errno,
    };
    use std::{
        fs::File,
        io::{self, Seek},
    };

    /// Passes over the hole at the file's position, over `most` bytes at the most: how many it was. Zero where
    /// the file system knows of none, or tells nothing.
    pub(super) fn skip(mut file: &File, most: u64) -> io::Result<u64> {
        let here = file.stream_position()?;
        let hole = match seek(file, SeekFrom::Data(here)) {
            // A page that begins with a hole has to be read.
            Ok(data) if data.saturating_sub(here) < most => round_to_page(data.saturating_sub(here)),
            Ok(_) => most,
            Err(Errno::NXIO) => file.metadata()?.len().saturating_sub(here).min(most),
            Err(_) => 0,
        };
        file.seek(io::SeekFrom::Start(here + hole))?;
        Ok(hole)
    }

    fn round_to_page(bytes: u64) -> u64 {
        bytes - bytes % PAGE as u64
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "freebsd")))]
mod hole {
    use std::{fs::File, io};

    pub(super) fn skip(_: &File, _: u64) -> io::Result<u64> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use branchmesh_image::{BlockSize, Chunker, Cut};
    use std::io::{Seek, SeekFrom, Write};

    /// A file with data at these places, and nothing between; its length; and the same with the zeros written.
    fn sparse_and_full(data: &[(u64, usize)], length: u64) -> (File, Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        let mut full = vec![0; usize::try_from(length).unwrap()];
        for (at, bytes) in data {
            file.seek(SeekFrom::Start(*at)).unwrap();
            file.write_all(&vec![7; *bytes]).unwrap();
            full[usize::try_from(*at).unwrap()..][..*bytes].fill(7);
        }
        file.set_len(length).unwrap();
        file.rewind().unwrap();
        (file, full)
    }

    fn cuts(source: impl Source) -> Vec<Cut> {
        Chunker::new(source, BlockSize::default()).collect::<io::Result<_>>().unwrap()
    }

    #[test]
    fn a_file_with_holes_is_cut_as_if_its_zeros_had_been_read() {
        let length = (24 << 20) + 100;
        for data in [
            &[][..],
            &[(0, 100_000)],
            &[(0, 1), ((9 << 20) + 1234, 500), (20 << 20, 40_000)],
            &[(length - 1, 1)],
            &[(5000, 3 << 20), (length - 5000, 5000)],
        ] {
            let (file, full) = sparse_and_full(data, length);
            assert_eq!(cuts(Content::new(&file, length + 1)), cuts(&full[..]), "data at {data:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_hole_is_not_read() {
        struct Counted<'a>(Content<'a>, u64);
        impl Read for Counted<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.0.read(buffer)?;
                self.1 += read as u64;
                Ok(read)
            }
        }
        impl Source for &mut Counted<'_> {
            fn skip_zeros(&mut self) -> io::Result<u64> {
                self.0.skip_zeros()
            }
        }
        let length = 1 << 40;
        let file = tempfile::tempfile().unwrap();
        file.set_len(length).unwrap();
        let mut counted = Counted(Content::new(&file, length + 1), 0);
        assert_eq!(cuts(&mut counted), [Cut::Hole(length)]);
        assert!(counted.1 <= 4 << 20, "{} bytes were read", counted.1);
    }

    #[test]
    fn the_limit_holds_inside_a_hole_and_behind_it() {
        for limit in [0, 1, 4096, 8 << 20, (8 << 20) + 4096] {
            let (mut file, full) = sparse_and_full(&[(8 << 20, 8192)], 64 << 20);
            let expected = &full[..usize::try_from(limit).unwrap()];
            assert_eq!(cuts(Content::new(&file, limit)), cuts(expected), "limit {limit}");
            file.rewind().unwrap();
            let mut content = Content::new(&file, limit);
            let skipped = content.skip_zeros().unwrap();
            assert!(skipped <= limit && skipped + content.left == limit);
        }
    }
}
