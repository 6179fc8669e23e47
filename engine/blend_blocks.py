"""The blocks of a .blend, and where the large ones begin and end, so that an address next to one does not change its chunks.

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
from dataclasses import dataclass
from typing import BinaryIO

LARGE_BLOCK_BYTES = 1 << 16
"""Cutting smaller ones out would cost more in recipes than it spares in chunks."""
_HEADER_BYTES = 17
"""Of a file; before Blender 5.0 it was 12."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block's head, and where its data is in the file."""

    code: bytes
    """Which kind of datablock begins here; DATA: this one belongs to the last."""
    address: int
    kind: int
    """Number of the structure that the data is of."""
    count: int
    """How many of them."""
    start: int
    size: int


def blocks(file: BinaryIO) -> Iterator[Block]:
    """All blocks in order; of what is no .blend, or no longer one, none."""
    beginning = file.read(_HEADER_BYTES)
    is_old = beginning.startswith(b"BLENDER-v")
    if is_old:
        position, head = 12, struct.Struct("<4siQii")
    elif beginning.startswith(b"BLENDER17-01v"):
        position, head = _HEADER_BYTES, struct.Struct("<4siQqq")
    else:
        return
    end = file.seek(0, os.SEEK_END)
    while True:
        file.seek(position)
        data = file.read(head.size)
        if len(data) < head.size:
            return
        code, *numbers = head.unpack(data)
        size, address, kind, count = numbers if is_old else (numbers[i] for i in (2, 1, 0, 3))
        position += head.size
        if code == b"ENDB" or not 0 <= size <= end - position:
            return
        yield Block(code.rstrip(b"\0"), address, kind, count, position, size)
        position += size


def borders(file: BinaryIO) -> Iterator[int]:
    """Where the data of each large block begins and ends, in order."""
    for block in blocks(file):
        if block.size >= LARGE_BLOCK_BYTES:
            yield block.start
            yield block.start + block.size
