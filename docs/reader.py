#!/usr/bin/env python3
"""A second reader of the repository format, written from format.md alone, without looking at the code of branchmesh.

It exists to prove that the page is complete, and as a way to get at releases that needs no branchmesh. It reads a
repository in a folder, verifies everything from the root of trust on, and writes the files of the releases that it
can open. It is a reader for people: it remembers nothing between runs, so it cannot notice a rollback.

    pip install blake3 zstandard cryptography
    reader.py REPO --root root.json [--key GROUP=FILE]... [--release NAME@RELEASE] [--to FOLDER] [--allow-expired]

On stdout: what it read, as JSON. Exit code 1 and a line on stderr if anything is not as it should be.
"""

import argparse
import hashlib
import json
import os
import sys
import unicodedata
from datetime import datetime, timezone
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KIB, MIB = 1024, 1024 * 1024
BLOCK_MAX, BLOCK_ENCODED_MAX, PACK_MAX = 256 * KIB, 256 * KIB + 29, 32 * MIB
ROOT_PLAIN_MAX, PIECE_PLAIN_MAX, BLOCKS_MAX = 64 * MIB, 128 * KIB, 4_194_304
DEVICES = {"CON", "PRN", "AUX", "NUL"} | {f"{name}{digit}" for name in ("COM", "LPT") for digit in range(10)}


class Refused(Exception):
    """Something is not as format.md says."""


def require(condition, reason):
    if not condition:
        raise Refused(reason)


# Section 2: names


def check_component(name):
    size = len(name.encode())
    require(1 <= size <= 200 and name not in (".", ".."), f"bad length of name {name!r}")
    bad = any(unicodedata.category(c) == "Cc" or c in '/\\:*?"<>|' for c in name)
    require(not bad and not name.startswith(" ") and not name.endswith((" ", ".")), f"bad name {name!r}")
    require(name.split(".")[0].rstrip().upper() not in DEVICES, f"device name {name!r}")


def check_name(name):
    check_component(name)
    require("@" not in name and not name.startswith("-") and name != "*", f"bad name {name!r}")


def check_path(path):
    components = path.split("/")
    require(len(components) <= 32, f"deep path {path!r}")
    for component in components:
        check_component(component)


# Sections 3 and 4: blobs and seals


def derive(key, kind, purpose, data):
    return blake3(kind + b"/" + purpose + b"/" + data, key=key).digest()


def open_seal(key, aad, sealed):
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], aad)
    except (InvalidTag, ValueError) as error:
        raise Refused("a seal does not open: another group's key, or damaged") from error


def read_key(path):
    prefix, _, digits = Path(path).read_text().strip().partition(":")
    key = bytes.fromhex(digits)
    require(prefix == "branchmesh-group-key-v1" and len(key) == 32, f"{path} is no group key")
    return key


def decode(ref, encoded, key):
    """The plaintext of a blob; `ref` is (id, plain, encoded_len, plain_len)."""
    blob_id, plain_hash, encoded_len, plain_len = ref
    require(len(encoded) == encoded_len and blake3(encoded).digest() == blob_id, f"{blob_id.hex()} is damaged")
    payload = encoded
    if key is not None:
        kind = b"branchmesh block v1"
        payload = open_seal(derive(key, kind, b"key", plain_hash), kind, encoded)
    require(payload[:1] in (b"\0", b"\1"), f"{blob_id.hex()} has an unknown encoding")
    plain = payload[1:]
    if payload[0] == 1:
        with zstandard.ZstdDecompressor().stream_reader(plain, read_across_frames=True) as stream:
            plain = stream.read(plain_len + 1)
    require(len(plain) == plain_len and blake3(plain).digest() == plain_hash, f"{blob_id.hex()} decodes wrongly")
    return plain


# Section 5: binary encoding


