"""The command line with nodes behind real sshd, each in a network namespace of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine import exr

from .. import support
from ..sshd import Namespace, Sshd
from . import house


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Sshd]]:
    environment = {"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            space = stack.enter_context(Namespace())
            sshd = Sshd(tmp_path / name, address=space.address, namespace=space.name, environment=environment)
            made.append(stack.enter_context(sshd))
        yield made


def nodes_file(folder: Path, machines: list[Sshd]) -> Path:
    tables = [
        f'[[node]]\nname = "{sshd.folder.name}"\nhost = "{sshd.address}"\nport = {sshd.port}\n'
        f'user = "{sshd.node().user}"\nkey_file = "{sshd.user_key}"\nblender = "{support.BLENDER}"\nthreads = 1\n'
        for sshd in machines
    ]
    path = folder / "nodes.toml"
    path.write_text("\n".join(tables))
    return path


def known_hosts(folder: Path, machines: list[Sshd]) -> Path:
    path = folder / "known_hosts"
    path.write_text("".join(sshd.known_hosts_line() for sshd in machines))
    return path


def test_two_machines_and_this_computer_give_f12(tmp_path: Path, machines: list[Sshd]) -> None:
    blend = support.make_scene(tmp_path / "slow.blend", more="scene.cycles.samples = 400")
    f12 = support.render_f12(blend, tmp_path / "f12.exr")
    done = house.blender(
        *("--online-mode", blend, "--command", "distributed_cycles", "render"),
        *("--nodes", nodes_file(tmp_path, machines), "--known-hosts", known_hosts(tmp_path, machines)),
        *("--threads", "1", "--tile-size", "16", "--job-dir", tmp_path / "job", "--json"),
        *("--output", tmp_path / "picture_####"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert {row["node"] for row in report["nodes"]} == {"This Computer", "one", "two"}
    assert all(row["tiles"] > 0 for row in report["nodes"]), report
    assert report["errors"] == []
    assert Path(report["output"]) == tmp_path / "picture_0001.png"
    support.assert_equal(exr.read(tmp_path / "job" / "frame.exr")[0], f12)


def test_an_unknown_host_is_refused_with_the_line_to_run(tmp_path: Path, machines: list[Sshd]) -> None:
    arguments = ("--nodes", nodes_file(tmp_path, machines[:1]), "--no-local")
    command = ("--online-mode", "--command", "distributed_cycles", "nodes", "test", *arguments)
    records = tmp_path / "known_hosts"
    refused = house.blender(*command, "--known-hosts", records)
    assert refused.returncode == 1
    printed = refused.stdout + refused.stderr
    assert "is not known yet" in printed
    assert f"ssh -p {machines[0].port} -o UserKnownHostsFile={records}" in printed
    assert not records.exists()

    accepted = house.blender(*command, "--known-hosts", records, "--accept-new-host-keys")
    assert accepted.returncode == 0, accepted.stderr
    assert machines[0].public_host_key in records.read_text()
    assert house.blender(*command, "--known-hosts", records).returncode == 0

    machines[0].stop()
    other = machines[1].host_key
    machines[0].host_key.write_bytes(other.read_bytes())
    machines[0].start()
    changed = house.blender(*command, "--known-hosts", records, "--accept-new-host-keys")
    assert changed.returncode == 1
    assert "has changed" in changed.stdout + changed.stderr
