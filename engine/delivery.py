"""Sending a Blender to a node that has none: our own installation, or an archive the user names.

It goes as one tar stream through one command to a folder of the node's cache that is named by the
content, and is moved there whole. The search for Blender looks there too, so it is sent once.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import platform
import secrets
import tarfile
import threading
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from .job import BlenderNotFound, ConnectError
from .locate import CACHE, CACHE_WINDOWS, HOME_THERE
from .shells import Shell, command_line

COMPLETE = ".complete"
"""The last file of the stream: a stream that was cut between two files ends without it."""
COMPRESSION = 1
"""Of zlib: a third of the bytes, at the speed of a gigabit network."""
PIECE_BYTES = 1 << 20
ASK_S = 20.0
ENDING_S = 5.0
_SYSTEMS = {"darwin": "macos"}
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}
_MAC_PROGRAM = "Blender.app/Contents/MacOS/Blender"
PROGRAMS = ("blender", "blender.exe", _MAC_PROGRAM)
_SAY = f'for p in blender {_MAC_PROGRAM}; do [ -x "$f/$p" ] && echo "DCDONE $f/$p"; done'

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""Workers of one node must not each send it a Blender."""


def platform_of(system: str) -> str:
    """`linux-x64` of `Linux x86_64`, or what a node answers for it; empty where it is not known."""
    name, _, machine = system.lower().partition(" ")
    if name.startswith(("cygwin", "msys", "mingw")):
        name = "windows"
    return f"{_SYSTEMS.get(name, name)}-{_MACHINES.get(machine, machine)}" if machine else ""


def platform_here() -> str:
    return platform_of(f"{platform.system()} {platform.machine()}")


@dataclass(frozen=True, slots=True)
class Installation:
    """A Blender that can be sent: a folder with all it needs, or an archive of one."""

    path: Path

    @property
    def size(self) -> int:
        """Bytes before they are compressed for the way; of an archive as it is."""
        if self.path.is_file():
            return self.path.stat().st_size
        return sum(source.stat().st_size for _, source in _files(self.path) if not source.is_symlink())

    def key(self) -> str:
        """Name of its folder on a node: what is in it decides."""
        digest = hashlib.sha256()
        if self.path.is_file():
            _hash(self.path, digest)
        else:
            for name, source in _files(self.path):
                if source.is_symlink():
                    digest.update(f"{name}\0{source.readlink()}\0".encode())
                    continue
                digest.update(f"{name}\0{source.stat().st_size}\0{os.access(source, os.X_OK)}\0".encode())
                _hash(source, digest)
        return digest.hexdigest()[:32]

    def write(self, archive: tarfile.TarFile, say: Callable[[int], None]) -> None:
        """Put everything into `archive`; `say` hears the bytes done. Raise BlenderNotFound."""
        if self.path.is_file():
            names = list(_repack(self.path, archive, say))
        else:
            names = []
            done = 0
            for name, source in _files(self.path):
                archive.add(source, name, recursive=False, filter=_nobody)
                names.append(name)
                done += 0 if source.is_symlink() else source.stat().st_size
                say(done)
        if not any(name in names for name in PROGRAMS):
            raise BlenderNotFound(f"There is no Blender in {self.path}.", "Name an archive from blender.org.")


def own_installation(blender: str) -> Installation | None:
    """The installation of the Blender at `blender`; None where it is spread over the system.

    Archives from blender.org unpack to a folder that has all they need, with the data of the
    version beside the program. A Linux distribution's package is of no use elsewhere.
    """
    program = Path(blender).resolve()
    if program.as_posix().endswith(_MAC_PROGRAM):
        return Installation(program.parents[3])
    has_data = any(folder.is_dir() and _is_version(folder.name) for folder in program.parent.glob("*.*"))
    return Installation(program.parent) if has_data and program.name in PROGRAMS else None


def _is_version(name: str) -> bool:
    major, _, minor = name.partition(".")
    return major.isdigit() and minor.isdigit()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths below `folder`, always in the same order, without what is its user's own."""
    root = folder.resolve()
    is_bundle = (folder / "Blender.app").is_dir()
    # Beside a bundle is the rest of /Applications.
    for source in sorted((folder / "Blender.app" if is_bundle else folder).rglob("*")):
        name = PurePosixPath(source.relative_to(folder).as_posix())
        if "__pycache__" in name.parts or name.parts[0] == "portable" or name.parts[1:2] == ("config",):
            continue
        if source.is_symlink():
            # A link to a place outside leads nowhere on another machine.
            if not source.resolve().is_relative_to(root) or source.readlink().is_absolute():
                source = source.resolve()  # noqa: PLW2901 - the same file by another way
            elif source.exists():
                yield str(name), source
                continue
        if source.is_file():
            yield str(name), source


def _hash(path: Path, digest: Any) -> None:
    with path.open("rb") as file:
        while data := file.read(PIECE_BYTES):
            digest.update(data)


