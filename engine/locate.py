"""Blender on a node where no path was given: found by looking, chosen by its version.

One command looks at all usual places and asks each Blender it finds for its version, side by side;
that takes as long as the slowest of them, and no worker is started in vain. What was chosen
is a guess all the same, which the worker's own first answer confirms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .job import BlenderNotFound, BlenderUnsuitable
from .launcher import is_srun, prepared
from .shells import Connection, Shell, command_line, quoted

SEARCH_S = 30.0
VERSION_S = 10
"""A Blender that does not say its version by then is passed over."""

CACHE = ".cache/distributed-cycles/blender"
CACHE_WINDOWS = CACHE.replace("/", "\\")
"""Below the home folder: where a Blender that was sent to the node lives."""

HOME_THERE = '[ -d "$HOME" ] || HOME=$(pwd);'
"""Where no locale is set, fish hands on a HOME with other than ASCII letters in another encoding;
sshd starts each command there."""
_HOME_FOLDERS = ("", "/Downloads", "/Desktop", "/Applications", "/apps", "/opt", "/bin", "/software")
_WINDOWS_DRIVES = ("/cygdrive/c", "/c", "/mnt/c")
"""C: as Cygwin, MSYS and WSL call it."""
_STEAM = "steamapps/common/Blender"
_MAC_PROGRAM = "Contents/MacOS/Blender"

_PLACES = (
    '"$(command -v blender)"',
    f'"$HOME"/{CACHE}/*/blender',
    f'"$HOME"/{CACHE}/*/*/blender',
    f'"$HOME"/{CACHE}/*/*.app/{_MAC_PROGRAM}',
    *(f'"$HOME"{folder}/[Bb]lender*/blender' for folder in _HOME_FOLDERS),
    '"$HOME"/[Bb]lender*/*/blender',
    '"$HOME"/.local/bin/blender',
    '"$HOME"/bin/blender',
    *(f"{folder}/[Bb]lender*/blender" for folder in ("/opt", "/usr/local", "/usr/local/share", "/srv")),
    "/opt/[Bb]lender*/*/blender",
    "/usr/local/bin/blender",
    "/opt/homebrew/bin/blender",
    "/snap/bin/blender",
    "/var/lib/flatpak/exports/bin/org.blender.Blender",
    '"$HOME"/.local/share/flatpak/exports/bin/org.blender.Blender',
    f'"$HOME"/.steam/steam/{_STEAM}/blender',
    f'"$HOME"/.local/share/Steam/{_STEAM}/blender',
    f'"$HOME"/.var/app/com.valvesoftware.Steam/.local/share/Steam/{_STEAM}/blender',
    f"/Applications/Blender*.app/{_MAC_PROGRAM}",
    f"/Applications/Blender*/Blender*.app/{_MAC_PROGRAM}",
    f'"$HOME"/Applications/Blender*.app/{_MAC_PROGRAM}',
    f'"$HOME/Library/Application Support/Steam"/{_STEAM}/Blender.app/{_MAC_PROGRAM}',
    *(f'{drive}/"Program Files/Blender Foundation"/*/blender.exe' for drive in _WINDOWS_DRIVES),
    *(f'{drive}/"Program Files (x86)/Steam/{_STEAM}"/blender.exe' for drive in _WINDOWS_DRIVES),
)
# Backslash, quote and line break are left out as far as can be: it goes through every login shell as
# one word. A Blender that hangs is ended, by hand, since macOS has no `timeout`.
_POSIX_SEARCH = (
    f"{HOME_THERE} echo DCSYSTEM $(uname -sm); n=0; s=; for p in " + " ".join(_PLACES) + "; do"
    ' [ -f "$p" ] && [ -x "$p" ] || continue; case "$s" in *"|$p|"*) continue;; esac; s="$s|$p|"; n=$((n+1));'
    ' { v=$( { "$p" --version & b=$!; { sleep '
    f"{VERSION_S}; kill -9 $b; }} >/dev/null 2>&1 & w=$!; wait $b; kill $w; }}"
    ' </dev/null 2>/dev/null | grep -m 1 "^Blender [0-9]"); printf "DCFOUND %s|%s|%s\\n" $n "$p" "$v"; } & done; wait'
)

_WINDOWS_PLACES = (
    (r"%ProgramFiles%\Blender Foundation", "Blender*"),
    (r"%LOCALAPPDATA%\Programs\Blender Foundation", "Blender*"),
    (rf"%USERPROFILE%\{CACHE_WINDOWS}", "*"),
    (r"%USERPROFILE%", "Blender*"),
    (r"%USERPROFILE%\Downloads", "Blender*"),
    (r"%USERPROFILE%\Desktop", "Blender*"),
    ("C:", "Blender*"),
    (r"C:\Program Files (x86)\Steam\steamapps\common", "Blender*"),
)
"""Folders, and what folders of a Blender in there are called."""
_WINDOWS_LISTING = "chcp 65001>nul&echo DCSYSTEM Windows %PROCESSOR_ARCHITECTURE%&" + "&".join(
    rf'echo DCFOLDER {folder}&dir /b /ad "{folder}\{name}" 2>nul' for folder, name in _WINDOWS_PLACES
)
_WINDOWS_MOST = 24
"""cmd.exe takes lines of 8191 characters."""

_FOUND = re.compile(r'DCFOUND (\d+)\|"?(.*?)"?\|')
_VERSION = re.compile(r"Blender (\d+)\.(\d+)(?:\.(\d+))?")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """A Blender on the node."""

    path: str
    version: Version | None = None
    """None where it did not say."""

    def __str__(self) -> str:
        return f"{dotted(self.version) if self.version else 'one that does not start'} ({self.path})"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a search on a node brought."""

    system: str
    """Its system and processor, as they call themselves there."""
    found: tuple[Found, ...]


