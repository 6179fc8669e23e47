"""The claim of this project: the distributed frame is F12's, bit for bit, in every pass."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from engine import exr

from .. import support
from ..blender import house
from .variants import BASE, VARIANTS, Variant

BOTH = (
    house.EXR_OUTPUT
    + """
for name, change in json.loads(CHANGES).items():
    exec(change)
settings = scene.distributed_cycles
settings.use_auto_tile_size = False
settings.tile_size = 24
exec(OPTIONS)
scene.render.filepath = sys.argv[-1] + "/scene.blend"
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1] + "/scene.blend")
scene.render.filepath = sys.argv[-1] + "/distributed.exr"
state = scene.render.engine, bpy.data.is_dirty, cycles.use_denoising, scene.frame_current
assert bpy.ops.distributed_cycles.render() == {"FINISHED"}
assert state == (scene.render.engine, bpy.data.is_dirty, cycles.use_denoising, scene.frame_current)
scene.render.filepath = sys.argv[-1] + "/f12.exr"
bpy.ops.render.render(write_still=True, scene=scene.name)
"""
)
OF_ITS_OWN = ("Date", "Time", "RenderTime", "File")
"""Attributes that differ between any two renders; so do those that end in `_time`."""
RENDERED = [
    name for name, variant in VARIANTS.items() if variant.in_ci or os.environ.get("DC_EXACT") == "all"
]


@pytest.mark.parametrize("name", RENDERED)
def test_exact(name: str, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    variant = VARIANTS[name]
    if support.blender_version() < variant.since:
        variant = Variant(variant.code, limit=100)  # Split into tiles, and said so.
    code = f"import json\nCHANGES = {json.dumps(json.dumps({'base': BASE, 'change': variant.code}))}\n"
    house.python(f"{code}OPTIONS = {variant.options!r}\n{BOTH}", tmp_path)
    found, header = exr.read(tmp_path / "distributed.exr")
    expected, expected_header = exr.read(tmp_path / "f12.exr")
    assert set(found) == set(expected)
    assert attributes(header) == attributes(expected_header)
    differences = {
        channel: difference(found[channel], plane)
        for channel, plane in expected.items()
        if is_defined(channel, variant)
    }
    most = max(differences.values())
    print(f"{name}: greatest difference {most:g}")
    assert most <= variant.limit, {channel: d for channel, d in differences.items() if d > variant.limit}
    assert any(plane.std() > 0.001 for channel, plane in expected.items() if "Combined" in channel) or (
        len(expected["ViewLayer.Combined.R"]) == 1
    )


def is_defined(channel: str, variant: Variant) -> bool:
    """Around a region that is not cropped F12 leaves other passes than Combined as they come."""
    is_open = "use_border" in variant.code and "use_crop_to_border" not in variant.code
    return not is_open or "Combined" in channel


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Greatest absolute difference; what is not a number on both sides is equal."""
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    if same.all():
        return 0.0
    return float(np.nan_to_num(np.abs(found[~same] - expected[~same]), nan=np.inf).max())


def attributes(header: exr.Header) -> Mapping[str, object]:
    """What the file says of itself, less what is of its time."""
    return {
        name: value
        for name, value in header.items()
        if name not in OF_ITS_OWN and not name.endswith("_time") and name != "channels"
    }
