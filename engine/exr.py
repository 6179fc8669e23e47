"""OpenEXR files as Blender writes them: one part, scanlines, channels named `Layer.Pass.Channel`.

Why our own: the OpenEXR library's wheel cannot be used inside Blender on Linux. Both bring the C
symbols of OpenEXRCore, the ones of the Blender that runs win, and the process crashes (seen with
Debian's Blender 4.3, which links OpenEXR as blender.org's builds do). What a tile needs of
the format is small: no compression or ZIP, half and float. The tests hold it against the library.

Format: https://openexr.com/en/latest/OpenEXRFileLayout.html; the ZIP filter as in OpenEXR's
ImfZip.cpp (bytes split into even and odd ones, then differences).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
CHANNEL_IDS = ("RGBA", "RGB", "XYZ", "XYZW", "UVA", "X", "Z", "rgba")
"""The channels that Cycles' passes have, in Blender's order (list_render_passes in its engine.py)."""
BAND_ROWS = 64
"""Whoever goes through a large picture has so many rows of it in memory at a time."""
ROWS_PER_BLOCK = {NO_COMPRESSION: 1, ZIPS: 1, ZIP: 16}
NUMPY_TYPES: dict[int, np.dtype[Any]] = {HALF: np.dtype("<f2"), FLOAT: np.dtype("<f4")}
ZLIB_LEVEL = 4
"""Blender's own default for ZIP."""
LARGEST_HEADER = 1 << 26
"""Bytes; the Cryptomatte manifests of a large scene are megabytes."""
LARGEST_RATIO = 1032
"""zlib cannot do better; a header that promises more pixels than that lies."""


