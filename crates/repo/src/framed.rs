//! A value in a file of its own: a line that says what it is, its length, its bytes, and a checksum over all of it.
//!
//! The checksum is against damage, not against anybody who means harm: whoever reads such a file believes nothing
//! that matters because of it.

use branchmesh_image::PlainHash;

/// Bytes of the length.
const LENGTH_BYTES: usize = 4;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 32;

/// Why bytes are no framed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// They begin with something else.
    #[error("it is something else")]
    Other,
    /// They say that they are of another version.
    #[error("a newer branchmesh wrote it; update this one")]
    Later,
    /// They end too early.
    #[error("it is cut short")]
    Short,
    /// They are longer than such a value can be.
    #[error("it is larger than such a file can be")]
    TooLarge,
    /// They are not what was written.
    #[error("it is damaged: its checksum is another one")]
    Damaged,
}

/// How long the frame around `body_len` bytes is, with them.
pub(crate) fn framed_len(label: &str, body_len: usize) -> usize {
    label.len() + LENGTH_BYTES + body_len + CHECKSUM_BYTES
}

/// `body` in its frame. `label` is a line that ends with a version: `something v1`.
///
/// # Panics
/// If `body` has 4 GiB or more.
pub(crate) fn write(label: &str, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("what is framed is far below 4 GiB");
    let mut framed = Vec::with_capacity(framed_len(label, body.len()));
    framed.extend_from_slice(label.as_bytes());
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(body);
    let checksum = PlainHash::of(&framed);
    framed.extend_from_slice(&checksum.0);
    framed
}

/// How long the frame at the beginning of `head` is, with its body of at most `max` bytes.
pub(crate) fn length(label: &str, head: &[u8], max: usize) -> Result<usize, FrameError> {
    if !head.starts_with(label.as_bytes()) {
        let name = label.trim_end().trim_end_matches(|c: char| c.is_ascii_digit());
        let is_later =
            head.strip_prefix(name.as_bytes()).and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit);
        return Err(match (label.as_bytes().starts_with(head), is_later) {
            (true, _) => FrameError::Short,
            (false, true) => FrameError::Later,
            (false, false) => FrameError::Other,
        });
    }
    let length = head.get(label.len()..label.len() + LENGTH_BYTES).ok_or(FrameError::Short)?;
    let length = u32::from_le_bytes(length.try_into().map_err(|_| FrameError::Short)?) as usize;
    if length > max { Err(FrameError::TooLarge) } else { Ok(framed_len(label, length)) }
}

/// The body of the frame at the beginning of `bytes`, and what follows it.
pub(crate) fn read<'a>(label: &str, bytes: &'a [u8], max: usize) -> Result<(&'a [u8], &'a [u8]), FrameError> {
    let length = length(label, bytes, max)?;
    let (framed, rest) = bytes.split_at_checked(length).ok_or(FrameError::Short)?;
    let (checked, checksum) = framed.split_at(length - CHECKSUM_BYTES);
    if PlainHash::of(checked).0[..] != *checksum {
        return Err(FrameError::Damaged);
    }
    Ok((&checked[label.len() + LENGTH_BYTES..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "branchmesh test v1\n";

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let framed = write(LABEL, b"body");
        assert_eq!(framed.len(), framed_len(LABEL, 4));
        assert_eq!(read(LABEL, &[&framed[..], b"rest"].concat(), 4), Ok((&b"body"[..], &b"rest"[..])));
        for bit in 0..framed.len() * 8 {
            let mut other = framed.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(read(LABEL, &other, 1 << 30).is_err(), "bit {bit}");
        }
        for end in 0..framed.len() {
            assert_eq!(read(LABEL, &framed[..end], 4), Err(FrameError::Short), "{end} bytes");
        }
        assert_eq!(read(LABEL, &framed, 3), Err(FrameError::TooLarge));
    }

    #[test]
    fn a_later_version_and_another_file_are_told_apart() {
        assert_eq!(read(LABEL, b"branchmesh test v2\nwhatever", 99), Err(FrameError::Later));
        assert_eq!(read(LABEL, b"branchmesh test v12\n", 99), Err(FrameError::Later));
        assert_eq!(read(LABEL, b"<html>", 99), Err(FrameError::Other));
    }
}
