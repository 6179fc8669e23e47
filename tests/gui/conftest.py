"""The zip as it is shipped, and a home in the trixie with it installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .. import support
from . import stage as stages
from .stage import Stage
from .window import TRIXIE, Home


@pytest.fixture(scope="session", autouse=True)
def needs_root_and_trixie() -> None:
    if os.geteuid() != 0 or not (TRIXIE / "ready").exists():
        pytest.skip("a windowed Blender needs root and the trixie that `make tools` makes")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension for Debian's Blender: 4.3, but on Python 3.13."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "tools/build.py", "--python", "cp313", "--platform", "linux-x64"]
    command += ["--blender-min", "4.2.0", "--output", str(folder)]
    done = subprocess.run(command, cwd=support.REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.rglob("*.zip")
    return path


@pytest.fixture(scope="session")
def stage(archive: Path) -> Iterator[Stage]:
    """One window for all tests that act in one; the render comes first, by the names of the files."""
    with stages.stage(archive) as stage:
        yield stage


@pytest.fixture
def home(archive: Path) -> Iterator[Home]:
    with Home() as home:
        home.install(archive)
        yield home
