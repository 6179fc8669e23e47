"""A render node in the trixie: its real sshd, with Debian's Blender on the PATH."""

from __future__ import annotations

import shutil
import socket
import subprocess

from .. import support
from ..sshd import free_port, keygen
from .window import TRIXIE, Home


class TrixieNode:
    """An sshd on a loopback port that lets one key in as root; a context manager."""

    def __init__(self, home: Home, mark: str = "") -> None:
        """`mark`: what the environment of everything that the sshd starts carries, as in support.marked()."""
        self.home = home
        self.address, self.port, self.user = "127.0.0.1", free_port(), "root"
        folder = home.folder / "sshd"
        folder.mkdir(mode=0o700)
        self.host_key = keygen(folder / "host_key")
        self.key_file = "~/.ssh/workhorse"
        """The private key as the windowed Blender sees it."""
        self.user_key = home.folder / ".ssh" / "workhorse"
        self.user_key.parent.mkdir(mode=0o700)
        keygen(self.user_key)
        shutil.copy(self.user_key.with_suffix(".pub"), folder / "authorized_keys")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress {self.address}\nHostKey {home.inside('sshd', 'host_key')}\n"
            f"AuthorizedKeysFile {home.inside('sshd', 'authorized_keys')}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
            + (f"SetEnv {support.MARK}={mark}\n" if mark else "")
        )

    def __enter__(self) -> TrixieNode:
        (TRIXIE / "run" / "sshd").mkdir(exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", self.home.inside("sshd", "sshd_config")]
        with (self.home.folder / "sshd.log").open("wb") as log:
            self._process = subprocess.Popen(self.home.command(*command), stderr=log)
        assert support.wait_until(self._answers, 10), (self.home.folder / "sshd.log").read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), timeout=1).close()
        except OSError:
            return False
        return True
