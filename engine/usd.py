"""Which layers a USD file is made of, without the USD library, of which Blender's builds bring a Python module or not.

Blender's cache reads the geometry of a stage: sublayers, references and payloads, to whatever depth.
In a text layer their paths stand between `@`. A binary one (crate) has a table of all its words, among
which paths are known by their endings; the table is compressed by LZ4.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from pathlib import Path

LAYERS = (".usd", ".usda", ".usdc", ".usdz")
CRATE = b"PXR-USDC"
MOST_LAYERS = 10_000
MOST_WORDS_BYTES = 1 << 28
_ASSET = re.compile(rb"@@@(.+?)@@@|@([^@\n]+)@")
_SECTION = struct.Struct("<16sqq")


def layers(path: str) -> list[str]:
    """The file, and all that it is made of, also what is missing."""
    found = [path]
    for layer in found:
        try:
            names = _names(Path(layer))
        except (OSError, ValueError, struct.error, IndexError):
            continue  # Blender will make nothing of it either.
        # What follows a colon are arguments to the file's format.
        for name in (re.sub(r":SDF_FORMAT_ARGS:.*", "", word) for word in names):
            if name.lower().endswith(LAYERS) and len(found) < MOST_LAYERS:
                inner = os.path.normpath(Path(layer).parent / name)
                if inner not in found:
                    found.append(inner)
    return found


def _names(path: Path) -> list[str]:
    if path.suffix.lower() == ".usdz":  # An archive that holds all it needs.
        return []
    # A layer can have gigabytes, of which a crate's table of words is little.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(CRATE)] == CRATE:
            return [word.decode(errors="replace") for word in _words(data).split(b"\0")]
        return [
            (found[1] or found[2]).decode(errors="replace").partition("[")[0]  # of a package, the package
            for found in _ASSET.finditer(data)
            if not data[data.rfind(b"\n", 0, found.start()) + 1 : found.start()].lstrip().startswith(b"#")
        ]


def _words(data: mmap.mmap) -> bytes:
    """The table of words of a crate file. Raises ValueError or struct.error where it is none."""
    (contents,) = struct.unpack_from("<q", data, 16)
    (count,) = struct.unpack_from("<Q", data, contents)
    for number in range(min(count, 64)):
        name, start, _ = _SECTION.unpack_from(data, contents + 8 + number * _SECTION.size)
        if name.rstrip(b"\0") != b"TOKENS":
            continue
        if data[8:11] < b"\0\4\0":
            _, size = struct.unpack_from("<QQ", data, start)
            return data[start + 16 : start + 16 + size]
        _, size, packed_size = struct.unpack_from("<QQQ", data, start)
        if size > MOST_WORDS_BYTES:
            raise ValueError("a table of words that is too large")
        return _unpacked(data[start + 24 : start + 24 + packed_size], size)
    raise ValueError("no table of words")


def _unpacked(packed: bytes, size: int) -> bytes:
    """What USD has compressed: blocks of LZ4, each with its size before it where there are several."""
    if packed[0] == 0:
        return _lz4(packed[1:], size)
    out, at = bytearray(), 1
    for _ in range(packed[0]):
        (length,) = struct.unpack_from("<i", packed, at)
        out += _lz4(packed[at + 4 : at + 4 + length], size - len(out))
        at += 4 + length
    return bytes(out)


def _lz4(block: bytes, most: int) -> bytes:
    """One block: literal bytes and copies of what came before, in turn."""
    out, at = bytearray(), 0

    def more(length: int) -> int:
        nonlocal at
        while length >= 15:
            at += 1
            length += block[at - 1]
            if block[at - 1] != 255:
                break
        return length

    while at < len(block):
        token = block[at]
        at += 1
        literal = more(token >> 4)
        out += block[at : at + literal]
        at += literal
        if at >= len(block):
            break
        offset = block[at] | block[at + 1] << 8
        at += 2
        length = more(token & 15) + 4
        if not 0 < offset <= len(out) or len(out) + length > most:
            raise ValueError("a damaged block")
        for _ in range(length):  # The copy may overlap what it makes.
            out.append(out[-offset])
    return bytes(out)
