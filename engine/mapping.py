r"""Storage that both sides see under different names: `/mnt/projects` here is `P:\` there.

Files below it are not sent. A node's mappings are one line of text, `here = there; here = there`.
"""

from __future__ import annotations

import ntpath
import posixpath

from .job import NodeListError
from .worker.paths import is_absolute

Mapping = tuple[str, str]


def parse_mappings(text: str) -> tuple[Mapping, ...]:
    """The pairs of a line, longest first, so that the nearest folder decides. Raise NodeListError."""
    pairs = []
    for part in text.split(";"):
        if not part.strip():
            continue
        here, equals, there = (word.strip() for word in part.partition("="))
        if not equals or not is_absolute(here) or not is_absolute(there):
            raise NodeListError(
                f"{part.strip()!r} is no mapping of two absolute paths.",
                r"Write e.g. /mnt/projects = P:\ and a semicolon between two of them.",
            )
        pairs.append((here, there))
    return tuple(sorted(pairs, key=lambda pair: -len(pair[0])))


def mapped(path: str, mappings: tuple[Mapping, ...]) -> str | None:
    """Where the file at `path` here is on the node by itself; None where it is not."""
    for here, there in mappings:
        below = _below(path, here)
        if below is not None:
            is_windows = "\\" in there or there[1:2] == ":"
            if is_windows:
                return ntpath.join(there, *below.split("/")).replace("/", "\\")
            return posixpath.join(there, below)
    return None


def _below(path: str, folder: str) -> str | None:
    """The part of `path` after `folder`, with `/` between its parts."""
    # Windows takes both separators, and capital letters for small ones.
    is_windows = "\\" in folder or folder[1:2] == ":"
    start, whole = (text.replace("\\", "/") if is_windows else text for text in (folder, path))
    start = start.rstrip("/") + "/"
    agrees = whole.lower().startswith(start.lower()) if is_windows else whole.startswith(start)
    below = whole[len(start) :] if agrees else ""
    return None if not below or ".." in below.split("/") else below
