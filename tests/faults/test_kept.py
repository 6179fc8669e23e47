"""Workers that stay for the next render: when they are gone on with, when not, and that none is left over."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from engine import exr
from engine.job import Node, SceneFile
from engine.messages import NodeChanged, SessionDone
from engine.pool import KeptWorker, WorkerPool
from engine.starter import open_worker

from .. import support
from ..sshd import Sshd
from .conftest import NewSession, Scene

ONE = Node("one", threads=1)
OPENING = "opening the scene"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool()
    made.seconds = 60
    yield made
    made.close()


@pytest.fixture
def edited(tmp_path: Path, scene: Scene) -> Path:
    """The same scene, its camera elsewhere."""
    code = "import bpy, sys\nbpy.context.scene.camera.location.x += 0.5\nbpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])"
    support.run_python(code, str(tmp_path / "edited.blend"), blend=scene.blend)
    return tmp_path / "edited.blend"


def done(drive: support.Drive) -> SessionDone:
    ended = drive.to_the_end()
    assert ended.outcome == "done", ended.error
    return ended


def frame_of(drive: support.Drive) -> exr.Planes:
    return exr.read(drive.session._store.frame_path)[0]


def details(drive: support.Drive) -> list[str]:
    return [message.status.detail for message in drive.messages if isinstance(message, NodeChanged)]


def test_an_unchanged_scene_starts_at_once(
    new_session: NewSession, scene: Scene, pool: WorkerPool, mark: str, node_tmp: Path
) -> None:
    first = new_session(ONE, pool=pool)
    done(first)
    assert OPENING in details(first)
    assert support.wait_until(lambda: pool.names() == ["one"], 5)
    worker = support.marked_processes(mark)
    assert len(worker) == 1
    again = new_session(ONE, pool=pool, folder=node_tmp.parent / "again")
    start = time.monotonic()
    again.tiles(1)
    assert time.monotonic() - start < 1  # 0.1 s where nothing else uses the processor
    done(again)
    assert OPENING not in details(again)
    assert support.marked_processes(mark) == worker
    support.assert_equal(frame_of(again), scene.f12)
    pool.close()
    assert support.wait_until(lambda: not support.marked_processes(mark), 15)
    assert list(node_tmp.iterdir()) == []


def test_an_edited_scene_is_opened_anew_in_the_same_blender(
    new_session: NewSession, scene: Scene, edited: Path, pool: WorkerPool, mark: str, node_tmp: Path
) -> None:
    done(new_session(ONE, pool=pool))
    worker = support.marked_processes(mark)
    drive = new_session(ONE, pool=pool, source=str(edited), folder=node_tmp.parent / "edited")
    done(drive)
    assert OPENING in details(drive)
    assert support.marked_processes(mark) == worker
    support.assert_equal(frame_of(drive), support.render_f12(edited, node_tmp.parent / "edited.exr"))


def test_files_of_the_last_scene_are_not_there_for_the_next(
    new_session: NewSession, edited: Path, pool: WorkerPool, tmp_path: Path, node_tmp: Path
) -> None:
    """What is missing must not be found because another scene had it."""
    texture = tmp_path / "texture.bin"
    texture.write_bytes(b"one")
    files = (SceneFile(str(texture), str(texture).lstrip("/")),)
    done(new_session(ONE, pool=pool, files=files))
    assert list(node_tmp.rglob("texture.bin"))
    done(new_session(ONE, pool=pool, source=str(edited), folder=tmp_path / "again"))
    assert not list(node_tmp.rglob("texture.bin"))


def test_other_files_of_an_unchanged_scene_are_opened_anew(
    new_session: NewSession, tmp_path: Path, pool: WorkerPool
) -> None:
    texture = tmp_path / "texture.bin"
    texture.write_bytes(b"one")
    files = (SceneFile(str(texture), str(texture).lstrip("/")),)
    done(new_session(ONE, pool=pool, files=files))
    texture.write_bytes(b"another")
    drive = new_session(ONE, pool=pool, files=files, folder=tmp_path / "again")
    done(drive)
    assert OPENING in details(drive)


def test_a_file_that_changes_during_a_render_is_read_by_the_next(
    new_session: NewSession, slow_scene: Scene, tmp_path: Path, pool: WorkerPool
) -> None:
    """The first render has read it before; what is there at its end is not what its worker has."""
    texture = tmp_path / "texture.bin"
    texture.write_bytes(b"one")
    files = (SceneFile(str(texture), str(texture).lstrip("/")),)
    first = new_session(ONE, pool=pool, files=files, source=str(slow_scene.blend))
    first.tiles(1)
    texture.write_bytes(b"another")
    done(first)
    drive = new_session(ONE, pool=pool, files=files, source=str(slow_scene.blend), folder=tmp_path / "again")
    done(drive)
    assert OPENING in details(drive)


def test_a_blender_that_ran_scripts_opens_no_other_scene(
    new_session: NewSession, edited: Path, pool: WorkerPool, mark: str, tmp_path: Path
) -> None:
    done(new_session(ONE, pool=pool, use_scripts=True))
    worker = support.marked_processes(mark)
    done(new_session(ONE, pool=pool, use_scripts=True, folder=tmp_path / "same"))
    assert support.marked_processes(mark) == worker
    done(new_session(ONE, pool=pool, source=str(edited), folder=tmp_path / "edited"))
    assert support.wait_until(lambda: len(support.marked_processes(mark)) == 1, 10)
    assert support.marked_processes(mark) != worker


def test_one_that_died_meanwhile_is_replaced_without_a_word(
    new_session: NewSession, scene: Scene, pool: WorkerPool, mark: str, tmp_path: Path
) -> None:
    done(new_session(ONE, pool=pool))
    (worker,) = support.marked_processes(mark)
    os.kill(worker, signal.SIGKILL)
    drive = new_session(ONE, pool=pool, folder=tmp_path / "again")
    done(drive)
    assert not any(message.status.error for message in drive.messages if isinstance(message, NodeChanged))
    support.assert_equal(frame_of(drive), scene.f12)


def test_one_that_hangs_is_not_waited_for(
    new_session: NewSession, pool: WorkerPool, mark: str, tmp_path: Path
) -> None:
    done(new_session(ONE, pool=pool))
    (worker,) = support.marked_processes(mark)
    os.kill(worker, signal.SIGSTOP)
    done(new_session(ONE, pool=pool, folder=tmp_path / "again"))
    assert support.wait_until(lambda: worker not in support.marked_processes(mark), 15)


def test_one_that_is_still_busy_is_not_kept(scene: Scene, pool: WorkerPool, mark: str) -> None:
    """It would render beside whatever comes next, and could not answer the next render."""
    with ExitStack() as cleanup:
        link, info = open_worker(
            ONE,
            queue.Queue(),
            access=None,
            local_blender=[str(support.BLENDER)],
            version=scene.version,
            cleanup=cleanup,
        )
        (worker,) = support.marked_processes(mark)
        os.kill(worker, signal.SIGSTOP)
        pool.keep("one", "key", KeptWorker(link, info, cleanup=cleanup.pop_all()))
    assert pool.names() == []
    assert support.wait_until(lambda: not support.marked_processes(mark), 15)


def test_the_time_ends(new_session: NewSession, pool: WorkerPool, mark: str, node_tmp: Path) -> None:
    pool.seconds = 1.5
    done(new_session(ONE, pool=pool))
    assert support.marked_processes(mark)
    assert support.wait_until(lambda: not support.marked_processes(mark), 10)
    assert pool.names() == []
    assert list(node_tmp.iterdir()) == []


def test_other_settings_of_a_node_end_its_worker(
    new_session: NewSession, pool: WorkerPool, mark: str, tmp_path: Path
) -> None:
    done(new_session(ONE, pool=pool))
    worker = support.marked_processes(mark)
    done(new_session(replace(ONE, threads=2), pool=pool, folder=tmp_path / "again"))
    assert support.wait_until(lambda: len(support.marked_processes(mark)) == 1, 10)
    assert support.marked_processes(mark) != worker


def test_a_cancelled_render_keeps_nothing(
    new_session: NewSession, slow_scene: Scene, pool: WorkerPool, mark: str
) -> None:
    drive = new_session(ONE, pool=pool, source=str(slow_scene.blend))
    drive.tiles(2)
    drive.session.cancel()
    drive.to_the_end()
    assert pool.names() == []
    assert support.wait_until(lambda: not support.marked_processes(mark), 10)


def test_tiles_of_the_last_render_that_were_called_off_are_no_longer_so(
    scene: Scene, pool: WorkerPool, mark: str
) -> None:
    inbox: queue.Queue = queue.Queue()
    with ExitStack() as cleanup:
        link, info = open_worker(
            ONE,
            inbox,
            access=None,
            local_blender=[str(support.BLENDER)],
            version=scene.version,
            cleanup=cleanup,
        )
        link.send({"type": "skip", "tile": 0, "attempt": 1})
        pool.keep("one", "key", KeptWorker(link, info, cleanup=cleanup.pop_all()))
    worker = pool.take("one", "key")
    assert worker is not None
    worker.link.deliver_to(inbox)
    # No scene is open: that is the answer, where a tile that is called off gets none.
    worker.link.send({"type": "render", "tile": 0, "attempt": 1, "border": [0, 1, 0, 1], "samples": None})
    header, _ = inbox.get(timeout=5)
    assert (header["type"], header["text"]) == ("error", "no scene is open")
    worker.cleanup.close()


def test_behind_ssh_too(
    new_session: NewSession, scene: Scene, edited: Path, pool: WorkerPool, mark: str, tmp_path: Path
) -> None:
    texture = tmp_path / "sent.bin"
    texture.write_bytes(b"something to send")
    environment = {support.MARK: mark, "TMPDIR": os.environ["TMPDIR"], "HOME": str(tmp_path)}
    if "BPY_PYTHON" in os.environ:
        environment["BPY_PYTHON"] = os.environ["BPY_PYTHON"]
    with Sshd(tmp_path / "sshd", environment=environment) as sshd:
        node = sshd.node("far", blender=str(support.BLENDER), threads=1)
        access = sshd.access()
        done(new_session(node, pool=pool, access=access))
        again = new_session(node, pool=pool, access=access, folder=tmp_path / "again")
        ended = done(again)
        assert ended.report.rows[0].sent_bytes == 0
        support.assert_equal(frame_of(again), scene.f12)
        drive = new_session(node, pool=pool, access=access, source=str(edited), folder=tmp_path / "edited")
        assert done(drive).report.rows[0].sent_bytes > 0
        support.assert_equal(frame_of(drive), support.render_f12(edited, tmp_path / "edited.exr"))
        # The worker is still there, the way to it is not.
        sshd.stop()
        sshd.start()
        done(new_session(node, pool=pool, access=access, folder=tmp_path / "once more"))
        pool.close()
