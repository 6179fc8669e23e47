"""The margins that were measured to leave no difference."""

from __future__ import annotations

import pytest

from engine.exactness import overscan


@pytest.mark.parametrize(
    ("adaptive", "volumes", "biased", "version", "expected"),
    [
        (False, False, False, (4, 2, 0), 0),
        (True, False, False, (4, 2, 0), 4),
        (True, True, False, (4, 5, 0), 4),
        (False, True, False, (4, 5, 0), 0),
        (False, True, False, (5, 0, 0), 16),
        (True, True, False, (5, 2, 0), 16),
        (True, True, True, (5, 2, 0), 4),
        (False, True, True, (5, 2, 0), 0),
    ],
)
def test_overscan(
    adaptive: bool, volumes: bool, biased: bool, version: tuple[int, int, int], expected: int
) -> None:
    found = overscan(adaptive=adaptive, volumes=volumes, volume_biased=biased, blender_version=version)
    assert found == expected
