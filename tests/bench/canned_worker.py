"""A worker without Blender that answers each request with the same tile: what is left is our own side.

Started as a node's Blender by tests.bench.channels, with the tile's file in $CANNED_TILE.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "engine" / "worker"))

from protocol import encode, read_frame

VERSION = (4, 5, 15)


def main() -> None:
    source = sys.stdin.buffer
    # The first line is the real worker's program; all that is taken from it is the nonce.
    packed = re.search(rb"b64decode\('(.+?)'\)", source.readline())
    program = zlib.decompress(base64.b64decode(packed[1])).decode()
    nonce = re.search(r"module\.main\('(\w+)'\[::-1\]\)", program)[1][::-1]
    tile = Path(os.environ["CANNED_TILE"]).read_bytes()

    def exactly(size: int) -> bytes:
        data = source.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def send(header: dict[str, object], payload: bytes = b"") -> None:
        for piece in encode(header, payload):
            view = memoryview(piece)
            while view:
                view = view[os.write(1, view) :]

    os.write(1, nonce.encode())
    about = {"system": "Linux", "machine": "x86_64", "blender_version": VERSION, "blender_path": sys.argv[0]}
    send({"type": "ready", **about, "cores": 1, "has_cycles": True})
    while True:
        header, _ = read_frame(exactly)
        if header["type"] == "open":
            send({"type": "opened", "seconds": 0.0, "device": "CPU", "names": [], "gpus": 0})
        elif header["type"] == "render":
            took = {"render_seconds": 1e-3, "seconds": 1e-3, "build_seconds": 0.0, "samples": {}}
            send({"type": "tile", "tile": header["tile"], "attempt": header["attempt"], **took}, tile)
        elif header["type"] == "bye":
            send({"type": "bye"})
            return


main()
