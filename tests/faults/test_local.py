"""What can go wrong with workers on this computer, done for real: the picture comes out the same."""

from __future__ import annotations

import os
import secrets
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import bootstrap, exr
from engine.job import Denoising, Node
from engine.messages import NodeChanged, PhaseChanged, TileEnded
from engine.session import RenderSession
from engine.store import JobStore
from engine.worker.protocol import encode, read_frame

from .. import support
from .conftest import NewSession, Scene

ONE = Node("one", threads=1)
TWO = Node("two", threads=1)


def frame_of(drive: support.Drive) -> exr.Planes:
    return exr.read(drive.session._store.frame_path)[0]


def assert_nothing_left(mark: str, node_tmp: Path) -> None:
    assert support.wait_until(lambda: not support.marked_processes(mark), 15), "a Blender still runs"
    assert list(node_tmp.iterdir()) == []


def launcher(path: Path, lines: str) -> list[str]:
    """A script that does something before it becomes Blender."""
    path.write_text(f'#!/bin/sh\n{lines}\nexec "{support.BLENDER}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def test_a_worker_outlives_what_it_cannot_print(mark: str, node_tmp: Path) -> None:
    """Its stderr is gone, as when the main process was killed: it ends by itself, and cleans up first."""
    command = [str(support.BLENDER), *bootstrap.BLENDER_ARGUMENTS]
    read, write = os.pipe()
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=write)
    os.close(write)
    assert worker.stdin is not None
    assert worker.stdout is not None
    nonce = secrets.token_hex(16)
    worker.stdin.write(bootstrap.first_line(nonce))
    worker.stdin.flush()
    assert worker.stdout.read(len(nonce)) == nonce.encode()
    assert read_frame(worker.stdout.read)[0]["type"] == "ready"
    os.close(read)
    worker.stdin.write(b"".join(encode({"type": "nonsense"})))
    worker.stdin.flush()
    kinds = {read_frame(worker.stdout.read)[0]["type"] for _ in range(3)}
    assert "error" in kinds
    assert "beat" in kinds
    worker.stdin.close()
    assert worker.wait(15) == 0
    assert_nothing_left(mark, node_tmp)


def test_two_workers_give_f12(new_session: NewSession, slow_scene: Scene, mark: str, node_tmp: Path) -> None:
    drive = new_session(ONE, TWO, source=str(slow_scene.blend))
    done = drive.to_the_end()
    assert (done.outcome, done.error) == ("done", None)
    assert all(row.tiles for row in done.report.rows)
    assert sum(row.tiles for row in done.report.rows) == done.report.tiles
    support.assert_equal(frame_of(drive), slow_scene.f12)
    assert_nothing_left(mark, node_tmp)


def test_sizes_that_follow_the_work_give_f12(new_session: NewSession, slow_scene: Scene) -> None:
    job = {"source": str(slow_scene.blend), "tile_size": 8, "use_auto_tile_size": True}
    drive = new_session(ONE, TWO, **job)
    done = drive.to_the_end()
    assert (done.outcome, done.error) == ("done", None)
    sizes = {m.tile.rect.area for m in drive.messages if isinstance(m, TileEnded) and m.outcome == "done"}
    assert max(sizes) >= 4 * min(sizes)
    support.assert_equal(frame_of(drive), slow_scene.f12)


def test_killed_worker(new_session: NewSession, slow_scene: Scene, mark: str, node_tmp: Path) -> None:
    drive = new_session(ONE, TWO, source=str(slow_scene.blend))
    # Both render by then: one that is still starting holds no tile that could fail.
    drive.until(lambda _: {m.node for m in drive.messages if isinstance(m, TileEnded)} == {"one", "two"})
    os.kill(support.marked_processes(mark)[0], signal.SIGKILL)
    assert drive.to_the_end().outcome == "done"
    failed = [m for m in drive.messages if isinstance(m, TileEnded) and m.outcome == "failed"]
    assert failed
    support.assert_equal(frame_of(drive), slow_scene.f12)
    # What the killed one could not remove, the next worker does.
    again = new_session(ONE, folder=node_tmp.parent / "again")
    again.to_the_end()
    assert_nothing_left(mark, node_tmp)


