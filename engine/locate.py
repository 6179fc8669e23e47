"""Finding Blender on a node where no path was given."""

from __future__ import annotations

from typing import Protocol

PROBE = 'echo DCPROBE %OS% "$SHELL"'
"""cmd.exe replaces %OS%, every other shell leaves it alone."""

_POSIX_SEARCH = (
    "sh -c '"
    'for p in "$(command -v blender)" "$HOME"/blender*/blender "$HOME"/.local/bin/blender'
    ' "$HOME"/Applications/Blender*.app/Contents/MacOS/Blender /opt/blender*/blender'
    " /usr/local/bin/blender /usr/local/blender*/blender /snap/bin/blender"
    " /var/lib/flatpak/exports/bin/org.blender.Blender"
    " /Applications/Blender*.app/Contents/MacOS/Blender;"
    ' do [ -x "$p" ] && [ ! -d "$p" ] && echo "DCFOUND $p"; done; true\''
)
_WINDOWS_SEARCH = 'cmd /c "dir /b /s "%ProgramFiles%\\Blender Foundation\\blender.exe" 2>nul"'


class Shell(Protocol):
    """What is needed of a connection: run a small command there."""

    def run(self, command: str, timeout: float) -> tuple[int, str, str]: ...


def candidates(shell: Shell, timeout: float) -> list[str]:
    """Paths at which the node seems to have a Blender, most likely first; may be empty."""
    _, answer, _ = shell.run(PROBE, timeout)
    if "Windows_NT" in answer:
        _, listing, _ = shell.run(_WINDOWS_SEARCH, timeout)
        paths = [line.strip() for line in listing.splitlines() if line.strip().lower().endswith(".exe")]
        return ["blender", *reversed(paths)]
    _, listing, _ = shell.run(_POSIX_SEARCH, timeout)
    marked = [line for line in listing.splitlines() if line.startswith("DCFOUND ")]
    return list(dict.fromkeys(line.removeprefix("DCFOUND ") for line in marked))
