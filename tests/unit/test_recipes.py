"""Cutting files into chunks: every byte is in one, and an edit moves no other cut."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import recipes
from engine.recipes import RecipeBook, recipe_of
from engine.worker import recipe

MIB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("suffix", [".blend", ".png"])
@pytest.mark.parametrize("size", [0, 1, 16383, MIB, MIB + 1, 3 * MIB + 12345])
def test_chunks_make_up_the_file(tmp_path: Path, suffix: str, size: int) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(noise(size))
    made = recipe_of(path)
    assert made.size == size
    assert recipe.unpack(made.packed) == list(made.chunks)
    assert recipe.holds(path, made.chunks)
    for change in (b"x", b"") if size else (b"x",):
        path.write_bytes(noise(size)[: -1 if not change else None] + change)
        assert not recipe.holds(path, made.chunks)


def test_the_digest_is_of_every_bit(tmp_path: Path) -> None:
    data = bytearray(noise(2 * MIB))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    before = recipe_of(path)
    data[MIB + 7] ^= 1
    path.write_bytes(data)
    after = recipe_of(path)
    assert before.digest != after.digest
    assert [a == b for a, b in zip(before.chunks, after.chunks, strict=True)] == [True, False]


@pytest.mark.parametrize("inserted", [b"", b"x", b"some words", noise(100_000, 5)])
def test_an_edit_of_a_blend_changes_the_chunks_it_touches(tmp_path: Path, inserted: bytes) -> None:
    data = noise(12 * MIB)
    one, two = tmp_path / "one.blend", tmp_path / "two.blend"
    one.write_bytes(data)
    at = 5 * MIB + 321
    two.write_bytes(data[:at] + inserted + data[at + 40 :])
    before = set(recipe_of(one).chunks)
    fresh = [size for size, digest in recipe_of(two).chunks if (size, digest) not in before]
    assert 1 <= len(fresh) <= 6
    assert sum(fresh) < len(inserted) + 600_000


def test_a_run_of_zeros_takes_no_time_to_speak_of(tmp_path: Path) -> None:
    path = tmp_path / "empty.blend"
    with path.open("wb") as file:
        file.truncate(40 * MIB)
    made = recipe_of(path)
    assert made.size == 40 * MIB
    assert len(made.chunks) >= 40


@given(st.binary(max_size=200_000), st.integers(1, 4000))
@settings(max_examples=30, deadline=None)
def test_cuts_do_not_depend_on_how_a_file_is_read(data: bytes, block: int) -> None:
    import io

    usual = recipes.BLOCK_BYTES

    def cut(size: int) -> list[bytes]:
        recipes.BLOCK_BYTES = size
        return [bytes(piece) for piece in recipes._cut_by_content(io.BytesIO(data), len(data))]

    try:
        pieces = cut(16384 + block)
        assert b"".join(pieces) == data
        assert pieces == cut(MIB)
    finally:
        recipes.BLOCK_BYTES = usual


def settle(path: Path) -> None:
    """As if it had been written a while ago."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10**10))


def test_a_book_reads_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a b ü.png"
    path.write_bytes(noise(MIB))
    settle(path)
    read: list[Path] = []
    monkeypatch.setattr(recipes, "recipe_of", lambda path: read.append(path) or recipe_of(path))
    memory = tmp_path / "memory"

    def digest() -> str:
        return RecipeBook(memory).want([str(path)])[str(path)].result(10).digest

    first = digest()
    assert digest() == first
    assert len(read) == 1
    path.write_bytes(noise(MIB, 2))  # the same size
    settle(path)
    assert digest() != first
    assert len(read) == 2
    # A file that has just been written may be written again within one tick of the clock.
    path.write_bytes(noise(MIB, 3))
    digest()
    digest()
    assert len(read) == 4


def test_a_damaged_memory_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(noise(2 * MIB))
    settle(path)
    memory = tmp_path / "memory"
    first = RecipeBook(memory).want([str(path)])[str(path)].result(10)
    (note,) = memory.iterdir()
    note.write_bytes(note.read_bytes()[:-10])
    assert RecipeBook(memory).want([str(path)])[str(path)].result(10) == first


def test_a_file_that_is_gone_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"x")
    gone, here = str(tmp_path / "gone"), str(tmp_path / "here")
    futures = RecipeBook(None).want([gone, here])
    assert isinstance(futures[gone].exception(10), FileNotFoundError)
    assert futures[here].result(10).size == 1


def test_what_nobody_needs_is_forgotten(tmp_path: Path) -> None:
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    old.touch()
    fresh.touch()
    os.utime(old, (0, 0))
    RecipeBook(tmp_path).clean()
    assert [path.name for path in tmp_path.iterdir()] == ["fresh"]


def test_a_file_whose_time_was_put_back_is_read_again(tmp_path: Path) -> None:
    """As `rsync --times --inplace` does."""
    path, memory = tmp_path / "a.png", tmp_path / "memory"
    path.write_bytes(noise(MIB))
    settle(path)
    before = path.stat()
    first = RecipeBook(memory).want([str(path)])[str(path)].result(10).digest
    path.write_bytes(noise(MIB, 2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert RecipeBook(memory).want([str(path)])[str(path)].result(10).digest != first
