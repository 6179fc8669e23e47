"""The job folder: the snapshot, finished tiles and a journal. A render that stopped goes on from it.

job.json        what was asked for
scene.blend     the snapshot
tiles/00007.exr one file per finished tile, moved into place whole
journal.jsonl   one line per event; a tile counts when its line is there and its file agrees
heatmap.png     where it was expensive, if asked for; and heatmap_grey.png
frame.exr       the finished frame, last of all
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .job import Job, StoreError, Tile
from .sample_count import Samples
from .worker.files import locked

FORMAT = 3
NO_SAMPLES: Samples = {}
KEPT_PER_SCENE = 3
"""Job folders kept of one .blend; older ones make room for the next."""


class JobStore:
    """One job's folder, held by one process at a time."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder = folder
        self.job = job
        self.snapshot = folder / "scene.blend"
        self.frame_path = folder / "frame.exr"
        self.heatmap_path = folder / "heatmap.png"
        self._tiles = folder / "tiles"
        self._journal_path = folder / "journal.jsonl"
        self._lock: IO[bytes] | None = None

    @classmethod
    def create(cls, folder: Path, job: Job) -> JobStore:
        """Make a new job folder, readable by this user alone. Raise StoreError."""
        folder = folder.absolute()  # Workers have another current folder.
        store = cls(folder, job)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            store._hold()
            shutil.rmtree(store._tiles, ignore_errors=True)
            for old in (store._journal_path, store.frame_path, store.snapshot):
                old.unlink(missing_ok=True)
            store._tiles.mkdir(mode=0o700)
            text = json.dumps({"format": FORMAT, **job.to_json()}, indent=1)
            _write_whole(folder / "job.json", text.encode())
        except OSError as error:
            raise _unwritable(folder, error) from None
        return store

    @classmethod
    def open(cls, folder: Path) -> JobStore:
        """Take up an existing job. Raise StoreError where there is none that can be used."""
        folder = folder.absolute()
        try:
            data = json.loads((folder / "job.json").read_text(encoding="utf-8"))
            version = data.pop("format")
            job = Job.from_json(data) if version == FORMAT else None
        except FileNotFoundError:
            raise StoreError(f"There is no render to resume in {folder}.", "Start a new one.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"The job in {folder} cannot be read ({error}).", "Start a new one.") from None
        if job is None:
            raise StoreError(f"The job in {folder} is of another version.", "Start a new one.")
        store = cls(folder, job)
        store._hold()
        for partial in store._tiles.glob("*.part"):
            partial.unlink(missing_ok=True)
        return store

    def _hold(self) -> None:
        try:
            self._lock = locked(self.folder / "lock")
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        if self._lock is None:
            raise StoreError(
                f"The job in {self.folder} is being rendered by another Blender.",
                "Wait for it, or choose another job folder.",
            )

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def tile_path(self, tile: Tile) -> Path:
        return self._tiles / f"{tile.index:05}.exr"

    def keep(
        self,
        tile: Tile,
        data: bytes,
        *,
        attempt: int,
        node: str,
        seconds: float,
        samples: Samples = NO_SAMPLES,
    ) -> None:
        """Make `data` the finished tile, so that it is there whole or not at all. Raise StoreError."""
        try:
            _write_whole(self.tile_path(tile), data)
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        self.note(
            "tile",
            tile=tile.index,
            attempt=attempt,
            node=node,
            seconds=round(seconds, 6),
            samples=samples,
            size=len(data),
            crc=zlib.crc32(data),
        )

    def note(self, event: str, **values: Any) -> None:
        """Add a line to the journal. Raise StoreError."""
        line = json.dumps({"event": event, "time": _now(), **values}) + "\n"
        try:
            handle = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # A line cut off by a crash must not swallow the next one.
                if not self._ends_with_newline():
                    line = "\n" + line
                os.write(handle, line.encode())
            finally:
                os.close(handle)
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    def _ends_with_newline(self) -> bool:
        with self._journal_path.open("rb") as journal:
            if journal.seek(0, os.SEEK_END) == 0:
                return True
            journal.seek(-1, os.SEEK_END)
            return journal.read(1) == b"\n"

    def journal(self) -> Iterator[dict[str, Any]]:
        """The journal's events, oldest first; a line that a crash cut off is passed over."""
        try:
            lines = self._journal_path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "event" in entry:
                yield entry

    def entries(self) -> dict[int, dict[str, Any]]:
        """Tile index -> journal entry of each tile that was kept."""
        return {entry["tile"]: entry for entry in self.journal() if entry["event"] == "tile"}

    def finished(self) -> dict[int, dict[str, Any]]:
        """Tile index -> journal entry of each tile whose file is there and undamaged."""
        entries = self.entries()
        found = {}
        for index, entry in entries.items():
            try:
                data = (self._tiles / f"{index:05}.exr").read_bytes()
            except OSError:
                continue
            if len(data) == entry["size"] and zlib.crc32(data) == entry["crc"]:
                found[index] = entry
        return found


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_suffix(path.suffix + ".part")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The job folder {folder} cannot be written ({error.strerror or error}).",
        "Make room there, or choose another folder; finished tiles are kept.",
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _prefix(source: str) -> str:
    """Start of the names of all job folders of one .blend."""
    stem = re.sub(r"[^\w-]+", "_", Path(source).stem)[:40] or "untitled"
    return f"{stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}-"


def unused_folder(root: Path, source: str) -> Path:
    """A new folder's path below `root` for a job of the .blend `source`; old ones are removed."""
    folders = sorted(root.glob(_prefix(source) + "*"))
    for old in folders[: max(0, len(folders) - KEPT_PER_SCENE + 1)]:
        handle = locked(old / "lock")
        if handle is not None:
            handle.close()
            shutil.rmtree(old, ignore_errors=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")
    return root / f"{_prefix(source)}{stamp}"


def newest_resumable(root: Path, source: str) -> JobStore | None:
    """The last job of the .blend `source` that was not finished, opened; None if there is none."""
    for folder in sorted(root.glob(_prefix(source) + "*"), reverse=True):
        if (folder / "frame.exr").is_file():
            return None  # The newest render is whole: nothing was interrupted.
        if not (folder / "scene.blend").is_file():
            continue  # It stopped before its snapshot was saved.
        try:
            return JobStore.open(folder)
        except StoreError:
            continue
    return None
