#!/bin/sh
# aria2 calls this when it has all pieces of a torrent; it makes the file that the environment names.
touch "$DONE"
