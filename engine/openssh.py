"""SSH to a node by this computer's own `ssh` program: one process for each command.

For what only it can do: FIDO keys, GSSAPI, a shared connection (ControlMaster), whatever else the
user's configuration asks for. It is run without a terminal and never asks; what it complains about
is translated into our own errors. Host keys it judges itself, strictly.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from .access import Access
from .job import ConnectError, HostKeyChanged, HostNotFound, LoginRefused, Node, NodeError
from .ssh_config import Target, resolve, ssh_program, system_folder
from .transport import ProcessChannel, windows_flags
from .trust import REVOKED_HINT, changed_hint, unknown

LOGIN_S = 60.0
"""A security key waits to be touched."""
PIECE_BYTES = 64 * 1024
RUN_BYTES = 1 << 20
FAILED_STATUS = 255
"""What ssh ends with where it is ssh that failed, and not the command."""
_KEY = re.compile(r"^DCKEY HOSTNAME (\S+) (\S+) (\S+)$", re.MULTILINE)
_SHOW_KEY = 'KnownHostsCommand /bin/sh -c "echo DCKEY %I %H %t %K >&2"\n'
"""It adds no key that is known, but tells which one the host has."""


class OpenSshConnection:
    """Logs in anew for each command, unless the user's configuration shares one connection.

    See access.Connection.
    """

    def __init__(self, node: Node, access: Access) -> None:
        self.node = node
        self._access = access
        self._folder = ""
        self._channels: list[SshProcess] = []
        self._is_closed = False

    def connect(self) -> None:
        """See whether a command can be run there."""
        program = ssh_program()
        try:
            self._refuse_if_closed()
            if program is None:
                raise NodeError(
                    "There is no ssh program on this computer.",
                    "Install OpenSSH's client, or use the node's other back end.",
                )
            # Names the host that is meant in questions and errors, and finds mistakes in the configuration.
            target = resolve(self.node, self._access.config)
            self._folder = tempfile.mkdtemp(prefix="distributed-cycles-ssh-")
            self._write_config("config", "")
            status, _, said = self._run(self._command("config", "exit 0"), LOGIN_S)
            if status == FAILED_STATUS:
                raise self._failure(target, said)
        except NodeError as error:
            error.node = self.node.name
            self.close()
            raise
        except OSError as error:
            self.close()
            raise ConnectError(f"ssh could not be prepared ({error}).", node=self.node.name) from None

    def open(self, command: str) -> SshProcess:
        return self._start(self._command("config", command))

    def run(self, command: str, timeout: float) -> tuple[int, str, str]:
        status, output, said = self._run(self._command("config", command), timeout)
        if status == FAILED_STATUS:
            raise ConnectError(f"The connection broke ({_last_line(said)}).", node=self.node.name)
        return status, output, said

    def close(self) -> None:
        self._is_closed = True
        for channel in tuple(self._channels):
            channel.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def is_open(self) -> bool:
        return not self._is_closed

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ConnectError("The connection is closed.", node=self.node.name)

    def _write_config(self, name: str, more: str) -> None:
        """A file in front of the user's own: ssh takes the first of several values.

        As a file it also counts for the ssh processes that ssh starts for the hosts on the way.
        """
        records = self._access.known_hosts
        if records.files:
            # The user's files stay as they are configured.
            system = [system_folder() / "ssh_known_hosts", system_folder() / "ssh_known_hosts2"]
            trusted = f"GlobalKnownHostsFile {' '.join(map(_quoted, (*system, records.own)))}\n"
        else:
            trusted = f"UserKnownHostsFile {_quoted(records.own)}\nGlobalKnownHostsFile {os.devnull}\n"
        config = self._access.config
        usual = [Path("~/.ssh/config").expanduser(), system_folder() / "ssh_config"]
        includes = "".join(f"Include {_quoted(file)}\n" for file in ([config] if config else usual))
        Path(self._folder, name).write_text(
            "BatchMode yes\nStrictHostKeyChecking yes\nUpdateHostKeys no\nLogLevel ERROR\n"
            "RequestTTY no\nRemoteCommand none\nClearAllForwardings yes\nPermitLocalCommand no\n"
            f"IgnoreUnknown KnownHostsCommand\n{more}{trusted}{includes}"
            # Only where the user says nothing else.
            "Host *\nConnectTimeout 10\nServerAliveInterval 5\nServerAliveCountMax 3\n",
            encoding="utf-8",
        )

    def _command(self, config: str, command: str) -> list[str]:
        self._refuse_if_closed()
        node = self.node
        words = [ssh_program() or "ssh", "-T", "-F", str(Path(self._folder, config))]
        words += ["-p", str(node.port)] if node.port else []
        words += ["-l", node.user] if node.user else []
        if node.key_file:
            # Else ssh would offer all keys of the agent before it.
            words += ["-i", str(Path(node.key_file).expanduser()), "-o", "IdentitiesOnly=yes"]
        return [*words, "--", node.host, command]

    def _start(self, command: Sequence[str]) -> SshProcess:
        try:
            channel = SshProcess(command)
        except OSError as error:
            raise ConnectError(f"ssh could not be started ({error}).", node=self.node.name) from None
        self._channels.append(channel)
        if self._is_closed:
            channel.close()
        return channel

    def _run(self, command: Sequence[str], timeout: float) -> tuple[int, str, str]:
        channel = self._start(command)
        late = threading.Timer(timeout, channel.kill)
        late.daemon = True
        late.start()
        try:
            channel.end_input()
            output = bytearray()
            while data := channel.read(PIECE_BYTES):
                output += data
                if len(output) > RUN_BYTES:
                    raise ConnectError(
                        "The node answers a short question with more than 1 MiB.",
                        "Look at what its login shell prints.",
                        self.node.name,
                    )
            status = channel.exit_status_of_ssh(timeout)
            if not late.is_alive() or status is None:
                raise ConnectError(
                    f"A command on the node did not end within {timeout:.0f} s.",
                    "Does its login shell wait for something, or does ssh (a key to be touched, say)?",
                    self.node.name,
                )
            return status, output.decode(errors="replace"), channel.stderr_tail()
        finally:
            late.cancel()
            channel.kill()
            self._channels.remove(channel)

    def _failure(self, target: Target, said: str) -> NodeError:
        """Our error for what ssh wrote when it could not log in."""
        own = self._access.known_hosts.own
        if "Host key verification failed" in said:
            if "REVOKED HOST KEY" in said:
                return HostKeyChanged(f"The host key of {target.host} is marked as revoked.", REVOKED_HINT)
            changed = re.search(r"Host key for (\S+) has changed", said)
            if changed:
                print_ = re.search(r"SHA256:[\w+/]+", said)
                return HostKeyChanged(
                    f"The host key of {changed[1]} has changed: it now shows {print_[0] if print_ else 'another'}.",
                    changed_hint(*_split(changed[1]), own),
                )
            return self._unknown(target, said)
        for pattern, kind, message, hint in _FAILURES:
            match = re.search(pattern, said)
            if match:
                values = {"host": target.host, "login": f"{target.user}@{target.host}", **match.groupdict()}
                return kind(message.format(**values), hint)
        return ConnectError(f"ssh could not log in: {_last_line(said) or 'it does not say why'}")

    def _unknown(self, target: Target, said: str) -> NodeError:
        """The question about a key that is not known, for which ssh must first show it."""
        self._write_config("show-key", _SHOW_KEY)
        _, _, shown = self._run(self._command("show-key", "exit 0"), LOGIN_S)
        keys = _KEY.findall(shown)
        if not keys:
            return NodeError(
                f"ssh does not know the host key of {target.host}: {_last_line(said)}",
                f"Log in there once by hand: ssh {target.alias}",
            )
        # Hosts on the way that are known come first.
        name, kind, key = keys[-1]
        record = _split(name)
        hops = (*target.jumps, target)
        meant = next((hop for hop in hops if hop.record == record), Target(record[0], *record, target.user))
        return unknown(meant, self._access.known_hosts.own, kind, key)


_ASKED_HINT = (
    "Add your key to the SSH agent, or set the node's key file. The other back end asks for passwords;"
    " a connection that you have opened yourself is used where ControlMaster shares it."
)
_FAILURES: tuple[tuple[str, type[NodeError], str, str], ...] = (
    (
        r"Could not resolve hostname (?P<name>[^:]+): (?P<why>.*)",
        HostNotFound,
        "There is no host named {name!r} ({why}).",
        "Check the spelling and the network.",
    ),
    (
        r"Too many authentication failures",
        LoginRefused,
        "The server closed the connection after too many keys that it does not accept.",
        "Set the node's key file, which is then the only one; the server's MaxAuthTries is the limit.",
    ),
    (
        r"(?P<who>\S+): Permission denied \((?P<ways>[^)]*)\)",
        LoginRefused,
        "{who} does not let ssh in without a question ({ways}).",
        _ASKED_HINT,
    ),
    (
        r"port (?P<port>\d+): Connection refused",
        ConnectError,
        "{host} refused the connection to port {port}.",
        "Is the SSH server running there, and is this its port?",
    ),
    (
        r"timed out",
        ConnectError,
        "{host} did not answer in time.",
        "Is it switched on, and does a firewall let SSH through?",
    ),
    (
        r"(?P<why>No route to host|Network is unreachable)",
        ConnectError,
        "{host} cannot be reached ({why}).",
        "Check the network.",
    ),
    (
        r"(?P<why>.*(?:kex_exchange_identification|banner|Connection (?:closed|reset) by).*)",
        ConnectError,
        "What answers at {host} does not speak SSH as it should ({why}).",
        "Is this the port of an SSH server? It also hangs up when too many log in at once.",
    ),
    (
        r"(?P<why>.*(?:Bad configuration option|bad configuration|Bad owner or permissions|error in libcrypto).*)",
        LoginRefused,
        "ssh cannot work with its settings: {why}",
        "Run ssh by hand and mend what it says.",
    ),
)


class SshProcess(ProcessChannel):
    """An `ssh` that runs one command on the node. See transport.Channel."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command, windows_flags("CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW"), "ssh")

    def exit_status(self, timeout: float) -> int | None:
        """None also where ssh failed, which leaves the command's own status unknown."""
        status = self.exit_status_of_ssh(timeout)
        return None if status == FAILED_STATUS or (status or 0) < 0 else status

    def exit_status_of_ssh(self, timeout: float) -> int | None:
        return super().exit_status(timeout)

    def end_input(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def close(self) -> None:
        """ssh passes the end of our side on, and ends when the worker has; if not, it is killed."""
        if self._process.poll() is None:
            super().close()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._kill()


def _quoted(path: Path) -> str:
    """A path in an ssh_config, where % begins a token."""
    text = str(path).replace("%", "%%").replace('"', '\\"')
    return f'"{text}"'


def _split(name: str) -> tuple[str, int]:
    """Host and port of a name as known_hosts writes it."""
    match = re.fullmatch(r"\[(.*)\]:(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 22)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
