"""Bringing a job's files to one node: by name first, then by chunk, and only what is not there.

Questions and chunks are on their way at the same time, so that a long link never waits for an
answer before it carries something. What is sent is compressed where that is faster, which
the time of the last pieces decides.
"""

from __future__ import annotations

import json
import queue
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .job import FileChanged, Node, NodeError, SceneFile, SceneRefused, WorkerLost
from .link import WorkerLink
from .mapping import mapped, parse_mappings
from .recipes import Recipe, RecipeBook
from .worker.protocol import CHUNK_BYTES, CHUNKS, HEARTBEAT_S
from .worker.recipe import holds

OFFER_FILES = 500
"""At most so many names in one question."""
SAY_PERIOD_S = 0.25
MIB = 1 << 20
GIB = 1 << 30
RATE_WEIGHT = 0.2
FIRST_RATE = 1e12
"""Bytes per second, until something was measured: too fast to compress for."""
ZLIB_LEVEL = 1
FASTEST_PACKING = 150e6
"""Bytes per second that zlib does not exceed, so that on a faster link it is not even tried."""
SAMPLE_BYTES = 1 << 16
SAMPLED_PIECES = 32


@dataclass
class _Sending:
    """A file of which chunks are to be sent."""

    recipe: Recipe
    source: str
    pieces: deque[tuple[int, int, int, int]] = field(default_factory=deque)
    """Number of the first chunk, offset and size in bytes, number of chunks."""
    gain: float | None = None
    """Bytes per second that compression saves; None while it was not tried."""


@dataclass
class Amount:
    """How much an upload comes to, in bytes."""

    sent: int = 0
    """Of the files' own bytes."""
    total: int = 0
    wire: int = 0
    """What went over the channel for them, compressed where it was; questions included."""


