//! Taking an input apart: numbers from its front, the rest as bytes.
//!
//! What an input lacks is zero, so that every input means something and a fuzzer may shorten it freely.

/// The part of an input that has not been taken.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// A whole input.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// The next two bytes, little endian.
    pub fn length(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// The next `length` bytes, or as many as there are.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A part with its length before it, as [`part`] writes it.
    pub fn part(&mut self) -> &'a [u8] {
        let length = self.length();
        self.take(length)
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// `bytes` with their length before them.
///
/// # Panics
/// If they are 64 KiB or more.
#[must_use]
pub fn part(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a part of an input is below 64 KiB");
    [&length.to_le_bytes(), bytes].concat()
}
