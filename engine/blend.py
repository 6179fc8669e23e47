"""Whether two snapshots show the same scene, though their bytes differ.

A .blend is a row of blocks, each with the address that it had in memory; fields that point to a block
hold that address, and fields of no meaning in a file some other one. Blender 4 writes some blocks from
copies that live for a moment, so two files saved one after the other differ in both. The block DNA1
says where in each structure its pointers are. Sources: Blender's doc/blender_file_format,
BLO_core_bhead.hh for the larger heads of Blender 5, dna_genfile.cc for DNA1.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .job import Job

UNSEEN = (b"WM", b"SN", b"SR", b"WS", b"GLOB", b"REND", b"TEST", b"USER")
"""Windows, screens, workspaces, thumbnails and the like: they change with each look at the scene."""
NAME_OFFSET = 40
"""Of the name in a datablock: after five pointers."""
Words = npt.NDArray[np.uint64]
UNTYPED = 0
"""Number of the structure that stands for no structure."""
POINTER_BYTES = 8
NOTE_BYTES = 4
"""Of a datablock's notes on what is to be computed anew, which undo keeps."""
_LENGTH = re.compile(r"\[(\d+)\]")
_OLD_HEAD = struct.Struct("<4siQii")
_NEW_HEAD = struct.Struct("<4siQqq")


def scene_name(job: Job, snapshot: Path) -> str:
    """The same for two jobs of an unchanged scene with unchanged files; empty where that cannot be told."""
    try:
        found = hashlib.sha256(scene_digest(snapshot, job.ignored).encode())
        for entry in job.pixels:
            for name in entry.files:
                found.update((snapshot.parent / name).read_bytes())
        for file in job.files:
            state = Path(file.source).stat()
            found.update(repr((file, state.st_size, state.st_mtime_ns, state.st_ino)).encode())
    except OSError:
        return ""
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class _Block:
    code: bytes
    address: int
    kind: int
    count: int
    data: memoryview


def scene_digest(path: Path, ignored: Collection[str] = ()) -> str:
    """A digest of all datablocks of an uncompressed .blend but `ignored` ones ("IMRender Result"), and but
    what belongs to the windows. Where two are equal, so are the scenes; not always the other
    way round. Raise OSError."""
    data = path.read_bytes()
    names = {name.encode() for name in ignored}
    try:
        blocks = list(_blocks(memoryview(data)))
        layouts = _layouts(next(block.data for block in blocks if block.code == b"DNA1"))
    except (ValueError, IndexError, StopIteration, struct.error):
        return hashlib.sha256(data).hexdigest()  # A format that is not known here.
    kept: list[_Block] = []
    is_kept = True
    for block in blocks:
        # Blocks that belong to a datablock follow it.
        if block.code != b"DATA":
            is_kept = block.code not in UNSEEN and not (names and _name_of(block) in names)
        if is_kept and block.address:
            kept.append(block)
    addresses = np.array([block.address for block in kept], np.uint64)
    order = np.argsort(addresses, kind="stable")
    places = _Places(addresses[order], (order + 1).astype(np.uint64))
    found = hashlib.sha256()
    for block in kept:
        found.update(b"%s %d %d %d " % (block.code, block.kind, block.count, len(block.data)))
        found.update(_without_addresses(block, layouts, places))
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class _Places:
    """Addresses of blocks in their order, and the numbers of the blocks."""

    addresses: Words
    numbers: Words

    def of(self, words: Words) -> Words:
        """The number of the block at each address; 0 where there is none."""
        at = np.minimum(np.searchsorted(self.addresses, words), len(self.addresses) - 1)
        return np.where(self.addresses[at] == words, self.numbers[at], np.uint64(0))


