"""What the user's SSH configuration says of a host; what the node list says comes before it.

The `ssh` program itself is asked where there is one (`ssh -G`), since no other reader knows all of
Include, Match and the defaults of a system; ssh_reader does what it can elsewhere.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .job import ConnectError, Node, NodeError
from .transport import windows_flags

CONNECT_S = 10.0
"""Per address, where no ConnectTimeout is set."""
ASK_S = 10.0
"""A Match may run commands."""
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
MOST_HOPS = 8
MOST_INCLUDES = 16
"""As deep as ssh follows them."""

Answers = Mapping[str, Sequence[str]]
"""Option in small letters -> its values, as `ssh -G` lists them."""


@dataclass(frozen=True, slots=True)
class Target:
    """A host as it is to be reached and logged in to."""

    alias: str
    """As the user wrote it."""
    host: str
    port: int
    user: str
    key_file: str = ""
    """The key of the node list, offered before all others."""
    key_files: tuple[Path, ...] = ()
    are_keys_named: bool = False
    """Whether the configuration names `key_files`; if not, they are the usual ones."""
    certificates: tuple[Path, ...] = ()
    use_only_named_keys: bool = False
    """IdentitiesOnly: of the agent's keys only those that are named."""
    agent: str = ""
    """Socket of the agent; empty: the usual one; "none"."""
    jumps: tuple[Target, ...] = ()
    """Hosts on the way, the nearest first. Only their own settings count, not their own jumps."""
    proxy_command: str = ""
    known_hosts: tuple[Path, ...] = ()
    host_key_alias: str = ""
    timeout: float = CONNECT_S

    @property
    def login(self) -> str:
        """Who asks for a password; unlike `alias` the same for all names of a host."""
        return f"{self.user}@{self.host}:{self.port}"

    @property
    def record(self) -> tuple[str, int]:
        """Host and port under which its key is on record."""
        return (self.host_key_alias, 22) if self.host_key_alias else (self.host, self.port)


def resolve(node: Node, config: Path | None) -> Target:
    """Where and how to reach `node`. `config` is the only file to read, None for the usual ones.

    Raise NodeError where the configuration cannot be used.
    """
    target = _resolve(node.host, node.port, node.user, config, ())
    return replace(target, key_file=str(Path(node.key_file).expanduser()) if node.key_file else "")


def _resolve(alias: str, port: int, user: str, config: Path | None, via: tuple[str, ...]) -> Target:
    if alias.startswith("-"):
        raise NodeError(f"{alias!r} is not the name of a host.", "Check the node's host.")
    answers = _ask(alias, port, user, config)

    def first(name: str, default: str = "") -> str:
        value = (answers.get(name) or [default])[0]
        return default if value.lower() == "none" else value

    host = first("hostname", alias)
    found = Target(alias, host, port or int(first("port", "22")), user or first("user") or getpass.getuser())
    tokens = _tokens(found, first("hostkeyalias") or alias)
    keys = [_path(value, tokens) for value in answers.get("identityfile", ()) if value != "none"]
    usual = [Path("~/.ssh", name).expanduser() for name in DEFAULT_KEYS]
    # ssh -G lists its own usual keys where none is named.
    is_usual = all(path.parent == usual[0].parent and path.name in _SSH_DEFAULTS for path in keys)
    timeout = first("connecttimeout")
    found = replace(
        found,
        key_files=tuple(dict.fromkeys(usual if is_usual else keys)),
        are_keys_named=not is_usual,
        certificates=tuple(_path(value, tokens) for value in answers.get("certificatefile", ())),
        use_only_named_keys=first("identitiesonly") == "yes",
        agent=_agent(answers, tokens),
        known_hosts=_known_hosts(answers, tokens),
        host_key_alias=first("hostkeyalias"),
        timeout=float(timeout) if timeout.isdigit() and int(timeout) else CONNECT_S,
    )
    jumps = first("proxyjump")
    if jumps:
        return replace(found, jumps=_jumps(jumps, found, config, via))
    command = first("proxycommand")
    return replace(found, proxy_command=_expanded(command, tokens) if command else "")


_SSH_DEFAULTS = {
    f"id_{kind}" for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss")
}


def _jumps(value: str, target: Target, config: Path | None, via: tuple[str, ...]) -> tuple[Target, ...]:
    """The hosts on the way. Like ssh: the first of them may have jumps of its own, the others not."""
    found: list[Target] = []
    for number, hop in enumerate(value.split(",")):
        match = _HOP.match(hop.strip())
        if match is None:
            raise NodeError(f"ProxyJump {value} of {target.alias} makes no sense.", "Check ~/.ssh/config.")
        alias = match["host"].strip("[]")
        if alias == target.alias or alias in via or len(via) + number >= MOST_HOPS:
            raise NodeError(
                f"The way to {target.alias} goes round in circles: ProxyJump {value}.", "Check ~/.ssh/config."
            )
        port = int(match["port"] or 0)
        made = _resolve(alias, port, match["user"] or "", config, (*via, target.alias))
        found += made.jumps if not number else ()
        found.append(replace(made, jumps=(), proxy_command=made.proxy_command if not number else ""))
    return tuple(found)


_HOP = re.compile(
    r"^(?:ssh://)?(?:(?P<user>[^\s]+)@)?(?P<host>\[[^\]]+\]|[^@:\s\[\]]+)(?::(?P<port>\d{1,5}))?/?$"
)


def ssh_program() -> str | None:
    """The `ssh` of this computer."""
    return shutil.which("ssh")


