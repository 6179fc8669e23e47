"""How a file is named by its content: as a list of chunks. Used by both ends, shipped to the node as source.

A recipe is, for each chunk in order, its size and its SHA-256. The SHA-256 of the recipe is the
file's digest, so the file's bytes are hashed once, each chunk can be checked as it arrives, and
the digest still stands for every bit of the file.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from pathlib import Path

CHUNK = struct.Struct("!I32s")
LARGEST_CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")

Chunk = tuple[int, bytes]


def pack(chunks: Iterable[Chunk]) -> bytes:
    return b"".join(CHUNK.pack(size, digest) for size, digest in chunks)


def unpack(recipe: bytes) -> list[Chunk]:
    """Raise ValueError where `recipe` is none."""
    if len(recipe) % CHUNK.size:
        raise ValueError(f"a recipe of {len(recipe)} bytes has no whole number of chunks")
    chunks = list(CHUNK.iter_unpack(recipe))
    if not all(0 < size <= LARGEST_CHUNK_BYTES for size, _ in chunks):
        raise ValueError("a recipe has a chunk of a size that no chunk may have")
    return chunks


def digest_of(recipe: bytes) -> str:
    """The name of the file that this recipe makes."""
    return hashlib.sha256(recipe).hexdigest()


def is_digest(text: object) -> bool:
    """Whether something received is a digest and so may be part of a file's name."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def holds(path: Path, chunks: Iterable[Chunk]) -> bool:
    """Whether the file at `path` is made of these chunks, to the last byte. Raise OSError."""
    with path.open("rb") as file:
        for size, digest in chunks:
            if hashlib.sha256(file.read(size)).digest() != digest:
                return False
        return not file.read(1)
