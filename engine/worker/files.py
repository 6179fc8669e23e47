"""The worker's own folder: one per process, below the system's temporary folder.

A worker that ends removes its folder. One that was killed cannot, so each worker removes on
start what dead ones have left; a lock that the system drops with the process tells them apart.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO

from .paths import is_safe

PREFIX = "distributed-cycles-worker-"
"""No other folder of ours begins so: what is swept away must be a dead worker's."""
REMOVE_TRIES = 20
REMOVE_PAUSE_S = 0.05
FRESH_S = 0.001
KEPT = "DISTRIBUTED_CYCLES_FOLDER"
"""In the environment of a Blender that goes on with the folder of the one before it."""
MAKE_TRIES = 3
MADE_S = 60.0
"""No folder is without its lock for longer."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""How a cluster's file system says that it was mounted without them."""


class WorkerFolder:
    """Where one worker keeps the files it was sent and the tile it renders."""

    def __init__(self) -> None:
        kept = os.environ.pop(KEPT, "")
        base = Path(tempfile.gettempdir())
        _sweep(base)
        self._lock: IO[bytes] | None = None
        if kept:
            # The process before this one holds the lock, on a descriptor that came along.
            self.path = Path(kept)
        else:
            self._make(base)
        self.root = self.path / "root"
        self.root.mkdir(exist_ok=True)
        self._names: set[str] = set()

    def _make(self, base: Path) -> None:
        for _ in range(MAKE_TRIES):
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            self._lock = locked(self.path / "lock")
            # Before it was locked, another worker that starts may have taken it for a dead one's.
            if self._lock is not None and (self.path / "lock").exists():
                break

    def hand_on(self) -> tuple[dict[str, str], Path]:
        """Leave everything to the Blender that follows in this process, which begins with an empty tree.

        Returns what its environment has to say, and where the tree of this one is from now on.
        """
        if self._lock is not None:
            os.set_inheritable(self._lock.fileno(), True)
        return {KEPT: str(self.path)}, self.root.rename(self.path / "before")

    def renew(self) -> None:
        """An empty tree, for another scene. Files that Blender still has open go when they can."""
        old = self.root
        self.root = Path(tempfile.mkdtemp(prefix="root-", dir=self.path))
        self._names.clear()
        shutil.rmtree(old, ignore_errors=True)

    def target(self, name: str) -> Path:
        """The place of `name` below the root. Raise ValueError where it would be elsewhere."""
        if not is_safe(name):
            raise ValueError(f"unsafe file name {name!r}")
        path = self.root / name
        # A part of the name may be a link to a place outside.
        if self.root.resolve() not in path.parent.resolve().parents and path.parent != self.root:
            raise ValueError(f"{name!r} leads out of the job's folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def place(self, name: str) -> Path:
        """The free place for a file. Raise ValueError where another file of this job is there."""
        path = self.target(name)
        # A disk that takes two names that differ by case for one would show one file in both places.
        if name not in self._names and os.path.lexists(path):
            raise ValueError(
                f"{name!r} and a file whose name differs by case only cannot both be on this disk"
            )
        self._names.add(name)
        path.unlink(missing_ok=True)
        return path

    def link(self, name: str, source: str) -> None:
        """Make a file of this computer appear below the root, without copying where possible."""
        path = self.place(name)
        try:
            path.symlink_to(source)
        except OSError:  # Windows allows links to administrators and developers only.
            shutil.copyfile(source, path)

    def remove(self) -> None:
        """Leave nothing behind. What comes after it must be the end of the process.

        Blender may be writing a tile at this very moment, for which it makes the folder anew.
        """
        if self._lock is not None:
            self._lock.close()
        for _ in range(REMOVE_TRIES):
            shutil.rmtree(self.path, ignore_errors=True)
            asked = time.perf_counter()
            # An answer that waited for Blender to let go of the interpreter is an old one.
            if not self.path.exists() and time.perf_counter() - asked < FRESH_S:
                break
            time.sleep(REMOVE_PAUSE_S)


def locked(path: Path) -> IO[bytes] | None:
    """Open and lock `path`; None where somebody else holds it. Raise OSError, also where nothing can be locked."""
    handle = path.open("a+b")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore] # Windows only
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        if error.errno in NO_LOCKS:
            raise OSError(error.errno, f"the file system of {path.parent} has no locks") from None
        return None
    return handle


def _sweep(base: Path) -> None:
    """Remove the folders of workers that were killed."""
    for folder in base.glob(PREFIX + "*"):
        lock = folder / "lock"
        try:
            if not lock.is_file():
                # It is being made at this moment, or was made anew for a tile when all else was gone.
                if time.time() - folder.stat().st_mtime > MADE_S:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            handle = locked(lock)
        except OSError:  # another user's
            continue
        if handle is not None:
            if os.name == "nt":  # where nothing that is open can be removed
                handle.close()
            shutil.rmtree(folder, ignore_errors=True)
            handle.close()
