"""The command line: exit status, output, nodes, interruption and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store import JobStore

from .. import support
from ..support import exr
from .house import EXR_OUTPUT, blender, render, start

SLOW = EXR_OUTPUT + "bpy.context.scene.cycles.samples = 512\n"


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    with support.marked() as mark:
        yield
        assert support.wait_until(lambda: not support.marked_processes(mark), 15)


def test_picture_equals_f12_and_the_table_is_printed(blend: Path, f12: exr.Planes, tmp_path: Path) -> None:
    done = render(blend, "--output", tmp_path / "out_##", "--tile-size", 48, "--frame", 1, first=EXR_OUTPUT)
    assert done.returncode == 0, done.stderr
    support.assert_equal(exr.read(tmp_path / "out_01.exr")[0], f12)
    assert "tiles" in done.stdout
    assert "This Computer" in done.stdout
    assert f"Saved {tmp_path / 'out_01.exr'}" in done.stdout
    assert "12 of 12 tiles, 100%" in done.stderr
    assert "\r" not in done.stderr


def test_heat_map(blend: Path, tmp_path: Path) -> None:
    done = render(blend, "--output", tmp_path / "picture", "--heatmap", tmp_path / "heat.png")
    assert done.returncode == 0, done.stderr
    for name, height in (("heat.png", 108 + 26), ("heat_grey.png", 108)):
        size = subprocess.run(
            ["identify", "-format", "%w %h", str(tmp_path / name)], capture_output=True, text=True, check=True
        ).stdout
        assert size == f"192 {height}"


def test_json_stands_alone_at_the_end(blend: Path, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.toml"
    nodes.write_text('[[node]]\nname = "one"\nthreads = 1\n[[node]]\nname = "two"\nthreads = 1\n')
    arguments = ("--nodes", nodes, "--no-local", "--job-dir", tmp_path / "job", "--tile-size", 24, "--json")
    done = render(blend, "--output", "//relative", *arguments)
    assert done.returncode == 0, done.stderr
    # The wheel prints its banner before any Python runs; a real Blender prints nothing else.
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["output"] == str(blend.with_name("relative.png"))
    assert Path(answer["output"]).stat().st_size > 1000
    assert answer["outcome"] == "done"
    assert answer["errors"] == []
    assert [row["node"] for row in answer["nodes"]] == ["one", "two"]
    assert sum(row["tiles"] for row in answer["nodes"]) == answer["tiles"] == 40
    assert answer["wall_seconds"] > 0
    assert "Saved" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["render", "--frame", "one"],
        ["render", "--tile-size", "0"],
        ["render", "--threads", "-1"],
        ["render", "--node", "user@"],
        ["render", "--nodes", "/nonexistent/nodes.toml"],
        ["render", "--unknown"],
        ["nodes"],
        [],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    done = blender("--command", "distributed_cycles", *arguments)
    assert done.returncode == 2
    assert "usage: blender SCENE.blend --command distributed_cycles" in done.stderr


def test_malformed_nodes_file_is_explained(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.toml"
    nodes.write_text('[[node]]\nhost = "render1"\nport = "22"\n')
    done = blender("--command", "distributed_cycles", "render", "--nodes", nodes)
    assert done.returncode == 2
    assert "node 1: port must be a whole number, not '22'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_0() -> None:
    done = blender("--command", "distributed_cycles", "render", "-h")
    assert done.returncode == 0
    assert "--accept-new-host-keys" in done.stdout


def test_ssh_nodes_need_online_access(blend: Path) -> None:
    done = render(blend, "--node", "127.0.0.1:1")
    assert done.returncode == 1
    assert "--online-mode" in done.stderr


def test_bad_nodes_are_reported_and_left_out(blend: Path, tmp_path: Path) -> None:
    arguments = ("--node", "nowhere.invalid", "me@127.0.0.1:1", "--output", tmp_path / "out", "--json")
    done = blender("--online-mode", blend, "--command", "distributed_cycles", "render", *arguments)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    text = "\n".join(answer["errors"])
    assert "no host named 'nowhere.invalid'" in text
    assert "refused the connection to port 1" in text
    assert next(row["tiles"] for row in answer["nodes"] if row["node"] == "This Computer") == answer["tiles"]


def test_no_node_at_all(blend: Path) -> None:
    done = render(blend, "--no-local")
    assert done.returncode == 1
    assert "No node is left" in done.stderr


def test_nodes_test(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.toml"
    nodes.write_text('[[node]]\n[[node]]\nname = "bad"\nblender = "/nonexistent/blender"\n')
    done = blender("--command", "distributed_cycles", "nodes", "test", "--nodes", nodes)
    assert done.returncode == 1
    assert "This Computer: ready" in done.stdout
    assert "Devices: CPU" in done.stdout
    assert "bad: FAILED" in done.stdout
    done = blender("--command", "distributed_cycles", "nodes", "test", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout.splitlines()[-1])["nodes"]
    assert row["node"] == "This Computer"
    assert row["cores"] > 0


def tiles_in(job: Path) -> int:
    journal = job / "journal.jsonl"
    return journal.read_text().count('"event": "tile"') if journal.exists() else 0


def interrupted(blend: Path, job: Path, number: int, *, tiles: int = 4) -> int:
    """Send a signal to the main process when so many tiles are there; returns its exit status."""
    arguments = ("--job-dir", job, "--output", job / "out", "--tile-size", 32)
    process = start(
        blend, "--python-expr", "import bpy\n" + SLOW, "--command", "distributed_cycles", "render", *arguments
    )
    assert support.wait_until(lambda: tiles_in(job) >= tiles or process.poll() is not None, 60)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=30)
    assert 0 < tiles_in(job) < 24, stderr
    return process.returncode


@pytest.fixture(scope="module")
def slow_f12(blend: Path, tmp_path_factory: pytest.TempPathFactory) -> exr.Planes:
    folder = tmp_path_factory.mktemp("slow")
    done = blender(
        blend,
        "--python-expr",
        f"import bpy\n{SLOW}bpy.context.scene.render.filepath = {str(folder / 'f12.exr')!r}\n"
        "bpy.ops.render.render(write_still=True)",
    )
    assert done.returncode == 0, done.stderr
    return exr.read(folder / "f12.exr")[0]


def resumed(blend: Path, job: Path, expected: exr.Planes) -> None:
    """Finish the job, and hold what a resume promises."""
    done = render(blend, "--resume", "--job-dir", job, "--output", job / "out", first=EXR_OUTPUT)
    assert done.returncode == 0, done.stderr
    store = JobStore.open(job)
    rendered = [entry["tile"] for entry in store.journal() if entry["event"] == "tile"]
    store.close()
    assert len(rendered) == len(set(rendered)) == 24, "no tile twice, none left out"
    support.assert_equal(exr.read(job / "out.exr")[0], expected)


def test_kill_9_and_resume(blend: Path, tmp_path: Path, slow_f12: exr.Planes) -> None:
    job = tmp_path / "job"
    assert interrupted(blend, job, signal.SIGKILL, tiles=8) == -signal.SIGKILL
    # The workers notice by themselves; until then the folder may still be held.
    refused = render(blend, "--job-dir", job)
    assert refused.returncode == 1
    assert "holds an unfinished render" in refused.stderr
    resumed(blend, job, slow_f12)


def test_sigint_is_130_and_resumable(blend: Path, tmp_path: Path, slow_f12: exr.Planes) -> None:
    job = tmp_path / "job"
    begin = time.monotonic()
    assert interrupted(blend, job, signal.SIGINT) == 130
    assert time.monotonic() - begin < 30
    resumed(blend, job, slow_f12)
    again = render(blend, "--job-dir", job, "--output", job / "again")
    assert again.returncode == 0, "a finished job may be replaced"


def test_nothing_to_resume(blend: Path, tmp_path: Path) -> None:
    for arguments in (["--resume"], ["--resume", "--job-dir", tmp_path / "none"]):
        done = render(blend, *arguments)
        assert done.returncode == 1
        assert "Start a new one" in done.stderr
