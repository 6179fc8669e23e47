"""Where a node keeps the files it was sent, and whether that place is safe to use."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path

NAME = "distributed-cycles"
ROOT_UID = 0


def usual_folder() -> Path:
    """Where programs keep what can be had again, on this system. Raise RuntimeError where there is no home."""
    system = platform.system()
    if system == "Windows":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif system == "Darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        named = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"
    return base / NAME / "files"


def folder_for(named: str) -> Path:
    """The cache's folder: that which the user named, or else the usual one. Raise ValueError."""
    if named:
        return _checked(named)
    try:
        folder = usual_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # a home that is read-only, or none at all
        pass
    owner = str(os.getuid()) if hasattr(os, "getuid") else "me"
    return Path(tempfile.gettempdir()) / f"{NAME}-cache-{owner}"


def _checked(named: str) -> Path:
    try:
        folder = Path(os.path.expandvars(named)).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home for the cache folder {named!r} to be in") from None
    if not folder.is_absolute():
        raise ValueError(f"the cache folder {named!r} is no absolute path")
    whole = folder.resolve()
    not_these = [Path(whole.anchor)]
    with contextlib.suppress(RuntimeError):
        home = Path.home().resolve()
        not_these += [home, *home.parents]
    if whole in not_these:
        raise ValueError(f"the cache folder {named!r} would be a home or a root; name one of its own")
    return folder


def prepare(folder: Path, names: Iterable[str]) -> None:
    """Make the folder, and the named ones in it.

    In a folder that all may write to, as /tmp is, somebody else may have been there first, with a
    folder of theirs or a link to one of ours. Raises ValueError for these, OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_others(folder, (folder.lstat(), folder.stat()))
    for path in (folder / name for name in names):
        path.mkdir(mode=0o700, exist_ok=True)
        if path.is_symlink():
            raise ValueError(f"{path} is a link; the cache must stay where it is")
        _refuse_others(folder, (path.stat(),))


def _refuse_others(folder: Path, found: tuple[os.stat_result, ...]) -> None:
    """A link of the system's own is the administrator's way of saying where disks are."""
    if not hasattr(os, "getuid"):
        return
    *link, last = found
    if last.st_uid != os.getuid() or any(status.st_uid not in (os.getuid(), ROOT_UID) for status in link):
        raise ValueError(f"the cache folder {folder} belongs to another user")
