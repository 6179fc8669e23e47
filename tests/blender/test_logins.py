"""Servers that ask, and node lists from elsewhere, by way of the command line and the operators."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .. import support
from ..sshd import Sshd, User
from . import house

SECRET = "correct-horse-battery"


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Sshd]:
    """A machine that takes a password and no key."""
    environment = {"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}
    options = "PermitRootLogin yes\nPasswordAuthentication yes\nPubkeyAuthentication no\n"
    users = [User("artist", password=SECRET)]
    with Sshd(tmp_path / "asking", options=options, users=users, environment=environment) as sshd:
        yield sshd


def command(sshd: Sshd, folder: Path, *arguments: str | Path) -> list[str | Path]:
    nodes, records = folder / "nodes.toml", folder / "known_hosts"
    nodes.write_text(f'[[node]]\nname = "far"\nhost = "far"\nblender = "{support.BLENDER}"\nthreads = 1\n')
    (folder / "ssh_config").write_text(f"Host far\n HostName 127.0.0.1\n Port {sshd.port}\n User artist\n")
    records.write_text(sshd.known_hosts_line())
    common = ("--nodes", nodes, "--known-hosts", records, "--ssh-config", folder / "ssh_config", "--no-local")
    return ["--command", "distributed_cycles", *arguments, *common]


def on_a_terminal(arguments: list[str | Path], answers: list[tuple[str, str]]) -> str:
    """Run Blender on a terminal of its own; each answer is typed when its question has come up."""
    words = [str(support.BLENDER), "--background", *map(str, arguments)]
    process = subprocess.Popen(
        ["script", "--quiet", "--return", "--echo", "never", "--command", shlex.join(words), "/dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen, deadline = "", time.monotonic() + 120
    try:
        for question, text in answers:
            while not seen.rstrip().endswith(question):
                assert time.monotonic() < deadline
                data = os.read(process.stdout.fileno(), 65536)
                assert data, seen
                seen += data.decode(errors="replace")
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()
            seen += " (answered)\n"
        rest, _ = process.communicate(timeout=120)
        seen += rest.decode(errors="replace")
    finally:
        process.kill()
    assert process.returncode == 0, seen
    return seen


def test_a_password_is_asked_on_the_terminal_and_again_if_it_is_wrong(asking: Sshd, tmp_path: Path) -> None:
    question = "Password of artist@127.0.0.1:"
    arguments = ["--online-mode", *command(asking, tmp_path, "nodes", "test")]
    seen = on_a_terminal(arguments, [(question, "wrong"), (question, SECRET)])
    assert "did not accept the answer" in seen
    assert "far: ready" in seen
    assert SECRET not in seen
    assert "wrong" not in seen


def test_a_render_waits_for_the_answer(asking: Sshd, tmp_path: Path) -> None:
    blend = support.make_scene(tmp_path / "small.blend", width=64, height=32)
    arguments = [
        *("--online-mode", blend),
        *command(asking, tmp_path, "render", "--job-dir", tmp_path / "job", "--output", tmp_path / "picture"),
    ]
    seen = on_a_terminal(arguments, [("Password of artist@127.0.0.1:", SECRET)])
    assert "Saved" in seen
    files = [file for file in tmp_path.rglob("*") if file.is_file() and "asking" not in file.parts]
    assert any("journal" in file.name for file in files)
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file


def test_without_a_terminal_it_is_an_error(asking: Sshd, tmp_path: Path) -> None:
    blend = support.make_scene(tmp_path / "small.blend", width=64, height=32)
    for arguments in (
        command(asking, tmp_path, "nodes", "test"),
        [blend, *command(asking, tmp_path, "render")],
    ):
        done = house.blender("--online-mode", *arguments)
        assert done.returncode == 1
        assert "artist@127.0.0.1 asks: Password" in done.stdout + done.stderr
        assert "ssh-copy-id" in done.stdout + done.stderr


def test_answers_are_written_nowhere(tmp_path: Path) -> None:
    house.python(
        """
