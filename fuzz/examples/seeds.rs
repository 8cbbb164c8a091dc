//! Writes the seeds of the corpus: real encodings, and the bad ones that once were thought of.
//!
//! `cargo run -p branchmesh-fuzz --example seeds`. Files that fuzzing found beside them stay.

#![allow(clippy::unwrap_used, missing_docs)] // a tool for developers: it stops at the first thing that is wrong

use branchmesh_fuzz::{
    input::part,
    sample::{Sample, group_cipher, group_key, noise},
    world::{Files, World},
};
use branchmesh_image::{BlockId, Cipher, Extents, IndexId, Location, PackId, PlainHash};
use branchmesh_repo::{ExcerptHead, Holdings};
use branchmesh_wire::{BlockSet, Hello, Message, Note, Request, ResponseHead, Runs};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path};

fn main() {
    texts("address", ADDRESSES);
    texts(
        "subscription",
        &["*", "xp-finance", "xp-finance@stable", "xp finance@7", "a@b@c", "*@x", "a/b", "nul", ""],
    );
    requirements();
    group_keys();
    blocks();
    descriptions();
    bundles();
    indexes();
    messages();
    metadata(World::good_files());
    signed_metadata(&World::good());
}

const ADDRESSES: &[&str] = &[
    "https://images.example.com/repo",
    "http://user:secret@[2001:db8::1]:8080/a/../repo?x=1#y",
    "file:///srv/images",
    "file://host/share",
    "/srv/images",
    "relative/folder",
    "up/../and/down",
    r"C:\images",
    "s3://bucket/prefix",
    "ftp://example.com/",
    "https://",
    "://",
    "",
    "a%zz\u{0}b",
];

fn requirements() {
    for (number, (text, value)) in [
        ("engine >= 6.1", "6.10"),
        ("engine>=6.1-beta+3", "6.1"),
        ("engine != kvm", "xen"),
        ("engine = \u{fc}", ""),
        ("engine < 99999999999999999999999", "99999999999999999999998"),
        (">= 6", "1"),
    ]
    .into_iter()
    .enumerate()
    {
        seed("requirement", &format!("{number}"), &[&part(text.as_bytes())[..], value.as_bytes()].concat());
    }
}

fn group_keys() {
    let line = group_key().to_line();
    texts("group_key", &[line.as_str(), &line[..40], "branchmesh-group-key-v2:00", "\u{feff}branchmesh", ""]);
}

fn blocks() {
    let payload =
        |level: i32, plain: &[u8]| [&[1][..], &zstd::bulk::compress(plain, level).unwrap()].concat();
    let raw = [&[0][..], &noise(1, 300)].concat();
    // Claims 1 GiB of zeros in some hundred bytes would be too large to make here: 4 MiB tell the same.
    let bomb = payload(19, &vec![0; 4 << 20]);
    let two_frames = [payload(3, b"first"), zstd::bulk::compress(b"second", 3).unwrap()].concat();
    for (name, body) in [
        ("raw", raw),
        ("text", payload(3, &b"the same words again ".repeat(200))),
        ("empty-frame", payload(3, b"")),
        ("bomb", bomb),
        ("two-frames", two_frames),
        ("cut-off", payload(3, &noise(2, 200))[..150].to_vec()),
        ("unknown-method", vec![9, 1, 2, 3]),
        ("raw-empty", vec![0]),
        ("no-frame", vec![1]),
        // Says that it has 10 MiB, and has nothing.
        ("lying-frame", vec![1, 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 1, 0xa0, 0, 1, 0, 0]),
        ("nothing", Vec::new()),
    ] {
        for switches in [0, 1, 4, 8] {
            seed("block", &format!("{name}-{switches}"), &[&[switches][..], &body].concat());
        }
    }
    let (_, sealed) = &Sample::new(group_cipher(), 1).blocks[0];
    seed("block", "sealed", &[&[3][..], sealed.bytes()].concat());
}

