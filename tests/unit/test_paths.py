"""Mirrored places of the files of any system, and names that must not lead out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.assets import Wanted, scene_files, snapshot_path
from engine.worker.files import WorkerFolder
from engine.worker.paths import is_absolute, is_safe, mirrored


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/home/me/a.png", "home/me/a.png"),
        ("/home/me/../you/./a b.png", "home/you/a b.png"),
        ("/../../etc/passwd", "etc/passwd"),
        ("C:\\art\\tex\\a.png", "C/art/tex/a.png"),
        ("c:/art/a.png", "C/art/a.png"),
        ("\\\\server\\share\\a.png", "UNC/server/share/a.png"),
        ("/tex/ä ö/猫.png", "tex/ä ö/猫.png"),
    ],
)
def test_mirrored(path: str, place: str) -> None:
    assert is_absolute(path)
    assert mirrored(path) == place
    assert is_safe(place)


def test_relative_paths_are_left_alone() -> None:
    assert not is_absolute("//tex/a.png")
    assert not is_absolute("tex/a.png")


@given(st.text(min_size=1))
def test_every_absolute_path_has_a_place_inside(text: str) -> None:
    parts = mirrored("/" + text.replace("\0", "").replace("\\", "").replace(":", "")).split("/")
    assert ".." not in parts


UNSAFE = ["", "/etc/passwd", "../x", "a/../../x", "a//b", "C:/x", "a\\..\\x", ".", "a/.", "x\0y", "\\\\s\\x"]
NOT_ON_WINDOWS = ["a/CON", "con.png", "a/aux .txt", "COM1", "lpt9.exr", "a./b", "a /b", "a:b", "a?", "x\x1fy"]


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert not is_safe(name, on_windows=True)
    folder = WorkerFolder()
    with pytest.raises(ValueError, match="unsafe"):
        folder.link(name, __file__)
    folder.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NOT_ON_WINDOWS)
def test_names_that_windows_takes_for_something_else(name: str) -> None:
    assert is_safe(name, on_windows=False)
    assert not is_safe(name, on_windows=True)


@pytest.mark.parametrize("name", ["console.png", "a/com.png", "tex/auxiliary", "a b/ä.png", ".hidden"])
def test_names_that_look_alike_are_good(name: str) -> None:
    assert is_safe(name, on_windows=True)


def test_a_link_does_not_lead_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "outside").mkdir()
    folder = WorkerFolder()
    folder.link("door", str(tmp_path / "outside"))
    with pytest.raises(ValueError, match="leads out"):
        folder.place("door/x")
    folder.remove()
    assert list((tmp_path / "outside").iterdir()) == []


def test_two_names_that_a_disk_takes_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk here does so; what it would look like is a file that nobody has put there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = WorkerFolder()
    folder.place("a/Tex.png").write_bytes(b"x")
    folder.place("a/Tex.png").write_bytes(b"y")
    (folder.root / "a/tex.png").hardlink_to(folder.root / "a/Tex.png")
    with pytest.raises(ValueError, match="differs by case only"):
        folder.place("a/tex.png")
    folder.remove()


def test_what_a_killed_worker_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living, killed = WorkerFolder(), WorkerFolder()
    assert killed._lock is not None
    killed._lock.close()  # as the system does for a process that ends
    third = WorkerFolder()
    assert living.path.is_dir()
    assert not killed.path.exists()
    living.remove()
    third.remove()


def test_scene_files_are_sent_once_and_missing_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    here, gone = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    files, missing = scene_files(Wanted(path, path, "image 'A'") for path in (here, gone, here, gone))
    assert [file.source for file in files] == [here]
    assert missing == (Wanted(gone, gone, "image 'A'"),)


def test_a_file_stands_where_the_name_in_the_blend_says(tmp_path: Path) -> None:
    """A link before `..` leads elsewhere here; there are no links there."""
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/a.png").write_bytes(b"a")
    (tmp_path / "link").symlink_to(tmp_path / "deep/er")
    named = f"{tmp_path}/link/../a.png"
    ((file,), _) = scene_files([Wanted(named, named, "image")])
    assert (file.source, file.path) == (named, mirrored(str(tmp_path / "a.png")))


def test_a_scene_that_was_never_saved_has_a_place() -> None:
    assert is_safe(snapshot_path(""))
    assert snapshot_path("/home/me/s.blend") == "home/me/s.blend"


def test_a_path_relative_to_the_current_folder_is_whole_where_it_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a script may store it: Blender looks for it in the current folder, a link to it in its own."""
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    found, _ = scene_files([Wanted("a.png", "a.png", "image")])
    assert [(file.source, file.path) for file in found] == [(str(tmp_path / "a.png"), "a.png")]
