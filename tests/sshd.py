"""Real OpenSSH servers for tests: on loopback, or each in a network namespace of its own."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from engine.access import Access, connection_to
from engine.job import Node
from engine.known_hosts import KnownHosts


def keygen(path: Path, *options: str, passphrase: str = "") -> Path:
    """Make a key pair; returns the private key's path."""
    command = ["ssh-keygen", "-q", "-f", str(path), "-N", passphrase, *(options or ("-t", "ed25519"))]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def free_port(address: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def log_in(node: Node, access: Access) -> None:
    """Connect, run a command, and close; raises what connect() raises."""
    connection = connection_to(node, access)
    try:
        connection.connect()
        assert connection.run("echo hello; echo there >&2; exit 3", 10) == (3, "hello\n", "there\n")
    finally:
        connection.close()


class Sshd:
    """One sshd with its own host key and authorized_keys; a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        namespace: str = "",
        environment: dict[str, str] | None = None,
        options: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = address
        self.port = 22022 if namespace else free_port(address)
        self.host_key = keygen(folder / "host_key")
        self.user_key = keygen(folder / "user_key")
        self.log = folder / "sshd.log"
        (folder / "authorized_keys").write_text(self.user_key.with_suffix(".pub").read_text())
        settings = " ".join(f"{name}={value}" for name, value in (environment or {}).items())
        (folder / "sshd_config").write_text(
            # sshd takes the first of several values.
            f"{options}Port {self.port}\nListenAddress {address}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nLogLevel VERBOSE\n"
            + (f"SetEnv {settings}\n" if settings else "")
        )
        self._namespace = namespace
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        inside = ["ip", "netns", "exec", self._namespace] if self._namespace else []
        command = [*inside, "/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection((self.address, self.port), timeout=1):
                    return
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End the server and the processes that serve its connections."""
        if self._process is None:
            return
        for pid in (*self.children(), self._process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    def children(self) -> list[int]:
        """Process ids of the sshd processes that serve one connection each."""
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def node(self, name: str = "node", **changes: object) -> Node:
        settings: dict[str, object] = {
            "host": self.address,
            "port": self.port,
            "user": getpass.getuser(),
            "key_file": str(self.user_key),
            **changes,
        }
        return Node(name, **settings)  # type: ignore[arg-type] # the settings are Node's fields

    @property
    def public_host_key(self) -> str:
        return " ".join(self.host_key.with_suffix(".pub").read_text().split()[:2])

    def known_hosts_line(self) -> str:
        return f"[{self.address}]:{self.port} {self.public_host_key}\n"

    def access(self, *, trusted: bool = True) -> Access:
        """Access with a known_hosts file of its own, with or without this server's key."""
        own = self.folder / "known_hosts"
        own.write_text(self.known_hosts_line() if trusted else "")
        return Access(KnownHosts([], own))


class Namespace:
    """A machine of its own as far as the network can tell: it is .2 of 198.18.<n>.0, we are .1. Needs root."""

    _count = 0

    def __init__(self) -> None:
        Namespace._count += 1
        # Of the block that is reserved for tests of networks (RFC 2544), so that no real network is hidden.
        block = (os.getpid() * 16 + Namespace._count) % 512
        self.name = f"dcns{os.getpid()}-{Namespace._count}"
        self._link = f"dc{os.getpid() % 100000}h{Namespace._count}"
        self._peer = f"dc{os.getpid() % 100000}n{Namespace._count}"
        self.here = f"198.{18 + block // 256}.{block % 256}.1"
        self.address = f"198.{18 + block // 256}.{block % 256}.2"

    def __enter__(self) -> Namespace:
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._link, "type", "veth", "peer", "name", self._peer, "netns", self.name)
            _ip("addr", "add", f"{self.here}/24", "dev", self._link)
            _ip("link", "set", self._link, "up")
            _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", self._peer)
            _ip("-n", self.name, "link", "set", self._peer, "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Deleting a namespace's name leaves the namespace to whoever still runs in it.
        subprocess.run(["ip", "link", "del", self._link], check=False, stderr=subprocess.DEVNULL)
        _ip("netns", "del", self.name)

    def partition(self) -> None:
        """Drop everything in both directions without a word, like a cable that is out."""
        rules = (
            "add table inet dc; add chain inet dc in { type filter hook input priority 0; policy drop; };"
            "add chain inet dc out { type filter hook output priority 0; policy drop; }"
        )
        subprocess.run(["ip", "netns", "exec", self.name, "nft", rules], check=True)

    def heal(self) -> None:
        subprocess.run(["ip", "netns", "exec", self.name, "nft", "delete table inet dc"], check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
