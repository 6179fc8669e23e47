"""SSH to a node by paramiko. The only module that imports it.

The order is fixed: resolve, connect, exchange keys, judge the host key, and only then log in;
no proof of identity ever reaches a host that is not trusted.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from .job import (
    ConnectError,
    HostKeyChanged,
    HostKeyUnknown,
    HostNotFound,
    LoginRefused,
    Node,
    NodeError,
    PassphraseNeeded,
)
from .known_hosts import KnownHosts, Verdict, fingerprint
from .transport import STDERR_TAIL_BYTES

CONNECT_S = 10.0
"""Per address."""
HANDSHAKE_S = 15.0
LOGIN_S = 30.0
"""An agent may have to ask its owner."""
DEAD_PEER_S = 12
WINDOW_BYTES = 16 << 20
"""At 100 ms round trip the default window of 2 MiB holds a download to 17 MiB/s, this one
to 98 (measured)."""
PIECE_BYTES = 64 * 1024
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
MOST_KEYS = 12

# Its thread logs whole tracebacks of connections that break, which is every day's business here.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)


@dataclass
class Access:
    """What is needed to be let in. Passphrases are kept in memory only."""

    known_hosts: KnownHosts
    passphrases: dict[str, str] = field(default_factory=dict, repr=False)
    """Key file -> passphrase."""


class SshConnection:
    """One connection to a node."""

    def __init__(self, node: Node, access: Access) -> None:
        self._node = node
        self._access = access
        self._transport: paramiko.Transport | None = None
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Connect and log in. Raises a NodeError that says what to do; bounded in time."""
        try:
            self._socket = self._reach()
            self._transport = self._shake_hands(self._socket)
            self._judge_host_key(self._transport)
            self._log_in(self._transport)
        except NodeError as error:
            error.node = self._node.name
            self.close()
            raise

    def open(self, command: str) -> SshChannel:
        """Run `command` with its stdin, stdout and stderr as a channel. Never on a terminal."""
        return SshChannel(self._session(command), self)

    def run(self, command: str, timeout: float) -> tuple[int, str, str]:
        """Run a small command to its end: exit status, stdout, stderr."""
        channel = self._session(command)
        try:
            channel.settimeout(timeout)
            channel.shutdown_write()
            output = b"".join(iter(lambda: channel.recv(65536), b""))
            errors = b"".join(iter(lambda: channel.recv_stderr(65536), b""))
            channel.status_event.wait(timeout)
            status = channel.exit_status
            return status, output.decode(errors="replace"), errors.decode(errors="replace")
        except (OSError, paramiko.SSHException):
            raise ConnectError(f"A command on the node did not end within {timeout:.0f} s.") from None
        finally:
            channel.close()

    def close(self) -> None:
        """Close at once, whether or not anybody is at the other end."""
        transport, self._transport = self._transport, None
        # First the socket: closing the transport waits for a thread that may be writing to it.
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        if transport is not None:
            threading.Thread(target=transport.close, name="dc-ssh-close", daemon=True).start()

    def _session(self, command: str) -> paramiko.Channel:
        if self._transport is None:
            raise ConnectError("The connection is closed.")
        try:
            channel = self._transport.open_session(window_size=WINDOW_BYTES, timeout=HANDSHAKE_S)
            channel.exec_command(command)
            return channel
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectError(
                f"The SSH server opened no session ({error}).", "Its MaxSessions may be reached."
            ) from None

    def _reach(self) -> socket.socket:
        host, port = self._node.host, self._node.port
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise HostNotFound(
                f"There is no host named {host!r} ({error}).", "Check the spelling and the network."
            ) from None
        last: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(CONNECT_S)
                sock.connect(address)
                _notice_dead_peers(sock)
                return sock
            except OSError as error:
                sock.close()
                last = error
        if isinstance(last, ConnectionRefusedError):
            raise ConnectError(
                f"{host} refused the connection to port {port}.",
                "Is the SSH server running there, and is this its port?",
            )
        if isinstance(last, TimeoutError):
            raise ConnectError(
                f"{host} did not answer on port {port} within {CONNECT_S:.0f} s.",
                "Is it switched on, and does a firewall let SSH through?",
            )
        raise ConnectError(f"{host} port {port} cannot be reached ({last}).", "Check the network.")

    def _shake_hands(self, sock: socket.socket) -> paramiko.Transport:
        try:
            transport = paramiko.Transport(sock, default_window_size=WINDOW_BYTES)
            transport.banner_timeout = HANDSHAKE_S
            transport.handshake_timeout = HANDSHAKE_S
            transport.auth_timeout = LOGIN_S
            _prefer(transport, self._access.known_hosts.key_types(self._node.host, self._node.port))
            transport.start_client(timeout=HANDSHAKE_S)
            # start_client returns all the same when its time is over.
            if not transport.initial_kex_done:
                raise TimeoutError(f"no answer within {HANDSHAKE_S:.0f} s")
            return transport
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectError(
                f"What answers on port {self._node.port} does not speak SSH as it should"
                f" ({str(error) or 'it closed the connection'}).",
                "Is this the port of an SSH server?",
            ) from None

    def _judge_host_key(self, transport: paramiko.Transport) -> None:
        key = transport.get_remote_server_key()
        host, port, records = self._node.host, self._node.port, self._access.known_hosts
        print_ = fingerprint(key.get_base64())
        verdict = records.check(host, port, key.get_name(), key.get_base64())
        if verdict is Verdict.UNKNOWN:
            user = f"{self._node.user}@" if self._node.user else ""
            raise HostKeyUnknown(
                f"The host key of {host} is not known yet: {key.get_name()} {print_}.",
                f"If that is its fingerprint, trust it by running:"
                f" ssh -p {port} -o UserKnownHostsFile={records.own} {user}{host} exit",
                self._node.name,
                host=host,
                port=port,
                key=f"{key.get_name()} {key.get_base64()}",
                fingerprint=print_,
            )
        if verdict is Verdict.REVOKED:
            raise HostKeyChanged(
                f"The host key of {host} ({print_}) is marked as revoked.",
                "Do not use this host before its administrator has given it a new key.",
            )
        if verdict is Verdict.CHANGED:
            raise HostKeyChanged(
                f"The host key of {host} has changed: it now shows {key.get_name()} {print_}.",
                "Somebody may be in between. If the machine was set up anew, remove its old key:"
                f' ssh-keygen -R "{host if port == 22 else f"[{host}]:{port}"}" (add -f {records.own}'
                " for a key that was accepted in Blender).",
            )

    def _log_in(self, transport: paramiko.Transport) -> None:
        user = self._node.user or getpass.getuser()
        locked: PassphraseNeeded | None = None
        tried = 0
        try:
            for key in self._keys():
                if isinstance(key, PassphraseNeeded):
                    locked = locked or key
                    continue
                tried += 1
                with contextlib.suppress(paramiko.AuthenticationException):
                    # A server may ask for more than a key; what it asks is left unanswered.
                    if not transport.auth_publickey(user, key):
                        return
                if not transport.is_active() or tried >= MOST_KEYS:
                    break
        except NodeError:
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            if transport.is_active():
                raise ConnectError(f"The login broke off ({error}).", "Is the server overloaded?") from None
        if transport.is_authenticated():
            return
        if locked is not None:
            raise locked
        if not transport.is_active() and tried:
            raise LoginRefused(
                f"The server closed the connection after {tried} keys; it wants the right one sooner.",
                "Set the node's key file, which is offered first.",
            )
        raise LoginRefused(
            f"{user}@{self._node.host} accepts none of the {tried} keys that could be offered."
            if tried
            else f"There is no key to log in to {user}@{self._node.host} with.",
            "Set the node's user and key file; the public key belongs into ~/.ssh/authorized_keys there.",
        )

    def _keys(self) -> Iterator[paramiko.PKey | PassphraseNeeded]:
        """Keys in the order to offer them: the node's own, the agent's, the usual files."""
        own = Path(self._node.key_file).expanduser() if self._node.key_file else None
        if own is not None:
            key = self._load(own)
            if isinstance(key, PassphraseNeeded):
                raise key
            yield key
        with contextlib.closing(paramiko.Agent()) as agent:
            yield from agent.get_keys()
        for name in DEFAULT_KEYS:
            path = Path("~/.ssh", name).expanduser()
            if path.is_file() and path != own:
                with contextlib.suppress(LoginRefused):
                    yield self._load(path)

    def _load(self, path: Path) -> paramiko.PKey | PassphraseNeeded:
        passphrase = self._access.passphrases.get(str(path))
        try:
            return paramiko.PKey.from_path(path, passphrase.encode() if passphrase else None)
        except OSError as error:
            raise LoginRefused(
                f"The key file {path} cannot be read ({error.strerror}).", "Check the node's key file."
            ) from None
        except (paramiko.PasswordRequiredException, TypeError):
            words = f"The key file {path} is locked."
        except (paramiko.SSHException, ValueError) as error:
            if passphrase is None or not _is_locked(path):
                raise LoginRefused(
                    f"The key file {path} is not a private key that can be used ({error}).",
                    "Check the node's key file; it is the one without .pub.",
                ) from None
            words = f"The passphrase for {path} is wrong."
        return PassphraseNeeded(
            words, "Enter its passphrase, or add the key to your SSH agent.", self._node.name, key_file=str(path)
        )


