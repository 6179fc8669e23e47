"""A render node in the trixie: its real sshd, with Debian's Blender on the PATH."""

from __future__ import annotations

import shutil
import socket
import subprocess

from .. import support
from ..sshd import free_port, keygen
from .window import DEBIAN_BLENDER, TRIXIE, Home


class TrixieNode:
    """An sshd on a loopback port that lets one key in as root; a context manager."""

    def __init__(self, home: Home, mark: str = "", *, name: str = "workhorse", is_bare: bool = False) -> None:
        """`mark`: what the environment of everything that the sshd starts carries, as in support.marked().

        A bare one has no Blender.
        """
        self.home = home
        self.address, self.port, self.user = "127.0.0.1", free_port(), "root"
        self._is_bare = is_bare
        self._config = home.inside(name, "sshd_config")
        folder = home.folder / name
        folder.mkdir(mode=0o700)
        self.own_home = folder / "home"
        """Where whoever logs in is at home."""
        self.own_home.mkdir()
        self.host_key = keygen(folder / "host_key")
        self.key_file = f"~/.ssh/{name}"
        """The private key as the windowed Blender sees it."""
        self.user_key = home.folder / ".ssh" / name
        self.user_key.parent.mkdir(mode=0o700, exist_ok=True)
        keygen(self.user_key)
        shutil.copy(self.user_key.with_suffix(".pub"), folder / "authorized_keys")
        environment = [f"HOME={home.inside(name, 'home')}", *([f"{support.MARK}={mark}"] if mark else [])]
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress {self.address}\nHostKey {home.inside(name, 'host_key')}\n"
            f"AuthorizedKeysFile {home.inside(name, 'authorized_keys')}\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
            f"SetEnv {' '.join(environment)}\n"
        )

    def __enter__(self) -> TrixieNode:
        (TRIXIE / "run" / "sshd").mkdir(exist_ok=True)
        command = self.home.command("/usr/sbin/sshd", "-D", "-e", "-f", self._config)
        if self._is_bare:
            program, data = (TRIXIE / path for path in DEBIAN_BLENDER)
            hide = f"mount --bind /dev/null {program}; mount -t tmpfs none {data}"
            command = ["unshare", "--mount", "sh", "-ec", f'{hide}; exec "$@"', "sh", *command]
        log_file = self.own_home.with_name("sshd.log")
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log)
        assert support.wait_until(self._answers, 10), log_file.read_text()
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
