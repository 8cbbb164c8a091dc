//! How fast each step of a block is on one core of this machine: `cargo bench -p branchmesh-image --bench speed`.
//! Figures for people, not limits: a build machine's speed is anybody's guess.

#![allow(clippy::unwrap_used, reason = "it may fail by panicking")]

use branchmesh_image::{BlockSize, Chunker, Cipher, Cut, Decoder, Encoder, GroupKey, PlainHash};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Plaintext that each step works on.
const BYTES: usize = 64 << 20;
/// Each step is done so often, and the best time counts: the others were disturbed.
const ROUNDS: usize = 5;

fn main() {
    let noise = noise();
    let text = text();
    for size in BlockSize::ALL {
        report(&format!("cut noise, {size} on average"), BYTES, || {
            for cut in Chunker::new(&noise[..], size) {
                black_box(cut.unwrap());
            }
        });
    }
    let zeros = vec![0; BYTES];
    report("pass zeros", BYTES, || {
        for cut in Chunker::new(&zeros[..], BlockSize::default()) {
            black_box(cut.unwrap());
        }
    });
    let (noise, text) = (blocks(&noise), blocks(&text));
    report("hash", BYTES, || {
        for block in &text {
            black_box(PlainHash::of(block));
        }
    });
    let group = Cipher::Group(GroupKey::generate().unwrap());
    for level in [1, 3, 9] {
        encode(&format!("encode text, zstd level {level}"), &text, level, &Cipher::None);
    }
    encode("encode noise, zstd level 3", &noise, 3, &Cipher::None);
    encode("encode noise, zstd level 3, sealed", &noise, 3, &group);
    let hashed: Vec<_> = noise.iter().map(|block| (PlainHash::of(block), block.clone())).collect();
    report("seal", BYTES, || {
        for (hash, block) in &hashed {
            black_box(group.seal(hash, block.clone()));
        }
    });
    decode("decode text", &text, &Cipher::None);
    decode("decode text, sealed", &text, &group);
}

fn encode(what: &str, blocks: &[Vec<u8>], level: i32, cipher: &Cipher) {
    let mut encoder = Encoder::new(level, cipher.clone()).unwrap();
    report(what, BYTES, || {
        for block in blocks {
            black_box(encoder.encode(block).unwrap());
        }
    });
}

fn decode(what: &str, blocks: &[Vec<u8>], cipher: &Cipher) {
    let mut encoder = Encoder::new(3, cipher.clone()).unwrap();
    let encoded: Vec<_> = blocks.iter().map(|block| encoder.encode(block).unwrap()).collect();
    let mut decoder = Decoder::new(cipher.clone()).unwrap();
    report(what, BYTES, || {
        for (blob, block) in &encoded {
            black_box(decoder.decode(blob, block).unwrap());
        }
    });
}

fn report(what: &str, bytes: usize, mut step: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        step();
        best = best.min(start.elapsed());
    }
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    println!("{what}: {:.0} MiB/s", mebibytes / best.as_secs_f64());
}

fn blocks(file: &[u8]) -> Vec<Vec<u8>> {
    let data = |cut| match cut {
        Cut::Data(data) => Some(data),
        Cut::Hole(_) => None,
    };
    Chunker::new(file, BlockSize::default()).filter_map(|cut| data(cut.unwrap())).collect()
}

/// Bytes that do not compress.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that compress about as well as the files of a system do: words from a small dictionary.
fn text() -> Vec<u8> {
    let mut reader = blake3::Hasher::new().finalize_xof();
    let mut text = Vec::with_capacity(BYTES + 8);
    let mut numbers = [0; 4096];
    while text.len() < BYTES {
        reader.fill(&mut numbers);
        for pair in numbers.as_chunks::<2>().0 {
            let word = u32::from(u16::from_le_bytes(*pair)) % 3000;
            text.extend_from_slice(&word.wrapping_mul(0x9e37_79b9).to_le_bytes());
        }
    }
    text.truncate(BYTES);
    text
}
