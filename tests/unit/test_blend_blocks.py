"""Large blocks of a .blend are cut out of what surrounds them; whatever else a file holds does no harm."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blend_blocks import LARGE_BLOCK_BYTES, borders
from engine.recipes import recipe_of

Write = Callable[[bytes, int, bytes], bytes]


def old_head(code: bytes, address: int, data: bytes) -> bytes:
    return struct.pack("<4siQii", code, len(data), address, 0, 1) + data


def new_head(code: bytes, address: int, data: bytes) -> bytes:
    return struct.pack("<4siQqq", code, 0, address, len(data), 1) + data


FORMATS: tuple[tuple[bytes, Write], ...] = ((b"BLENDER-v405", old_head), (b"BLENDER17-01v0502", new_head))


def blend(beginning: bytes, block: Write, addresses: int) -> bytes:
    """A file of large and small blocks whose heads, and small blocks, hold addresses."""
    chance = random.Random(addresses)
    data = [beginning]
    for number in range(12):
        address = chance.getrandbits(48)
        data.append(block(b"ME\0\0", address, struct.pack("<Q", address) * 30))
        data.append(block(b"DATA", address + 1, random.Random(number).randbytes(100_000 + number)))
    return b"".join([*data, block(b"ENDB", 0, b"")])


@pytest.mark.parametrize(("beginning", "block"), FORMATS)
def test_other_addresses_leave_large_blocks_as_they_are(
    tmp_path: Path, beginning: bytes, block: Write
) -> None:
    made = []
    for addresses in (1, 2):
        path = tmp_path / f"{addresses}.blend"
        path.write_bytes(blend(beginning, block, addresses))
        made.append(recipe_of(path))
    one, two = made
    assert one.size == two.size == path.stat().st_size
    fresh = sum(size for size, _ in set(two.chunks) - set(one.chunks))
    assert 0 < fresh < 12 * 400
    assert one.digest != two.digest


@pytest.mark.parametrize(("beginning", "block"), FORMATS)
def test_borders_are_those_of_large_blocks(beginning: bytes, block: Write) -> None:
    small, large = bytes(LARGE_BLOCK_BYTES - 1), bytes(LARGE_BLOCK_BYTES)
    data = beginning + block(b"DATA", 1, small) + block(b"DATA", 2, large) + block(b"ENDB", 0, b"")
    head = len(block(b"DATA", 0, b""))
    start = len(beginning) + 2 * head + len(small)
    assert list(borders(io.BytesIO(data))) == [start, start + len(large)]
    # What comes after the end is not the format any more, nor is a block that is longer than the file.
    assert list(borders(io.BytesIO(data + block(b"DATA", 3, large)))) == [start, start + len(large)]
    assert list(borders(io.BytesIO(data[: start + 5]))) == []


@given(
    st.sampled_from([b"", b"BLENDER-v405", b"BLENDER-V405", b"BLENDER17-01v0502", b"\x28\xb5\x2f\xfd"]),
    st.binary(max_size=400),
)
def test_nonsense_has_no_borders_that_are_not_in_it(beginning: bytes, rest: bytes) -> None:
    data = beginning + rest + bytes(LARGE_BLOCK_BYTES)
    found = list(borders(io.BytesIO(data)))
    assert found == sorted(found)
    assert all(0 <= place <= len(data) for place in found)
