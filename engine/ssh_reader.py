"""The SSH configuration where no `ssh` program can be asked: paramiko's reader, made tolerant.

It knows no Include, takes a Match that it does not know for one that matches, and gives up a whole
file for one bad line. So it gets a text from which all that has been taken out.
"""

from __future__ import annotations

from pathlib import Path

import paramiko

from .job import NodeError
from .ssh_config import Answers, statements, system_folder

_MATCHES = {"all", "host", "originalhost", "user", "localuser"}
"""What can be told without running commands or asking a name server."""
_NEVER = "Host !*"


def look_up(alias: str, port: int, user: str, config: Path | None) -> Answers:
    """What the configuration says of `alias`, as `ssh -G` would list it. Raise NodeError."""
    files = [config] if config else [Path("~/.ssh/config").expanduser(), system_folder() / "ssh_config"]
    # The first value counts, as for ssh's own -p and -l.
    lines = ["Host *"] + [f"Port {port}"] * bool(port) + [f"User {user}"] * bool(user)
    for number, file in enumerate(files):
        # What stands before the first Host of a file is for all.
        lines.append("Host *")
        base = system_folder() if number else Path("~/.ssh").expanduser()
        lines += [_line(keyword, words) for keyword, words in statements(file, base)]
    try:
        found = paramiko.SSHConfig.from_text("\n".join(lines)).lookup(alias)
    except (paramiko.SSHException, ValueError) as error:
        raise NodeError(f"The SSH configuration cannot be read ({error}).", "Mend ~/.ssh/config.") from None
    ways = [name for name in found if name in ("proxyjump", "proxycommand")]
    for later in ways[1:]:  # Of the two, the one that is named first counts.
        del found[later]
    values = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    return {name: [word for word in words if word is not None] for name, words in values.items()}


def _line(keyword: str, words: list[str]) -> str:
    if keyword == "match" and not {word.lower() for word in words[::2]} <= _MATCHES:
        return _NEVER
    if keyword.startswith("canonical"):
        return "#"
    if keyword in ("host", "match") or (len(words) == 1 and " " in words[0]):
        # One word with quotes around it is taken without them, whatever the keyword.
        return f"{keyword} {' '.join(_quoted(word) for word in words)}"
    return f"{keyword} {' '.join(words)}"


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word and '"' not in word else word