def _ask(alias: str, port: int, user: str, config: Path | None) -> Answers:
    program = ssh_program()
    if program is None:
        from .ssh_reader import look_up

        return look_up(alias, port, user, config)
    # Match may look at port and user, so they are told.
    command = [program, *(["-F", str(config)] if config else []), "-G", "-T"]
    command += ["-p", str(port)] if port else []
    command += ["-l", user] if user else []
    try:
        done = subprocess.run(
            [*command, "--", alias],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_S,
            check=False,
            creationflags=windows_flags("CREATE_NO_WINDOW"),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConnectError(
            f"ssh did not say what its configuration holds for {alias} ({error}).",
            f"Run: ssh -G {shlex.quote(alias)}",
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"status {done.returncode}"
        raise NodeError(
            f"ssh cannot use {alias} with your SSH configuration: {said[-300:]}",
            "Mend ~/.ssh/config, or the node's host.",
        )
    answers: dict[str, list[str]] = {}
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        name, _, value = line.partition(" ")
        answers.setdefault(name.lower(), []).append(value)
    return answers


def _tokens(target: Target, key_alias: str) -> dict[str, str]:
    """What ssh_config(5), TOKENS, puts in place of `%h` and its like."""
    local = socket.gethostname()
    return {
        "%": "%",
        "d": str(Path.home()),
        "h": target.host,
        "i": str(os.getuid()) if hasattr(os, "getuid") else "",
        "k": key_alias,
        "L": local.partition(".")[0],
        "l": local,
        "n": target.alias,
        "p": str(target.port),
        "r": target.user,
        "u": getpass.getuser(),
    }


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub("%(.)", lambda match: tokens.get(match[1], match[0]), text)


def _path(text: str, tokens: Mapping[str, str]) -> Path:
    named = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), text.strip('"'))
    return Path(_expanded(named, tokens)).expanduser()


def _agent(answers: Answers, tokens: Mapping[str, str]) -> str:
    value = (answers.get("identityagent") or [""])[0]
    if value in ("", "none"):
        return value
    if value == "SSH_AUTH_SOCK":
        return ""
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "none")
    return str(_path(value, tokens))


def _known_hosts(answers: Answers, tokens: Mapping[str, str]) -> tuple[Path, ...]:
    found: list[Path] = []
    for name, usual in zip(("userknownhostsfile", "globalknownhostsfile"), _usual_known_hosts(), strict=True):
        value = (answers.get(name) or [""])[0]
        # ssh -G quotes nothing: a word that begins like no path belongs to the one before.
        words = re.split(r" (?=[/~%$]|[A-Za-z]:)", value) if value else []
        found += [_path(word, tokens) for word in words if word != "none"] if value else usual
    return tuple(found)


def _usual_known_hosts() -> tuple[list[Path], list[Path]]:
    personal = Path("~/.ssh").expanduser()
    return (
        [personal / "known_hosts", personal / "known_hosts2"],
        [system_folder() / "ssh_known_hosts", system_folder() / "ssh_known_hosts2"],
    )


def usual_known_hosts() -> list[Path]:
    """The files in which this user's ssh looks where nothing else is configured."""
    personal, system = _usual_known_hosts()
    return [*personal, *system]


def system_folder() -> Path:
    """Where the system's own SSH configuration is."""
    return (
        Path(os.environ.get("PROGRAMDATA", "C:/ProgramData"), "ssh") if os.name == "nt" else Path("/etc/ssh")
    )


def listed_hosts(config: Path | None = None) -> list[str]:
    """The hosts that the configuration has by name, in its order: no patterns, none twice.

    Those at which one is the user git are left out: nobody renders there.
    """
    files = [config] if config else [Path("~/.ssh/config").expanduser(), system_folder() / "ssh_config"]
    names: dict[str, None] = {}
    gits: set[str] = set()
    for number, file in enumerate(files):
        base = system_folder() if number else Path("~/.ssh").expanduser()
        current: list[str] = []
        for key, words in statements(file, base):
            if key in ("host", "match"):
                current = [word for word in words if not set(word) & set("*?!")] if key == "host" else []
                names.update(dict.fromkeys(current))
            elif key == "user" and words[:1] == ["git"]:
                gits.update(current)
    return [name for name in names if name not in gits]


def statements(file: Path, base: Path, depth: int = 0) -> Iterator[tuple[str, list[str]]]:
    """The lines of a configuration file as (keyword, words), those of its Includes in their place.

    What makes no sense is passed over. Relative Includes begin at `base`.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.removeprefix("\ufeff").splitlines():
        match = re.match(r"\s*([A-Za-z]\w*)(?:\s*=\s*|\s+)(\S.*)", line)
        if match is None:
            continue
        keyword = match[1].lower()
        try:
            words = [match[2].strip()] if keyword in _COMMANDS else _words(match[2])
        except ValueError:  # A quote that is left open.
            continue
        if keyword != "include":
            yield keyword, words
        elif depth < MOST_INCLUDES:
            for word in words:
                path = Path(word).expanduser()
                pattern = path if path.is_absolute() else base / path
                folder = Path(pattern.anchor)
                for found in sorted(folder.glob(str(pattern.relative_to(folder)))):
                    yield from statements(found, base, depth + 1)


_COMMANDS = ("proxycommand", "localcommand", "remotecommand", "knownhostscommand")
"""Their value is the rest of the line as it is."""


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.escape = ""  # A backslash is part of a path on Windows.
    return list(lexer)
