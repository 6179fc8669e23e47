"""Uploads over a real sshd: sent once, gone on with after a cut, mended after a lost bit, a full cache."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.job import SceneFile
from engine.known_hosts import KnownHosts
from engine.messages import NodeChanged, SessionDone
from engine.ssh import Access

from .. import support
from ..sshd import Sshd
from .conftest import Scene
from .test_ssh import NewSession, Proxy, access_to, frame_of, machines, remote, session

__all__ = ["machines", "session"]  # fixtures

MIB = 1 << 20
SIZE = 12 * MIB
SLACK = 2 * MIB
"""Beyond the file itself: the snapshot and questions."""
CUT = 3 * MIB
"""What a cut costs at most: the window that the server had taken in and not passed on, and a frame."""


@pytest.fixture
def texture(tmp_path: Path) -> SceneFile:
    """A file of the scene that nothing compresses."""
    path = tmp_path / "tex ü" / "noise.bin"
    path.parent.mkdir()
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return SceneFile(str(path), "tex ü/noise.bin")


def sent(done: SessionDone) -> int:
    (row,) = done.report.rows
    return row.sent_bytes


def objects(sshd: Sshd) -> list[Path]:
    return sorted((sshd.folder / "cache/distributed-cycles/files/objects").glob("*/*"))


def test_a_file_is_sent_once_and_an_edit_in_chunks(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    texture: SceneFile,
    tmp_path: Path,
) -> None:
    one = machines("one")
    access = access_to(one, folder=tmp_path)
    drive = session(remote(one, "one"), access=access, files=(texture,))
    first = drive.to_the_end()
    drive.session._store.close()
    assert (first.outcome, first.error) == ("done", None)
    assert SIZE < sent(first) < SIZE + SLACK
    details = [m.status.detail for m in drive.messages if isinstance(m, NodeChanged)]
    assert any(re.fullmatch(r"\d+ of 1[34] MiB", detail) for detail in details), details
    again = session(remote(one, "one"), access=access, files=(texture,))
    second = again.to_the_end()
    again.session._store.close()
    assert sent(second) < 4096
    support.assert_equal(frame_of(again), scene.f12)
    with Path(texture.source).open("r+b") as file:
        file.seek(5 * MIB + 3)
        file.write(b"edited")
    edited = session(remote(one, "one"), access=access, files=(texture,)).to_the_end()
    assert MIB < sent(edited) < MIB + 8192


@pytest.mark.parametrize("cut_after", [0, 5 * MIB])
def test_a_cut_upload_goes_on_where_it_stopped(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    texture: SceneFile,
    tmp_path: Path,
    cut_after: int,
) -> None:
    one = machines("one")
    proxy = Proxy((one.address, one.port), cut_up_after=cut_after)
    own = tmp_path / "known_hosts"
    own.write_text(f"[127.0.0.1]:{proxy.port} {one.public_host_key}\n")
    node = replace(remote(one, "one"), host="127.0.0.1", port=proxy.port)
    drive = session(node, access=Access(KnownHosts([], own)), files=(texture,))
    done = drive.to_the_end()
    assert done.outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)
    assert proxy.connections == (2 if cut_after else 1)
    proxy.close()
    assert SIZE < proxy.passed_up < SIZE + SLACK + (CUT if cut_after else 0)
    assert SIZE in [path.stat().st_size for path in objects(one)]


@pytest.mark.parametrize("damage", ["a lost bit", "a cut file", "an emptied folder"])
def test_what_a_disk_lost_is_found_and_sent_again(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    tmp_path: Path,
    texture: SceneFile,
    damage: str,
) -> None:
    one = machines("one")
    access = access_to(one, folder=tmp_path)
    first = session(remote(one, "one"), access=access, files=(texture,))
    first.to_the_end()
    first.session._store.close()
    stored = {path.stat().st_size: path for path in objects(one)}
    path = stored[SIZE]
    before = path.stat()
    path.chmod(0o600)
    if damage == "a lost bit":
        data = bytearray(path.read_bytes())
        data[7 * MIB + 5] ^= 1
        path.write_bytes(data)
    elif damage == "a cut file":
        with path.open("r+b") as file:
            file.truncate(10 * MIB)
    else:
        shutil.rmtree(path.parents[1])
    if path.exists():
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    drive = session(remote(one, "one"), access=access, files=(texture,))
    done = drive.to_the_end()
    assert done.outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)
    chunks = {"a lost bit": 1, "a cut file": 2, "an emptied folder": SIZE // MIB}[damage]
    assert chunks * MIB < sent(done) < chunks * MIB + SLACK
    assert path.read_bytes() == Path(texture.source).read_bytes()


def test_a_bad_cache_folder_is_refused_with_the_reason(
    machines: Callable[..., Sshd], session: NewSession, tmp_path: Path
) -> None:
    one = machines("one")
    node = replace(remote(one, "one"), cache_folder="/")
    done = session(node, access=access_to(one, folder=tmp_path)).to_the_end()
    assert done.outcome == "failed"
    assert "would be a home or a root" in str(done.error)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "C:/evil", "a\\..\\evil", "door/evil"])
def test_no_name_leads_out_of_the_job_s_folder(
    machines: Callable[..., Sshd], session: NewSession, tmp_path: Path, texture: SceneFile, name: str
) -> None:
    """A manifest that somebody crafted; a worker believes no name, whoever sends it."""
    one = machines("one")
    files = (replace(texture, path=name),)
    if name.startswith("door"):
        outside = tmp_path / "outside"
        outside.mkdir()
        files = (SceneFile(texture.source, "door"), *files)
    done = session(remote(one, "one"), access=access_to(one, folder=tmp_path), files=files).to_the_end()
    assert done.outcome == "failed"
    assert "could not be" in str(done.error), done.error
    assert not list(tmp_path.rglob("*evil*"))


def test_what_both_sides_see_is_not_sent(
    machines: Callable[..., Sshd], session: NewSession, scene: Scene, tmp_path: Path, texture: SceneFile
) -> None:
    """The storage has another name on the node; one file of it is missing there, and so is sent."""
    there = tmp_path / "mounted there"
    shutil.copytree(Path(texture.source).parent, there)
    lonely = Path(texture.source).with_name("lonely.bin")
    lonely.write_bytes(random.Random(2).randbytes(2 * MIB))
    files = (texture, SceneFile(str(lonely), "tex ü/lonely.bin"))
    one = machines("one")
    node = remote(one, "one", mappings=f"{lonely.parent} = {there}")
    drive = session(node, access=access_to(one, folder=tmp_path), files=files)
    done = drive.to_the_end()
    assert done.outcome == "done"
    assert 2 * MIB < sent(done) < 2 * MIB + SLACK
    assert SIZE not in [path.stat().st_size for path in objects(one)]
    support.assert_equal(frame_of(drive), scene.f12)
