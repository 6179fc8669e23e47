"""The job folder survives a crash at any point; a tile is there whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from engine import store as store_module
from engine.job import Job, Rect, SceneFile, StoreError, Tile
from engine.store import JobStore, newest_resumable, unused_folder

TILE = Tile(3, Rect(0, 0, 8, 8))


def job(source: str = "/home/me/scene.blend") -> Job:
    return Job(
        id="j",
        source=source,
        blend="home/me/scene.blend",
        scene="Scene",
        frame=1,
        width=64,
        height=48,
        region=Rect(0, 0, 64, 48),
        use_crop=False,
        overscan=4,
        tile_size=32,
        blender_version=(4, 5, 15),
        view_layer="ViewLayer",
        files=(SceneFile("/home/me/a.png", "home/me/a.png"),),
    )


def test_a_job_comes_back_as_it_was(tmp_path: Path) -> None:
    JobStore.create(tmp_path / "j", job()).close()
    assert JobStore.open(tmp_path / "j").job == job()


def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    store = JobStore.create(tmp_path / "j", job())
    store.keep(TILE, b"pixels", attempt=1, node="a", seconds=1.0)
    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o700
    for path in (tmp_path / "j").rglob("*"):
        if path.is_file() and path.name != "lock":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_finished_tiles_are_found_again(tmp_path: Path) -> None:
    store = JobStore.create(tmp_path / "j", job())
    store.keep(TILE, b"pixels", attempt=2, node="a", seconds=1.5)
    store.close()
    found = JobStore.open(tmp_path / "j").finished()
    assert {index: (entry["node"], entry["attempt"]) for index, entry in found.items()} == {3: ("a", 2)}


class Crash(BaseException):
    pass


@pytest.mark.parametrize("point", ["before write", "before rename", "after rename", "in the journal line"])
def test_a_crash_at_any_point_loses_at_most_that_tile(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JobStore.create(tmp_path / "j", job())
    store.keep(Tile(1, TILE.rect), b"one", attempt=1, node="a", seconds=1)

    def crash(*_: object, **__: object) -> None:
        raise Crash

    def half_a_line(handle: int, data: bytes) -> None:
        real_write(handle, data[: len(data) // 2])
        raise Crash

    real_write = os.write
    with monkeypatch.context() as patch:
        if point == "before write":
            patch.setattr(store_module.os, "open", crash)
        elif point == "before rename":
            patch.setattr(Path, "replace", crash)
        elif point == "after rename":
            patch.setattr(store, "note", crash)
        else:
            patch.setattr(store_module.os, "write", half_a_line)
        with pytest.raises(Crash):
            store.keep(TILE, b"pixels", attempt=1, node="a", seconds=1)
    store.close()
    again = JobStore.open(tmp_path / "j")
    assert set(again.finished()) == {1}
    assert not list((tmp_path / "j").rglob("*.part"))
    again.keep(TILE, b"pixels", attempt=1, node="a", seconds=1)
    again.keep(Tile(4, TILE.rect), b"four", attempt=1, node="a", seconds=1)
    assert set(again.finished()) == {1, 3, 4}


@pytest.mark.parametrize("damage", [b"pixelz", b"pixel", b""])
def test_a_damaged_tile_is_rendered_again(tmp_path: Path, damage: bytes) -> None:
    store = JobStore.create(tmp_path / "j", job())
    store.keep(TILE, b"pixels", attempt=1, node="a", seconds=1)
    store.tile_path(TILE).write_bytes(damage)
    assert store.finished() == {}


def test_a_job_in_use_is_not_taken(tmp_path: Path) -> None:
    store = JobStore.create(tmp_path / "j", job())
    with pytest.raises(StoreError, match="another Blender"):
        JobStore.open(tmp_path / "j")
    store.close()
    JobStore.open(tmp_path / "j").close()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 99}'])
def test_a_broken_job_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(StoreError, match="Start a new one"):
        JobStore.open(tmp_path)


def test_a_folder_without_a_job_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no render to resume"):
        JobStore.open(tmp_path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        JobStore.create(tmp_path / "file" / "j", job())


def test_a_new_job_in_the_same_folder_starts_empty(tmp_path: Path) -> None:
    store = JobStore.create(tmp_path / "j", job())
    store.keep(TILE, b"pixels", attempt=1, node="a", seconds=1)
    store.close()
    assert JobStore.create(tmp_path / "j", job()).finished() == {}


def test_the_newest_unfinished_job_of_a_scene_is_resumed(tmp_path: Path) -> None:
    source = "/home/me/scene.blend"
    assert newest_resumable(tmp_path, source) is None
    for name in (source, source, "/elsewhere/scene.blend"):
        store = JobStore.create(unused_folder(tmp_path, name), job(name))
        store.snapshot.write_bytes(b"blend")
        store.close()
        last = store
    found = newest_resumable(tmp_path, source)
    assert found is not None
    assert found.job.source == source
    assert found.folder != last.folder
    found.frame_path.write_bytes(b"done")
    found.close()
    assert newest_resumable(tmp_path, source) is None


def test_old_jobs_make_room_but_not_those_in_use(tmp_path: Path) -> None:
    source = "/home/me/scene.blend"
    in_use = JobStore.create(unused_folder(tmp_path, source), job())
    for _ in range(5):
        JobStore.create(unused_folder(tmp_path, source), job()).close()
    folders = sorted(tmp_path.iterdir())
    assert in_use.folder in folders
    assert len(folders) == store_module.KEPT_PER_SCENE + 1


def test_the_journal_tells_what_happened(tmp_path: Path) -> None:
    store = JobStore.create(tmp_path / "j", job())
    store.note("start", nodes=["a"])
    with (tmp_path / "j" / "journal.jsonl").open("a") as journal:
        journal.write("garbage\n[1]\n")
    store.note("end", outcome="done")
    assert [entry["event"] for entry in store.journal()] == ["start", "end"]
    assert all(json.dumps(entry) for entry in store.journal())