def test_hanging_worker_is_given_up_and_the_frame_completed(
    new_session: NewSession, scene: Scene, mark: str
) -> None:
    drive = new_session(ONE, TWO)
    drive.tiles(4)
    os.kill(support.marked_processes(mark)[0], signal.SIGSTOP)
    start = time.monotonic()
    assert drive.to_the_end().outcome == "done"
    assert time.monotonic() - start < 16
    support.assert_equal(frame_of(drive), scene.f12)


def test_a_lone_worker_that_hangs_is_found_dead_and_started_anew(
    new_session: NewSession, scene: Scene, mark: str
) -> None:
    drive = new_session(ONE)
    drive.tiles(2)
    os.kill(support.marked_processes(mark)[0], signal.SIGSTOP)
    start = time.monotonic()
    lost = drive.until(lambda m: isinstance(m, NodeChanged) and m.status.error is not None, 20)
    assert time.monotonic() - start < 19
    assert isinstance(lost, NodeChanged)
    assert "no sign of life" in lost.status.detail
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)


def test_late_node(new_session: NewSession, scene: Scene) -> None:
    drive = new_session(ONE)
    drive.tiles(3)
    drive.session.add_node(TWO)
    done = drive.to_the_end()
    assert done.outcome == "done"
    assert {row.node for row in done.report.rows} == {"one", "two"}
    support.assert_equal(frame_of(drive), scene.f12)


def test_cancel_keeps_tiles_and_leaves_nothing_running(
    new_session: NewSession, mark: str, node_tmp: Path
) -> None:
    drive = new_session(ONE, TWO)
    drive.tiles(3)
    start = time.monotonic()
    drive.session.cancel()
    drive.session.cancel()
    done = drive.to_the_end()
    assert time.monotonic() - start < 5
    assert done.outcome == "cancelled"
    assert len(drive.session._store.finished()) == len(drive.kept) >= 3
    assert_nothing_left(mark, node_tmp)


def test_cancel_while_blender_starts(
    new_session: NewSession, mark: str, node_tmp: Path, tmp_path: Path
) -> None:
    drive = new_session(ONE, command=launcher(tmp_path / "slow", "sleep 2"))
    time.sleep(0.3)
    drive.session.cancel()
    assert drive.to_the_end().outcome == "cancelled"
    assert_nothing_left(mark, node_tmp)


MAIN = """
import shutil, sys
from pathlib import Path
from engine.job import Node
from engine.session import RenderSession
from engine.store import JobStore
from engine.worker.protocol import encode, read_frame
from tests import support
blend, folder, version = Path(sys.argv[1]), Path(sys.argv[2]), tuple(map(int, sys.argv[3].split(".")))
store = JobStore.create(folder, support.job_for(blend, version))
shutil.copy(blend, store.snapshot)
session = RenderSession(
    store.job, [Node("one", threads=1)], store, access=None, local_blender=[str(support.BLENDER)]
)
session.start()
drive = support.Drive(session)
drive.tiles(8)
print("now", flush=True)
drive.to_the_end()
"""


