"""Files that were sent to this node, kept by their content, so that each is sent once.

objects/3f/3f9a...   whole files, named by their digest (see recipe.py)
recipes/3f/3f9a...   the chunks of those that have more than one
partial/3f9a...      a file that is arriving; what is there of it need not be sent again
leases/x7k2q         the digests that a living worker uses (see leases.py)

Nothing is believed because it is there: an object is read and compared with its digest each time
before it is used, a chunk before it is written. So several workers may write the same file at
the same time (they write the same bytes), and a disk that lost a bit costs a chunk, not a pixel.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from .arrival import Arrival
from .cache_folder import prepare
from .files import locked
from .leases import Leases
from .recipe import LARGEST_CHUNK_BYTES, Chunk, digest_of, holds, is_digest, pack, unpack

SPARE_BYTES = 256 << 20
"""Of the disk, left free for everything else."""
OTHERS_PAUSE_S = 10.0
"""Another worker that receives the same file is waited for until it has been still for so long."""
CHECKERS = 4


class Cache:
    """The node's cache as one worker uses it. Methods are called from one thread."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open or make the cache in `folder`; beyond `limit` bytes what was unused longest goes.

        Raises OSError, and ValueError for a folder that is not this user's own.
        """
        self.folder = folder
        self._limit = limit
        prepare(folder, ("objects", "recipes", "partial", "leases"))
        self._leases = Leases(folder)
        self._arriving: dict[str, Arrival] = {}
        self._seeds: dict[bytes, tuple[str, int, int]] | None = None
        self._bytes: int | None = None
        """What is there, once it was added up."""
        self._expected = 0
        """What is still to come of all that arrives."""
        self._touched = 0.0

    def close(self) -> None:
        """Let others clean up what was used here. What is half there stays for the next time."""
        for arrival in self._arriving.values():
            arrival.close()
        self._arriving.clear()
        self._leases.close()

    def path(self, digest: str) -> Path:
        """Where the object of this name is, or would be."""
        return self.folder / "objects" / digest[:2] / digest

    def lacking(self, digests: Iterable[str]) -> list[str]:
        """Those of `digests` that have to be sent. All are safe from cleaning from now on."""
        wanted = list(dict.fromkeys(digests))
        if not all(is_digest(digest) for digest in wanted):
            raise ValueError("a name that is no digest")
        self._leases.add(wanted)
        with ThreadPoolExecutor(CHECKERS) as pool:
            found = pool.map(self._is_whole, wanted)
            return [digest for digest, is_here in zip(wanted, found, strict=True) if not is_here]

    def _is_whole(self, digest: str) -> bool:
        """Whether the object is here and undamaged; a damaged one is removed."""
        path = self.path(digest)
        try:
            if not _is_plain(path):
                return False
            recipe = self._recipe(digest)
            if digest_of(pack(recipe)) == digest and holds(path, recipe):
                os.utime(path)
                return True
        except ValueError:
            pass  # The recipe is damaged, which says nothing of the file.
        except OSError:
            path.unlink(missing_ok=True)  # A disk that cannot read it will not get better.
            return False
        # Its good chunks need not be sent again.
        with contextlib.suppress(OSError):  # Another worker was first.
            path.replace(self._partial(digest))
        return False

    def _recipe(self, digest: str) -> list[Chunk]:
        """The chunks of an object as noted; without a note it has one. Raise OSError, ValueError."""
        try:
            return unpack((self.folder / "recipes" / digest[:2] / digest).read_bytes())
        except FileNotFoundError:
            with self.path(digest).open("rb") as file:
                data = file.read(LARGEST_CHUNK_BYTES)
            return [(len(data), hashlib.sha256(data).digest())] if data else []

    def _partial(self, digest: str) -> Path:
        return self.folder / "partial" / digest

    def begin(self, digest: str, recipe: bytes) -> list[tuple[int, int]]:
        """Prepare to receive a file; which chunks have to be sent, as (first, count).

        What an earlier upload left, and what other files here have in common with this one, is
        used. Raises ValueError for a recipe that is not the digest's, OSError where there is no room.
        """
        chunks = unpack(recipe)
        if digest_of(recipe) != digest:
            raise ValueError("the recipe is of another file")
        lock = self._wait_for_others(digest)
        if self._is_whole(digest):
            if lock is not None:
                lock.close()
                self._drop_place(digest)
            return []
        arrival = Arrival(self._partial(digest), chunks, lock)
        self._arriving[digest] = arrival
        arrival.check()
        self._expected += arrival.missing_bytes
        if arrival.missing:
            self._make_room()
            self._copy_seeds(arrival)
            # Should it stay half there, it may still be of use to the next version of the file.
            self._note_recipe(digest, chunks)
        if not arrival.missing:
            self._finish(digest)
        return list(_runs(sorted(arrival.missing)))

    def put(self, digest: str, first: int, data: bytes | memoryview) -> bool:
        """Take in the chunks from number `first` on; whether the file is whole now.

        Raises ValueError for data that is not what the recipe says, OSError where it cannot be written.
        """
        arrival = self._arriving.get(digest)
        if arrival is None:
            raise ValueError("chunks of a file that was not begun")
        self._write(arrival, first, data)
        self._touch_arriving()
        if arrival.missing:
            return False
        self._finish(digest)
        return True

    def _finish(self, digest: str) -> None:
        arrival = self._arriving.pop(digest)
        path = self.path(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._note_recipe(digest, arrival.chunks)
        try:
            is_ours = arrival.is_in_place()
            arrival.close_file()  # Windows moves nothing that is open.
            if is_ours:
                with contextlib.suppress(FileNotFoundError):  # Another worker was first.
                    arrival.path.replace(path)
            # One that writes the same bytes to the same place may have been first; else they were taken away.
            if not (path.is_file() if is_ours else self._is_whole(digest)):
                raise OSError(errno.ESTALE, f"another worker took away what was arriving in {self.folder}")
            if os.name != "nt":  # where it could not be removed any more
                path.chmod(0o400)
        finally:
            arrival.close()
        self._drop_place(digest)
        if self._seeds is not None:
            self._add_seeds(digest, arrival.chunks)

    def _write(self, arrival: Arrival, first: int, data: bytes | memoryview) -> None:
        before = arrival.missing_bytes
        try:
            arrival.write(first, data)
        finally:
            arrived = before - arrival.missing_bytes
            self._expected -= arrived
            if self._bytes is not None:
                self._bytes += arrived

    def _note_recipe(self, digest: str, chunks: list[Chunk]) -> None:
        if len(chunks) > 1:
            note = self.folder / "recipes" / digest[:2] / digest
            note.parent.mkdir(mode=0o700, exist_ok=True)
            _write_whole(note, pack(chunks))

    def link(self, digest: str, target: Path) -> None:
        """Make the object appear at `target` as well, without a copy where that is possible."""
        source = self.path(digest)
        for make in (os.link, os.symlink):
            try:
                make(source, target)
                return
            except (OSError, NotImplementedError):
                if not source.exists() or target.exists():
                    raise
        shutil.copyfile(source, target)

    def _wait_for_others(self, digest: str) -> IO[bytes] | None:
        """Hold the place of an arriving file. Two workers of one node are sent the same files:
        the second lets the first receive them."""
        partial = self._partial(digest)
        heard, last = time.monotonic(), 0.0
        while (lock := locked(partial.with_suffix(".lock"))) is None:
            with contextlib.suppress(FileNotFoundError):  # It has only begun, or has just ended.
                if (touched := partial.stat().st_mtime) != last:
                    heard, last = time.monotonic(), touched
            if self.path(digest).exists() or time.monotonic() - heard > OTHERS_PAUSE_S:
                return None
            time.sleep(0.1)
        return lock

    def _drop_place(self, digest: str) -> None:
        # Windows keeps it while another worker has it open, and that one drops it.
        with contextlib.suppress(OSError):
            self._partial(digest).with_suffix(".lock").unlink()

    def _touch_arriving(self) -> None:
        """Show others that what is half here goes on, also while another file's turn it is."""
        if time.monotonic() - self._touched > OTHERS_PAUSE_S / 5:
            self._touched = time.monotonic()
            for arrival in self._arriving.values():
                with contextlib.suppress(OSError):
                    os.utime(arrival.path)

    def _copy_seeds(self, arrival: Arrival) -> None:
        """Fill in chunks that other files here have, whole or half sent ones."""
        if len(arrival.chunks) < 2:
            return
        if self._seeds is None:
            self._seeds = {}
            notes = (self.folder / "recipes").glob("*/*")
            # Last, so that they count, those of files that are whole.
            for note in sorted(notes, key=lambda note: self.path(note.name).exists()):
                try:
                    self._add_seeds(note.name, unpack(note.read_bytes()))
                except (OSError, ValueError):
                    continue
        for index in sorted(arrival.missing):
            size, digest = arrival.chunks[index]
            seed, offset, seed_size = self._seeds.get(digest, ("", 0, 0))
            if not seed or seed_size != size:
                continue
            for path in (self.path(seed), self._partial(seed)):
                try:
                    with path.open("rb") as file:
                        file.seek(offset)
                        data = file.read(size)
                except OSError:
                    continue
                if hashlib.sha256(data).digest() == digest:
                    self._write(arrival, index, data)
                    break

    def _add_seeds(self, digest: str, chunks: list[Chunk]) -> None:
        assert self._seeds is not None
        offset = 0
        for size, chunk in chunks:
            self._seeds[chunk] = digest, offset, size
            offset += size

    def _make_room(self) -> None:
        """Remove what was unused longest until all that is expected fits. Raise OSError where it cannot."""
        needed = self._expected
        free = shutil.disk_usage(self.folder).free
        if self._bytes is None:
            self._bytes = sum(size for _, size, _ in self._contents())
        excess = max(self._bytes + needed - self._limit, needed + SPARE_BYTES - free)
        if excess > 0:
            with self._leases.held():
                self._clean(excess)
            free = shutil.disk_usage(self.folder).free
        if free < needed + SPARE_BYTES:
            raise OSError(
                errno.ENOSPC,
                f"the disk of the cache folder {self.folder} has {free >> 20} MiB left,"
                f" and {needed >> 20} MiB are to be sent",
            )

    def _contents(self) -> Iterator[tuple[float, int, Path]]:
        """Of all objects and half-sent files: when they were last used, their size, their path."""
        for pattern in ("objects/*/*", "partial/*"):
            for path in self.folder.glob(pattern):
                try:
                    status = path.lstat()
                except OSError:
                    continue
                yield status.st_mtime, status.st_size, path

    def _clean(self, excess: int) -> int:
        """Remove `excess` bytes, if so many are in nobody's use; how many were removed."""
        used = set(self._leases.used()) | set(self._arriving)
        removed = 0
        for _, size, path in sorted(self._contents()):
            if removed >= excess:
                break
            digest = path.name.removesuffix(".lock")
            if digest in used:
                continue
            try:
                path.unlink()
            except OSError:
                continue
            (self.folder / "recipes" / digest[:2] / digest).unlink(missing_ok=True)
            removed += size
        if self._bytes is not None:
            self._bytes -= removed
        return removed


def _is_plain(path: Path) -> bool:
    """Whether a file is here, and is no link; a link is removed."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        path.unlink()
        return False
    return True


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as (first, count) of those that follow each other."""
    start = 0
    for position, number in enumerate(numbers):
        if position + 1 == len(numbers) or numbers[position + 1] != number + 1:
            yield numbers[start], position + 1 - start
            start = position + 1
