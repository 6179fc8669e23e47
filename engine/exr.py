"""OpenEXR files as Blender writes them: one part, scanlines, channels named `Layer.Pass.Channel`.

Why our own: the OpenEXR library's wheel cannot be used inside Blender on Linux. Both bring the C
symbols of OpenEXRCore, the ones of the Blender that runs win, and the process crashes (seen with
Debian's Blender 4.3, which links OpenEXR as blender.org's builds do). What a tile needs of
the format is small: no compression or ZIP, half and float. The tests hold it against the library.

Format: https://openexr.com/en/latest/OpenEXRFileLayout.html; the ZIP filter as in OpenEXR's
ImfZip.cpp (bytes split into even and odd ones, then differences).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Planes = dict[str, NDArray[np.float32]]
"""Channel name -> (height, width) float32, top row first, as in the file."""
Header = dict[str, tuple[str, bytes]]
"""Attribute name -> its type and its value's bytes, kept as they came."""

MAGIC = 20000630
VERSION, LONG_NAMES = 2, 0x400
HALF, FLOAT = 1, 2
NO_COMPRESSION, ZIPS, ZIP = 0, 2, 3
ROWS_PER_BLOCK = {NO_COMPRESSION: 1, ZIPS: 1, ZIP: 16}
NUMPY_TYPES: dict[int, np.dtype[Any]] = {HALF: np.dtype("<f2"), FLOAT: np.dtype("<f4")}
ZLIB_LEVEL = 4
"""Blender's own default for ZIP."""
LARGEST_RATIO = 1032
"""zlib cannot do better; a header that promises more pixels than that lies."""


def read(source: bytes | Path) -> tuple[Planes, Header]:
    """All channels and the header. Raise ValueError where it is no whole file of this kind."""
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        header, position = _read_header(data)
        return _read_pixels(data, header, position), header
    except (struct.error, zlib.error, LookupError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"not a readable EXR file: {error}") from None


def read_header(path: Path) -> Header:
    """The header alone. Raise ValueError."""
    try:
        with path.open("rb") as file:
            return _read_header(file.read(1 << 24))[0]
    except (struct.error, LookupError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"not a readable EXR file: {error}") from None


def _read_header(data: bytes) -> tuple[Header, int]:
    magic, version = struct.unpack_from("<iI", data)
    if magic != MAGIC or version & ~LONG_NAMES != VERSION:
        raise ValueError("not a readable EXR file: not a single part of scanlines")
    header: Header = {}
    position = 8
    while data[position]:
        end = data.index(b"\0", position)
        type_end = data.index(b"\0", end + 1)
        (size,) = struct.unpack_from("<i", data, type_end + 1)
        start = type_end + 5
        if size < 0 or start + size > len(data):
            raise ValueError("not a readable EXR file: its header is cut off")
        header[data[position:end].decode()] = (data[end + 1 : type_end].decode(), data[start : start + size])
        position = start + size
    return header, position + 1


def channels_of(header: Header) -> dict[str, int]:
    """Channel name -> HALF or FLOAT, in the file's order. Raise ValueError for others."""
    data = header["channels"][1]
    found: dict[str, int] = {}
    position = 0
    while data[position]:
        end = data.index(b"\0", position)
        kind, _, x_sampling, y_sampling = struct.unpack_from("<iIii", data, end + 1)
        if kind not in NUMPY_TYPES or (x_sampling, y_sampling) != (1, 1):
            raise ValueError("not a readable EXR file: a channel is neither half nor float")
        found[data[position:end].decode()] = kind
        position = end + 17
    return found


