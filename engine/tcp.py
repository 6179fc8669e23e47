"""A connection to a host: every address it has is tried, and a peer that vanishes is noticed; or a ProxyCommand."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable

from .job import ConnectError, HostNotFound, NodeError

DEAD_PEER_S = 12


def reach(host: str, port: int, is_given_up: Callable[[], bool], timeout: float) -> socket.socket:
    """Connect to the first address of `host` that answers within `timeout` seconds; `is_given_up`
    is asked between them.

    Raise HostNotFound or ConnectError.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise HostNotFound(
            f"There is no host named {host!r} ({error}).", "Check the spelling and the network."
        ) from None
    last: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        if is_given_up():
            raise ConnectError(f"The attempt to reach {host} was given up.")
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # The name has an IPv6 address, but this system speaks no IPv6.
            last = error
            continue
        try:
            sock.settimeout(timeout)
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
            f"{host} did not answer on port {port} within {timeout:.0f} s.",
            "Is it switched on, and does a firewall let SSH through?",
        )
    raise ConnectError(f"{host} port {port} cannot be reached ({last}).", "Check the network.")


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


class ProxyCommand:
    """A command that brings bytes to a host and back, and the socket that leads to its stdin and stdout."""

    def __init__(self, command: str) -> None:
        """Start it. Raise NodeError where that cannot be done."""
        if os.name == "nt":
            raise NodeError(
                "A ProxyCommand needs the ssh program on Windows.", "Set the node's back end to it."
            )
        self.socket, theirs = socket.socketpair()
        try:
            with theirs:
                # As ssh does it: without a shell that stays in between.
                self._process = subprocess.Popen(
                    ["/bin/sh", "-c", f"exec {command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            self.socket.close()
            raise NodeError(f"The ProxyCommand could not be started ({error}).") from None

    def close(self) -> None:
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
