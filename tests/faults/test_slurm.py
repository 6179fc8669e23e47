"""Workers as jobs and job steps of a real Slurm, through nothing but a launcher."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine import exr
from engine.job import Node
from engine.messages import NodeChanged

from .. import support
from ..slurm import CPUS, Slurm
from ..sshd import Sshd
from .conftest import NewSession, Scene
from .test_local import assert_nothing_left
from .test_ssh import session  # noqa: F401 - a fixture


@pytest.fixture
def slurm(tmp_path: Path, node_tmp: Path) -> Iterator[Slurm]:
    with Slurm(tmp_path / "slurm") as cluster:
        yield cluster


def frame_of(drive: support.Drive) -> exr.Planes:
    return exr.read(drive.session._store.frame_path)[0]


def statuses(drive: support.Drive) -> list[NodeChanged]:
    return [message for message in drive.messages if isinstance(message, NodeChanged)]


def test_two_workers_of_a_login_node(
    session: NewSession,  # noqa: F811
    slurm: Slurm,
    slow_scene: Scene,
    tmp_path: Path,
    node_tmp: Path,
    mark: str,
) -> None:
    """A cluster behind SSH: each worker is a job, and what a person sees is one node."""
    environment = {"SLURM_CONF": str(slurm.config), support.MARK: mark, "TMPDIR": str(node_tmp)}
    with Sshd(tmp_path / "login", environment=environment) as login:
        node = login.node(
            "cluster", blender=str(support.BLENDER), threads=1, workers=2, launcher="srun --cpus-per-task=1"
        )
        drive = session(node, access=login.access(), source=str(slow_scene.blend))
        drive.until(lambda _: len({name for name, _, _ in drive.running}) == 2)
        assert len(slurm.jobs("RUNNING")) == 2
        done = drive.to_the_end()
        assert (done.outcome, done.error) == ("done", None)
        support.assert_equal(frame_of(drive), slow_scene.f12)
        by_worker = {
            message.node
            for message in drive.messages
            if hasattr(message, "outcome") and hasattr(message, "tile")
        }
        assert by_worker == {"cluster", "cluster #2"}
        assert [row.node for row in done.report.rows] == ["cluster"]
        assert done.report.rows[0].tiles == done.report.tiles
        assert {message.status.name for message in statuses(drive)} == {"cluster"}
        assert any(message.status.detail.startswith("2 of 2 workers") for message in statuses(drive))
        assert support.wait_until(lambda: not slurm.jobs(), 15)
        assert_nothing_left(mark, node_tmp)


def test_two_steps_of_an_allocation(
    new_session: NewSession, slurm: Slurm, slow_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    job = slurm.run(
        "sbatch", "--parsable", f"--ntasks={CPUS}", "--output=/dev/null", "--wrap", "sleep 300"
    ).strip()
    assert support.wait_until(lambda: job in slurm.jobs("RUNNING"), 20)
    node = Node("steps", threads=1, workers=2, launcher=f"srun --jobid={job} --exact --cpus-per-task=1")
    drive = new_session(node, source=str(slow_scene.blend))
    drive.until(lambda _: len({name for name, _, _ in drive.running}) == 2)
    assert len(slurm.run("squeue", "-h", "--steps", "-o", "%i").split()) >= 2
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), slow_scene.f12)
    slurm.run("scancel", job)


def test_a_job_that_is_queued_is_starting_and_not_dead(
    new_session: NewSession,
    slurm: Slurm,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    node_tmp: Path,
    mark: str,
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    # Far less than the job will be queued.
    monkeypatch.setattr("engine.link.START_S", 2.0)
    with subprocess.Popen(["srun", f"--ntasks={CPUS}", "sleep", "300"], env=slurm.environment) as holder:
        assert support.wait_until(lambda: bool(slurm.jobs("RUNNING")), 20)
        drive = new_session(Node("queued", threads=1, launcher="srun"))
        drive.until(lambda m: isinstance(m, NodeChanged) and "queued and waiting" in m.status.detail)
        assert statuses(drive)[-1].status.state == "starting"
        with pytest.raises(AssertionError, match="not seen within 4"):
            drive.until(lambda m: isinstance(m, NodeChanged) and m.status.error is not None, 4)
        monkeypatch.setattr("engine.link.START_S", 60.0)
        slurm.run("scancel", *slurm.jobs("RUNNING"))
        holder.wait()
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)
    assert_nothing_left(mark, node_tmp)


def test_cancel_takes_a_job_out_of_the_queue(
    new_session: NewSession, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    with subprocess.Popen(["srun", f"--ntasks={CPUS}", "sleep", "300"], env=slurm.environment) as holder:
        assert support.wait_until(lambda: bool(slurm.jobs("RUNNING")), 20)
        drive = new_session(Node("queued", threads=1, launcher="srun"))
        drive.until(lambda m: isinstance(m, NodeChanged) and "queued and waiting" in m.status.detail)
        assert len(slurm.jobs("PENDING")) == 1
        drive.session.cancel()
        assert drive.to_the_end().outcome == "cancelled"
        assert support.wait_until(lambda: not slurm.jobs("PENDING"), 10)
        slurm.run("scancel", *slurm.jobs())
        holder.wait()


@pytest.mark.parametrize("backend", ["paramiko", "openssh"])
def test_cancel_behind_ssh(
    session: NewSession,  # noqa: F811
    slurm: Slurm,
    tmp_path: Path,
    node_tmp: Path,
    mark: str,
    backend: str,
) -> None:
    """The job leaves the queue at once, and does not take a machine later for nobody."""
    environment = {"SLURM_CONF": str(slurm.config), support.MARK: mark, "TMPDIR": str(node_tmp)}
    with ExitStack() as stack:
        login = stack.enter_context(Sshd(tmp_path / "login", environment=environment))
        holder = subprocess.Popen(["srun", f"--ntasks={CPUS}", "sleep", "300"], env=slurm.environment)
        stack.callback(holder.wait)
        stack.callback(holder.kill)
        assert support.wait_until(lambda: bool(slurm.jobs("RUNNING")), 20)
        node = login.node(
            "cluster", blender=str(support.BLENDER), threads=1, launcher="srun", backend=backend
        )
        drive = session(node, access=login.access())
        drive.until(lambda m: isinstance(m, NodeChanged) and "queued and waiting" in m.status.detail)
        assert len(slurm.jobs("PENDING")) == 1
        drive.session.cancel()
        assert drive.to_the_end().outcome == "cancelled"
        assert slurm.jobs("PENDING") == []
        assert len(slurm.jobs("RUNNING")) == 1, "somebody else's job goes on"
