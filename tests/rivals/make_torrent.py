"""Makes a torrent of one file, for peers that find each other by local discovery: no tracker, no DHT nodes.

    make_torrent.py FILE TORRENT

Nothing but the standard library, so that aria2 can be measured where libtorrent is not installed.
"""

import hashlib
import os
import sys

PIECE_BYTES = 256 << 10


def encoded(value):
    """`value` as bencode."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    return b"d" + b"".join(encoded(key) + encoded(value[key]) for key in sorted(value)) + b"e"


def main():
    source, torrent = sys.argv[1:]
    with open(source, "rb") as file:
        pieces = b"".join(hashlib.sha1(piece).digest() for piece in iter(lambda: file.read(PIECE_BYTES), b""))
    info = {
        b"length": os.path.getsize(source),
        b"name": os.path.basename(source).encode(),
        b"piece length": PIECE_BYTES,
        b"pieces": pieces,
    }
    with open(torrent, "wb") as file:
        file.write(encoded({b"info": info}))


if __name__ == "__main__":
    main()
