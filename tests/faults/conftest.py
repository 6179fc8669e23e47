"""One small scene and its F12 for all tests of faults; a temporary folder watched for leftovers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine import exr
from engine.access import Access
from engine.job import Job, Node
from engine.pool import WorkerPool
from engine.session import RenderSession
from engine.store import JobStore

from .. import support


@dataclass
class Scene:
    blend: Path
    f12: exr.Planes
    version: tuple[int, int, int]


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    blend = support.make_scene(folder / "scene.blend")
    return Scene(blend, support.render_f12(blend, folder / "f12.exr"), support.blender_version())


@pytest.fixture(scope="session")
def slow_scene(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Scene:
    """The same with more samples: slow enough that every node gets there in time for some tiles."""
    folder = tmp_path_factory.mktemp("slow-scene")
    blend = support.make_scene(folder / "scene.blend", more="scene.cycles.samples = 400")
    return Scene(blend, support.render_f12(blend, folder / "f12.exr"), scene.version)


@pytest.fixture
def node_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of all workers; tests look for what is left in it."""
    folder = tmp_path / "node-tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def mark() -> Iterator[str]:
    with support.marked() as mark:
        yield mark


NewSession = Callable[..., support.Drive]


@pytest.fixture
def new_session(scene: Scene, tmp_path: Path, node_tmp: Path, mark: str) -> Iterator[NewSession]:
    """Start a session of the scene; `command` is what starts Blender."""
    started: list[RenderSession] = []

    def new(
        *nodes: Node,
        command: list[str] | None = None,
        folder: Path | None = None,
        access: Access | None = None,
        pool: WorkerPool | None = None,
        **changes: object,
    ) -> support.Drive:
        job: Job = replace(support.job_for(scene.blend, scene.version), **changes)  # type: ignore[arg-type]
        store = JobStore.create(folder or tmp_path / "job", job)
        shutil.copy(changes.get("source", scene.blend), store.snapshot)  # type: ignore[arg-type]
        session = RenderSession(
            job, nodes, store, access=access, local_blender=command or [str(support.BLENDER)], pool=pool
        )
        started.append(session)
        session.start()
        return support.Drive(session)

    yield new
    for session in started:
        session.cancel()
        assert session.join(15)