class Upload:
    """One node's upload. `run` is called by the node's own thread."""

    def __init__(
        self,
        node: Node,
        link: WorkerLink,
        inbox: queue.Queue[Any],
        files: Sequence[SceneFile],
        book: RecipeBook,
        say: Callable[[str], None],
    ) -> None:
        self._node = node
        self._link = link
        self._inbox = inbox
        self._files = list(files)
        self._book = book
        self._say = say
        self._next_say = 0.0
        self._sources: dict[str, str] = {}
        self._recipes: dict[str, Recipe] = {}
        self._names: dict[str, str] = {}
        self._unoffered: deque[tuple[SceneFile, Future[Recipe]]] = deque()
        self._unanswered = 0
        self._to_send: deque[_Sending] = deque()
        self._unstored: set[str] = set()
        self._rate = FIRST_RATE
        self._is_stopped = False
        self._buffer = bytearray(CHUNK_BYTES)
        self.amount = Amount()
        self._last_sent = time.monotonic()

    def run(self) -> bool:
        """Send what is missing there; False when told to stop meanwhile.

        Raises NodeError: the node is gone, its disk is full, a file here cannot be read.
        """
        self._files = self._without_shared()
        if self._is_stopped:
            return False
        limit = self._node.cache_gib * GIB
        self._ask({"type": "cache", "folder": self._node.cache_folder, "limit": limit})
        recipes = self._book.want(file.source for file in self._files)
        self._unoffered.extend((file, recipes[file.source]) for file in self._files)
        while self._unoffered or self._unanswered or self._to_send or self._unstored:
            is_idle = not self._offer()
            if self._to_send:
                self._send_piece(self._to_send[0])
                is_idle = False
            # The thread that reads files has no way to wake this one.
            self._take_answers(0.0 if not is_idle else 0.02 if self._unoffered else HEARTBEAT_S)
            if self._is_stopped:
                return False
        entries = list(self._names.items())
        for start in range(0, len(entries), OFFER_FILES):
            self._ask({"type": "tree"}, json.dumps(entries[start : start + OFFER_FILES]).encode())
        return True

    def _without_shared(self) -> list[SceneFile]:
        """The files that the node does not have by itself, on a storage that both sides see."""
        mappings = parse_mappings(self._node.mappings)
        entries = []
        for file in self._files:
            there = mapped(file.source, mappings)
            if there is not None:
                entries.append([file.path, there, _size(file.source)])
        if not entries:
            return self._files
        unshared: set[str] = set()
        for start in range(0, len(entries), OFFER_FILES):
            self._ask({"type": "shared"}, json.dumps(entries[start : start + OFFER_FILES]).encode())
            answer = self._answer()
            if answer is None:
                return []
            if answer["type"] != "unshared":
                raise WorkerLost(f"The node answered what was not asked: {str(answer)[:200]}")
            unshared.update(map(str, answer["paths"]))
        shared = {path for path, _, _ in entries} - unshared
        return [file for file in self._files if file.path not in shared]

    def _ask(self, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        self.amount.wire += len(payload)
        self._send(header, payload)

    def _send(self, header: dict[str, Any], payload: bytes | memoryview = b"") -> None:
        self._link.send(header, payload)
        self._last_sent = time.monotonic()

    def _offer(self) -> bool:
        """Name all files to the node whose recipes are there; whether there was any."""
        fresh: list[str] = []
        while self._unoffered and self._unoffered[0][1].done() and len(fresh) < OFFER_FILES:
            file, future = self._unoffered.popleft()
            try:
                made = future.result()
            except OSError as error:
                raise SceneRefused(f"{file.source} could not be read ({error.strerror}).") from None
            self._names[file.path] = made.digest
            if made.digest not in self._recipes:
                self._recipes[made.digest] = made
                self._sources[made.digest] = file.source
                fresh.append(made.digest)
        if fresh:
            self._ask({"type": "offer"}, json.dumps(fresh).encode())
            self._unanswered += 1
        return bool(fresh)

    def _take_answers(self, timeout: float) -> None:
        while not self._is_stopped:
            try:
                item = self._inbox.get(timeout=timeout) if timeout else self._inbox.get_nowait()
            except queue.Empty:
                # Also while a large file is read here for the first time: a worker that hears nothing ends itself.
                if time.monotonic() - self._last_sent >= HEARTBEAT_S:
                    self._send({"type": "ping"})
                    if self._unoffered and not self._to_send:
                        self._say("reading the files here")
                return
            timeout = 0.0
            header = self._header(item)
            if header is not None:
                self._take(header, item[1])

    def _answer(self) -> dict[str, Any] | None:
        """Wait for the next answer; None when told to stop."""
        while not self._is_stopped:
            try:
                header = self._header(self._inbox.get(timeout=HEARTBEAT_S))
            except queue.Empty:
                self._send({"type": "ping"})
                continue
            if header is not None:
                return header
        return None

    def _header(self, item: Any) -> dict[str, Any] | None:
        """What an item of the inbox says; None for what is no answer: the word to stop, or an order to a
        worker that is gone."""
        if isinstance(item, NodeError):
            raise item
        if isinstance(item[0], str):
            self._is_stopped = self._is_stopped or item[0] == "stop"
            return None
        header: dict[str, Any] = item[0]
        if header["type"] == "error":
            raise self._refusal(header)
        return header

    def _refusal(self, header: dict[str, Any]) -> NodeError:
        digest, text = header.get("digest"), str(header.get("text"))
        # What the node's system says no to, as a full disk does, is no fault of what was sent.
        if header.get("request") != CHUNKS or header.get("is_os_error") or digest not in self._sources:
            return SceneRefused(f"The files could not be stored there: {text}.")
        try:
            is_as_it_was = holds(Path(self._sources[digest]), self._recipes[digest].chunks)
        except OSError:
            is_as_it_was = False
        if is_as_it_was:
            return WorkerLost(f"What was sent arrived damaged ({text}).", "It is sent again.")
        return self._changed(self._sources[digest], text)

    def _changed(self, source: str, how: str) -> FileChanged:
        self._book.forget(source)
        return FileChanged(f"{source} changed while it was being sent ({how}).", "It is read again.")

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        """Act on an answer. Raise WorkerLost where it answers nothing that was asked."""
        try:
            if header["type"] == "lacking":
                self._unanswered -= 1
                for digest in header["digests"]:
                    self._unanswered += 1
                    self._ask({"type": "recipe", "digest": digest}, self._recipes[digest].packed)
            elif header["type"] == "missing":
                self._unanswered -= 1
                self._queue(header["digest"], json.loads(payload))
            else:
                self._unstored.remove(header["digest"])
        except (KeyError, TypeError, ValueError, IndexError):
            raise WorkerLost(f"The node answered what was not asked: {str(header)[:200]}") from None

    def _queue(self, digest: str, runs: list[tuple[int, int]]) -> None:
        made = self._recipes[digest]
        if not runs:
            return
        offsets = [0]
        for size, _ in made.chunks:
            offsets.append(offsets[-1] + size)
        sending = _Sending(made, self._sources[digest])
        for first, count in runs:
            # Neighbours travel together, up to the size of a frame.
            start = first
            for end in range(first + 1, first + count + 1):
                if end == first + count or offsets[end + 1] - offsets[start] > CHUNK_BYTES:
                    sending.pieces.append((start, offsets[start], offsets[end] - offsets[start], end - start))
                    start = end
        self.amount.total += sum(size for _, _, size, _ in sending.pieces)
        self._unstored.add(digest)
        self._to_send.append(sending)

    def _send_piece(self, sending: _Sending) -> None:
        first, offset, size, _ = sending.pieces.popleft()
        if not sending.pieces:
            self._to_send.popleft()
        data = memoryview(self._buffer)[:size]
        try:
            with Path(sending.source).open("rb") as file:
                file.seek(offset)
                read = file.readinto(data)
        except OSError as error:
            raise SceneRefused(f"{sending.source} could not be read ({error.strerror}).") from None
        if read < size:
            raise self._changed(sending.source, "it is shorter now")
        payload, is_packed = self._packed(sending, data)
        header = {"type": CHUNKS, "digest": sending.recipe.digest, "first": first, "packed": is_packed}
        start = time.perf_counter()
        self._ask(header, payload)
        seconds = max(time.perf_counter() - start, 1e-6)
        rate = len(payload) / seconds
        # The mean of times, not of rates: what fits in a buffer goes in no time.
        self._rate = 1 / ((1 - RATE_WEIGHT) / self._rate + RATE_WEIGHT / rate)
        self.amount.sent += size
        self._show()

    def _packed(self, sending: _Sending, data: memoryview) -> tuple[bytes | memoryview, bool]:
        """The bytes to send: compressed where compressing and sending less takes less time."""
        if self._rate > FASTEST_PACKING:
            return data, False
        # What is further on in a file may be of another kind.
        if sending.gain is None or len(sending.pieces) % SAMPLED_PIECES == 0:
            _, sending.gain = _compressed(data[:SAMPLE_BYTES])
        if sending.gain < self._rate:
            return data, False
        packed, sending.gain = _compressed(data)
        return (packed, True) if len(packed) < len(data) else (data, False)

    def _show(self) -> None:
        now = time.monotonic()
        if now >= self._next_say or not self._to_send:
            self._next_say = now + SAY_PERIOD_S
            self._say(f"{self.amount.sent // MIB} of {-(-self.amount.total // MIB)} MiB")


def _compressed(data: memoryview) -> tuple[bytes, float]:
    """`data` compressed, and the bytes per second that need not be sent for the time it took."""
    start = time.perf_counter()
    packed = zlib.compress(data, ZLIB_LEVEL)
    return packed, (len(data) - len(packed)) / max(time.perf_counter() - start, 1e-6)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1
