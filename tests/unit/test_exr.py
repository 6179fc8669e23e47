"""EXR files held against the OpenEXR library, both ways; and whatever is not one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import exr

NAMES = [*(f"ViewLayer.Combined.{c}" for c in "RGBA"), "ViewLayer.Depth.Z", "Other.Normal.X"]
COMPRESSIONS = [OpenEXR.NO_COMPRESSION, OpenEXR.ZIPS_COMPRESSION, OpenEXR.ZIP_COMPRESSION]
slow_but_sure = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def picture(seed: int, height: int, width: int) -> exr.Planes:
    """Values of every kind: smooth ones that compress, noise that does not, huge and tiny ones."""
    random = np.random.default_rng(seed)
    planes = {name: random.standard_normal((height, width)).astype(np.float32) for name in NAMES}
    planes[NAMES[3]][:] = 1
    planes[NAMES[4]][:] = 1e10
    planes[NAMES[0]].flat[0] = np.inf
    planes[NAMES[1]] *= np.float32(1e-42)
    planes[NAMES[5]] = np.add.outer(np.arange(height), np.arange(width)).astype(np.float32)
    return planes


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert set(found) == set(expected)
    for name, plane in expected.items():
        np.testing.assert_array_equal(found[name], plane, err_msg=name)


@slow_but_sure
@given(
    st.integers(0, 9), st.integers(1, 70), st.integers(1, 70), st.sampled_from(COMPRESSIONS), st.booleans()
)
def test_what_the_library_writes_is_read(
    tmp_path: Path, seed: int, height: int, width: int, compression: Any, is_half: bool
) -> None:
    planes = picture(seed, height, width)
    if is_half:
        with np.errstate(over="ignore"):
            planes = {name: plane.astype(np.float16) for name, plane in planes.items()}
    # A copy: the library puts its own objects into the dict.
    OpenEXR.File({"compression": compression, "note": "ä"}, dict(planes)).write(str(tmp_path / "a.exr"))
    for source in (tmp_path / "a.exr", (tmp_path / "a.exr").read_bytes()):
        found, header = exr.read(source)
        assert_same(found, {name: plane.astype(np.float32) for name, plane in planes.items()})
        assert header["note"] == ("string", "ä".encode())


@slow_but_sure
@given(st.integers(0, 9), st.integers(1, 70), st.integers(1, 70), st.data())
def test_what_is_written_the_library_reads(
    tmp_path: Path, seed: int, height: int, width: int, data: st.DataObject
) -> None:
    planes = picture(seed, height, width)
    like: exr.Header = {"cycles.ViewLayer.samples": ("string", b"16")}
    with exr.Writer(tmp_path / "a.exr", width, height, dict.fromkeys(planes, exr.FLOAT), like) as writer:
        row = 0
        while row < height:
            count = data.draw(st.integers(1, height - row))
            writer.write_rows({name: plane[row : row + count] for name, plane in planes.items()})
            row += count
    file = OpenEXR.File(str(tmp_path / "a.exr"), separate_channels=True)
    assert_same({name: channel.pixels for name, channel in file.channels().items()}, planes)
    assert file.header()["cycles.ViewLayer.samples"] == "16"
    assert_same(exr.read(tmp_path / "a.exr")[0], planes)


def test_half_is_kept_half(tmp_path: Path) -> None:
    planes = {"L.Combined.R": np.array([[0.1, 65504.0]], np.float16)}
    with exr.Writer(tmp_path / "a.exr", 2, 1, {"L.Combined.R": exr.HALF}, {}) as writer:
        writer.write_rows({"L.Combined.R": planes["L.Combined.R"].astype(np.float32)})
    channel = OpenEXR.File(str(tmp_path / "a.exr"), separate_channels=True).channels()["L.Combined.R"]
    assert channel.pixels.dtype == np.float16
    np.testing.assert_array_equal(channel.pixels, planes["L.Combined.R"])


@pytest.mark.parametrize("data", [b"", b"not an exr", bytes(1000), b"v/1\x01\x02\0\0\0"])
def test_what_is_no_exr_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable EXR"):
        exr.read(data)


def test_other_compressions_are_refused(tmp_path: Path) -> None:
    OpenEXR.File({"compression": OpenEXR.PIZ_COMPRESSION}, picture(1, 8, 8)).write(str(tmp_path / "a.exr"))
    with pytest.raises(ValueError, match="another compression"):
        exr.read(tmp_path / "a.exr")


@slow_but_sure
@given(st.data())
def test_a_damaged_file_is_an_error_or_a_picture_of_its_size(tmp_path: Path, data: st.DataObject) -> None:
    """Never another exception, never memory without end. (A frame's checksum comes before this.)"""
    exr.write(tmp_path / "a.exr", picture(1, 20, 20), {})
    damaged = bytearray((tmp_path / "a.exr").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        planes, _ = exr.read(bytes(damaged))
    except ValueError:
        return
    assert all(plane.nbytes <= len(damaged) * exr.LARGEST_RATIO * 2 for plane in planes.values())


def test_passes_are_named_with_their_channels(tmp_path: Path) -> None:
    exr.write(tmp_path / "a.exr", picture(1, 4, 4), {})
    assert sorted(exr.passes_of(tmp_path / "a.exr")) == [
        ("Other", "Normal", "X"),
        ("ViewLayer", "Combined", "RGBA"),
        ("ViewLayer", "Depth", "Z"),
    ]


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 of 4 rows"):  # noqa: SIM117 - the inner one is what is tested
        with exr.Writer(tmp_path / "a.exr", 2, 4, {"L.Combined.R": exr.FLOAT}, {}) as writer:
            writer.write_rows({"L.Combined.R": np.zeros((1, 2), np.float32)})
    assert not (tmp_path / "a.exr").exists()


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        exr.write(tmp_path / "missing" / "a.exr", picture(1, 4, 4), {})