fn descriptions() {
    let json = br#"{"version":1,"image":"xp-finance","release":"7"}"#;
    for (name, text) in [("json", &json[..]), ("nothing", b""), ("short", b"01234567890")] {
        seed("description", name, &[&part(b"finance/00ff00ff")[..], text].concat());
    }
    let sealed = group_key().seal_description(b"finance/00ff00fe", json);
    seed("description", "of-another-place", &[&part(b"finance/00ff00ff")[..], &sealed].concat());
}

/// What a bundle is made from and of. Both have a checksum, which no mutation meets: the bad ones are made here.
fn bundles() {
    let mut holdings = Holdings::new("lyon", "pc-01", 1_700_000_000);
    let mut extents = Extents::default();
    for (offset, len) in [(0, 1), (300, 70_000), (32 << 20, 0), ((32 << 20) - 9, 9)] {
        extents.insert(&(offset..offset + len));
        holdings.insert(&Location { pack: PackId::of(&[1]), offset, len });
    }
    holdings.insert_all(PackId::of(b"whole"), &extents);
    let (have, head) = (holdings.to_bytes(), ExcerptHead::new(extents).to_bytes());
    for (target, good) in [("holdings", &have), ("excerpt", &head)] {
        seed(target, "good", good);
        seed(target, "cut-off", &good[..good.len() - 10]);
        seed(target, "with-more", &[&good[..], &noise(7, 100)].concat());
        let line = good.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut later = good.clone();
        later[line - 2] += 1;
        seed(target, "later-version", &later);
        let names = branchmesh_image::codec::encode(&(String::new(), String::new(), 1u32, 0u64));
        let bodies = [
            ("empty", Vec::new()),
            ("greedy", vec![253, 255, 255, 255, 255, 255, 0, 0, 0]),
            ("greedy-packs", [&names[..], &[252, 255, 255, 255, 255]].concat()),
            ("touching", vec![2, 0, 5, 0, 5]),
            ("overflowing", vec![2, 252, 255, 255, 255, 255, 252, 255, 255, 255, 255, 1, 1]),
            ("backwards", [&names[..], &[1], &[7; 32], &[1, 1, 252, 0, 0, 0, 2]].concat()),
        ];
        for (name, body) in bodies {
            let length = u32::try_from(body.len()).unwrap().to_le_bytes();
            let framed = [&good[..line], &length[..], &body[..]].concat();
            let checksum = PlainHash::of(&framed);
            seed(target, name, &[&framed[..], &checksum.0[..]].concat());
        }
    }
}

fn indexes() {
    let sample = Sample::new(Cipher::None, 1);
    seed("index_root", "root", &sample.root_plain);
    // Claims 2^32 files.
    let mut greedy = sample.root_plain[..14].to_vec();
    greedy.extend([252, 255, 255, 255, 255]);
    seed("index_root", "greedy", &greedy);
    seed("index_root", "later-version", &[&[2][..], &sample.root_plain[1..]].concat());
    for (number, plain) in sample.piece_plains.iter().enumerate() {
        seed("index_piece", &format!("{number}"), plain);
    }
    seed("index_piece", "cut-off", &sample.piece_plains[0][..100]);
    let pieces = sample.piece_plains.iter().map(|plain| part(plain));
    let whole: Vec<u8> = [part(&sample.root_plain)].into_iter().chain(pieces.clone()).flatten().collect();
    seed("index", "whole", &whole);
    let backwards: Vec<u8> = [part(&sample.root_plain)].into_iter().chain(pieces.rev()).flatten().collect();
    seed("index", "pieces-in-another-order", &backwards);
}