def _without_addresses(block: _Block, layouts: list[_Layout], places: _Places) -> memoryview | bytes:
    """The data with the number of a block in the place of its address."""
    size = len(block.data)
    if block.kind == UNTYPED:  # Whatever it is: a list of pointers as well as the pixels of an image.
        words = np.frombuffer(block.data[: size & ~7], np.uint64)
        numbers = places.of(words)
        if not numbers.any():
            return block.data
        return np.where(numbers, numbers, words).tobytes() + bytes(block.data[len(words) * 8 :])
    layout = layouts[block.kind] if 0 <= block.kind < len(layouts) else _Layout(0, (), ())
    if size < layout.size * block.count or not (layout.pointers or layout.notes):
        return block.data
    rows = np.frombuffer(block.data, np.uint8).copy()
    table = rows[: layout.size * block.count].reshape(block.count, layout.size)
    for offset in layout.pointers:
        field = np.ascontiguousarray(table[:, offset : offset + POINTER_BYTES]).view(np.uint64)[:, 0]
        table[:, offset : offset + POINTER_BYTES] = places.of(field).view(np.uint8).reshape(-1, POINTER_BYTES)
    for offset in layout.notes:
        table[:, offset : offset + NOTE_BYTES] = 0
    return rows.tobytes()


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of a structure: where in it what does not belong to the scene is, in bytes."""

    size: int
    pointers: tuple[int, ...]
    notes: tuple[int, ...]


def _layouts(dna: memoryview) -> list[_Layout]:
    """Of each structure, by its number. Raise ValueError, IndexError, struct.error."""
    place = 4

    def number(form: str = "<i") -> int:
        nonlocal place
        (found,) = struct.unpack_from(form, dna, place)
        place += struct.calcsize(form)
        return int(found)

    def section(tag: bytes) -> None:
        nonlocal place
        place = (place + 3) & ~3
        if bytes(dna[place : place + 4]) != tag:
            raise ValueError(f"no section {tag!r}")
        place += 4

    def texts() -> list[str]:
        nonlocal place
        count = number()
        found = bytes(dna[place:]).split(b"\0", count)[:count]
        place += sum(len(text) + 1 for text in found)
        return [text.decode() for text in found]

    section(b"NAME")
    names = texts()
    section(b"TYPE")
    types = texts()
    section(b"TLEN")
    sizes = [number("<H") for _ in types]
    section(b"STRC")
    structs: list[tuple[int, list[tuple[int, int]]]] = []
    for _ in range(number()):
        kind, fields = number("<H"), number("<H")
        structs.append((kind, [(number("<H"), number("<H")) for _ in range(fields)]))
    by_type = dict(structs)
    known: dict[int, tuple[list[int], list[int]]] = {}

    def places_in(kind: int) -> tuple[list[int], list[int]]:
        if kind in known:
            return known[kind]
        pointers: list[int] = []
        notes: list[int] = []
        start = 0
        for its_type, its_name in by_type.get(kind, ()):
            name = names[its_name]
            count = math.prod(int(length) for length in _LENGTH.findall(name))
            is_pointer = name.startswith(("*", "("))
            size = POINTER_BYTES if is_pointer else sizes[its_type]
            inner = ([0], []) if is_pointer else places_in(its_type)
            for at in range(start, start + size * count, size or 1):
                pointers += [at + offset for offset in inner[0]]
                notes += [at + offset for offset in inner[1]]
            if types[kind] == "ID" and name.startswith("recalc"):
                notes.append(start)
            start += size * count
        known[kind] = pointers, notes
        return known[kind]

    return [_Layout(sizes[kind], *map(tuple, places_in(kind))) for kind, _ in structs]


def _name_of(block: _Block) -> bytes:
    return bytes(block.data[NAME_OFFSET : NAME_OFFSET + 300]).partition(b"\0")[0]


def _blocks(data: memoryview) -> Iterator[_Block]:
    """Raise ValueError, struct.error for what is no uncompressed file of a 64-bit little-endian machine."""
    start = bytes(data[:17])
    if start.startswith(b"BLENDER-v"):
        head, place = _OLD_HEAD, 12
    elif start.startswith(b"BLENDER17-01v"):
        head, place = _NEW_HEAD, 17
    else:
        raise ValueError("no header that is known")
    while place < len(data):
        if head is _OLD_HEAD:
            code, size, address, kind, count = head.unpack_from(data, place)
        else:
            code, kind, address, size, count = head.unpack_from(data, place)
        place += head.size
        if size < 0 or place + size > len(data):
            raise ValueError("a block that is longer than the file")
        yield _Block(code.rstrip(b"\0"), address, kind, count, data[place : place + size])
        place += size
