"""The shell on a node: which one it is, and how a command is written for it.

sshd hands a command to the user's login shell as one text, whatever shell that is. Words that
are plain mean the same in all of them; for the rest each has rules of its own.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Protocol

from .job import ConnectError

PROBE = 'echo DCPROBE %OS% "$SHELL"'
"""cmd.exe replaces %OS%, all others leave it alone; PowerShell prints each word on a line of its own;
the rest put in the name of the login shell, which is what reads this."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:+-]+")
_PLAIN_WINDOWS = re.compile(r"[A-Za-z0-9_./:+\\-]+")
_POWERSHELL_QUOTES = "'\u2018\u2019\u201a\u201b"


class Shell(enum.Enum):
    """A family of shells with the same quoting."""

    POSIX = "sh"
    FISH = "fish"
    CSH = "csh"
    CMD = "cmd.exe"
    POWERSHELL = "PowerShell"

    @property
    def is_windows(self) -> bool:
        return self in (Shell.CMD, Shell.POWERSHELL)


class Connection(Protocol):
    """What is needed of a connection: run a small command there."""

    def run(self, command: str, timeout: float) -> tuple[int, str, str]: ...


def shell_of(connection: Connection, timeout: float) -> Shell:
    """Ask which shell reads our commands. Raise ConnectError where none answers."""
    _, answer, errors = connection.run(PROBE, timeout)
    lines = [line.strip() for line in answer.splitlines()]
    # A greeting of the login scripts may stand before it.
    line = next((line for line in lines if line.startswith("DCPROBE")), None)
    if line is None:
        said = " ".join((errors.strip() or answer.strip()).split())[:200]
        raise ConnectError(
            f"The login shell on the node runs no commands{f': {said}' if said else ''}.",
            "Log in there by ssh and see what it says.",
        )
    if line == "DCPROBE":
        return Shell.POWERSHELL
    if "Windows_NT" in line:
        return Shell.CMD
    name = re.split(r"[\\/]", line.strip('" '))[-1].removesuffix(".exe")
    return {"fish": Shell.FISH, "csh": Shell.CSH, "tcsh": Shell.CSH}.get(name, Shell.POSIX)


def command_line(words: Sequence[str], shell: Shell, launcher: str = "") -> str:
    """The text that makes `shell` run `words`; `launcher` stands before them as its user wrote it."""
    line = " ".join(quoted(word, shell) for word in words)
    if launcher:
        return f"{launcher} {line}"
    # PowerShell takes a quoted text at the beginning for a value, not for a command.
    return f"& {line}" if shell is Shell.POWERSHELL and line[:1] == "'" else line


def quoted(word: str, shell: Shell) -> str:
    """`word` as one word of a command line. Raise ValueError where it cannot be one."""
    if any(mark in word for mark in "\0\r\n"):
        raise ValueError(f"{word!r} holds a line break")
    if (_PLAIN_WINDOWS if shell.is_windows else _PLAIN).fullmatch(word):
        return word
    match shell:
        case Shell.POSIX:
            return "'" + word.replace("'", "'\\''") + "'"
        case Shell.FISH:
            return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"
        case Shell.CSH:
            # History is looked up even between quotes.
            return "'" + word.replace("'", "'\\''").replace("!", "\\!") + "'"
        case Shell.POWERSHELL:
            # It takes typographic quotes for quotes as well.
            return "'" + re.sub(f"([{_POWERSHELL_QUOTES}])", r"\1\1", word) + "'"
        case Shell.CMD:
            return _quoted_for_cmd(word)


def _quoted_for_cmd(word: str) -> str:
    if '"' in word:
        raise ValueError(f"{word!r} holds a quote, which cmd.exe cannot pass on")
    # %NAME% is replaced even between quotes, but there is none whose name has quotes in it. A
    # backslash before a quote would make the program take that for part of the word.
    if word.count("%") > 1:
        word = re.sub(r"(\\*)%", r'\1\1"%"', word)
    word = re.sub(r"(\\+)$", r"\1\1", word)
    return f'"{word}"'
