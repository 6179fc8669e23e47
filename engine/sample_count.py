"""The pass Debug Sample Count of a frame in tiles.

With adaptive sampling a pixel has as many samples as it needed. Cycles writes them into this pass
as a fraction of the samples at which the last pixel was done: of the tile, where a tile is
rendered (PassAccessor in intern/cycles/integrator). So each tile has a scale of its own, and the
frame another one: that of the tile which took the most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

NAME = "Debug Sample Count"
Samples = Mapping[str, int]
"""View layer -> samples at which the last pixel was done; empty where no layer has the pass."""


def channel(layer: str) -> str:
    """The pass's channel in an EXR file."""
    return f"{layer}.{NAME}.X"


def of_frame(tiles: Iterable[Samples]) -> dict[str, int]:
    """What the whole frame would have come to: the most of all tiles."""
    most: dict[str, int] = {}
    for samples in tiles:
        for layer, count in samples.items():
            most[layer] = max(count, most.get(layer, 0))
    return most


def of_parts(parts: Iterable[Samples]) -> dict[str, int]:
    """The same for parts of the samples of one picture: all of them together."""
    total: dict[str, int] = {}
    for samples in parts:
        for layer, count in samples.items():
            total[layer] = total.get(layer, 0) + count
    return total


def counts(fractions: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Whole samples of each pixel."""
    whole: NDArray[np.float32] = np.rint(fractions * np.float32(samples))
    return whole


def fractions(whole: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """The pass as Cycles writes it, from whole samples; the same single precision operations."""
    return whole * (np.float32(1) / np.float32(samples))
