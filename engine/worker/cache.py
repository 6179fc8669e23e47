"""Files that were sent to this node, kept by their content, so that each is sent once.

objects/3f/3f9a...   whole files, named by their digest (see recipe.py)
recipes/3f/3f9a...   the chunks of those that have more than one
partial/3f9a...      a file that is arriving; what is there of it need not be sent again
leases/x7k2q         the digests that a living worker uses; its .lock tells whether it lives

Nothing is believed because it is there: an object is read and compared with its digest each time
before it is used, a chunk before it is written. So several workers may write the same file at
the same time (they write the same bytes), and a disk that lost a bit costs a chunk, not a pixel.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .files import locked
from .recipe import LARGEST_CHUNK_BYTES, Chunk, digest_of, holds, is_digest, pack, unpack

NAME = "distributed-cycles"
SPARE_BYTES = 256 << 20
"""Of the disk, left free for everything else."""
OTHERS_PAUSE_S = 10.0
"""Another worker that receives the same file is waited for until it has been still for so long."""
LOCK_S = 60.0
CHECKERS = 4

# What opens a link opens what it points to; nothing here may lead out.
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def usual_folder() -> Path:
    """Where programs keep what can be had again, on this system."""
    system = platform.system()
    if system == "Windows":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif system == "Darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        named = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return base / NAME / "files"


def folder_for(named: str) -> Path:
    """The cache's folder: that which the user named, or else the usual one. Raise ValueError."""
    if named:
        folder = Path(os.path.expandvars(named)).expanduser()
        if not folder.is_absolute():
            raise ValueError(f"the cache folder {named!r} is no absolute path")
        whole = folder.resolve()
        if whole in (Path.home().resolve(), Path(whole.anchor)) or whole in Path.home().resolve().parents:
            raise ValueError(f"the cache folder {named!r} would be a home or a root; name one of its own")
        return folder
    folder = usual_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # a home that is read-only, or none at all
        pass
    owner = str(os.getuid()) if hasattr(os, "getuid") else "me"
    return Path(tempfile.gettempdir()) / f"{NAME}-cache-{owner}"