fn messages() {
    let release = IndexId::of(b"release");
    let runs = Runs::pack([1, 2, 3, 9, 4_000_000].into_iter()).remove(0);
    let mut half = BlockSet::empty(1000);
    for block in (0..1000).step_by(2) {
        half.insert(block);
    }
    let say = |name: &str, kind: u8, bytes: Vec<u8>| seed("message", name, &[&[kind][..], &bytes].concat());
    say("hello", 0, Hello::new("0.1.0").to_bytes());
    say("have-all", 1, Note::Have { release, blocks: BlockSet::full(4 << 20) }.to_bytes());
    say("have-half", 1, Note::Have { release, blocks: half }.to_bytes());
    say("gained", 1, Note::Gained { release, blocks: runs.clone() }.to_bytes());
    say("dropped", 1, Note::Dropped { release }.to_bytes());
    say("blocks", 2, Request::Blocks { release, blocks: runs }.to_bytes());
    say("part", 2, Request::IndexPart { release, id: BlockId::of(b"part") }.to_bytes());
    say("metadata", 2, Request::Metadata { name: "timestamp.json".into() }.to_bytes());
    say("response", 3, ResponseHead::Bytes(u32::MAX).to_bytes());
    say("status-cut-off", 4, noise(4, 200));
}

fn metadata(good: &Files) {
    let deep = "[".repeat(5000);
    for (number, (name, bytes)) in (0u8..).zip(good) {
        let given = [
            ("good", bytes.to_vec()),
            ("cut-off", bytes[..bytes.len() / 2].to_vec()),
            ("later", String::from_utf8_lossy(bytes).replace("\"version\":", "\"version\":1").into_bytes()),
            ("deep", deep.clone().into_bytes()),
            ("nothing", Vec::new()),
        ];
        for (kind, bytes) in given {
            seed("metadata", &format!("{name}-{kind}"), &[&[number][..], &bytes].concat());
        }
    }
    let texts: BTreeMap<&String, &str> =
        good.iter().map(|(name, bytes)| (name, std::str::from_utf8(bytes).unwrap())).collect();
    let kept = serde_json::to_vec(&texts).unwrap();
    seed("kept_metadata", "good", &kept);
    seed("kept_metadata", "cut-off", &kept[..kept.len() - 100]);
    seed("kept_metadata", "none-of-ours", br#"{"../escape.json":"{}","timestamp.json":""}"#);
    seed("root", "good", &[&[0][..], &good["1.root.json"]].concat());
    seed("root", "second", &[&[0][..], &good["2.root.json"]].concat());
    seed("root", "no-root", &[&[0][..], &good["timestamp.json"]].concat());
}

/// What the roles say, and what they should never say.
fn signed_metadata(good: &World) {
    let roles = [&good.root, &good.next_root, &good.targets, &good.group, &good.snapshot, &good.timestamp];
    for (number, role) in (0u8..).zip(roles) {
        let say = |name: &str, role: &Value| {
            seed(
                "signed_metadata",
                &format!("{number}-{name}"),
                &[&[number][..], role.to_string().as_bytes()].concat(),
            );
        };
        say("good", role);
        let spoilers: [(&str, &str, Value); 6] = [
            ("expired", "/expires", "1970-01-01T00:00:00Z".into()),
            ("far-version", "/version", u64::MAX.into()),
            ("no-targets", "/targets", json!({})),
            (
                "two-groups",
                "/delegations/roles",
                json!([good.targets["delegations"]["roles"][0], good.targets["delegations"]["roles"][0]]),
            ),
            ("wide-paths", "/delegations/roles/0/paths", json!(["*"])),
            ("group-is-role", "/delegations/roles/0/name", "targets".into()),
        ];
        for (name, pointer, value) in spoilers {
            let mut role = role.clone();
            if let Some(place) = role.pointer_mut(pointer) {
                *place = value;
                say(name, &role);
            }
        }
    }
    let mut targets = good.targets.clone();
    let (first, second) = (targets["targets"]["xp@1"].clone(), targets["targets"]["xp@2"].clone());
    targets["targets"] = json!({ "xp@2": first, "finance/x": second, "../xp@1": first, "": second });
    seed("signed_metadata", "wrong-names", &[&[2][..], targets.to_string().as_bytes()].concat());
    seed("root", "signed-here", &[&[1][..], good.root.to_string().as_bytes()].concat());
}

fn texts(target: &str, texts: &[&str]) {
    for (number, text) in texts.iter().enumerate() {
        seed(target, &number.to_string(), text.as_bytes());
    }
}

fn seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}
