"""The frames that both ends of a channel speak. Shipped to the node as source: standard library only.

A frame is a fixed prefix (magic, two lengths, two checksums), a JSON header and a raw
payload. The prefix has a checksum of its own, so that a damaged length is found before
memory is taken for it.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

MAGIC = b"DCF1"
PREFIX = struct.Struct("!4sIQII")
PREFIX_BODY = struct.Struct("!4sIQI")
MAX_HEADER_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 30
CHUNK_BYTES = 1 << 20
"""Files travel in pieces of this size, so that a heartbeat never waits long behind one."""
CHUNKS = "chunks"
"""Frames of this type are nearly all that is ever sent. Whoever gets one compares its payload with the
SHA-256 in a recipe, so the frame's checksum is of the header alone: a second one of the
payload took a seventh of our side's time."""

HEARTBEAT_S = 1.0


class FrameError(Exception):
    """What came is not a frame: damaged, or not the protocol at all."""


def encode(header: dict[str, Any], payload: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """The pieces of one frame, to be written one after the other."""
    text = json.dumps(header, separators=(",", ":")).encode()
    checksum = zlib.crc32(text) if header["type"] == CHUNKS else zlib.crc32(payload, zlib.crc32(text))
    if len(text) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a frame of {len(text)} + {len(payload)} bytes is too large to send")
    body = PREFIX_BODY.pack(MAGIC, len(text), len(payload), checksum)
    head = body + struct.pack("!I", zlib.crc32(body)) + text
    return [head, payload] if len(payload) else [head]


def read_frame(
    read_exactly: Callable[[int], bytes], read_chunks: Callable[[int], memoryview] | None = None
) -> tuple[dict[str, Any], bytes | memoryview]:
    """Read one frame. `read_exactly(n)` returns n bytes or raises EOFError, `read_chunks` does so for CHUNKS.

    Raises FrameError for anything that is not a whole, undamaged frame; only the payload of
    CHUNKS may be damaged.
    """
    prefix = read_exactly(PREFIX.size)
    magic, header_size, payload_size, checksum, prefix_checksum = PREFIX.unpack(prefix)
    if magic != MAGIC or zlib.crc32(prefix[: PREFIX_BODY.size]) != prefix_checksum:
        raise FrameError(f"expected the start of a frame, got {prefix!r}")
    if header_size > MAX_HEADER_BYTES or payload_size > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a frame of {header_size} + {payload_size} bytes is over the limit")
    text = read_exactly(header_size)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a frame's header is not JSON: {error}") from None
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise FrameError("a frame's header has no type")
    is_chunks = header["type"] == CHUNKS
    payload: bytes | memoryview = b""
    if payload_size:
        payload = read_chunks(payload_size) if is_chunks and read_chunks else read_exactly(payload_size)
    if zlib.crc32(b"" if is_chunks else payload, zlib.crc32(text)) != checksum:
        raise FrameError("a frame arrived damaged (checksum)")
    return header, payload


def widen(descriptor: int) -> None:
    """Let a pipe hold 1 MiB in place of 64 KiB: what sshd has passed on is not lost with it, and both
    ends take turns less often. Linux alone can do that, and a launcher may give us something else."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
