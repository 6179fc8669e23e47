"""Frames survive any slicing; whatever else arrives is an error, never a wrong frame."""

from __future__ import annotations

import io
import random
import struct
import threading
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.worker.protocol import CHUNKS, MAGIC, PREFIX, FrameError, encode, read_frame

headers = st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False)))


def reader(data: bytes) -> Any:
    stream = io.BytesIO(data)

    def read_exactly(size: int) -> bytes:
        piece = stream.read(size)
        if len(piece) < size:
            raise EOFError
        return piece

    return read_exactly


def packed(header: dict[str, Any], payload: bytes = b"") -> bytes:
    return b"".join(bytes(piece) for piece in encode(header, payload))


@given(st.lists(st.tuples(headers, st.binary(max_size=2000)), max_size=5))
def test_frames_come_back_as_they_were_sent(frames: list[tuple[dict[str, Any], bytes]]) -> None:
    sent = [({**header, "type": "x"}, payload) for header, payload in frames]
    read = reader(b"".join(packed(header, payload) for header, payload in sent))
    assert [read_frame(read) for _ in sent] == sent
    with pytest.raises(EOFError):
        read_frame(read)


@given(st.binary(max_size=300), st.data())
def test_any_single_flipped_bit_is_found(payload: bytes, data: st.DataObject) -> None:
    frame = bytearray(packed({"type": "tile", "tile": 7}, payload))
    position = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[position // 8] ^= 1 << position % 8
    with pytest.raises((FrameError, EOFError)):
        read_frame(reader(bytes(frame)))


@given(st.binary(min_size=1, max_size=300), st.data())
def test_of_chunks_the_payload_alone_may_be_damaged(payload: bytes, data: st.DataObject) -> None:
    frame = bytearray(packed({"type": CHUNKS, "first": 7}, payload))
    position = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[position // 8] ^= 1 << position % 8
    if position // 8 >= len(frame) - len(payload):
        header, damaged = read_frame(reader(bytes(frame)))
        assert header == {"type": CHUNKS, "first": 7}
        assert damaged == frame[-len(payload) :]
    else:
        with pytest.raises((FrameError, EOFError)):
            read_frame(reader(bytes(frame)))


@given(st.binary(max_size=200), st.data())
def test_a_truncated_frame_is_the_end_not_a_frame(payload: bytes, data: st.DataObject) -> None:
    frame = packed({"type": "tile"}, payload)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(EOFError):
        read_frame(reader(frame[:cut]))


@given(st.binary(min_size=PREFIX.size, max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises((FrameError, EOFError)):
        read_frame(reader(noise))


def test_a_huge_length_takes_no_memory() -> None:
    """Also where its own checksum is right."""
    import zlib

    body = struct.pack("!4sIQI", MAGIC, 10, 1 << 60, 0)
    frame = body + struct.pack("!I", zlib.crc32(body)) + b"{}"
    tracemalloc.start()
    try:
        with pytest.raises(FrameError, match="over the limit"):
            read_frame(reader(frame))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"type":1}', b"{", b"\xff", b"[" * 100_000])
def test_a_header_must_be_an_object_with_a_type(text: bytes) -> None:
    import zlib

    body = struct.pack("!4sIQI", MAGIC, len(text), 0, zlib.crc32(text))
    with pytest.raises(FrameError):
        read_frame(reader(body + struct.pack("!I", zlib.crc32(body)) + text))


def test_writers_behind_one_lock_do_not_interleave() -> None:
    """Two threads, 10,000 frames, as the worker's threads share one descriptor."""
    stream, lock = io.BytesIO(), threading.Lock()

    def write(name: str) -> None:
        generator = random.Random(name)
        for number in range(5000):
            with lock:
                for piece in encode({"type": name, "n": number}, generator.randbytes(number % 50)):
                    stream.write(piece)

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = reader(stream.getvalue())
    seen: dict[str, list[int]] = {"a": [], "b": []}
    for _ in range(10000):
        header, _payload = read_frame(read)
        seen[header["type"]].append(header["n"])
    assert seen == {"a": list(range(5000)), "b": list(range(5000))}