def test_killed_main_process_is_resumed(scene: Scene, tmp_path: Path, node_tmp: Path, mark: str) -> None:
    version = ".".join(map(str, scene.version))
    main = subprocess.Popen(
        [sys.executable, "-c", MAIN, str(scene.blend), str(tmp_path / "job"), version],
        stdout=subprocess.PIPE,
        cwd=support.REPOSITORY,
    )
    assert main.stdout is not None
    assert main.stdout.readline() == b"now\n"
    main.kill()
    main.wait()
    main.stdout.close()
    assert_nothing_left(mark, node_tmp)

    store = JobStore.open(tmp_path / "job")
    before = set(store.finished())
    assert len(before) >= 8
    session = RenderSession(store.job, [ONE, TWO], store, access=None, local_blender=[str(support.BLENDER)])
    session.start()
    drive = support.Drive(session)
    done = drive.to_the_end()
    assert done.outcome == "done"
    assert done.report.resumed == len(before)
    assert not before & set(drive.kept)
    journal = [entry["tile"] for entry in store.journal() if entry["event"] == "tile"]
    assert len(journal) == len(set(journal)) == done.report.tiles
    support.assert_equal(frame_of(drive), scene.f12)


POISON = """
text = bpy.data.texts.new("poison.py")
text.use_module = True
text.write('''
import bpy, os
def poison(scene, *_):
    if scene.render.border_min_x < 0.1 and scene.render.border_min_y < 0.1:
        os.abort()
bpy.app.handlers.render_pre.append(poison)
''')
"""


def test_a_poison_tile_is_named_and_everything_else_rendered(new_session: NewSession, tmp_path: Path) -> None:
    blend = support.make_scene(tmp_path / "poison.blend", more=POISON)
    drive = new_session(
        ONE, TWO, Node("three", threads=1), source=str(blend), blend="poison.blend", use_scripts=True
    )
    done = drive.to_the_end()
    assert done.outcome == "failed"
    assert "% of the picture" in str(done.error)
    assert "Resume" in str(done.error)
    assert len(drive.kept) == drive.session._scheduler.total - 1
    states = [m.status.state for m in drive.messages if isinstance(m, NodeChanged)]
    assert "paused" not in states
    assert "failed" not in states


DENOISING = Denoising(
    layers=("ViewLayer",),
    denoiser="OPENIMAGEDENOISE",
    input_passes="RGB_ALBEDO_NORMAL",
    prefilter="ACCURATE",
    quality="HIGH",
    use_gpu=False,
    device="NONE",
    exposure=1.0,
)
HELPERS = tuple(f"ViewLayer.Denoising {name}" for name in ("Albedo", "Normal", "Depth"))


def test_a_denoiser_that_fails_keeps_all_tiles(new_session: NewSession, tmp_path: Path) -> None:
    """OptiX on a machine without one."""
    drive = new_session(ONE, denoising=replace(DENOISING, denoiser="OPTIX"), helpers=HELPERS)
    done = drive.to_the_end()
    assert done.outcome == "failed"
    assert "is rendered, but could not be denoised" in str(done.error)
    assert "Resume" in str(done.error)
    assert len(drive.session._store.finished()) == done.report.tiles
    assert not drive.session._store.frame_path.exists()


def test_cancel_while_it_denoises(
    new_session: NewSession, scene: Scene, mark: str, node_tmp: Path, tmp_path: Path
) -> None:
    """The folder it leaves is resumed without a tile, and then denoised."""
    folder = tmp_path / "job"
    drive = new_session(ONE, denoising=DENOISING, helpers=HELPERS)
    drive.until(lambda m: isinstance(m, PhaseChanged) and m.phase == "Denoising")
    drive.session.cancel()
    assert drive.to_the_end().outcome == "cancelled"
    assert_nothing_left(mark, node_tmp)
    assert sorted(path.name for path in folder.glob("*.exr")) == []

    drive.session._store.close()
    store = JobStore.open(folder)
    session = RenderSession(store.job, [ONE], store, access=None, local_blender=[str(support.BLENDER)])
    session.start()
    again = support.Drive(session)
    done = again.to_the_end()
    assert (done.outcome, again.kept, done.report.resumed) == ("done", [], done.report.tiles)
    planes = frame_of(again)
    assert {name.split(".")[1] for name in planes} == {"Combined", "Noisy Image", "Depth"}
    np.testing.assert_array_equal(planes["ViewLayer.Noisy Image.R"], scene.f12["ViewLayer.Combined.R"])
    assert (planes["ViewLayer.Combined.R"] != scene.f12["ViewLayer.Combined.R"]).mean() > 0.5


