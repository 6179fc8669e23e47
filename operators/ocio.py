"""An OCIO configuration of the user's own ($OCIO): textures are converted by it, so nodes must have it.

Blender reads it once, when it starts; so a worker gets it first of all, and starts anew with it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..engine.worker.paths import is_absolute
from . import caches

OWNER = "the color management ($OCIO)"
_SOURCE = re.compile(r"""!<FileTransform>[^!]*?\bsrc:\s*("[^"]*"|'[^']*'|[^,}\n]+)""")
_SEARCH = re.compile(r"^search_path:[ \t]*(.*(?:\n[ \t]*-.*)*)", re.MULTILINE)


def setting() -> str:
    """What $OCIO says: the whole path of a configuration, or the name of one that OCIO has in itself."""
    text = os.environ.get("OCIO", "")
    return os.path.normpath(Path(text).absolute()) if text and "://" not in text else text


def files() -> list[str]:
    """The configuration and the tables that it names, also what is missing."""
    config = setting()
    if not config or "://" in config:
        return []
    folders, names = _read(config)
    # Of the folders that are searched, the first that has it.
    places = [Path(config).parent / folder for folder in (*folders, ".")]
    found = [config]
    for name in names:
        if re.search(r"[$%]", name):  # It depends on the context, so all that could be meant.
            found += [path for place in places[:-1] for path in caches.below(str(place))]
        elif not is_absolute(name):
            there = [place / name for place in places if (place / name).is_file()]
            found.append(os.path.normpath((there or [places[0] / name])[0]))
    return list(dict.fromkeys(found))


def warnings() -> list[str]:
    """What cannot be sent: paths inside a configuration are not rewritten."""
    folders, names = _read(setting())
    return [
        f"The OCIO configuration names {path}: nodes need it at the same place."
        for path in (*folders, *names)
        if is_absolute(path)
    ]


def _read(config: str) -> tuple[list[str], list[str]]:
    """The folders that a configuration searches, and the files that it names."""
    try:
        text = Path(config).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return [], []
    found = _SEARCH.search(text)
    folders = re.split(r"\n\s*-|[\[\],:]", found[1].lstrip("- ")) if found else []
    return _words(folders), _words(_SOURCE.findall(text))


def _words(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(word for text in texts if (word := text.strip().strip("\"'"))))
