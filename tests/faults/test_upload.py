"""Uploads over a real sshd: sent once, gone on with after a cut, mended after a lost bit, a full cache."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.job import SceneFile
from engine.known_hosts import KnownHosts
from engine.link import WorkerLink
from engine.messages import NodeChanged, SessionDone
from engine.ssh import Access
from engine.worker.protocol import CHUNKS, read_frame

from .. import support
from ..sshd import Sshd
from .conftest import Scene
from .test_ssh import NewSession, Proxy, access_to, frame_of, machines, remote, session, worker_of

__all__ = ["machines", "session"]  # fixtures

MIB = 1 << 20
SIZE = 12 * MIB
SLACK = 2 * MIB
"""Beyond the file itself: the snapshot and questions."""
PIECE_S = 0.0005
"""For 64 KiB."""
GREETING = 96 << 10
"""What each connection takes before the first file: keys, the worker's source, questions."""


SPOIL = """#!/usr/bin/env python3
import os, subprocess, sys
worker = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
passed = 0
while data := bytearray(os.read(0, 65536)):
    if passed <= {at} < passed + len(data) and not os.path.exists("{once}"):
        open("{once}", "w").close()
        data[{at} - passed] ^= 1
    passed += len(data)
    worker.stdin.write(data)
    worker.stdin.flush()
worker.stdin.close()
sys.exit(worker.wait())
"""


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


@pytest.mark.parametrize("cut_after", [0, 5 * MIB, 7_777_777])
def test_a_cut_upload_goes_on_where_it_stopped(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    texture: SceneFile,
    tmp_path: Path,
    cut_after: int,
) -> None:
    """Counted where the wire is cut: all that came through on it, over all connections.

    It is no faster than a gigabit: what sshd has taken in, and not yet passed on, dies with it.
    """
    one = machines("one")
    proxy = Proxy((one.address, one.port), cut_up_after=cut_after, up_pause=PIECE_S)
    own = tmp_path / "known_hosts"
    own.write_text(f"[127.0.0.1]:{proxy.port} {one.public_host_key}\n")
    node = replace(remote(one, "one"), host="127.0.0.1", port=proxy.port)
    drive = session(node, access=Access(KnownHosts([], own)), files=(texture,))
    done = drive.to_the_end()
    assert done.outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)
    assert proxy.connections == (2 if cut_after else 1)
    proxy.close()
    needed = SIZE + drive.session._store.snapshot.stat().st_size
    assert SIZE < proxy.passed_up < needed + proxy.connections * GREETING + (MIB if cut_after else 0)
    assert SIZE in [path.stat().st_size for path in objects(one)]


def test_what_arrived_whole_is_not_sent_again(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    texture: SceneFile,
    tmp_path: Path,
    mark: str,
) -> None:
    """Counted where the worker reads: each chunk that came out of sshd whole. When sshd dies, the worker
    has not even read some of them, as on a machine that is busy with something else."""
    size = 8 * SIZE
    Path(texture.source).write_bytes(random.Random(1).randbytes(size))
    one = machines("one")
    notes = tmp_path / "notes"
    notes.mkdir()
    launcher = tmp_path / "noting"
    launcher.write_text(f'#!/bin/sh\ntee "{notes}/$(date +%s%N)" | "$@"\n')
    launcher.chmod(0o755)
    node = remote(one, "one", launcher=str(launcher))
    drive = session(node, access=access_to(one, folder=tmp_path), files=(texture,))

    def noted() -> int:
        return sum(note.stat().st_size for note in notes.iterdir())

    deadline = time.monotonic() + 60
    while noted() < SIZE:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    worker = worker_of(one, mark)
    os.kill(worker, signal.SIGSTOP)
    try:
        seen = 0
        while seen < (seen := noted()):  # until its pipes are full
            time.sleep(0.2)
        for pid in one.children():
            os.kill(pid, signal.SIGKILL)
        time.sleep(1.2)  # The next beat is due, and nobody reads it.
    finally:
        os.kill(worker, signal.SIGCONT)
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)
    before, after = [set(chunks_in(note)) for note in sorted(notes.iterdir())]
    assert SIZE // MIB / 2 < len(before) < size // MIB
    assert len(before | after) >= size // MIB
    assert not before & after


def chunks_in(note: Path) -> Iterator[tuple[str, int]]:
    """The frames of chunks that came whole, of what a worker read on its stdin."""
    stream = io.BytesIO(note.read_bytes())
    stream.readline()  # the worker's source

    def read_exactly(size: int) -> bytes:
        data = stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    with contextlib.suppress(EOFError):
        while True:
            header, _ = read_frame(read_exactly)
            if header["type"] == CHUNKS:
                yield header["digest"], header["first"]