def test_scripts_do_not_run_unless_allowed(new_session: NewSession, scene: Scene, tmp_path: Path) -> None:
    blend = support.make_scene(tmp_path / "poison.blend", more=POISON)
    drive = new_session(ONE, source=str(blend), blend="poison.blend", use_scripts=False)
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)


def test_noise_before_and_beside_the_protocol(new_session: NewSession, scene: Scene, tmp_path: Path) -> None:
    noise = 'echo "Welcome to node"; echo DCF1; head -c 50000 /dev/urandom; echo tty >&2'
    drive = new_session(ONE, command=launcher(tmp_path / "noisy", noise))
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)


FLOOD = """
text = bpy.data.texts.new("flood.py")
text.use_module = True
text.write('''
import bpy, ctypes, os
def flood(scene, *_):
    os.write(2, b"x" * 5_000_000)
    os.write(1, b"printed in the middle of it all")
    ctypes.CDLL(None).puts(b"and from C")
    print("and from Python")
bpy.app.handlers.render_pre.append(flood)
''')
"""


def test_a_flood_on_stderr_and_stdout_holds_nothing_up(
    new_session: NewSession, scene: Scene, tmp_path: Path
) -> None:
    blend = support.make_scene(tmp_path / "flood.blend", more=FLOOD)
    drive = new_session(ONE, source=str(blend), blend="flood.blend", use_scripts=True)
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small-disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_says_so_and_loses_nothing(new_session: NewSession, small_disk: Path) -> None:
    filler = small_disk / "filler"
    drive = new_session(ONE, folder=small_disk / "job")
    drive.tiles(3)
    with filler.open("wb") as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    done = drive.to_the_end()
    assert done.outcome == "failed"
    assert "cannot be written" in str(done.error)
    assert "finished tiles are kept" in str(done.error)
    assert len(drive.session._store.finished()) >= 3


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("echo 'something is broken here' >&2; exit 1", "ended with status 1 before it answered: something"),
        ("kill -SEGV $$", "ended by a signal before it answered"),
        ("echo 'sh: blender: not found' >&2; exit 127", "no Blender on the node"),
    ],
)
def test_a_blender_that_does_not_start_is_reported_at_once(
    new_session: NewSession, tmp_path: Path, lines: str, words: str
) -> None:
    drive = new_session(ONE, command=launcher(tmp_path / "broken", lines))
    start = time.monotonic()
    done = drive.to_the_end()
    assert time.monotonic() - start < 10
    assert done.outcome == "failed"
    assert words in str(done.error)


def test_no_blender_at_all(new_session: NewSession) -> None:
    done = new_session(ONE, command=["/nowhere/blender"]).to_the_end()
    assert done.outcome == "failed"
    assert "could not be started" in str(done.error)


def test_another_version_is_refused(new_session: NewSession) -> None:
    done = new_session(ONE, blender_version=(4, 1, 0)).to_the_end()
    assert done.outcome == "failed"
    assert "this render needs 4.1.0" in str(done.error)


def test_a_blender_that_is_too_old(new_session: NewSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is moved above the real Blender; from there on nothing is staged."""
    monkeypatch.setattr("engine.bootstrap.OLDEST_BLENDER", (99, 0, 0))
    done = new_session(ONE).to_the_end()
    assert done.outcome == "failed"
    version = ".".join(map(str, support.blender_version()))
    assert f"Blender {version} on the node is too old. Install" in str(done.error)


def test_a_scene_that_does_not_open_is_reported(new_session: NewSession, tmp_path: Path) -> None:
    broken = tmp_path / "broken.blend"
    broken.write_bytes(b"not a blend file")
    done = new_session(ONE, source=str(broken)).to_the_end()
    assert done.outcome == "failed"
    assert "could not be opened" in str(done.error)
