"""What makes a tile equal, bit for bit, to the same part of the whole frame."""

from __future__ import annotations

ADAPTIVE_PX = 4
"""Adaptive sampling decides in blocks around each pixel; Cycles' own tiler keeps 4 pixels
(intern/cycles/session/tile.cpp)."""

VOLUME_PX = 16
"""From Blender 5.0 on unbiased volumes are guided by buffers blurred over neighbours;
16 pixels left no difference where 8 still did (measured)."""

VOLUME_GUIDING_SINCE = (5, 0, 0)


def overscan(
    *, adaptive: bool, volumes: bool, volume_biased: bool, blender_version: tuple[int, int, int]
) -> int:
    """Pixels to render around a tile, and to throw away, for an exact result."""
    if volumes and not volume_biased and blender_version >= VOLUME_GUIDING_SINCE:
        return VOLUME_PX
    return ADAPTIVE_PX if adaptive else 0