class Cache:
    """The node's cache as one worker uses it. Methods are called from one thread."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Open or make the cache in `folder`; beyond `limit` bytes what was unused longest goes.

        Raises OSError, and ValueError for a folder that is not this user's own.
        """
        self.folder = folder
        self._limit = limit
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("objects", "recipes", "partial", "leases"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
            if (folder / name).is_symlink():
                raise ValueError(f"{folder / name} is a link; the cache must stay where it is")
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise ValueError(f"the cache folder {folder} belongs to another user")
        self._lease = folder / "leases" / secrets.token_hex(8)
        self._lease_lock = locked(self._lease.with_suffix(".lock"))
        self._arriving: dict[str, _Arrival] = {}
        self._seeds: dict[bytes, tuple[str, int, int]] | None = None
        self._bytes: int | None = None
        self._touched = 0.0

    def close(self) -> None:
        """Let others clean up what was used here. What is half there stays for the next time."""
        for arrival in self._arriving.values():
            arrival.close()
        self._arriving.clear()
        self._lease.unlink(missing_ok=True)
        if self._lease_lock is not None:
            self._lease_lock.close()
            self._lease_lock = None
        self._lease.with_suffix(".lock").unlink(missing_ok=True)

    def path(self, digest: str) -> Path:
        """Where the object of this name is, or would be."""
        return self.folder / "objects" / digest[:2] / digest

    def lacking(self, digests: Iterable[str]) -> list[str]:
        """Those of `digests` that have to be sent. All are safe from cleaning from now on."""
        wanted = list(dict.fromkeys(digests))
        if not all(is_digest(digest) for digest in wanted):
            raise ValueError("a name that is no digest")
        with self._held(), self._lease.open("a") as lease:
            lease.writelines(f"{digest}\n" for digest in wanted)
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
            # Its good chunks need not be sent again.
            path.replace(self._partial(digest))
            self._partial(digest).chmod(0o600)
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
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
        arrival = _Arrival(self._partial(digest), chunks, lock)
        self._arriving[digest] = arrival
        missing = set(arrival.check())
        if missing:
            self._make_room(sum(chunks[index][0] for index in missing))
            missing -= self._copy_seeds(arrival, missing)
        arrival.missing = missing
        if not missing:
            self._finish(digest)
        return list(_runs(sorted(missing)))

    def put(self, digest: str, first: int, data: bytes | memoryview) -> bool:
        """Take in the chunks from number `first` on; whether the file is whole now.

        Raises ValueError for data that is not what the recipe says, OSError where it cannot be written.
        """
        arrival = self._arriving.get(digest)
        if arrival is None:
            raise ValueError("chunks of a file that was not begun")
        arrival.write(first, data)
        self._touch_arriving()
        if arrival.missing:
            return False
        self._finish(digest)
        return True

    def _finish(self, digest: str) -> None:
        arrival = self._arriving.pop(digest)
        arrival.close()
        path = self.path(digest)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if len(arrival.chunks) > 1:
            note = self.folder / "recipes" / digest[:2] / digest
            note.parent.mkdir(mode=0o700, exist_ok=True)
            _write_whole(note, pack(arrival.chunks))
        try:
            if os.name != "nt":  # where it could not be removed any more
                arrival.path.chmod(0o400)
            arrival.path.replace(path)
        except FileNotFoundError:
            # Another worker wrote the same bytes to the same place and was first.
            if not path.is_file():
                raise
        self._drop_place(digest)
        if self._seeds is not None:
            self._add_seeds(digest, arrival.chunks)
        if self._bytes is not None:
            self._bytes += arrival.size

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

    def _copy_seeds(self, arrival: _Arrival, missing: set[int]) -> set[int]:
        """Fill in chunks that other objects here have; the numbers of those that were found."""
        if len(arrival.chunks) < 2:
            return set()
        if self._seeds is None:
            self._seeds = {}
            for note in (self.folder / "recipes").glob("*/*"):
                try:
                    self._add_seeds(note.name, unpack(note.read_bytes()))
                except (OSError, ValueError):
                    continue
        copied = set()
        for index in sorted(missing):
            size, digest = arrival.chunks[index]
            seed, offset, seed_size = self._seeds.get(digest, ("", 0, 0))
            if not seed or seed_size != size:
                continue
            try:
                with self.path(seed).open("rb") as file:
                    file.seek(offset)
                    data = file.read(size)
            except OSError:
                continue
            if hashlib.sha256(data).digest() == digest:
                arrival.write(index, data)
                copied.add(index)
        return copied

    def _add_seeds(self, digest: str, chunks: list[Chunk]) -> None:
        assert self._seeds is not None
        offset = 0
        for size, chunk in chunks:
            self._seeds[chunk] = digest, offset, size
            offset += size

    def _make_room(self, needed: int) -> None:
        """Remove what was unused longest until `needed` more bytes fit. Raise OSError where they cannot."""
        free = shutil.disk_usage(self.folder).free
        if self._bytes is None:
            self._bytes = sum(size for _, size, _ in self._contents())
        excess = max(self._bytes + needed - self._limit, needed + SPARE_BYTES - free)
        if excess > 0:
            with self._held():
                excess -= self._clean(excess)
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
        used = set(self._leased()) | set(self._arriving)
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

    def _leased(self) -> Iterator[str]:
        """What living workers use; the leases of dead ones are removed."""
        for lock in (self.folder / "leases").glob("*.lock"):
            lease = lock.with_suffix("")
            if lease != self._lease:
                try:
                    handle = locked(lock)
                except OSError:
                    handle = None
                if handle is not None:
                    handle.close()
                    lease.unlink(missing_ok=True)
                    lock.unlink(missing_ok=True)
                    continue
            try:
                yield from lease.read_text().split()
            except OSError:
                continue

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Nobody begins to use an object while somebody cleans up."""
        deadline = time.monotonic() + LOCK_S
        while (handle := locked(self.folder / "lock")) is None:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, f"the cache {self.folder} is held by another worker")
            time.sleep(0.02)
        try:
            yield
        finally:
            handle.close()


class _Arrival:
    """One file that is arriving. Never truncated: whoever else writes it writes the same."""

    def __init__(self, path: Path, chunks: list[Chunk], lock: IO[bytes] | None) -> None:
        self.path = path
        self.chunks = chunks
        self.missing: set[int] = set()
        self._lock = lock
        self._offsets = []
        self.size = 0
        for size, _ in chunks:
            self._offsets.append(self.size)
            self.size += size
        if path.is_symlink() or (path.exists() and path.stat().st_size > self.size):
            path.unlink()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o600)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)

    def check(self) -> list[int]:
        """The numbers of the chunks that are not there."""
        missing = []
        for index, (size, digest) in enumerate(self.chunks):
            self._file.seek(self._offsets[index])
            if hashlib.sha256(self._file.read(size) or b"").digest() != digest:
                missing.append(index)
        return missing

    def write(self, first: int, data: bytes | memoryview) -> None:
        """Write whole chunks, one after the other from number `first` on."""
        view = memoryview(data)
        if not view:
            raise ValueError("chunks without a byte")
        index = first
        while view:
            if not 0 <= index < len(self.chunks):
                raise ValueError("more chunks than the recipe has")
            size, digest = self.chunks[index]
            piece = view[:size]
            if hashlib.sha256(piece).digest() != digest:
                raise ValueError(f"chunk {index} is not what its recipe says")
            self._file.seek(self._offsets[index])
            while piece:
                piece = piece[self._file.write(piece) :]
            self.missing.discard(index)
            view = view[size:]
            index += 1

    def close(self) -> None:
        self._file.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


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
    partial.write_bytes(data)
    partial.replace(path)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as (first, count) of those that follow each other."""
    start = 0
    for position, number in enumerate(numbers):
        if position + 1 == len(numbers) or numbers[position + 1] != number + 1:
            yield numbers[start], position + 1 - start
            start = position + 1