def search(connection: Connection, shell: Shell, launcher: str = "") -> Survey:
    """Look at all usual places of the node at once. Raise ConnectError."""
    # What runs behind `docker exec` is in there, not on the host. A queue is not waited in for
    # this; the machines of a cluster have the same programs at the same places.
    before = "" if is_srun(launcher) else prepared(launcher)
    if shell.is_windows:
        return _search_windows(connection, shell)
    _, answer, _ = connection.run(command_line(["sh", "-c", _POSIX_SEARCH], shell, before), SEARCH_S)
    return survey(answer)


def _search_windows(connection: Connection, shell: Shell) -> Survey:
    """Two commands, since cmd.exe's own loops cannot be relied on: what is there, and its versions."""

    def run(line: str) -> str:
        command = line if shell is Shell.CMD else command_line(["cmd", "/d", "/c", line], shell)
        return connection.run(command, SEARCH_S)[1]

    listing = run(_WINDOWS_LISTING)
    paths = ["blender", *windows_paths(listing)][:_WINDOWS_MOST]
    asked = (
        f"echo DCFOUND {number}^|{quoted(path, Shell.CMD)}^|&{quoted(path, Shell.CMD)} --version<nul 2>nul"
        for number, path in enumerate(paths)
    )
    found = survey(listing + run("&".join(asked)))
    # What does not say its version there is mostly what does not exist.
    return Survey(found.system, tuple(one for one in found.found if one.version))


def windows_paths(listing: str) -> list[str]:
    """Where a Blender would be in the folders that were listed."""
    paths = []
    folder = ""
    for line in listing.splitlines():
        name = line.strip()
        if name.startswith("DCFOLDER "):
            folder = name.removeprefix("DCFOLDER ")
        elif folder and name:
            paths.append(rf"{folder}\{name}\blender.exe")
    return paths


def survey(answer: str) -> Survey:
    """Read what the search printed; whatever else is in between is passed over."""
    system = ""
    found: list[tuple[int, Found]] = []
    for line in answer.splitlines():
        text = line.strip()
        mark, version = _FOUND.match(text), _VERSION.search(text)
        if text.startswith("DCSYSTEM "):
            system = text.removeprefix("DCSYSTEM ")
        elif mark:
            found.append((int(mark[1]), Found(mark[2], _numbers(_VERSION.match(text, mark.end())))))
        elif version and text.startswith("Blender ") and found and found[-1][1].version is None:
            number, last = found[-1]
            found[-1] = (number, Found(last.path, _numbers(version)))
    found.sort(key=lambda entry: entry[0])
    # A bare name stands for the PATH; without a version there is none on it.
    whole = [one for _, one in found if one.version or one.path != "blender"]
    return Survey(system, tuple({one.path: one for one in whole}.values()))


def _numbers(match: re.Match[str] | None) -> Version | None:
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def suitable(found: Sequence[Found], wanted: Version | None) -> list[Found]:
    """Those that may render, best first: the same version, then the same but for its last number.

    Raises BlenderNotFound where there is none at all, BlenderUnsuitable with the list of all
    where none fits.
    """
    if not found:
        raise BlenderNotFound(
            "No Blender was found on the node, neither on its PATH nor in the usual places.",
            f"Install {f'Blender {dotted(wanted[:2])}' if wanted else 'it'} there,"
            " or give its path in the node's settings.",
        )
    fitting = [one for one in found if one.version and (wanted is None or one.version[:2] == wanted[:2])]
    if not fitting:
        name = f"Blender {dotted(wanted[:2])}" if wanted else "Blender that starts"
        raise BlenderUnsuitable(
            f"There is no {name} on the node. Found there: {', '.join(map(str, found))}.",
            f"Install {f'Blender {dotted(wanted)}' if wanted else 'one'} there,"
            " or give its path in the node's settings.",
        )

    def rank(one: Found) -> tuple[bool, tuple[int, ...]]:
        assert one.version is not None
        return one.version != wanted, tuple(-number for number in one.version)

    return sorted(fitting, key=rank)


def warning_about(version: Version, wanted: Version | None) -> str:
    """What to say of a version that may render and is not quite ours."""
    if wanted is None or version == wanted:
        return ""
    return (
        f"Blender {dotted(version)} renders there, {dotted(wanted)} here:"
        " pixels can differ where something was mended in between."
    )


def dotted(numbers: Iterable[int]) -> str:
    return ".".join(map(str, numbers))
