"""A worker's own folder: made safe from those who clean up after dead workers, at every moment."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

import pytest

from engine.worker import cache_folder, files
from engine.worker.cache import Cache
from engine.worker.files import WorkerFolder, locked


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))


def test_dead_ones_are_swept_and_living_ones_stay() -> None:
    living, dead = WorkerFolder(), WorkerFolder()
    assert dead._lock is not None
    dead._lock.close()
    fresh = WorkerFolder()
    assert living.root.is_dir()
    assert not dead.path.exists()
    for folder in (living, fresh):
        folder.remove()
        assert not folder.path.exists()


def test_what_a_dead_one_made_after_its_end_is_swept_later(tmp_path: Path) -> None:
    for name, age in (("old", 100.0), ("new", 1.0)):
        path = tmp_path / (files.PREFIX + name)
        path.mkdir()
        (path / "tile.exr").write_bytes(b"late")
        then = time.time() - age
        os.utime(path, (then, then))
    folder = WorkerFolder()
    assert sorted(tmp_path.iterdir()) == sorted([folder.path, tmp_path / (files.PREFIX + "new")])
    folder.remove()


@pytest.mark.parametrize("is_over", [False, True])
def test_one_that_is_swept_while_it_is_made_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    """Between making the file and locking it, another worker locks it, or has even removed the folder."""
    taken: list[Path] = []

    def taken_first(path: Path) -> IO[bytes] | None:
        if taken:
            return locked(path)
        taken.append(path.parent)
        handle = locked(path)
        assert handle is not None
        files.shutil.rmtree(path.parent)
        return handle if is_over else None

    monkeypatch.setattr(files, "locked", taken_first)
    folder = WorkerFolder()
    assert folder.path != taken[0]
    assert folder.root.is_dir()
    folder.remove()


def test_the_cache_that_stands_beside_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a node has no home that can be written, its cache is in the temporary folder too."""
    monkeypatch.setattr(cache_folder, "usual_folder", lambda: Path("/proc/none"))
    monkeypatch.setattr(cache_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    cache = Cache(cache_folder.folder_for(""), 1 << 30)
    assert cache.folder.parent == tmp_path
    assert list(cache.folder.iterdir())
    before = sorted(cache.folder.rglob("*"))
    WorkerFolder().remove()
    assert sorted(cache.folder.rglob("*")) == before
    cache.close()
    WorkerFolder().remove()
    assert cache.folder.is_dir()


def test_a_tile_written_at_the_last_moment_is_removed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blender has the interpreter while it writes, so the answer that the folder is gone comes late."""
    folder = WorkerFolder()
    exists = Path.exists
    late: list[Path] = []

    def exists_late(path: Path) -> bool:
        is_there = exists(path)
        if path == folder.path and not late:
            late.append(path)
            path.mkdir()
            (path / "tile.exr").write_bytes(b"late")
            time.sleep(0.01)
        return is_there

    monkeypatch.setattr(Path, "exists", exists_late)
    folder.remove()
    assert late
    assert not exists(folder.path)
