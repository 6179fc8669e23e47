"""A line that is slower than the node: nothing is taken for dead, nothing waits that need not, less is sent."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from engine import exr, link
from engine.job import Node

from .. import support
from ..sshd import Sshd
from .conftest import NewSession, Scene

SLOW = """
import os, sys, time
while data := os.read(0, 4096):
    time.sleep(len(data) / float(sys.argv[1]))
    while data:
        data = data[os.write(1, data):]
"""
"""What comes in goes out at so many bytes a second."""


@pytest.fixture
def slow_node(tmp_path: Path, mark: str, node_tmp: Path) -> tuple[Sshd, Node]:
    """A node whose answers come at 60 KB/s."""
    program, launcher = tmp_path / "slow.py", tmp_path / "slowly"
    program.write_text(SLOW)
    launcher.write_text(f'#!/bin/sh\n"$@" | {sys.executable} {program} 60000\n')
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    environment = {support.MARK: mark, "TMPDIR": str(node_tmp)}
    if "BPY_PYTHON" in os.environ:
        environment["BPY_PYTHON"] = os.environ["BPY_PYTHON"]
    sshd = Sshd(tmp_path / "sshd", environment=environment)
    return sshd, sshd.node("slow", blender=str(support.BLENDER), launcher=str(launcher), threads=1)


def test_a_large_tile_on_a_slow_line_is_a_sign_of_life(
    new_session: NewSession, scene: Scene, slow_node: tuple[Sshd, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 400 KB take seven seconds, in which no beat comes."""
    monkeypatch.setattr(link, "SILENCE_S", 3.0)
    sshd, node = slow_node
    with sshd:
        drive = new_session(node, access=sshd.access(), tile_size=192)
        done = drive.to_the_end()
        assert (done.outcome, len(drive.kept)) == ("done", 1), done.error
    support.assert_equal(exr.read(drive.session._store.frame_path)[0], scene.f12)


def test_what_the_line_does_not_keep_up_with_is_compressed(
    new_session: NewSession, scene: Scene, slow_node: tuple[Sshd, Node]
) -> None:
    """Tiles are compressed once one was waited for longer than it was rendered."""
    sshd, node = slow_node
    with sshd:
        drive = new_session(node, access=sshd.access(), tile_size=48)
        done = drive.to_the_end()
        assert done.outcome == "done", done.error
    store = drive.session._store
    kinds = [exr.read_header(path)["compression"][1] for path in sorted(store.folder.glob("tiles/*.exr"))]
    assert kinds.count(bytes([exr.NO_COMPRESSION])) >= 1
    assert kinds.count(bytes([exr.ZIP])) > len(kinds) / 2
    support.assert_equal(exr.read(store.frame_path)[0], scene.f12)


def test_what_keeps_up_is_not(new_session: NewSession, slow_scene: Scene) -> None:
    drive = new_session(Node("here", threads=1), tile_size=48, source=str(slow_scene.blend))
    assert drive.to_the_end().outcome == "done"
    kinds = {
        exr.read_header(path)["compression"][1] for path in drive.session._store.folder.glob("tiles/*.exr")
    }
    assert kinds == {bytes([exr.NO_COMPRESSION])}
