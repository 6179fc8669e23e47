"""Where a file of the user's computer stands below a worker's root. Shipped to the node as source.

The tree is mirrored (`/home/me/a.png` stands at `<root>/home/me/a.png`), so every relative
path inside a .blend stays true. Both ends compute the same name from the same text, whatever
system each of them runs, so only the text decides here and never the file system.
"""

from __future__ import annotations

import os
import posixpath
import re

_DRIVE = re.compile(r"^([A-Za-z]):[\\/]*")
_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])( *\..*)?$", re.IGNORECASE)
"""Names that Windows takes for a device in every folder, also with an extension."""


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


def is_safe(path: str, *, on_windows: bool = os.name == "nt") -> bool:
    """Whether a received name stays below the root, and names a file there and no device."""
    parts = path.split("/")
    return not any(
        part in ("", ".", "..")
        or "\\" in part
        or "\0" in part
        or (on_windows and (_FORBIDDEN.search(part) or part[-1] in ". " or _DEVICE.match(part)))
        for part in parts
    ) and not _DRIVE.fullmatch(parts[0])
