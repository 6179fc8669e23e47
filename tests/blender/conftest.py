"""Scenes that tests share: made once, read by all."""

from __future__ import annotations

from pathlib import Path

import pytest

from .. import support
from ..support import exr


@pytest.fixture(scope="session")
def blend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Cycles scene with fixed samples."""
    return support.make_scene(tmp_path_factory.mktemp("scene") / "spheres.blend")


@pytest.fixture(scope="session")
def f12(blend: Path) -> exr.Planes:
    """Every pass of it, as one machine renders it."""
    return support.render_f12(blend, blend.with_name("f12.exr"))
