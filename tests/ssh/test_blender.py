"""Which Blender a node gets to render with, and what is said about it, word for word."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import delivery
from engine.job import BlenderNotFound, BlenderUnsuitable, ConnectError, Node, NodeInfo
from engine.locate import CACHE, Found, suitable, warning_about
from engine.shells import Shell
from engine.starter import check_node

from .. import support
from ..sshd import Sshd
from .test_shells import fake_blender


@pytest.fixture(scope="module")
def version() -> tuple[int, int, int]:
    return support.blender_version()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "node home"
    folder.mkdir()
    return folder


@pytest.fixture
def node(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    """A machine with nothing in its home, and no Blender on its PATH."""
    environment = {"HOME": f'"{home}"', "PATH": "/usr/bin:/bin"}
    if "BPY_PYTHON" in os.environ:
        environment["BPY_PYTHON"] = os.environ["BPY_PYTHON"]
    with Sshd(tmp_path / "sshd", environment=environment) as sshd:
        yield sshd


def real_blender(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec "{support.BLENDER}" "$@"\n')
    path.chmod(0o755)
    return path


def found_on(node: Sshd, version: tuple[int, int, int], **changes: object) -> NodeInfo:
    blender = [str(changes.pop("local", support.BLENDER))]
    return check_node(node.node(**changes), access=node.access(), local_blender=blender, version=version)


def logins(node: Sshd) -> int:
    return node.log.read_text().count("Accepted publickey")


def test_a_node_without_blender(node: Sshd) -> None:
    with pytest.raises(BlenderNotFound) as missing:
        found_on(node, (4, 5, 3))
    assert missing.value.message == (
        "No Blender was found on the node, neither on its PATH nor in the usual places."
    )
    assert missing.value.hint == "Install Blender 4.5 there, or give its path in the node's settings."
    assert missing.value.system == f"{os.uname().sysname} {os.uname().machine}"


def test_a_node_with_three(node: Sshd, home: Path, version: tuple[int, int, int]) -> None:
    right = real_blender(home / "blender-a" / "blender")
    older = fake_blender(home / "blender-b" / "blender", "3.6.5")
    newer = fake_blender(home / "Downloads" / "blender-c" / "blender", "9.0.0 Alpha")
    info = found_on(node, version)
    assert info.blender_version == version
    assert info.others == (f"3.6.5 ({older})", f"9.0.0 ({newer})")
    assert info.warning == ""
    assert right.exists()


def test_a_node_with_a_wrong_one(node: Sshd, home: Path) -> None:
    older = fake_blender(home / "blender-4.2" / "blender", "4.2.1 LTS")
    newer = fake_blender(home / "blender-5.0" / "blender", "5.0.0")
    with pytest.raises(BlenderUnsuitable) as wrong:
        found_on(node, (4, 5, 3))
    assert wrong.value.message == (
        f"There is no Blender 4.5 on the node. Found there: 4.2.1 ({older}), 5.0.0 ({newer})."
    )
    assert wrong.value.hint == "Install Blender 4.5.3 there, or give its path in the node's settings."


def test_a_node_with_almost_the_right_one(node: Sshd, home: Path, version: tuple[int, int, int]) -> None:
    real_blender(home / "blender-a" / "blender")
    wanted = (version[0], version[1], version[2] + 1)
    here, there = ".".join(map(str, wanted)), ".".join(map(str, version))
    assert found_on(node, wanted).warning == (
        f"Blender {there} renders there, {here} here: pixels can differ where something was mended in between."
    )


def test_the_worker_has_the_last_word(node: Sshd, home: Path, version: tuple[int, int, int]) -> None:
    """What only claims to be the right one is passed over, and named where it was the only one."""
    text = ".".join(map(str, version))
    fake_blender(home / "blender-1" / "blender", text)
    with pytest.raises(BlenderUnsuitable, match="ended with status 0 before it answered"):
        found_on(node, version)
    real_blender(home / "blender-2" / "blender")
    before = logins(node)
    assert found_on(node, version).blender_version == version
    assert logins(node) == before + 1, "a code that is good for one login would be asked for again"


def test_the_best_one_first() -> None:
    found = [
        Found("a", (4, 5, 1)),
        Found("b", (4, 2, 0)),
        Found("c", (4, 5, 9)),
        Found("d", (4, 5, 3)),
        Found("e"),
    ]
    assert [one.path for one in suitable(found, (4, 5, 3))] == ["d", "c", "a"]
    assert [one.path for one in suitable(found, None)] == ["c", "d", "a", "b"]
    with pytest.raises(BlenderUnsuitable, match=r"one that does not start \(e\)"):
        suitable(found, (5, 0, 0))
    assert warning_about((4, 5, 3), (4, 5, 3)) == warning_about((4, 5, 3), None) == ""


def test_a_path_with_everything_in_it(node: Sshd, home: Path, version: tuple[int, int, int]) -> None:
    path = real_blender(home / 'it\'s (my) $5 & 100% "ünï"' / "blender")
    assert found_on(node, version, blender=str(path)).blender_version == version


def test_a_launcher_is_put_before_it(node: Sshd, home: Path, version: tuple[int, int, int]) -> None:
    real_blender(home / "blender-a" / "blender")
    note = home / "note"
    launcher = f'env DC_NOTE=\'{note}\' sh -c \'echo "$0" "$1" >> "$DC_NOTE"; exec "$0" "$@"\''
    assert found_on(node, version, launcher=launcher).blender_version == version
    assert note.read_text().splitlines()[-1].endswith("/blender --background")


def small_installation(folder: Path) -> Path:
    (folder / "4.5" / "datafiles").mkdir(parents=True)
    (folder / "4.5" / "datafiles" / "noise").write_bytes(os.urandom(3 << 20))
    (folder / "lib").mkdir()
    (folder / "lib" / "libx.so.1").write_text("x")
    (folder / "lib" / "libx.so").symlink_to("libx.so.1")
    return fake_blender(folder / "blender", "4.5.3")


def test_links_stay_links_and_nothing_leads_outside(node: Sshd, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    small_installation(folder)
    (tmp_path / "outside").write_text("content")
    (folder / "lib" / "out").symlink_to(tmp_path / "outside")
    place = deliver(node, delivery.Installation(folder))
    assert place.is_relative_to(home / CACHE)
    lib = place.parent / "lib"
    assert lib.joinpath("libx.so").readlink() == Path("libx.so.1")
    assert not lib.joinpath("out").is_symlink()
    assert lib.joinpath("out").read_text() == "content"
    assert deliver(node, delivery.Installation(folder)) == place, "what is there is not sent again"


@pytest.mark.parametrize("kind", ["tar.xz", "tar.gz", "zip"])
def test_an_archive(node: Sshd, tmp_path: Path, kind: str) -> None:
    small_installation(tmp_path / "archive" / "blender-4.5.3-linux-x64")
    form = {"tar.xz": "xztar", "tar.gz": "gztar", "zip": "zip"}[kind]
    made = Path(shutil.make_archive(str(tmp_path / "made"), form, tmp_path / "archive"))
    place = deliver(node, delivery.Installation(made))
    assert place.name == "blender"
    done = subprocess.run([place, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Blender 4.5.3")
    assert (place.parent / "4.5" / "datafiles" / "noise").stat().st_size == 3 << 20


def test_what_is_no_archive_of_a_blender(node: Sshd, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(b"nothing of the kind")
    with pytest.raises(BlenderNotFound, match=r"wrong\.tar\.gz cannot be read"):
        deliver(node, delivery.Installation(wrong))
    for form, ending in (("xztar", "tar.xz"), ("gztar", "tar.gz")):
        damaged = tmp_path / "damaged" / ending
        small_installation(damaged / "blender-4.5.3-linux-x64")
        made = Path(shutil.make_archive(str(damaged), form, damaged))
        data = bytearray(made.read_bytes())
        data[len(data) // 2] ^= 1
        made.write_bytes(data)
        with pytest.raises(BlenderNotFound, match=f"{ending} cannot be read"):
            deliver(node, delivery.Installation(made))
    with tarfile.open(wrong, "w:gz") as archive:
        info = tarfile.TarInfo("top/../../evil")
        archive.addfile(info, io.BytesIO())
    with pytest.raises(BlenderNotFound, match="There is no Blender in"):
        deliver(node, delivery.Installation(wrong))


def test_a_connection_that_breaks_leaves_nothing_that_counts(node: Sshd, home: Path, tmp_path: Path) -> None:
    small_installation(tmp_path / "own")

    def cut(words: str) -> None:
        if "sending" in words:
            for pid in node.children():
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(ConnectError):
        deliver(node, delivery.Installation(tmp_path / "own"), cut)
    assert support.wait_until(lambda: not list((home / CACHE).glob(".part-*")), 10)
    assert list((home / CACHE).iterdir()) == []


def test_no_room_on_the_node(node: Sshd, home: Path, tmp_path: Path) -> None:
    small_installation(tmp_path / "own")
    (home / CACHE).mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(home / CACHE)], check=True)
    try:
        with pytest.raises(
            ConnectError, match=r"could not be unpacked on the node: .*(No space|Wrote only).*room"
        ):
            deliver(node, delivery.Installation(tmp_path / "own"))
        assert list((home / CACHE).iterdir()) == []
    finally:
        subprocess.run(["umount", str(home / CACHE)], check=True)


def deliver(node: Sshd, installation: delivery.Installation, say: object = lambda _words: None) -> Path:
    from engine.ssh import SshConnection

    connection = SshConnection(node.node(), node.access())
    connection.connect()
    return Path(delivery.deliver(connection, Shell.POSIX, installation, say))  # type: ignore[arg-type] # a function


def test_what_cannot_be_sent_is_said(node: Sshd, version: tuple[int, int, int], tmp_path: Path) -> None:
    with pytest.raises(BlenderNotFound, match="cannot be sent: it is part of the system"):
        found_on(node, version, send_blender=True)
    with pytest.raises(BlenderNotFound, match=r"There is no .*/nowhere\.tar\.xz to send"):
        found_on(node, version, send_blender=True, blender_archive=str(tmp_path / "nowhere.tar.xz"))


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("Linux x86_64", "linux-x64"),
        ("Linux aarch64", "linux-arm64"),
        ("Darwin arm64", "macos-arm64"),
        ("Windows AMD64", "windows-x64"),
        ("CYGWIN_NT-10.0-19045 x86_64", "windows-x64"),
        ("", ""),
    ],
)
def test_platforms(system: str, name: str) -> None:
    assert delivery.platform_of(system) == name


def test_commands_for_windows_keep_their_quotes_apart() -> None:
    """What cmd.exe makes of them, test_wine has."""
    for line in (
        delivery.receive_command("k" * 32, Shell.CMD),
        delivery.present_command("k" * 32, Shell.CMD),
    ):
        assert line.count('"') % 2 == 0
        assert r"%USERPROFILE%\.cache\distributed-cycles\blender" in line
    wrapped = delivery.present_command("k" * 32, Shell.POWERSHELL)
    assert wrapped.startswith("cmd /d /c 'if exist ")


def test_a_node_is_one_machine() -> None:
    assert Node("a", "h").address == Node("b", "h").address
