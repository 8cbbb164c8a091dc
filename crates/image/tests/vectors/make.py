#!/usr/bin/env python3
"""Makes blocks.txt and descriptions.txt beside it: known answers for the encryption of groups.

Written from docs/format.md with other libraries than branchmesh uses, so that the files are not the product's own
output:  pip install blake3 cryptography && python3 make.py
"""

from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK = b"branchmesh block v1"
DESCRIPTION = b"branchmesh description v1"
METHOD_RAW = b"\x00"

KEYS = [bytes(32), bytes(range(32)), blake3(b"a group's key").digest()]
# Nothing that zstd could shrink: what it makes of a block is not part of the format.
PLAINTEXTS = [b"", b"\x00", b"branchmesh", blake3(b"noise").digest(length=1000)]
DESCRIPTIONS = [
    (b"finance/00112233445566778899aabbccddeeff", b"{}"),
    (b"finance/00112233445566778899aabbccddeeff", b'{"image":"xp-finance","release":"7"}'),
    (b"finance/ffeeddccbbaa99887766554433221100", b'{"image":"xp-finance","release":"7"}'),
    ("büro/00112233445566778899aabbccddeeff".encode(), b""),
]


def derive(group_key: bytes, kind: bytes, purpose: bytes, data: bytes) -> bytes:
    return blake3(kind + b"/" + purpose + b"/" + data, key=group_key).digest()


def seal(key: bytes, nonce: bytes, aad: bytes, payload: bytes) -> bytes:
    return nonce + AESGCM(key).encrypt(nonce, payload, aad)


def block(group_key: bytes, plain: bytes) -> dict[str, bytes]:
    plain_hash = blake3(plain).digest()
    payload = METHOD_RAW + plain
    key = derive(group_key, BLOCK, b"key", plain_hash)
    nonce = derive(group_key, BLOCK, b"nonce", payload)[:12]
    sealed = seal(key, nonce, BLOCK, payload)
    return {
        "group_key": group_key,
        "plain": plain,
        "plain_hash": plain_hash,
        "payload": payload,
        "key": key,
        "nonce": nonce,
        "sealed": sealed,
        "id": blake3(sealed).digest(),
        "public_id": blake3(payload).digest(),
    }


def description(group_key: bytes, context: bytes, json: bytes) -> dict[str, bytes]:
    key = derive(group_key, DESCRIPTION, b"key", context)
    nonce = derive(group_key, DESCRIPTION, b"nonce", json)[:12]
    sealed = seal(key, nonce, DESCRIPTION + b"/" + context, json)
    return {
        "group_key": group_key,
        "context": context,
        "json": json,
        "key": key,
        "nonce": nonce,
        "sealed": sealed,
    }


def write(name: str, vectors: list[dict[str, bytes]]) -> None:
    text = "\n".join("".join(f"{field} = {value.hex()}\n" for field, value in v.items()) for v in vectors)
    Path(__file__).with_name(name).write_text(text, encoding="ascii")


write("blocks.txt", [block(key, plain) for key in KEYS for plain in PLAINTEXTS])
write("descriptions.txt", [description(key, *what) for key in KEYS for what in DESCRIPTIONS])
