"""Whether two snapshots show the same scene, though their bytes differ.

Fields of a .blend that point to a block hold the address that it had in memory, and fields of no
meaning in a file some other one. Blender 4 writes some blocks from copies that live for a moment, so
two files saved one after the other differ in both. The block DNA1 says where in each structure its
pointers are; its format: Blender's doc/blender_file_format and dna_genfile.cc.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .blend_blocks import Block, blocks
from .job import Job

UNSEEN = (b"WM", b"SN", b"SR", b"WS", b"GLOB", b"REND", b"TEST", b"USER")
"""Windows, screens, workspaces, thumbnails and the like: they change with each look at the scene."""
NAME_OFFSET = 40
"""Of the name in a datablock: after five pointers."""
LONGEST_NAME = 300
Words = npt.NDArray[np.uint64]
UNTYPED = 0
"""Number of the structure that stands for no structure."""
POINTER_BYTES = 8
NOTE_BYTES = 4
"""Of a datablock's notes on what is to be computed anew, which undo keeps."""
_LENGTH = re.compile(r"\[(\d+)\]")


def states_of(job: Job) -> str:
    """What tells whether the files that the scene uses are the ones they were; empty where that cannot be told."""
    found = hashlib.sha256()
    try:
        for file in job.files:
            state = Path(file.source).stat()
            # Tools that put a file's time back leave that of the change.
            times = state.st_mtime_ns, state.st_ctime_ns
            found.update(repr((file, state.st_size, times, state.st_ino)).encode())
    except OSError:
        return ""
    return found.hexdigest()


def scene_name(job: Job, snapshot: Path, states: str) -> str:
    """The same for two jobs of an unchanged scene whose files are in the same states; empty where
    that cannot be told."""
    if not states:
        return ""
    found = hashlib.sha256(states.encode())
    try:
        found.update(scene_digest(snapshot, job.ignored).encode())
        for entry in job.pixels:
            for name in entry.files:
                found.update((snapshot.parent / name).read_bytes())
    except OSError:
        return ""
    return found.hexdigest()


def scene_digest(path: Path, ignored: Collection[str] = ()) -> str:
    """A digest of all datablocks of an uncompressed .blend but `ignored` ones ("IMRender Result"), and but
    what belongs to the windows. Where two are equal, so are the scenes; not always the other
    way round. Raise OSError."""
    data = path.read_bytes()
    whole = memoryview(data)
    names = {name.encode() for name in ignored}
    try:
        found_blocks = list(blocks(io.BytesIO(data)))
        layouts = _layouts(next(_data(block, whole) for block in found_blocks if block.code == b"DNA1"))
    except (ValueError, IndexError, StopIteration, struct.error):
        return hashlib.sha256(data).hexdigest()  # A format that is not known here.
    kept: list[Block] = []
    is_kept = True
    for block in found_blocks:
        # Blocks that belong to a datablock follow it.
        if block.code != b"DATA":
            is_kept = block.code not in UNSEEN and not (names and _name_of(_data(block, whole)) in names)
        if is_kept and block.address:
            kept.append(block)
    addresses = np.array([block.address for block in kept], np.uint64)
    order = np.argsort(addresses, kind="stable")
    places = _Places(addresses[order], (order + 1).astype(np.uint64))
    found = hashlib.sha256()
    for block in kept:
        found.update(b"%s %d %d %d " % (block.code, block.kind, block.count, block.size))
        found.update(_without_addresses(block, _data(block, whole), layouts, places))
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


def _without_addresses(
    block: Block, data: memoryview, layouts: list[_Layout], places: _Places
) -> memoryview | bytes:
    """The data with the number of a block in the place of its address."""
    size = len(data)
    if block.kind == UNTYPED:  # Whatever it is: a list of pointers as well as the pixels of an image.
        words = np.frombuffer(data[: size & ~7], np.uint64)
        # Numbers of other kinds rarely look like addresses, so few have to be looked up.
        maybe = np.flatnonzero((words >= places.addresses[0]) & (words <= places.addresses[-1]))
        numbers = places.of(words[maybe])
        if not numbers.any():
            return data
        words = words.copy()
        words[maybe] = np.where(numbers, numbers, words[maybe])
        return words.tobytes() + bytes(data[len(words) * 8 :])
    layout = layouts[block.kind] if 0 <= block.kind < len(layouts) else _Layout(0, (), ())
    if size < layout.size * block.count or not (layout.pointers or layout.notes):
        return data
    rows = np.frombuffer(data, np.uint8).copy()
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


def _data(block: Block, whole: memoryview) -> memoryview:
    return whole[block.start : block.start + block.size]


def _name_of(data: memoryview) -> bytes:
    return bytes(data[NAME_OFFSET : NAME_OFFSET + LONGEST_NAME]).partition(b"\0")[0]
