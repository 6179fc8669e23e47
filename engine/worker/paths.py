"""Where a file of the user's computer stands below a worker's root. Shipped to the node as source.

The tree is mirrored (`/home/me/a.png` stands at `<root>/home/me/a.png`), so every relative
path inside a .blend stays true. Both ends compute the same name from the same text, whatever
system each of them runs, so only the text decides here and never the file system.
"""

from __future__ import annotations

import posixpath
import re

_DRIVE = re.compile(r"^([A-Za-z]):[\\/]*")


def is_absolute(path: str) -> bool:
    """Whether `path`, as a .blend stores it, is absolute on any system (`//` is relative)."""
    return bool(_DRIVE.match(path)) or path.startswith("\\\\") or (path[:1] == "/" and path[:2] != "//")


def mirrored(path: str) -> str:
    """The place of the absolute `path` below a root: no drive, no `..`, `/` between parts."""
    drive = _DRIVE.match(path)
    if drive:
        path = f"{drive[1].upper()}/{path[drive.end() :]}".replace("\\", "/")
    elif path.startswith("\\\\"):
        path = "UNC/" + path[2:].replace("\\", "/")
    return posixpath.normpath("/" + path).lstrip("/")


def is_safe(path: str) -> bool:
    """Whether a received name stays below the root on every system."""
    parts = path.split("/")
    return bool(path) and not any(
        part in ("", ".", "..") or "\\" in part or ":" in part or "\0" in part for part in parts
    )
