//! Where each block of a release came from, as the store keeps it across restarts: run lengths.

use branchmesh_image::codec;
use branchmesh_wire::Source;

/// Most bytes of a record: a release of the largest size whose blocks alternate.
const RECORD_MAX: usize = 16 << 20;

/// Packs the source of each block.
#[must_use]
pub fn pack(sources: &[Option<Source>]) -> Vec<u8> {
    let mut runs: Vec<(u8, u32)> = Vec::new();
    for source in sources {
        let code = match source {
            None => 0,
            Some(Source::Wan) => 1,
            Some(Source::Lan) => 2,
            Some(Source::Trimmed) => 3,
        };
        match runs.last_mut() {
            Some((last, count)) if *last == code => *count += 1,
            Some(_) | None => runs.push((code, 1)),
        }
    }
    codec::encode(&runs)
}

/// Unpacks the sources of `blocks` blocks. A record that does not fit counts as none: it only serves pictures.
#[must_use]
pub fn unpack(record: &[u8], blocks: usize) -> Vec<Option<Source>> {
    let runs: Vec<(u8, u32)> = codec::decode::<_, RECORD_MAX>(record).unwrap_or_default();
    let all = runs.into_iter().flat_map(|(code, count)| {
        let source = match code {
            1 => Some(Source::Wan),
            2 => Some(Source::Lan),
            3 => Some(Source::Trimmed),
            _ => None,
        };
        std::iter::repeat_n(source, count as usize)
    });
    let mut sources: Vec<_> = all.take(blocks).collect();
    sources.resize(blocks, None);
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_round_trip_and_a_damaged_record_is_no_record() {
        let sources =
            [None, Some(Source::Wan), Some(Source::Wan), Some(Source::Lan), Some(Source::Trimmed), None];
        assert_eq!(unpack(&pack(&sources), 6), sources);
        assert_eq!(unpack(&pack(&sources), 3), sources[..3]);
        assert_eq!(unpack(b"\xff\xff\xff", 2), [None, None]);
        let hostile = codec::encode(&vec![(1u8, u32::MAX); 100]);
        assert_eq!(unpack(&hostile, 4), [Some(Source::Wan); 4]);
    }
}
