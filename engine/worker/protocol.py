"""The frames that both ends of a channel speak. Shipped to the node as source: standard library only.

A frame is a fixed prefix (magic, two lengths, two checksums), a JSON header and a raw
payload. The prefix has a checksum of its own, so that a damaged length is found before
memory is taken for it.
"""

from __future__ import annotations

import json
import struct
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

HEARTBEAT_S = 1.0


class FrameError(Exception):
    """What came is not a frame: damaged, or not the protocol at all."""


def encode(header: dict[str, Any], payload: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """The pieces of one frame, to be written one after the other."""
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a frame of {len(text)} + {len(payload)} bytes is too large to send")
    body = PREFIX_BODY.pack(MAGIC, len(text), len(payload), zlib.crc32(payload, zlib.crc32(text)))
    head = body + struct.pack("!I", zlib.crc32(body)) + text
    return [head, payload] if len(payload) else [head]


def read_frame(read_exactly: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one frame. `read_exactly(n)` returns n bytes or raises EOFError.

    Raises FrameError for anything that is not a whole, undamaged frame.
    """
    prefix = read_exactly(PREFIX.size)
    magic, header_size, payload_size, checksum, prefix_checksum = PREFIX.unpack(prefix)
    if magic != MAGIC or zlib.crc32(prefix[: PREFIX_BODY.size]) != prefix_checksum:
        raise FrameError(f"expected the start of a frame, got {prefix!r}")
    if header_size > MAX_HEADER_BYTES or payload_size > MAX_PAYLOAD_BYTES:
        raise FrameError(f"a frame of {header_size} + {payload_size} bytes is over the limit")
    text = read_exactly(header_size)
    payload = read_exactly(payload_size) if payload_size else b""
    if zlib.crc32(payload, zlib.crc32(text)) != checksum:
        raise FrameError("a frame arrived damaged (checksum)")
    try:
        header = json.loads(text)
    except ValueError as error:
        raise FrameError(f"a frame's header is not JSON: {error}") from None
    if not isinstance(header, dict) or not isinstance(header.get("type"), str):
        raise FrameError("a frame's header has no type")
    return header, payload