def test_a_byte_that_changed_on_its_way_is_sent_again(
    machines: Callable[..., Sshd], session: NewSession, scene: Scene, texture: SceneFile, tmp_path: Path
) -> None:
    """Behind ssh, which would have seen it: in what stands before Blender on the node."""
    once = tmp_path / "once"
    launcher = tmp_path / "spoiling"
    launcher.write_text(SPOIL.format(once=once, at=7 * MIB))
    launcher.chmod(0o755)
    one = machines("one")
    node = remote(one, "one", launcher=str(launcher))
    drive = session(node, access=access_to(one, folder=tmp_path), files=(texture,))
    done = drive.to_the_end()
    assert once.exists()
    assert done.outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)
    details = [m.status.detail for m in drive.messages if isinstance(m, NodeChanged)]
    assert any("arrived damaged" in detail for detail in details), details


@pytest.mark.parametrize("change", ["cut off", "written anew"])
def test_a_file_that_changes_while_it_is_sent_is_read_again(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    texture: SceneFile,
    tmp_path: Path,
    change: str,
) -> None:
    one = machines("one")
    proxy = Proxy((one.address, one.port), up_pause=20 * PIECE_S)
    own = tmp_path / "known_hosts"
    own.write_text(f"[127.0.0.1]:{proxy.port} {one.public_host_key}\n")
    node = replace(remote(one, "one"), host="127.0.0.1", port=proxy.port)
    drive = session(node, access=Access(KnownHosts([], own)), files=(texture,))
    assert support.wait_until(lambda: any(one.folder.glob("cache/*/files/partial/*")), 60)
    if change == "cut off":
        os.truncate(texture.source, 2 * MIB)
    else:
        Path(texture.source).write_bytes(random.Random(2).randbytes(SIZE))
    assert drive.to_the_end().outcome == "done"
    proxy.close()
    support.assert_equal(frame_of(drive), scene.f12)
    assert Path(texture.source).read_bytes() in [path.read_bytes() for path in objects(one)]
    details = [m.status.detail for m in drive.messages if isinstance(m, NodeChanged)]
    assert any("changed while it was being sent" in detail for detail in details), details


def test_a_disk_that_fills_up_meanwhile_is_named(
    machines: Callable[..., Sshd], session: NewSession, texture: SceneFile, tmp_path: Path
) -> None:
    disk = tmp_path / "small disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=280m", "none", str(disk)], check=True)
    try:
        one = machines("one")
        proxy = Proxy((one.address, one.port), up_pause=100 * PIECE_S)
        own = tmp_path / "known_hosts"
        own.write_text(f"[127.0.0.1]:{proxy.port} {one.public_host_key}\n")
        node = remote(one, "one", cache_folder=str(disk / "cache"))
        node = replace(node, host="127.0.0.1", port=proxy.port)
        drive = session(node, access=Access(KnownHosts([], own)), files=(texture,))
        assert support.wait_until(lambda: any(disk.glob("cache/partial/*")), 60)
        with contextlib.suppress(OSError), (disk / "another's").open("wb") as file:
            while True:
                file.write(bytes(MIB))
        done = drive.to_the_end()
        proxy.close()
        assert done.outcome == "failed"
        assert "No space left" in str(done.error), done.error
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


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


def test_a_worker_hears_of_us_while_a_file_is_read_here(
    machines: Callable[..., Sshd], session: NewSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading many gigabytes for the first time takes minutes; a worker that hears nothing ends itself after one."""
    slow = tmp_path / "slow.abc"
    os.mkfifo(slow)

    def write() -> None:
        with slow.open("wb") as pipe:
            pipe.write(b"beginning")
            pipe.flush()
            time.sleep(3.5)

    threading.Thread(target=write, daemon=True).start()
    sent: list[str] = []
    send = WorkerLink.send

    def noted(link: WorkerLink, header: dict[str, object], payload: bytes = b"") -> None:
        sent.append(str(header["type"]))
        send(link, header, payload)

    monkeypatch.setattr(WorkerLink, "send", noted)
    one = machines("one")
    files = (SceneFile(str(slow), "slow.abc"),)
    drive = session(remote(one, "one"), access=access_to(one, folder=tmp_path), files=files)
    assert support.wait_until(lambda: "cache" in sent, 20)
    assert support.wait_until(lambda: sent[sent.index("cache") :].count("ping") >= 2, 3.2)
    drive.session.cancel()
    assert drive.to_the_end().outcome == "cancelled"