class SshChannel:
    """A command on the node. See transport.Channel."""

    def __init__(self, channel: paramiko.Channel, connection: SshConnection) -> None:
        self._channel = channel
        self._connection = connection
        self._stderr = bytearray()
        # Unread, stderr would fill the window and stop the command.
        self._drain = threading.Thread(target=self._drain_stderr, name="dc-stderr", daemon=True)
        self._drain.start()

    def _drain_stderr(self) -> None:
        with contextlib.suppress(OSError, paramiko.SSHException):
            while data := self._channel.recv_stderr(65536):
                self._stderr += data
                del self._stderr[:-STDERR_TAIL_BYTES]

    def read(self, size: int) -> bytes:
        try:
            return self._channel.recv(size)
        except (OSError, paramiko.SSHException):
            return b""

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            # In pieces, since sendall copies all that is left for each packet.
            for start in range(0, len(view), PIECE_BYTES):
                self._channel.sendall(bytes(view[start : start + PIECE_BYTES]))
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectError(f"the connection broke ({str(error) or 'closed'}).") from None

    def stderr_tail(self) -> str:
        if self._channel.closed or self._channel.exit_status_ready():
            self._drain.join(0.5)
        return bytes(self._stderr).decode(errors="replace")

    def exit_status(self, timeout: float) -> int | None:
        """paramiko gives -1 for a command that a signal ended, and for a broken connection."""
        deadline = time.monotonic() + timeout
        while not self._channel.exit_status_ready():
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
        status = self._channel.recv_exit_status()
        transport = self._channel.get_transport()
        return None if status == -1 and (transport is None or not transport.is_active()) else status

    def close(self) -> None:
        """Close the whole connection: it serves this one command, and a channel's own close can
        wait for a peer that is gone."""
        self._connection.close()


