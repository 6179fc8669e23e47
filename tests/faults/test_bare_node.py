"""A machine without Blender is sent one, and renders with it what F12 renders here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import delivery, exr
from engine.job import BlenderNotFound, BlenderUnsuitable
from engine.locate import CACHE
from engine.messages import NodeChanged
from engine.session import RenderSession
from engine.starter import check_node
from engine.store import JobStore

from .. import installation, support
from ..blender import house
from ..ssh.test_shells import fake_blender
from ..sshd import Sshd
from .conftest import Scene


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "node home"
    folder.mkdir()
    yield folder
    # pytest keeps what it is left for three runs; this is a gigabyte.
    shutil.rmtree(folder)


@pytest.fixture
def bare(tmp_path: Path, home: Path, mark: str) -> Iterator[Sshd]:
    """Neither a Blender on its PATH nor the bpy wheels of this computer are there."""
    environment = {"HOME": f'"{home}"', "PATH": "/usr/bin:/bin", support.MARK: mark}
    with Sshd(tmp_path / "bare", environment=environment, hidden=installation.wheels()) as sshd:
        yield sshd


def test_our_own_blender_is_sent_and_renders(scene: Scene, bare: Sshd, home: Path, tmp_path: Path) -> None:
    program = str(installation.make(tmp_path / "blender-linux-x64"))
    access = bare.access()
    with pytest.raises(BlenderNotFound, match="No Blender was found on the node"):
        check_node(bare.node(), access=access, local_blender=[program], version=scene.version)

    job = support.job_for(scene.blend, scene.version)
    store = JobStore.create(tmp_path / "job", job)
    shutil.copy(scene.blend, store.snapshot)
    session = RenderSession(
        job, [bare.node("bare", send_blender=True)], store, access=access, local_blender=[program]
    )
    drive = support.Drive(session)
    start = time.monotonic()
    try:
        session.start()
        drive.tiles(1)
        seconds = time.monotonic() - start
        done = drive.to_the_end()
    finally:
        session.cancel()
        assert session.join(20)
    assert (done.outcome, done.error) == ("done", None)
    assert done.report.rows[0].tiles == done.report.tiles
    support.assert_equal(exr.read(store.frame_path)[0], scene.f12)
    store.close()
    # One for the first Test, one for all that the render did.
    assert bare.log.read_text().count("Accepted publickey") == 2
    size = delivery.own_installation(program).size  # type: ignore[union-attr] # it is one
    print(f"{size / 1e6:.0f} MB of Blender sent, and the first tile back, in {seconds:.1f} s")
    details = [message.status.detail for message in drive.messages if isinstance(message, NodeChanged)]
    assert {f"sending Blender: {part}% of {delivery.megabytes(size)}" for part in (0, 100)} < set(details)

    (kept,) = (home / CACHE).iterdir()
    assert re.fullmatch("[0-9a-f]{32}", kept.name)
    assert not (kept / "4.5" / "config").exists(), "what is its user's own stays here"
    # From now on it is there like any other, and what was sent is what is chosen.
    before = kept.stat().st_ctime_ns
    info = check_node(bare.node(), access=access, local_blender=[program], version=scene.version)
    assert (info.blender_version, info.warning) == (scene.version, "")
    assert info.blender_path == str(kept / "blender")
    assert [kept] == list((home / CACHE).iterdir())
    assert kept.stat().st_ctime_ns == before

    # A server without a desktop often lacks one that Blender is linked to.
    (kept / "library" / "bpy" / "lib" / "libOpenImageDenoise.so.2").unlink()
    with pytest.raises(
        BlenderUnsuitable, match=r"does not start: the library libOpenImageDenoise\.so\.2 is missing there"
    ):
        check_node(
            bare.node(blender=str(kept / "blender")),
            access=access,
            local_blender=[program],
            version=scene.version,
        )


def test_an_archive_is_sent_and_renders(scene: Scene, bare: Sshd, home: Path, tmp_path: Path) -> None:
    """By the command line, as a person would: `--blender-archive`."""
    folder = tmp_path / "archive" / "blender-linux-x64"
    installation.make(folder)
    archive = tmp_path / "blender.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))
    shutil.rmtree(folder)
    nodes, records = tmp_path / "nodes.toml", tmp_path / "known_hosts"
    records.write_text(bare.known_hosts_line())
    nodes.write_text(
        f'[[node]]\nname = "bare"\nhost = "{bare.address}"\nport = {bare.port}\nuser = "{bare.node().user}"\n'
        f'key_file = "{bare.user_key}"\n'
    )
    arguments = ("--nodes", nodes, "--known-hosts", records, "--no-local", "--tile-size", "48")
    start = time.monotonic()
    done = house.blender(
        *("--online-mode", scene.blend, "--command", "distributed_cycles", "render", *arguments),
        *(
            "--blender-archive",
            archive,
            "--job-dir",
            tmp_path / "job",
            "--output",
            tmp_path / "out",
            "--json",
        ),
    )
    assert done.returncode == 0, done.stderr
    print(
        f"an archive of {archive.stat().st_size / 1e6:.0f} MB, and the picture, in {time.monotonic() - start:.1f} s"
    )
    assert f"bare: sending Blender, {delivery.megabytes(archive.stat().st_size)}" in done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert [(row["node"], row["tiles"]) for row in report["nodes"]] == [("bare", report["tiles"])]
    support.assert_equal(exr.read(tmp_path / "job" / "frame.exr")[0], scene.f12)
    archive.unlink()
    (kept,) = (home / CACHE).iterdir()
    assert os.access(kept / "blender", os.X_OK)


def test_what_test_says_word_for_word(
    bare: Sshd, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three machines behind one server, told apart by the Blenders that a launcher's HOME has."""
    version = support.blender_version()
    program = installation.make(tmp_path / "blender-linux-x64")
    three, wrong = home / "three", home / "wrong"
    (three / "blender-a").mkdir(parents=True)
    (three / "blender-a" / "blender").symlink_to(program)
    others = {
        three / "blender-b" / "blender": "3.6.5",
        three / "Downloads" / "blender-c" / "blender": "9.0.0 Alpha",
        wrong / "blender-4.1.1" / "blender": "4.1.1 LTS",
        wrong / "apps" / "Blender 9" / "blender": "9.1.0",
    }
    for path, text in others.items():
        fake_blender(path, text)
    nodes, records = tmp_path / "nodes.toml", tmp_path / "known_hosts"
    records.write_text(bare.known_hosts_line())
    nodes.write_text(
        "".join(
            f'[[node]]\nname = "{name}"\nhost = "{bare.address}"\nport = {bare.port}\nuser = "{bare.node().user}"\n'
            f'key_file = "{bare.user_key}"\nlauncher = "env \'HOME={home / name}\'"\nbackend = "openssh"\n'
            for name in ("none", "three", "wrong")
        )
    )
    monkeypatch.setenv("DC_TEST_REPOSITORY", str(support.REPOSITORY))
    command = [program, "--background", "--online-mode", "--command", "distributed_cycles", "nodes", "test"]
    done = subprocess.run(
        [*command, "--nodes", nodes, "--known-hosts", records, "--no-local"],
        capture_output=True,
        text=True,
        check=False,
    )
    b, c, old, new = others
    full, short = ".".join(map(str, version)), ".".join(map(str, version[:2]))
    said = done.stdout[done.stdout.index("none: ") :]
    assert done.returncode == 1
    assert (
        said
        == f"""\
none: FAILED
    No Blender was found on the node, neither on its PATH nor in the usual places.
    Install Blender {short} there, or give its path in the node's settings.
    Or let this Blender be sent there: --send-blender
three: ready
    Linux {os.uname().machine}, {len(os.sched_getaffinity(0))} cores
    Blender {full}: {program}
    Devices: CPU
    Also there: 3.6.5 ({b}), 9.0.0 ({c})
wrong: FAILED
    There is no Blender {short} on the node. Found there: 4.1.1 ({old}), 9.1.0 ({new}).
    Install Blender {full} there, or give its path in the node's settings.
    Or let this Blender be sent there: --send-blender
"""
    )
