"""Recipes of the files on this computer: read once, remembered for as long as the file stays as it is.

A .blend is cut around its large blocks, and there and in between where its content says so (a chunk ends where
a hash of the last 32 bytes has 16 zero bits), so that bytes put in at one place move no other cut,
and an edit costs the chunks that it touches. Cutting runs at 280 MiB/s, so everything else, which is written anew as a whole, is
cut every 1 MiB and only hashed, at 2 GiB/s.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .blend_blocks import borders
from .worker import recipe
from .worker.recipe import LARGEST_CHUNK_BYTES, Chunk

SMALLEST_CUT_BYTES = 1 << 14
CUT_MASK = np.uint32(0xFFFF)
BLOCK_BYTES = 1 << 17
"""Looked through at once: what the sums of all its bytes take fits into a processor's own memory."""
WINDOW = 32
REMEMBERED_BYTES = 1 << 16
"""Smaller files are read again sooner than looked up."""
SETTLED_S = 3.0
"""A file may change twice within one tick of its file system's clock."""
FORGOTTEN_S = 90 * 86400.0

_GEAR = np.random.Generator(np.random.PCG64(20)).integers(0, 2**32, 256, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A file's content: its chunks, and the digest that names it."""

    digest: str
    packed: bytes
    chunks: tuple[Chunk, ...]

    @property
    def size(self) -> int:
        return sum(size for size, _ in self.chunks)


def recipe_of(path: Path) -> Recipe:
    """Read a file and cut it into chunks. Raise OSError."""
    with path.open("rb") as file:
        pieces = _cut_blend(file) if path.suffix.lower() == ".blend" else _cut_evenly(file)
        return _made(tuple((len(piece), hashlib.sha256(piece).digest()) for piece in pieces))


def _made(chunks: tuple[Chunk, ...]) -> Recipe:
    packed = recipe.pack(chunks)
    return Recipe(recipe.digest_of(packed), packed, chunks)


def _cut_evenly(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(LARGEST_CHUNK_BYTES):
        yield piece


def _cut_blend(file: BinaryIO) -> Iterator[memoryview]:
    places = list(borders(file))
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    for start, end in pairwise((0, *places, size)):
        yield from _cut_by_content(file, end - start)


def _cut_by_content(file: BinaryIO, size: int) -> Iterator[memoryview]:
    """The next `size` bytes of the file."""
    rest = b""
    while block := file.read(min(size, BLOCK_BYTES)):
        size -= len(block)
        data = rest + block
        start = 0
        for cut in _cuts(data, len(rest)):
            if cut - start >= SMALLEST_CUT_BYTES:
                yield from _evenly(memoryview(data)[start:cut])
                start = cut
        # Where nothing wants to be cut, as in a run of zeros.
        while len(data) - start > LARGEST_CHUNK_BYTES:
            yield memoryview(data)[start : start + LARGEST_CHUNK_BYTES]
            start += LARGEST_CHUNK_BYTES
        rest = data[start:]
    yield from _evenly(memoryview(rest))


def _evenly(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(data), LARGEST_CHUNK_BYTES):
        yield data[start : start + LARGEST_CHUNK_BYTES]


def _cuts(data: bytes, seen: int) -> list[int]:
    """Where `data` may be cut beyond its first `seen` bytes, which were looked through before."""
    first = max(0, seen - WINDOW + 1)
    sums = _GEAR[np.frombuffer(data, np.uint8)[first:]]
    reach = 1
    # After five rounds each place holds the weighted sum of the 32 bytes that end there.
    while reach < WINDOW:
        sums[reach:] += sums[:-reach] << np.uint32(reach)
        reach *= 2
    places = np.flatnonzero((sums >> np.uint32(16)) & CUT_MASK == 0) + first + 1
    return [int(place) for place in places if place > seen]


class RecipeBook:
    """Recipes of many files, made by one thread in the order in which they are asked for."""

    def __init__(self, memory: Path | None) -> None:
        """What is remembered from render to render stands in the folder `memory`."""
        self._memory = memory
        self._lock = threading.Lock()
        self._made: dict[str, Future[Recipe]] = {}
        self._wanted: list[tuple[str, Future[Recipe]]] = []
        self._is_working = False

    def want(self, paths: Iterable[str]) -> dict[str, Future[Recipe]]:
        """Recipes to come of the files at `paths`. Each is an OSError where the file cannot be read."""
        wanted = list(paths)
        with self._lock:
            for path in wanted:
                if path not in self._made:
                    future: Future[Recipe] = Future()
                    self._made[path] = future
                    self._wanted.append((path, future))
            if self._wanted and not self._is_working:
                self._is_working = True
                threading.Thread(target=self._work, name="dc-recipes", daemon=True).start()
            return {path: self._made[path] for path in wanted}

    def forget(self, path: str) -> None:
        """The file is not what its recipe says: it was changed meanwhile."""
        with self._lock:
            self._made.pop(path, None)
        with contextlib.suppress(OSError):
            if self._memory is not None:
                self._note(path).unlink(missing_ok=True)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._is_working = False
                    return
                path, future = self._wanted.pop(0)
            try:
                future.set_result(self._remembered(path))
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
                future.set_exception(error)

    def _note(self, path: str) -> Path:
        assert self._memory is not None
        return self._memory / hashlib.sha256(path.encode(errors="surrogatepass")).hexdigest()[:32]

    def _remembered(self, path: str) -> Recipe:
        status = Path(path).stat()
        if self._memory is None or status.st_size < REMEMBERED_BYTES:
            return recipe_of(Path(path))
        # Tools that put a file's time back leave that of the change.
        state = [path, status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]
        note = self._note(path)
        try:
            line, _, packed = note.read_bytes().partition(b"\n")
            if json.loads(line) == state:
                found = _made(tuple(recipe.unpack(packed)))
                if found.size == status.st_size:
                    os.utime(note)
                    return found
        except (OSError, ValueError):
            pass
        made = recipe_of(Path(path))
        if time.time() - status.st_mtime > SETTLED_S and _is_as_it_was(path, status):
            with contextlib.suppress(OSError):  # It is read again next time.
                self._write_note(note, json.dumps(state).encode() + b"\n" + made.packed)
        return made

    def _write_note(self, note: Path, data: bytes) -> None:
        if not note.parent.is_dir():
            note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = note.with_suffix(f".{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(note)

    def clean(self) -> None:
        """Drop what is remembered of files that nobody has rendered with for long."""
        if self._memory is None or not self._memory.is_dir():
            return
        for note in self._memory.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - note.stat().st_mtime > FORGOTTEN_S:
                    note.unlink()


def _is_as_it_was(path: str, before: os.stat_result) -> bool:
    now = Path(path).stat()
    return (now.st_size, now.st_mtime_ns, now.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
