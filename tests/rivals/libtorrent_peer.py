"""One peer of a swarm on a LAN: libtorrent 2.0 with its local discovery, and nothing that needs the internet.

    libtorrent_peer.py TORRENT FOLDER DONE [--tuned] [--holder]

It makes the file DONE when it has everything, and goes on giving until it is killed. Without options, all settings that
matter on a LAN are libtorrent's own. `--tuned` is what somebody who knows it would set for this case: TCP alone (uTP
makes way for other traffic), nobody choked, and super-seeding at the `--holder`.
"""

import pathlib
import sys
import time

import libtorrent

LOOK_EVERY = 0.05
OFFLINE = {
    "listen_interfaces": "0.0.0.0:6881",
    "enable_lsd": True,
    "enable_dht": False,
    "enable_upnp": False,
    "enable_natpmp": False,
}
TUNED = {"enable_incoming_utp": False, "enable_outgoing_utp": False, "unchoke_slots_limit": -1}


def main():
    torrent, folder, done, *options = sys.argv[1:]
    is_tuned = "--tuned" in options
    session = libtorrent.session({**OFFLINE, **(TUNED if is_tuned else {})})
    wanted = libtorrent.add_torrent_params()
    wanted.ti = libtorrent.torrent_info(torrent)
    wanted.save_path = folder
    # Starts at once, not when the queue of torrents is next looked at.
    wanted.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    if is_tuned and "--holder" in options:
        wanted.flags |= libtorrent.torrent_flags.super_seeding
    handle = session.add_torrent(wanted)
    while not handle.status().is_seeding:
        time.sleep(LOOK_EVERY)
    pathlib.Path(done).touch()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
