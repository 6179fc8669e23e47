"""One file that is arriving in the cache, chunk by chunk, in any order."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

from .recipe import Chunk

WRITE_BYTES = 1 << 17
"""At once. Linux takes memory for a file in pieces as large as what is written, and large ones are those that a
virtual machine has given back to its host: 1 MiB at once went at 2.7 GiB/s, this at 4.2."""
# What opens a link opens what it points to; nothing here may lead out.
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Arrival:
    """One file that is arriving. Never truncated: whoever else writes it writes the same."""

    def __init__(self, path: Path, chunks: list[Chunk], lock: IO[bytes] | None) -> None:
        self.path = path
        self.chunks = chunks
        self.missing: set[int] = set()
        """Numbers of the chunks that are not there; known after `check`."""
        self.missing_bytes = 0
        self._lock = lock
        self._offsets = []
        self.size = 0
        for size, _ in chunks:
            self._offsets.append(self.size)
            self.size += size
        if path.is_symlink() or (path.exists() and path.stat().st_size > self.size):
            path.unlink()
        elif path.exists():
            path.chmod(0o600)  # It may have been a whole file once, which nobody was to change.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o600)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)

    def check(self) -> None:
        """Find what is missing."""
        for index, (size, digest) in enumerate(self.chunks):
            self._file.seek(self._offsets[index])
            if hashlib.sha256(self._file.read(size) or b"").digest() != digest:
                self.missing.add(index)
                self.missing_bytes += size

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
                piece = piece[self._file.write(piece[:WRITE_BYTES]) :]
            if index in self.missing:
                self.missing.remove(index)
                self.missing_bytes -= size
            view = view[size:]
            index += 1

    def is_in_place(self) -> bool:
        """Whether what is at the path is still the file that we write."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def close_file(self) -> None:
        self._file.close()

    def close(self) -> None:
        """Close the file, and let others have its place."""
        self._file.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
