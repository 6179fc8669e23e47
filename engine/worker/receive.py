"""The receiving end of the sync: files arrive in the cache, and from there they are linked into the tree.

offer    names of files by content          -> lacking: those that are not in the cache
recipe   one of them, chunk by chunk         -> missing: the chunks that are not here at all
chunks   some of these                       -> stored, with the last of them
tree     which file stands where
shared   files that this node has by itself  -> unshared: those it has not
renew    what stood in the tree was of another scene
links    the same on the user's computer, where every file is at hand
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cache import Cache
from .cache_folder import folder_for
from .files import WorkerFolder
from .protocol import CHUNKS
from .recipe import LARGEST_CHUNK_BYTES, is_digest

CLOSE_S = 1.0

REQUESTS = ("cache", "offer", "recipe", CHUNKS, "tree", "shared", "links", "renew")


class Receiver:
    """Answers the requests that bring a job's files to this node."""

    def __init__(self, folder: WorkerFolder, send: Callable[..., object]) -> None:
        """`send(header, payload=b"")` takes an answer."""
        self._folder = folder
        self._send = send
        self._cache: Cache | None = None
        self._cache_lock = threading.Lock()
        """The worker may be told to end while its main thread takes in chunks."""

    def handle(self, header: dict[str, Any], payload: bytes | memoryview) -> None:
        """Carry out one of REQUESTS. Raises ValueError and OSError with words for a person."""
        kind = header["type"]
        with self._cache_lock:
            if kind == CHUNKS:
                self._take_chunks(header, payload)
            else:
                self._answer(kind, header, bytes(payload))

    def _answer(self, kind: str, header: dict[str, Any], payload: bytes) -> None:
        if kind == "renew":
            self._folder.renew()
        elif kind == "cache":
            if self._cache is not None:
                self._cache.close()  # The last scene's, of a worker that stayed.
            self._cache = Cache(folder_for(header["folder"]), header["limit"])
        elif kind == "links":
            for name, source in json.loads(payload):
                self._folder.link(name, source)
        elif kind == "shared":
            self._send({"type": "unshared", "paths": self._link_shared(json.loads(payload))})
        elif self._cache is None:
            raise ValueError("files without a cache to put them in")
        elif kind == "offer":
            self._send({"type": "lacking", "digests": self._cache.lacking(json.loads(payload))})
        elif kind == "tree":
            for name, digest in json.loads(payload):
                if not is_digest(digest):
                    raise ValueError(f"{name!r} is no file that was offered")
                self._cache.link(digest, self._folder.place(name))
        elif not is_digest(header["digest"]):
            raise ValueError("a name that is no digest")
        else:
            runs = self._cache.begin(header["digest"], payload)
            # No part of the header, which is limited: a large .blend has a hundred thousand chunks.
            self._send({"type": "missing", "digest": header["digest"]}, json.dumps(runs).encode())

    def _take_chunks(self, header: dict[str, Any], payload: bytes | memoryview) -> None:
        digest = header["digest"]
        if self._cache is None or not is_digest(digest):
            raise ValueError("chunks of a file that was not begun")
        if self._cache.put(digest, header["first"], _unpacked(header, payload)):
            self._send({"type": "stored", "digest": digest})

    def _link_shared(self, entries: list[tuple[str, str, int]]) -> list[str]:
        """Link files of a storage that both sides see; those that are not there, or are not the same."""
        unshared = []
        for name, there, size in entries:
            try:
                is_same = Path(there).stat().st_size == size
            except (OSError, ValueError):
                is_same = False
            if is_same:
                self._folder.link(name, there)
            else:
                unshared.append(name)
        return unshared

    def close(self) -> None:
        """From any thread. What takes longer ends with the process, and others see that it did."""
        if not self._cache_lock.acquire(timeout=CLOSE_S):
            return
        try:
            if self._cache is not None:
                self._cache.close()
                self._cache = None
        finally:
            self._cache_lock.release()


def _unpacked(header: dict[str, Any], payload: bytes | memoryview) -> bytes | memoryview:
    if not header["packed"]:
        return payload
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(payload, LARGEST_CHUNK_BYTES)
    if not unpacker.eof:
        raise ValueError("packed chunks that are larger than they may be")
    return data