folder = Path(sys.argv[-1])
job, running, addon = module("engine.job"), module("operators.running"), module("operators.addon")
prompts = (job.Prompt("Password:", False), job.Prompt("Code:", True))
running.questions["node"] = job.AnswersNeeded("asks", "", "node", login="me@h:22", prompts=prompts)
secrets = ("correct-horse-battery", "123456-and-more")
bpy.ops.distributed_cycles.answer_login(node="node", answer_1=secrets[0], shown_2=secrets[1])
assert addon.access().answers == dict(zip([("me@h:22", "Password:"), ("me@h:22", "Code:")], secrets))
assert not running.questions
bpy.ops.wm.save_userpref()
bpy.ops.wm.save_as_mainfile(filepath=str(folder / "a.blend"), compress=False)
files = [*folder.rglob("*"), *Path(bpy.utils.resource_path("USER")).rglob("*")]
assert any(file.name == "userpref.blend" for file in files)
for file in files:
    if file.is_file():
        for secret in secrets:
            assert secret.encode() not in file.read_bytes(), file
last = bpy.context.window_manager.operator_properties_last("distributed_cycles.answer_login")
assert last is None or not [name for name in last.keys() if name.startswith(("answer", "shown"))]
addon.forget_secrets()
assert addon.access().answers == {}
""",
        tmp_path,
    )


def test_the_node_list_to_a_file_and_back(tmp_path: Path) -> None:
    house.python(
        """
path = Path(sys.argv[-1]) / "list.toml"
preferences = bpy.context.preferences.addons[EXTENSION].preferences
operators = bpy.ops.distributed_cycles
entries = preferences.nodes
entries[0].threads = 3
operators.node_add()
entry = entries[-1]
entry.name, entry.host, entry.user, entry.backend, entry.enabled = 'a "b"', "h", "me", "openssh", False
entry.device, entry.device_numbers, entry.workers = "OPTIX", "2, 0", 3
operators.node_add()
operators.nodes_export(filepath=str(path))
text = path.read_text()
assert "port" not in text and "New Node" not in text, text
entries[0].threads = 0
for _ in range(2):
    entries.remove(len(entries) - 1)
for _ in range(2):  # The second time nothing is added.
    operators.nodes_import(filepath=str(path))
    assert [entry.name for entry in entries] == ["This Computer", 'a "b"'], list(entries.keys())
entry = entries[1]
assert (entry.host, entry.port, entry.user, entry.backend, entry.enabled) == ("h", 0, "me", "openssh", False)
assert (entry.device, entry.device_numbers, entry.workers) == ("OPTIX", "2,0", 3)
assert entries[0].device == "AUTO" and entries[0].threads == 3 and entries[0].is_this_computer and not entries[0].host
for bad in (path.parent / "missing.toml", path.parent):
    try:
        operators.nodes_import(filepath=str(bad))
        raise AssertionError
    except RuntimeError as error:
        assert "cannot be read" in str(error), error
""",
        tmp_path,
    )


def test_hosts_of_the_ssh_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        "Host one two *.x\n Port 2222\nHost listed\nHost git.x\n User git\n"
    )
    house.python(
        """
preferences = bpy.context.preferences.addons[EXTENSION].preferences
operators, entries = bpy.ops.distributed_cycles, preferences.nodes
operators.node_add()
entries[-1].host = "listed"
for _ in range(2):
    operators.nodes_from_ssh_config()
    assert [entry.host for entry in entries] == ["", "listed", "one", "two"], [entry.host for entry in entries]
nodes = module("operators.nodes")
assert not entries[2].enabled and nodes.to_node(entries[2]).name == "one" and entries[2].port == 0
"""
    )


def test_the_node_list_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text(f'[[node]]\nname = "far"\nhost = "h"\nuser = "{getpass.getuser()}"\n')
    ran = house.blender("--command", "distributed_cycles", "nodes", "import", path, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1])["nodes"] == 1
    ran = house.blender("--command", "distributed_cycles", "nodes", "export", tmp_path / "out.toml")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out.toml").read_text() == '[[node]]\nname = "This Computer"\n'
    for arguments in (["import"], ["import", tmp_path / "missing"], ["export", tmp_path / "no" / "where"]):
        assert house.blender("--command", "distributed_cycles", "nodes", *arguments).returncode in (1, 2)