class Reader:
    """A file, or the bytes of one, of which any rows and channels can be read.

    Raises ValueError, from the start and from `rows`, where it is no whole file of this kind.
    """

    def __init__(self, source: bytes | Path) -> None:
        self._data: bytes | mmap.mmap
        with _unreadable():
            if isinstance(source, bytes):
                self.header, position = _read_header(source)
                self._data = source
            else:
                with source.open("rb") as file:
                    self.header, position = _read_header(file.read(LARGEST_HEADER))
                    self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            left, self._top, right, bottom = struct.unpack("<4i", self.header["dataWindow"][1])
            self.width, self.height = right - left + 1, bottom - self._top + 1
            self.channels = channels_of(self.header)
            """Channel name -> HALF or FLOAT, in the file's order."""
            self._row_size = self.width * sum(NUMPY_TYPES[kind].itemsize for kind in self.channels.values())
            compression = self.header["compression"][1][0]
            if compression not in ROWS_PER_BLOCK:
                raise ValueError("not a readable EXR file: another compression than none or ZIP")
            if (
                self.width < 1
                or self.height < 1
                or self._row_size * self.height > len(self._data) * LARGEST_RATIO
            ):
                raise ValueError(f"not a readable EXR file: it cannot hold {self.width}x{self.height} px")
            self._rows_per_block = ROWS_PER_BLOCK[compression]
            blocks = -(-self.height // self._rows_per_block)
            self._offsets = struct.unpack_from(f"<{blocks}Q", self._data, position)

    def rows(self, first: int, count: int, names: Collection[str] | None = None) -> Planes:
        """`count` rows from row `first` on, 0 at the top, of the channels `names` or of all."""
        wanted = self.channels if names is None else names
        planes: Planes = {name: np.empty((count, self.width), np.float32) for name in wanted}
        with _unreadable():
            size = self._rows_per_block
            for block in range(first // size, -(-(first + count) // size)):
                lines = self._block(block)
                start = max(first - block * size, 0)
                end = min(first + count - block * size, len(lines))
                target = block * size + start - first
                column = 0
                for name, kind in self.channels.items():
                    width = self.width * NUMPY_TYPES[kind].itemsize
                    if name in planes:
                        values = np.ascontiguousarray(lines[start:end, column : column + width])
                        planes[name][target : target + end - start] = values.view(NUMPY_TYPES[kind])
                    column += width
        return planes

    def _block(self, number: int) -> NDArray[np.uint8]:
        offset = self._offsets[number]
        y, size = struct.unpack_from("<ii", self._data, offset)
        rows = min(self._rows_per_block, self.height - number * self._rows_per_block)
        is_here = y - self._top == number * self._rows_per_block
        if not is_here or not 0 <= size <= len(self._data) - offset - 8:
            raise ValueError("not a readable EXR file: a block is out of place")
        raw = self._data[offset + 8 : offset + 8 + size]
        if size < rows * self._row_size:
            raw = _unzipped(raw, rows * self._row_size)
        return np.frombuffer(raw, np.uint8, rows * self._row_size).reshape(rows, self._row_size)


@contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except (struct.error, zlib.error, LookupError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"not a readable EXR file: {error}") from None


def read(source: bytes | Path, names: Collection[str] | None = None) -> tuple[Planes, Header]:
    """All channels, or those named, and the header. Raise ValueError where it is no whole file of this kind."""
    reader = Reader(source)
    return reader.rows(0, reader.height, names), reader.header


def read_header(path: Path) -> Header:
    """The header alone. Raise ValueError."""
    with _unreadable(), path.open("rb") as file:
        return _read_header(file.read(LARGEST_HEADER))[0]


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
        self,
        path: Path,
        width: int,
        height: int,
        channels: Mapping[str, int],
        like: Header,
        compression: int = ZIP,
    ) -> None:
        """`channels` maps names to HALF or FLOAT; other attributes are taken from `like`."""
        self._path = path
        self._partial = path.with_suffix(".part")
        self._types = {name: NUMPY_TYPES[channels[name]] for name in sorted(channels)}
        self._width, self._height = width, height
        self._rest: list[bytes] = []
        self._row = 0
        self._offsets: list[int] = []
        self._file: IO[bytes] = self._partial.open("wb")
        self._file.write(
            struct.pack("<iI", MAGIC, VERSION | LONG_NAMES)
            + _header(width, height, channels, like, compression)
        )
        self._compression = compression
        # zlib lets other threads run: most of the time of a large frame goes there.
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        self._rows_per_block = ROWS_PER_BLOCK[compression]
        self._table = self._file.tell()
        self._file.write(bytes(8 * -(-height // self._rows_per_block)))

    def write_rows(self, planes: Mapping[str, NDArray[np.float32]]) -> None:
        """Add rows below those that are there; each plane has (rows, width)."""
        parts = [np.ascontiguousarray(planes[name], kind) for name, kind in self._types.items()]
        rows = [b"".join(part[row].tobytes() for part in parts) for row in range(len(parts[0]))]
        self._rest += rows
        size = self._rows_per_block
        is_end = self._row + len(self._rest) == self._height
        whole = len(self._rest) if is_end else len(self._rest) // size * size
        blocks = [self._rest[start : min(start + size, whole)] for start in range(0, whole, size)]
        self._rest = self._rest[whole:]
        for block, packed in zip(blocks, self._pool.map(self._packed, blocks), strict=True):
            self._offsets.append(self._file.tell())
            self._file.write(struct.pack("<ii", self._row, len(packed)) + packed)
            self._row += len(block)

    def leave_blank(self, count: int) -> None:
        """Add rows of zeros, where nothing is compressed. On most disks they take no room, and on all no time."""
        size = self._width * sum(np.dtype(kind).itemsize for kind in self._types.values())
        for _ in range(count):
            self._offsets.append(self._file.tell())
            self._file.write(struct.pack("<ii", self._row, size))
            self._file.truncate(self._file.seek(size, os.SEEK_CUR))
            self._row += 1

    def _packed(self, rows: list[bytes]) -> bytes:
        raw = b"".join(rows)
        return raw if self._compression == NO_COMPRESSION else _zipped(raw)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown()
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


def _header(width: int, height: int, channels: Mapping[str, int], like: Header, compression: int) -> bytes:
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iIii", channels[name], 0, 1, 1) for name in sorted(channels)
    )
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    own: Header = {
        "channels": ("chlist", listed + b"\0"),
        "compression": ("compression", bytes([compression])),
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
    """(view layer, pass, channels) of each pass in the file, channels as Blender orders them.

    Raises ValueError for a pass that Cycles does not write.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for channel in channels_of(read_header(path)):
        layer, name, component = channel.rsplit(".", 2)
        found.setdefault((layer, name), set()).add(component)
    return [(layer, name, _ids(components)) for (layer, name), components in found.items()]


def _ids(components: set[str]) -> str:
    for ids in CHANNEL_IDS:
        if components == set(ids):
            return ids
    raise ValueError(f"a pass of unknown channels {sorted(components)}")