class Parser:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        require(self.at + count <= len(self.data), "the encoding ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self, bits):
        first = self.take(1)[0]
        if first < 251:
            return first
        width = {0xFB: 2, 0xFC: 4, 0xFD: 8}.get(first)
        require(width is not None and width * 8 <= bits, "an integer is wider than its field")
        return int.from_bytes(self.take(width), "little")

    def hash(self):
        return self.take(32)

    def string(self):
        return self.take(self.integer(64)).decode()

    def list(self, item):
        return [item() for _ in range(self.integer(64))]

    def u16(self):
        return self.integer(16)

    def u32(self):
        return self.integer(32)

    def u64(self):
        return self.integer(64)

    def end(self):
        require(self.at == len(self.data), "bytes follow the encoded value")


# Section 6: the index


def parse_root(data, release):
    parser = Parser(data)

    def extent():
        number = parser.u32()
        require(number in (0, 1), "an unknown extent")
        return ("hole", parser.u64()) if number == 0 else ("blocks", parser.u32(), parser.u32())

    def file():
        path, size, mode = parser.string(), parser.u64(), parser.u32()
        return {"path": path, "size": size, "mode": mode & 0o777, "extents": parser.list(extent)}

    def reference():
        return (parser.hash(), parser.hash(), parser.u32(), parser.u32())

    require(parser.u16() == 1, "the index has another version")
    image, name = parser.string(), parser.string()
    require((image, name) == (release["image"], release["release"]), "the index is of another release")
    files, pieces = parser.list(file), parser.list(reference)
    parser.end()
    for entry in files:
        check_path(entry["path"])
    require(len({entry["path"].lower() for entry in files}) == len(files), "a path comes twice")
    require(all(piece[3] <= PIECE_PLAIN_MAX for piece in pieces), "a piece is too large")
    return files, pieces


def parse_piece(data):
    parser = Parser(data)
    require(parser.u16() == 1, "a piece has another version")
    packs = parser.list(parser.hash)
    kinds = (parser.hash, parser.hash, parser.u32, parser.u32, parser.u16, parser.u32)
    columns = [parser.list(kind) for kind in kinds]
    parser.end()
    require(1 <= len(columns[0]) <= 1024 and len({len(column) for column in columns}) == 1, "uneven columns")
    blocks = []
    for blob_id, plain, plain_len, encoded_len, pack, offset in zip(*columns):
        require(1 <= plain_len <= BLOCK_MAX and 1 <= encoded_len <= BLOCK_ENCODED_MAX, "an impossible length")
        require(pack < len(packs) and offset + encoded_len <= PACK_MAX, "a block lies nowhere")
        blocks.append(((blob_id, plain, encoded_len, plain_len), packs[pack], offset))
    return blocks


# Section 8: signed metadata


def canonical(value):
    if isinstance(value, dict):
        members = sorted((canonical(name), canonical(member)) for name, member in value.items())
        return b"{" + b",".join(name + b":" + member for name, member in members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if isinstance(value, str):
        text = unicodedata.normalize("NFC", value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'.encode()
    require(value is None or isinstance(value, int), "a number with a fraction")
    return json.dumps(value).encode()


def check_signatures(file, keys, role, what):
    message, signers = canonical(file["signed"]), set()
    for signature in file["signatures"]:
        key_id = signature["keyid"]
        key = keys.get(key_id)
        if key_id not in role["keyids"] or key is None:
            continue
        require(hashlib.sha256(canonical(key)).hexdigest() == key_id, f"a key of {what} has another id")
        require((key["keytype"], key["scheme"]) == ("ed25519", "ed25519"), "a key of a type that is not known here")
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key["keyval"]["public"]))
            public.verify(bytes.fromhex(signature["sig"]), message)
            signers.add(key_id)
        except InvalidSignature:
            pass
    require(len(signers) >= role["threshold"], f"{what} has too few signatures")


class Metadata:
    def __init__(self, repo, root_json, allow_expired):
        self.folder = repo / "metadata"
        self.now, self.allow_expired = datetime.now(timezone.utc), allow_expired
        self.root = self.newest_root(json.loads(root_json))
        timestamp = self.role("timestamp", json.loads(self.file("timestamp.json", 64 * KIB)))
        require(set(timestamp["meta"]) == {"snapshot.json"}, "the timestamp names other files")
        snapshot = self.role("snapshot", self.named(timestamp["meta"], "snapshot", MIB))
        self.targets = self.role("targets", self.named(snapshot["meta"], "targets", 8 * MIB))
        self.groups = [self.group(snapshot["meta"], role) for role in self.delegated()]

    def newest_root(self, root):
        self.check_root(root, root["signed"])
        for _ in range(256):
            path = self.folder / f"{root['signed']['version'] + 1}.root.json"
            if not path.exists():
                break
            following = json.loads(self.file(path.name, MIB))
            self.check_root(following, root["signed"])
            self.check_root(following, following["signed"])
            require(following["signed"]["version"] == root["signed"]["version"] + 1, "a root has another version")
            root = following
        self.check_expiry(root["signed"], "root")
        return root["signed"]

    def check_root(self, file, by):
        require(file["signed"]["_type"] == "root", "a root is none")
        check_signatures(file, by["keys"], by["roles"]["root"], "root")

    def role(self, name, file):
        check_signatures(file, self.root["keys"], self.root["roles"][name], name)
        require(file["signed"]["_type"] == name, f"{name} is of another type")
        self.check_expiry(file["signed"], name)
        return file["signed"]

    def delegated(self):
        roles = self.targets.get("delegations", {}).get("roles", [])
        require(len({role["name"].lower() for role in roles}) == len(roles), "a group comes twice")
        return roles

    def group(self, meta, role):
        name = role["name"]
        allowed = name.replace("-", "a").replace("_", "a")
        require(len(name) <= 64 and allowed.isascii() and allowed.isalnum(), f"bad group {name!r}")
        require(name.lower() not in ("root", "targets", "snapshot", "timestamp"), f"bad group {name!r}")
        check_name(name)
        file = self.named(meta, name, 8 * MIB)
        check_signatures(file, self.targets["delegations"]["keys"], role, name)
        signed = file["signed"]
        require(signed["_type"] == "targets" and not signed.get("delegations", {}).get("roles"), f"bad role {name}")
        require(all(target.startswith(name + "/") for target in signed["targets"]), f"{name} speaks for others")
        return name, signed

    def named(self, meta, name, limit):
        entry = meta[f"{name}.json"]
        data = self.file(f"{entry['version']}.{name}.json", limit)
        matches = len(data) == entry["length"] and hashlib.sha256(data).hexdigest() == entry["hashes"]["sha256"]
        file = json.loads(data)
        require(matches and file["signed"]["version"] == entry["version"], f"{name} is not the file that was named")
        return file

    def file(self, name, limit):
        with open(self.folder / name, "rb") as file:
            data = file.read(limit + 1)
        require(len(data) <= limit, f"{name} is too large")
        return data

    def check_expiry(self, signed, what):
        expires = datetime.fromisoformat(signed["expires"].replace("Z", "+00:00"))
        require(self.allow_expired or expires > self.now, f"{what} has expired")


# Section 9: descriptions


def releases(metadata, keys):
    """The releases that can be opened here, by name."""
    owners, found, ids = {}, {}, set()
    for role, signed in [(None, metadata.targets), *metadata.groups]:
        readable = []
        for name, target in signed["targets"].items():
            try:
                readable.append(describe(role, name, target, keys))
            except (Refused, KeyError, ValueError, TypeError) as error:
                print(f"left out {name}: {error}", file=sys.stderr)
        for release in sorted(readable, key=lambda release: (release["sequence"], release["root"][0])):
            name, image = f"{release['image']}@{release['release']}", release["image"].lower()
            if owners.setdefault(image, role) == role and name not in found and release["root"][0] not in ids:
                ids.add(release["root"][0])
                found[name] = release
    return found


def describe(role, name, target, keys):
    facts = target["custom"]["branchmesh"]
    require(facts["version"] == 1, "it needs a newer reader")
    root_id = bytes.fromhex(facts["root"]["id"])
    key = None
    if role is None:
        require(facts["encryption"] == "none", "a group's release among the public ones")
        description = facts
    else:
        require(facts["encryption"] == "group" and facts["group"] == role, "it is of another group")
        require(name == f"{role}/{root_id.hex()[:32]}", "it stands under another name")
        require(role in keys, f"the key of {role} is not here")
        key, kind = keys[role], b"branchmesh description v1"
        sealing_key = derive(key, kind, b"key", name.encode())
        description = json.loads(open_seal(sealing_key, kind + b"/" + name.encode(), bytes.fromhex(facts["sealed"])))
    check_name(description["image"])
    check_name(description["release"])
    if role is None:
        require(name == f"{description['image']}@{description['release']}", "it stands under another name")
    plain_len = description["root_plain_len"]
    require(target["length"] == facts["root"]["encoded_len"] and plain_len <= ROOT_PLAIN_MAX, "bad length of its index")
    root = (root_id, bytes.fromhex(description["root_plain"]), facts["root"]["encoded_len"], plain_len)
    return {**description, "root": root, "group": role, "key": key}


# Section 10: reading


def part(repo, ref):
    name = ref[0].hex()
    with open(repo / "indexes" / name[:2] / name, "rb") as file:
        return file.read(ref[2] + 1)


def block(repo, entry, key):
    ref, pack, offset = entry
    name = pack.hex()
    with open(repo / "packs" / name[:2] / f"{name}.pack", "rb") as file:
        file.seek(offset)
        return decode(ref, file.read(ref[2]), key)


def read_release(repo, release, folder):
    key = release["key"]
    files, pieces = parse_root(decode(release["root"], part(repo, release["root"]), key), release)
    blocks = [entry for ref in pieces for entry in parse_piece(decode(ref, part(repo, ref), key))]
    require(len(blocks) <= BLOCKS_MAX, "too many blocks")
    read = {}
    for file in files:
        size, hasher = 0, blake3()
        path = folder and folder / file["path"]
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(path or os.devnull, "wb") as out:
            for kind, first, *rest in file["extents"]:
                if kind == "hole":
                    contents = (bytes(min(MIB, first - at)) for at in range(0, first, MIB))
                else:
                    require(first + rest[0] <= len(blocks), "an extent names blocks that do not exist")
                    contents = (block(repo, entry, key) for entry in blocks[first : first + rest[0]])
                for content in contents:
                    size += len(content)
                    require(size <= file["size"], "a file is longer than it says")
                    hasher.update(content)
                    out.write(content)
        require(size == file["size"], "a file is shorter than it says")
        if path:
            path.chmod(file["mode"])
        read[file["path"]] = {"size": size, "mode": file["mode"], "blake3": hasher.hexdigest()}
    return {
        "group": release["group"],
        "channels": release.get("channels", []),
        "labels": release.get("labels", {}),
        "requires": release.get("requires", []),
        "block_size": release["block_size"],
        "id": release["root"][0].hex(),
        "blocks": len(blocks),
        "files": read,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repo", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="the root of trust, from a trusted hand")
    parser.add_argument("--key", action="append", default=[], metavar="GROUP=FILE", help="content key of a group")
    parser.add_argument("--release", metavar="NAME@RELEASE", help="this release only")
    parser.add_argument("--to", type=Path, help="folder to write the files into")
    parser.add_argument("--allow-expired", action="store_true", help="read what nobody may begin anew any more")
    args = parser.parse_args()
    try:
        keys = {group: read_key(path) for group, path in (key.split("=", 1) for key in args.key)}
        metadata = Metadata(args.repo, args.root.read_bytes(), args.allow_expired)
        found = {name: release for name, release in releases(metadata, keys).items() if args.release in (None, name)}
        require(found or args.release is None, f"there is no release {args.release} that can be opened here")
        read = {name: read_release(args.repo, release, args.to and args.to / name) for name, release in found.items()}
    except (Refused, OSError, KeyError, ValueError, TypeError) as error:
        sys.exit(f"refused: {error!r}")
    print(json.dumps(read, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
