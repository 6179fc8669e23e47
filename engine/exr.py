"""OpenEXR files as Blender writes them: multilayer, channels named `Layer.Pass.Channel`.

The only place that imports OpenEXR, and only when it is used: nodes never need it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Planes = dict[str, NDArray[np.float32]]
"""Channel name -> (height, width) float32, top row first, as in the file."""

_PER_FILE = ("channels", "dataWindow", "displayWindow", "type", "tiles", "chunkCount", "lineOrder")
"""Header entries that describe the file's own layout, not the picture."""


def read(source: bytes | Path) -> tuple[Planes, dict[str, Any]]:
    """All channels and the header. Raise ValueError where it is no readable EXR file."""
    import OpenEXR

    stream = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        # One thread: tiles are small, and nodes' threads decode side by side.
        file = OpenEXR.File(stream, separate_channels=True, num_threads=0)
        planes = {
            name: np.asarray(channel.pixels, dtype=np.float32) for name, channel in file.channels().items()
        }
        return planes, dict(file.header())
    except Exception as error:  # noqa: BLE001 - OpenEXR raises bare RuntimeError and its own types
        raise ValueError(f"not a readable EXR file: {error}") from None


def write(path: Path, planes: Mapping[str, NDArray[np.float32]], header: Mapping[str, Any]) -> None:
    """Write `planes` losslessly with the picture's entries of `header`. Raise OSError."""
    import OpenEXR

    kept = {name: value for name, value in header.items() if name not in _PER_FILE}
    kept["compression"] = OpenEXR.ZIP_COMPRESSION
    kept["type"] = OpenEXR.scanlineimage
    partial = path.with_suffix(".part")
    try:
        OpenEXR.File(kept, dict(planes)).write(str(partial))
        partial.replace(path)
    except RuntimeError as error:
        raise OSError(str(error)) from None


def combined(names: Iterable[str], view_layer: str) -> tuple[str, str, str, str]:
    """Names of the R, G, B and A channels of a layer's picture. Raise KeyError if it has none."""
    prefix = f"{view_layer}.Combined."
    if f"{prefix}R" not in names:
        raise KeyError(f"no Combined pass of view layer {view_layer!r}")
    return f"{prefix}R", f"{prefix}G", f"{prefix}B", f"{prefix}A"


def passes_of(path: Path) -> list[tuple[str, str, str]]:
    """(view layer, pass, channels) of each pass in the file, channels as Blender orders them."""
    import OpenEXR

    file = OpenEXR.File(str(path), separate_channels=True, header_only=True)
    found: dict[tuple[str, str], set[str]] = {}
    for channel in file.header()["channels"]:
        layer, name, component = channel.name.rsplit(".", 2)
        found.setdefault((layer, name), set()).add(component)
    return [
        (layer, name, "".join(sorted(components, key="RGBAXYZWUVrgbaxyzw".index)))
        for (layer, name), components in found.items()
    ]
