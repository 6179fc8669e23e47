"""What renders on a node: devices, shares of them, launchers, and several workers shown as one node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.benchmark import KEPT, Speeds, key
from engine.job import EngineError, Job, Node, NodeInfo, Rect
from engine.launcher import is_queued, is_srun, local_words, prepared
from engine.messages import NodeStatus
from engine.report import NodeRow
from engine.worker.devices import DeviceError, parse, picked, share_of, threads_for
from engine.workers import merged, merged_row, worker_name

GPUS = [("id0", "A"), ("id1", "B"), ("id2", "C")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ("", ())), ("cpu", ("CPU", ())), ("OptiX", ("OPTIX", ())), ("CUDA:2,0,2", ("CUDA", (0, 2)))],
)
def test_devices_as_they_are_written(text: str, expected: object) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["GPU", "CPU:0", ":0", "CUDA:", "CUDA:x"])
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize(
    ("index", "count", "names"),
    [
        (0, 1, "ABC"),
        *((0, 2, "AC"), (1, 2, "B")),
        *((0, 3, "A"), (2, 3, "C"), (3, 4, "A")),
        *((0, 0, "A"), (2, 0, "C"), (3, 0, "")),
    ],
)
def test_workers_share_the_gpus(index: int, count: int, names: str) -> None:
    assert "".join(name for _, name in share_of(GPUS, index, count)) == names


def test_single_devices() -> None:
    assert picked(GPUS, (0, 2), "CUDA") == [GPUS[0], GPUS[2]]
    assert picked(GPUS, (), "CUDA") == GPUS
    with pytest.raises(DeviceError, match="there is no CUDA device 3 on the node, only 0: A, 1: B, 2: C"):
        picked(GPUS, (3,), "CUDA")
    with pytest.raises(DeviceError, match="there is no HIP device on the node"):
        picked([], (), "HIP")


def test_workers_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [threads_for(0, 1), threads_for(3, 2), threads_for(0, 2), threads_for(0, 99)] == [0, 3, 4, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 6, 7}, raising=False)
    assert threads_for(0, 2) == 3, "Slurm has divided the machine already"


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ("", ""),
        ("nice -n 19", "nice -n 19"),
        ("docker exec -i srunner", "docker exec -i srunner"),
        ("srun --gres=gpu:1", "srun --unbuffered --ntasks=1 --gres=gpu:1"),
        ("env A=b /usr/bin/srun -n2", "env A=b /usr/bin/srun --unbuffered --ntasks=1 -n2"),
    ],
)
def test_launchers(launcher: str, words: str) -> None:
    assert prepared(launcher) == words
    assert is_srun(launcher) is ("srun " in launcher)
    assert local_words(launcher) == words.split()


def test_a_launcher_that_makes_no_sense() -> None:
    with pytest.raises(EngineError, match="cannot be understood"):
        local_words("docker 'exec")


def test_queues() -> None:
    assert is_queued("srun: job 17 queued and waiting for resources")
    assert is_queued("srun: Job step creation temporarily disabled, retrying (Requested nodes are busy)")
    assert not is_queued("srun: job 17 has been allocated resources")


def test_several_workers_are_one_node() -> None:
    assert [worker_name("n", 0), worker_name("n", 1)] == ["n", "n #2"]
    one = NodeStatus("n", "rendering", tiles_done=3, mean_seconds=2.0, speed=10.0, device="CUDA, A")
    two = NodeStatus(
        "n #2", "failed", tiles_done=1, mean_seconds=6.0, error=EngineError("gone"), device="CUDA, B"
    )
    both = merged("n", [two, one])
    assert (both.name, both.state, both.tiles_done, both.mean_seconds, both.speed) == (
        "n",
        "rendering",
        4,
        3.0,
        10.0,
    )
    assert both.detail == "1 of 2 workers; n #2: gone"
    assert both.device == "CUDA, B + CUDA, A"
    assert both.error is None
    assert merged("n", [two, two]).error is two.error
    assert merged("n", [one]) == one
    rows = [NodeRow("n", 3, 6.0), NodeRow("n #2", 1, 6.0, "gone")]
    assert merged_row("n", rows) == NodeRow("n", 4, 12.0, "gone")


INFO = NodeInfo("Linux", "x86_64", (4, 5, 3), "/b", 8, ())


def job(source: str) -> Job:
    rect = Rect(0, 0, 64, 64)
    return Job("i", source, "b", "Scene", 1, 64, 64, rect, False, 0, 32, (4, 5, 3), "ViewLayer")


def test_speeds_are_remembered_by_node_device_blender_and_scene(tmp_path: Path) -> None:
    node = Node("n", "h")
    keys = {
        key(node, INFO, "CPU", job("/a.blend")),
        key(node, INFO, "CUDA, A", job("/a.blend")),
        key(Node("n", "other"), INFO, "CPU", job("/a.blend")),
        key(node, INFO, "CPU", job("/b.blend")),
    }
    assert len(keys) == 4
    assert key(Node("renamed", "h"), INFO, "CPU", job("/a.blend")) in keys
    assert key(node, INFO, "CPU", job("")) == ""
    path = tmp_path / "speeds.json"
    speeds, other = Speeds(path), Speeds(path)
    speeds.learn("k", 5.0)
    speeds.learn("", 9.0)
    speeds.save()
    other.learn("l", 6.0)
    other.save()
    again = Speeds(path)
    assert [again.of("k"), again.of("l"), again.of("")] == [5.0, 6.0, None]
    for number in range(KEPT + 1):
        again.learn(str(number), 1.0)
    again.save()
    assert Speeds(path).of("k") is None
    path.write_text("[damaged")
    assert Speeds(path).of("l") is None