def _nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names of users here."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _repack(path: Path, archive: tarfile.TarFile, say: Callable[[int], None]) -> Iterator[str]:
    """Copy the members of an archive without the folder that holds them all; yields their names."""
    with path.open("rb") as raw:
        try:
            if zipfile.is_zipfile(raw):
                with zipfile.ZipFile(raw) as packed:
                    for entry in packed.infolist():
                        name = _below(entry.filename)
                        if entry.is_dir() or not name:
                            continue
                        info = tarfile.TarInfo(name)
                        info.size, info.mode = entry.file_size, 0o755
                        with packed.open(entry) as file:
                            archive.addfile(info, file)
                        say(raw.tell())
                        yield name
                return
            raw.seek(0)
            with tarfile.open(fileobj=raw, mode="r:*") as packed_tar:
                for info in packed_tar:
                    name = _below(info.name)
                    if not name or not (info.isfile() or info.issym()):
                        continue
                    info.name = name
                    archive.addfile(_nobody(info), packed_tar.extractfile(info) if info.isfile() else None)
                    say(raw.tell())
                    yield name
                # The checksum of the whole comes last; tarfile stops before it.
                while packed_tar.fileobj is not None and packed_tar.fileobj.read(PIECE_BYTES):
                    pass
        except (
            *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError),
            *(EOFError, zlib.error, OSError),
        ) as error:
            raise BlenderNotFound(
                f"The archive {path} cannot be read ({error}).", "Name an archive from blender.org."
            ) from None


def _below(name: str) -> str:
    """`blender` of `blender-4.5.3-linux-x64/blender`; what would lie elsewhere is left out."""
    parts = PurePosixPath(name).parts[1:]
    return "" if ".." in parts or name.startswith("/") else "/".join(parts)


class _Stream:
    """A file that compresses what is written into a channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._packer = zlib.compressobj(COMPRESSION, wbits=31)

    def write(self, data: bytes) -> int:
        packed = self._packer.compress(data)
        if packed:
            self._channel.write(packed)
        return len(data)

    def finish(self) -> None:
        self._channel.write(self._packer.flush())


def receive_command(key: str, shell: Shell) -> str:
    """The command on the node that unpacks its stdin, and says so when all of it is in its place."""
    part = f".part-{secrets.token_hex(8)}"
    if shell.is_windows:
        folder = rf"%USERPROFILE%\{CACHE_WINDOWS}"
        line = (
            rf'mkdir "{folder}\{part}"&tar -xzf - -C "{folder}\{part}"&&if exist "{folder}\{part}\{COMPLETE}"'
            rf' move "{folder}\{part}" "{folder}\{key}">nul&&echo DCDONE {folder}\{key}\blender.exe'
        )
        return line if shell is Shell.CMD else command_line(["cmd", "/d", "/c", line], shell)
    script = (
        f'{HOME_THERE} d="$HOME/{CACHE}"; t="$d/{part}"; f="$d/{key}"; mkdir -p "$t" || exit 1;'
        # What an earlier attempt could not remove.
        ' find "$d" -maxdepth 1 -name ".part-*" -mtime +0 -exec rm -rf {} +;'
        f' tar -xzf - -C "$t" && [ -f "$t/{COMPLETE}" ] && {{ [ -e "$f" ] || mv "$t" "$f"; }}; s=$?;'
        f' rm -rf "$t"; [ $s = 0 ] && {_SAY}; exit $s'
    )
    return command_line(["sh", "-c", script], shell)


def present_command(key: str, shell: Shell) -> str:
    """The command that tells where that Blender is, if it is there."""
    if shell.is_windows:
        folder = rf"%USERPROFILE%\{CACHE_WINDOWS}\{key}"
        line = rf'if exist "{folder}\{COMPLETE}" echo DCDONE {folder}\blender.exe'
        return line if shell is Shell.CMD else command_line(["cmd", "/d", "/c", line], shell)
    script = f'{HOME_THERE} f="$HOME/{CACHE}/{key}"; [ -f "$f/{COMPLETE}" ] && {_SAY}'
    return command_line(["sh", "-c", script], shell)


@contextmanager
def one_at_a_time(address: str) -> Iterator[None]:
    """Held while a Blender goes to the machine at `address`."""
    with _locks[address]:
        yield


def deliver(connection: Any, shell: Shell, installation: Installation, say: Callable[[str], None]) -> str:
    """Send `installation` through `connection`; returns the program's path there.

    Raises ConnectError, or BlenderNotFound where it is none. What was sent before is not sent again.
    """
    say("looking at the Blender to send")
    key = installation.key()
    _, answer, _ = connection.run(present_command(key, shell), ASK_S)
    program = _program(answer)
    if program:
        return program
    total = installation.size
    channel = connection.open(receive_command(key, shell))
    said = -1

    def tell(done: int) -> None:
        nonlocal said
        percent = min(100, 100 * done // max(1, total))
        if percent != said:
            said = percent
            say(f"sending Blender: {percent}% of {megabytes(total)}")

    with ExitStack() as ended:
        ended.callback(channel.close)
        stream = _Stream(channel)
        try:
            with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload] # needs write() alone
                installation.write(archive, tell)
                archive.addfile(tarfile.TarInfo(COMPLETE), io.BytesIO())
            stream.finish()
            channel.end_input()
            program = _program(_answer(channel))
        except ConnectError:
            program = ""  # Whatever ended there says why on stderr.
        if not program:
            words = channel.stderr_tail().strip().splitlines()
            raise ConnectError(
                f"Blender could not be unpacked on the node{f': {words[0]}' if words else ''}.",
                "Is there room in its home folder, and a `tar`?",
            )
        if channel.exit_status(ENDING_S) is not None:
            channel.let_go()
            ended.pop_all()
        return program


def _answer(channel: BinaryIO) -> str:
    data = b""
    while b"DCDONE" not in data or not data.endswith(b"\n"):
        piece = channel.read(4096)
        if not piece:
            break
        data += piece
    return data.decode(errors="replace")


def _program(answer: str) -> str:
    lines = [line.strip() for line in answer.splitlines()]
    return next((line.removeprefix("DCDONE ") for line in lines if line.startswith("DCDONE ")), "")


def megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