def _notice_dead_peers(sock: socket.socket) -> None:
    """Let the kernel report a peer that is gone; the heartbeats do so on every system as well."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 4),
        ("TCP_KEEPALIVE", 4),  # macOS
        ("TCP_KEEPINTVL", 3),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", DEAD_PEER_S * 1000),
    ):
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _prefer(transport: paramiko.Transport, types: list[str]) -> None:
    """Ask for a host key of a type that is on record, so that it can be compared."""
    if not types:
        return
    algorithms = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    wanted = [name for kind in types for name in algorithms.get(kind, (kind,))]
    options = transport.get_security_options()
    known = [name for name in wanted if name in options.key_types]
    options.key_types = [*known, *(name for name in options.key_types if name not in known)]


def _is_locked(path: Path) -> bool:
    """Whether the key cannot be read without a passphrase."""
    try:
        paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):
        return True
    except (OSError, ValueError, paramiko.SSHException):
        return False
    return False


def usual_known_hosts() -> list[Path]:
    """The files in which this user's ssh looks."""
    system = Path(os.environ.get("PROGRAMDATA", "C:/ProgramData"), "ssh") if os.name == "nt" else Path("/etc/ssh")
    return [Path("~/.ssh/known_hosts").expanduser(), Path("~/.ssh/known_hosts2").expanduser(), system / "ssh_known_hosts"]
