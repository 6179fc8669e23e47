"""Where the large blocks of a .blend begin and end, so that an address next to one does not change its chunks.

A .blend is a row of blocks, each with a head that holds the address its data had in memory. Opened
anew and saved, the same scene has other addresses: every head differs, and whatever points to
something. A mesh's positions or a packed picture do not; cut out of what surrounds them, they stay the
chunks that they were. (Blender 5.2 writes numbers in place of addresses, but counts them anew.)

The format is that of `scripts/modules/_blendfile_header.py`, which Blender has from 5.0 on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

LARGE_BLOCK_BYTES = 1 << 16
"""Cutting smaller ones out would cost more in recipes than it spares in chunks."""
_HEADER_BYTES = 17
"""Of a file; before Blender 5.0 it was 12."""
_HEADS = {
    b"BLENDER-v": (12, struct.Struct("<4siQii"), 1),
    b"BLENDER17-01v": (_HEADER_BYTES, struct.Struct("<4siQqq"), 3),
}
"""How a file begins -> where its first block does, the head of a block, and which of its numbers is the length."""


def borders(file: BinaryIO) -> Iterator[int]:
    """Where the data of each large block begins and ends, in order; of what is no .blend, or no longer one, none."""
    beginning = file.read(_HEADER_BYTES)
    found = [format_ for magic, format_ in _HEADS.items() if beginning.startswith(magic)]
    if not found:
        return
    position, head, which = found[0]
    size = file.seek(0, os.SEEK_END)
    while True:
        file.seek(position)
        data = file.read(head.size)
        if len(data) < head.size:
            return
        values = head.unpack(data)
        length = values[which]
        position += head.size
        if values[0] == b"ENDB" or not 0 <= length <= size - position:
            return
        if length >= LARGE_BLOCK_BYTES:
            yield position
            yield position + length
        position += length