def _read_pixels(data: bytes, header: Header, position: int) -> Planes:
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"][1])
    width, height = right - left + 1, bottom - top + 1
    compression = header["compression"][1][0]
    types = {name: NUMPY_TYPES[kind] for name, kind in channels_of(header).items()}
    row_size = width * sum(kind.itemsize for kind in types.values())
    if compression not in ROWS_PER_BLOCK:
        raise ValueError("not a readable EXR file: another compression than none or ZIP")
    if width < 1 or height < 1 or row_size * height > len(data) * LARGEST_RATIO:
        raise ValueError(f"not a readable EXR file: it cannot hold {width}x{height} px")
    rows_per_block = ROWS_PER_BLOCK[compression]
    blocks = -(-height // rows_per_block)
    planes: Planes = {name: np.empty((height, width), np.float32) for name in types}
    for offset in struct.unpack_from(f"<{blocks}Q", data, position):
        y, size = struct.unpack_from("<ii", data, offset)
        row = y - top
        rows = min(rows_per_block, height - row)
        if row < 0 or row % rows_per_block or rows < 1 or not 0 <= size <= len(data) - offset - 8:
            raise ValueError("not a readable EXR file: a block is out of place")
        raw = data[offset + 8 : offset + 8 + size]
        if size < rows * row_size:
            raw = _unzipped(raw, rows * row_size)
        lines = np.frombuffer(raw, np.uint8, rows * row_size).reshape(rows, row_size)
        start = 0
        for name, kind in types.items():
            end = start + width * kind.itemsize
            planes[name][row : row + rows] = np.ascontiguousarray(lines[:, start:end]).view(kind)
            start = end
    return planes


def _unzipped(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    differences = np.frombuffer(inflater.decompress(data, size), np.uint8).copy()
    if len(differences) != size:
        raise ValueError("not a readable EXR file: a block is too short")
    differences[1:] -= 128
    halves = np.cumsum(differences, dtype=np.uint8)
    both = np.empty(size, np.uint8)
    middle = (size + 1) // 2
    both[0::2], both[1::2] = halves[:middle], halves[middle:]
    return both.tobytes()


def _zipped(raw: bytes) -> bytes:
    both = np.frombuffer(raw, np.uint8)
    halves = np.concatenate((both[0::2], both[1::2]))
    differences = halves.copy()
    differences[1:] -= halves[:-1]
    differences[1:] += 128
    packed = zlib.compress(differences.tobytes(), ZLIB_LEVEL)
    # As it is where it does not get smaller, which readers know by its size.
    return packed if len(packed) < len(raw) else raw


class Writer:
    """Writes a picture of known size row by row, so that no more of it than that is in memory.

    A context manager; the file is in its place, whole, only after a clean end.
    """

    def __init__(
        self, path: Path, width: int, height: int, channels: Mapping[str, int], like: Header
    ) -> None:
        """`channels` maps names to HALF or FLOAT; other attributes are taken from `like`."""
        self._path = path
        self._partial = path.with_suffix(".part")
        self._types = {name: NUMPY_TYPES[channels[name]] for name in sorted(channels)}
        self._height = height
        self._rest: list[bytes] = []
        self._row = 0
        self._offsets: list[int] = []
        self._file: IO[bytes] = self._partial.open("wb")
        self._file.write(
            struct.pack("<iI", MAGIC, VERSION | LONG_NAMES) + _header(width, height, channels, like)
        )
        self._table = self._file.tell()
        self._file.write(bytes(8 * -(-height // ROWS_PER_BLOCK[ZIP])))

    def write_rows(self, planes: Mapping[str, NDArray[np.float32]]) -> None:
        """Add rows below those that are there; each plane has (rows, width)."""
        parts = [np.ascontiguousarray(planes[name], kind) for name, kind in self._types.items()]
        rows = [b"".join(part[row].tobytes() for part in parts) for row in range(len(parts[0]))]
        self._rest += rows
        size = ROWS_PER_BLOCK[ZIP]
        while len(self._rest) >= size or (self._rest and self._row + len(self._rest) == self._height):
            block, self._rest = self._rest[:size], self._rest[size:]
            packed = _zipped(b"".join(block))
            self._offsets.append(self._file.tell())
            self._file.write(struct.pack("<ii", self._row, len(packed)) + packed)
            self._row += len(block)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            if self._row != self._height:
                raise ValueError(f"{self._row} of {self._height} rows were written")
            self._file.seek(self._table)
            self._file.write(struct.pack(f"<{len(self._offsets)}Q", *self._offsets))
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


def _header(width: int, height: int, channels: Mapping[str, int], like: Header) -> bytes:
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iIii", channels[name], 0, 1, 1) for name in sorted(channels)
    )
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    own: Header = {
        "channels": ("chlist", listed + b"\0"),
        "compression": ("compression", bytes([ZIP])),
        "dataWindow": ("box2i", box),
        "displayWindow": ("box2i", box),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", bytes(8)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
    }
    for name in ("pixelAspectRatio", "screenWindowCenter", "screenWindowWidth"):
        own[name] = like.get(name, own[name])
    pieces = [
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
        for name, (kind, value) in {**like, **own}.items()
    ]
    return b"".join(pieces) + b"\0"


def write(path: Path, planes: Mapping[str, NDArray[np.float32]], header: Header) -> None:
    """Write whole planes as float. Raise OSError."""
    height, width = next(iter(planes.values())).shape
    with Writer(path, width, height, dict.fromkeys(planes, FLOAT), header) as writer:
        writer.write_rows(planes)


def combined(names: Iterable[str], view_layer: str) -> tuple[str, str, str, str]:
    """Names of the R, G, B and A channels of a layer's picture. Raise KeyError if it has none."""
    prefix = f"{view_layer}.Combined."
    if f"{prefix}R" not in names:
        raise KeyError(f"no Combined pass of view layer {view_layer!r}")
    return f"{prefix}R", f"{prefix}G", f"{prefix}B", f"{prefix}A"


def passes_of(path: Path) -> list[tuple[str, str, str]]:
    """(view layer, pass, channels) of each pass in the file, channels as Blender orders them."""
    found: dict[tuple[str, str], set[str]] = {}
    for channel in channels_of(read_header(path)):
        layer, name, component = channel.rsplit(".", 2)
        found.setdefault((layer, name), set()).add(component)
    return [
        (layer, name, "".join(sorted(components, key="RGBAXYZWUVrgbaxyzw".index)))
        for (layer, name), components in found.items()
    ]
