//! The encryption of groups against answers that were computed by other libraries (`vectors/make.py`).

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use branchmesh_image::{
    BlobRef, BlockError, BlockId, Cipher, Decoder, Encoder, GroupKey, PlainHash, VerifiedBlock,
    crypt::CryptError,
};
use std::collections::HashMap;

/// One answer: its fields by name, from hexadecimal.
type Vector = HashMap<String, Vec<u8>>;

#[test]
fn blocks_are_sealed_as_the_format_says_and_open_again() {
    let vectors = read(include_str!("vectors/blocks.txt"));
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let group = Cipher::Group(group_key(&vector["group_key"]));
        for (cipher, id, encoded) in [
            (group, &vector["id"], &vector["sealed"]),
            (Cipher::None, &vector["public_id"], &vector["payload"]),
        ] {
            let (blob, block) = Encoder::new(3, cipher.clone()).unwrap().encode(&vector["plain"]).unwrap();
            assert_eq!(block.bytes(), encoded);
            assert_eq!(blob.id.0, id[..]);
            assert_eq!(blob.plain.0, vector["plain_hash"][..]);

            // And backwards, from nothing but the file.
            let id = BlockId(id[..].try_into().unwrap());
            let blob = BlobRef { id, ..blob };
            let block = VerifiedBlock::verify(&id, encoded.clone()).unwrap();
            let plain = Decoder::new(cipher).unwrap().decode(&blob, &block).unwrap();
            assert_eq!(plain, vector["plain"]);
        }
        assert!(vector["sealed"].starts_with(&vector["nonce"]));
        assert_eq!(open(&vector, b"branchmesh block v1"), vector["payload"]);
    }
}

#[test]
fn descriptions_are_sealed_as_the_format_says_and_open_again() {
    let vectors = read(include_str!("vectors/descriptions.txt"));
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let key = group_key(&vector["group_key"]);
        let sealed = key.seal_description(&vector["context"], &vector["json"]);
        assert_eq!(sealed, vector["sealed"]);
        assert_eq!(key.open_description(&vector["context"], &vector["sealed"]).unwrap(), vector["json"]);
        assert!(vector["sealed"].starts_with(&vector["nonce"]));
        let aad = [b"branchmesh description v1/", &vector["context"][..]].concat();
        assert_eq!(open(&vector, &aad), vector["json"]);
    }
}

#[test]
fn ten_thousand_wrong_keys_open_nothing_and_each_is_told_why() {
    let right = group_key(PlainHash::of(b"the right key").0.as_slice());
    let plain = b"secret";
    let (blob, block) = Encoder::new(3, Cipher::Group(right.clone())).unwrap().encode(plain).unwrap();
    let description = right.seal_description(b"finance/00", plain);
    for number in 0..10_000u32 {
        let wrong = group_key(PlainHash::of(&number.to_le_bytes()).0.as_slice());
        assert!(matches!(wrong.open_description(b"finance/00", &description), Err(CryptError::WrongKey)));
        let cipher = Cipher::Group(wrong);
        assert!(matches!(cipher.open(&blob.plain, block.bytes()), Err(CryptError::WrongKey)));
    }
    let wrong = Cipher::Group(group_key(&[7; 32]));
    let error = Decoder::new(wrong).unwrap().decode(&blob, &block).unwrap_err();
    assert!(matches!(error, BlockError::Crypt(CryptError::WrongKey)));
    assert!(error.to_string().contains("key"), "{error}");
}

/// What the vector's own key opens, without branchmesh.
fn open(vector: &Vector, aad: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &vector["key"]).unwrap());
    let (nonce, body) = vector["sealed"].split_at(12);
    let mut body = body.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
    key.open_in_place(nonce, Aad::from(aad), &mut body).unwrap().to_vec()
}

fn group_key(bytes: &[u8]) -> GroupKey {
    format!("branchmesh-group-key-v1:{}", hex::encode(bytes)).parse().unwrap()
}

fn read(text: &str) -> Vec<Vector> {
    let field = |line: &str| {
        let (name, value) = line.split_once(" = ").unwrap();
        (name.to_owned(), hex::decode(value).unwrap())
    };
    text.replace('\r', "").split("\n\n").map(|vector| vector.lines().map(field).collect()).collect()
}
