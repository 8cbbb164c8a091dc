//! Looks for secrets in files that must not give any away: content by windows of 16 bytes, words in all spellings in
//! which a program might have written them.

use std::{collections::HashSet, io::Read};

/// Bytes of content that must not be found together.
pub const WINDOW: usize = 16;
/// Windows with fewer different bytes are no secret: padding, tables, lines of dashes.
const DIFFERENT_MIN: usize = 6;

/// How a zstd frame begins (RFC 8878, section 3.1.1).
const FRAME_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Most bytes that a frame is opened to: no block and no part of an index of a test is larger.
const FRAME_PLAIN_MAX: u64 = 1 << 20;

/// Secret content and secret words.
#[derive(Debug, Default)]
pub struct Secrets {
    windows: HashSet<[u8; WINDOW]>,
    /// As (word, spelling, whether capitals matter).
    spellings: Vec<(String, Vec<u8>, bool)>,
}

/// What was found in some bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many windows of content.
    pub windows: usize,
    /// Which words.
    pub words: Vec<String>,
}

impl Found {
    /// Whether nothing was.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Secrets {
    /// Makes a secret of each 16 bytes of `content`, wherever they begin.
    pub fn add_content(&mut self, content: &[u8]) {
        self.windows.extend(windows(content).filter(is_telling));
    }

    /// Takes back what `harmless` holds, too.
    pub fn forget(&mut self, harmless: &[u8]) {
        windows(harmless).for_each(|window| {
            self.windows.remove(&window);
        });
    }

    /// Makes a secret of a word: in any capitals, as UTF-16, and in hex and base64 at any place of a longer text.
    pub fn add_word(&mut self, word: &str) {
        let mut add = |spelling: Vec<u8>, exact: bool| {
            self.spellings.push((word.into(), spelling, exact));
        };
        let lower = word.to_lowercase();
        add(lower.clone().into_bytes(), false);
        add(lower.encode_utf16().flat_map(u16::to_le_bytes).collect(), false);
        for text in [word, &lower] {
            add(text.bytes().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(), false);
            (0..3).for_each(|before| add(base64_inside(text.as_bytes(), before), true));
        }
    }

    /// How many windows of content are secret.
    #[must_use]
    pub fn window_count(&self) -> usize {
        self.windows.len()
    }

    /// Looks for all of them.
    #[must_use]
    pub fn find_in(&self, bytes: &[u8]) -> Found {
        let lower = bytes.to_ascii_lowercase();
        let holds = |spelling: &[u8], exact: bool| {
            let bytes = if exact { bytes } else { &lower };
            bytes.windows(spelling.len()).any(|window| window == spelling)
        };
        let mut words: Vec<String> = self
            .spellings
            .iter()
            .filter(|(_, spelling, exact)| holds(spelling, *exact))
            .map(|(word, ..)| word.clone())
            .collect();
        words.dedup();
        Found { windows: windows(bytes).filter(|window| self.windows.contains(window)).count(), words }
    }
}

/// The bytes, and after them all that is only compressed in them: compression hides nothing from anybody.
#[must_use]
pub fn with_frames_opened(bytes: &[u8]) -> Vec<u8> {
    let begins = bytes.windows(FRAME_MAGIC.len()).enumerate();
    let mut all = bytes.to_vec();
    for (begin, _) in begins.filter(|(_, window)| **window == FRAME_MAGIC) {
        let mut plain = Vec::new();
        let opened = zstd::stream::read::Decoder::with_buffer(&bytes[begin..])
            .and_then(|frame| frame.single_frame().take(FRAME_PLAIN_MAX).read_to_end(&mut plain));
        // What cannot be read to its end was no frame, or holds more secrets than are needed to find some.
        drop(opened);
        all.append(&mut plain);
    }
    all
}

/// How far the bytes are from evenly mixed ones: Pearson's chi-square over the 256 values, as standard deviations from
/// what noise has. Noise is within a few; what is compressed or plain is off by hundreds.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub fn unevenness(bytes: &[u8]) -> f64 {
    let mut counts = [0_u64; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let expected = bytes.len() as f64 / 256.0;
    let square: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    let freedom = 255.0_f64;
    (square - freedom) / (2.0 * freedom).sqrt()
}

fn windows(bytes: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> + '_ {
    bytes.windows(WINDOW).map(|window| window.try_into().expect("windows have their length"))
}

fn is_telling(window: &[u8; WINDOW]) -> bool {
    let mut sorted = *window;
    sorted.sort_unstable();
    let steps = sorted.windows(2).filter(|pair| pair[0] != pair[1]).count();
    steps + 1 >= DIFFERENT_MIN
}

/// What base64 makes of a text that follows `before` other bytes: the characters that depend on the text alone.
fn base64_inside(text: &[u8], before: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(text.iter().copied()).collect();
    let first = (before * 8).div_ceil(6);
    let end = padded.len() * 8 / 6;
    let digit = |number: usize| {
        let bit = number * 6;
        let at = |index: usize| u16::from(padded.get(index).copied().unwrap_or_default());
        let pair = at(bit / 8) << 8 | at(bit / 8 + 1);
        ALPHABET[usize::from(pair >> (10 - bit % 8) & 63)]
    };
    (first..end).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_every_spelling_and_nothing_else_is() {
        let mut secrets = Secrets::default();
        secrets.add_word("Project-Zebra");
        let utf16: Vec<u8> = "PROJECT-ZEBRA".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for hidden in [
            &b"..pRoJeCt-ZeBrA.."[..],
            b"a 70726F6A6563742D7A65627261 b",
            b"50726f6a6563742d5a65627261",
            b"UHJvamVjdC1aZWJyYQ==",
            b"eFByb2plY3QtWmVicmE=",
            b"eHlQcm9qZWN0LVplYnJh",
            &utf16,
        ] {
            assert_eq!(secrets.find_in(hidden).words, ["Project-Zebra"], "{hidden:?}");
        }
        assert!(secrets.find_in(b"project zebra, UHJvamVj").is_nothing());
    }

    #[test]
    fn content_is_found_at_every_offset_and_trifles_are_not() {
        let mut secrets = Secrets::default();
        secrets.add_content(b"the quick brown fox jumps over the lazy dog");
        secrets.add_content(&[0; 100]);
        assert_eq!(secrets.find_in(b"x quick brown fox j y").windows, 3);
        assert_eq!(secrets.find_in(b"x quick brown f y").windows, 0);
        assert!(secrets.find_in(&[0; 100]).is_nothing());
        secrets.forget(b"brown fox jumps ");
        assert_eq!(secrets.find_in(b"brown fox jumps over").windows, 4);
    }

    #[test]
    fn compression_hides_nothing() {
        let mut secrets = Secrets::default();
        secrets.add_content(&b"the quick brown fox jumps over the lazy dog".repeat(20));
        let frame =
            zstd::bulk::compress(&b"the quick brown fox jumps over the lazy dog".repeat(20), 3).unwrap();
        let file = [b"header".as_slice(), &frame, b"trailer", &FRAME_MAGIC, b"junk"].concat();
        assert!(secrets.find_in(&with_frames_opened(&file)).windows > 800);
    }

    #[test]
    fn noise_is_even_and_text_is_not() {
        let noise: Vec<u8> = (0_u32..1 << 18)
            .map(|number| number.wrapping_mul(2_654_435_761) ^ number >> 3)
            .map(|number| (number >> 13) as u8)
            .collect();
        assert!(unevenness(&noise).abs() < 12.0, "{}", unevenness(&noise));
        assert!(unevenness(&b"some words".repeat(1000)) > 1000.0);
    }
}
