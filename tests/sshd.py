"""Real OpenSSH servers for tests: on loopback, or each in a network namespace of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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


class Agent:
    """A real ssh-agent. What it asks, `answer` answers: a shell script, for SSH_ASKPASS."""

    def __init__(self, folder: Path, answer: str) -> None:
        script = folder / "askpass"
        script.write_text(f"#!/bin/sh\n{answer}\n")
        script.chmod(0o755)
        self.socket = folder / "agent"
        self._environment = {**os.environ, "SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force"}
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(self.socket)],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        # The socket is there a moment before anybody listens.
        while not self._listens():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self.socket)) == 0

    def add(self, *keys: Path, options: tuple[str, ...] = ()) -> None:
        environment = {**self._environment, "SSH_AUTH_SOCK": str(self.socket)}
        subprocess.run(["ssh-add", "-q", *options, *map(str, keys)], env=environment, check=True)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def log_in(node: Node, access: Access) -> None:
    """Connect, run a command, and close; raises what connect() raises."""
    connection = connection_to(node, access)
    try:
        connection.connect()
        found = connection.run("echo hello; echo there >&2; exit 3", 10)
        assert found == (3, "hello\n", "there\n")
    finally:
        connection.close()


@dataclass
class User:
    """Somebody that only one sshd knows; it is root by another name, so that file permissions stay out of it."""

    name: str
    shell: str = "/bin/sh"
    home: Path = Path("/")
    password: str = ""


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
        hidden: Path | None = None,
        users: Sequence[User] = (),
        pam: str = "",
    ) -> None:
        """`users` are there besides the system's, and `pam` in place of its /etc/pam.d/sshd; nobody else sees them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = address
        self.port = 22022 if namespace else free_port(address)
        self.host_key = keygen(folder / "host_key")
        self.user_key = keygen(folder / "user_key")
        self.log = folder / "sshd.log"
        (folder / "authorized_keys").write_text(self.user_key.with_suffix(".pub").read_text())
        # What a node keeps for the next time must not outlive a test.
        environment = {"XDG_CACHE_HOME": str(folder / "cache"), **(environment or {})}
        settings = " ".join(f"{name}={value}" for name, value in environment.items())
        (folder / "sshd_config").write_text(
            # sshd takes the first of several values.
            f"{options}Port {self.port}\nListenAddress {address}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nLogLevel VERBOSE\n"
            f"SetEnv {settings}\n"
        )
        self._namespace = namespace
        self._inside = ["ip", "netns", "exec", namespace] if namespace else []
        files = self._replaced(users, pam)
        if files:
            mounts = "".join(f"mount --bind {shlex.quote(str(new))} {old}; " for old, new in files.items())
            self._inside += ["unshare", "--mount", "sh", "-ec", f'{mounts}exec "$@"', "sh"]
        if hidden is not None:  # an empty folder for this server alone
            mount = 'mount -t tmpfs none "$0" && exec "$@"'
            self._inside += ["unshare", "--mount", "sh", "-c", mount, str(hidden)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        command = [*self._inside, "/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        if self._namespace:  # From where we are it may not be reachable, and need not.
            inside = ["ip", "netns", "exec", self._namespace, "bash", "-c"]
            test = f"exec 3<>/dev/tcp/{self.address}/{self.port}"
            return subprocess.run([*inside, test], check=False, stderr=subprocess.DEVNULL).returncode == 0
        try:
            with socket.create_connection((self.address, self.port), timeout=1):
                return True
        except OSError:
            return False

    def _replaced(self, users: Sequence[User], pam: str) -> dict[str, Path]:
        """Files of the system and what this sshd sees in their place."""
        texts: dict[str, str] = {"/etc/pam.d/sshd": pam} if pam else {}
        if users:
            lines = [f"{user.name}:x:0:0::{user.home}:{user.shell}\n" for user in users]
            texts["/etc/passwd"] = Path("/etc/passwd").read_text() + "".join(lines)
            lines = [f"{user.name}:{_crypt(user.password)}:19000:0:99999:7:::\n" for user in users]
            texts["/etc/shadow"] = Path("/etc/shadow").read_text() + "".join(lines)
        files = {}
        for name, text in texts.items():
            files[name] = self.folder / Path(name).name
            files[name].write_text(text)
            files[name].chmod(0o600 if name == "/etc/shadow" else 0o644)
        return files

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

    def access(self, *, trusted: bool = True, config: str | None = None) -> Access:
        """Access with a known_hosts file of its own, with or without this server's key.

        `config` is the text of the SSH configuration that is read in place of the user's.
        """
        own = self.folder / "known_hosts"
        own.write_text(self.known_hosts_line() if trusted else "")
        if config is None:
            return Access(KnownHosts([], own))
        file = self.folder / "ssh_config"
        file.write_text(config)
        return Access(KnownHosts([], own), config=file)


def _crypt(password: str) -> str:
    if not password:
        return "*"
    command = ["openssl", "passwd", "-6", "-stdin"]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()


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
        # Of the addresses that anybody may use at home (RFC 4193).
        self.here6 = f"fddc:{block:x}::1"
        self.address6 = f"fddc:{block:x}::2"

    def __enter__(self) -> Namespace:
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._link, "type", "veth", "peer", "name", self._peer, "netns", self.name)
            _ip("addr", "add", f"{self.here}/24", "dev", self._link)
            _ip("addr", "add", f"{self.here6}/64", "dev", self._link, "nodad")
            _ip("link", "set", self._link, "up")
            _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", self._peer)
            _ip("-n", self.name, "addr", "add", f"{self.address6}/64", "dev", self._peer, "nodad")
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

    def cable_to(self, other: Namespace) -> str:
        """Connect this machine with `other` by a cable that we have no end of; returns the address of `other`."""
        Namespace._count += 1
        number = (os.getpid() * 16 + Namespace._count) % 512
        ends = [f"dc{os.getpid() % 100000}c{Namespace._count}{end}" for end in "ab"]
        network = f"192.0.2.{number % 64 * 4}"  # of TEST-NET-1 (RFC 5737)
        _ip(
            "-n",
            self.name,
            "link",
            "add",
            ends[0],
            "type",
            "veth",
            "peer",
            "name",
            ends[1],
            "netns",
            other.name,
        )
        for space, end, offset in ((self, ends[0], 1), (other, ends[1], 2)):
            address = f"{network.rpartition('.')[0]}.{number % 64 * 4 + offset}"
            _ip("-n", space.name, "addr", "add", f"{address}/30", "dev", end)
            _ip("-n", space.name, "link", "set", end, "up")
        return address

    def cut_off(self) -> None:
        """Pull the cable between here and this machine."""
        _ip("link", "set", self._link, "down")

    def partition(self) -> None:
        """Drop everything in both directions without a word, like a cable that is out."""
        rules = (
            "add table inet dc; add chain inet dc in { type filter hook input priority 0; policy drop; };"
            "add chain inet dc out { type filter hook output priority 0; policy drop; }"
        )
        subprocess.run(["ip", "netns", "exec", self.name, "nft", rules], check=True)

    def heal(self) -> None:
        subprocess.run(["ip", "netns", "exec", self.name, "nft", "delete table inet dc"], check=True)


@contextmanager
def chain(folder: Path, length: int, **options: str) -> Iterator[list[Sshd]]:
    """Machines of which each can be reached only from the one before it, and the first from here."""
    with ExitStack() as stack:
        spaces = [stack.enter_context(Namespace()) for _ in range(length)]
        made = []
        for number, space in enumerate(spaces):
            address = spaces[number - 1].cable_to(space) if number else space.address
            if number:
                space.cut_off()
            sshd = Sshd(folder / f"hop{number + 1}", address=address, namespace=space.name, **options)  # type: ignore[arg-type]
            made.append(stack.enter_context(sshd))
        yield made


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
