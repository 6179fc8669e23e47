"""Renders by roads that are not straight: over other hosts, to an IPv6 address, by the ssh program."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine import exr
from engine.access import Access
from engine.job import Node
from engine.known_hosts import KnownHosts
from engine.session import RenderSession
from engine.store import JobStore

from .. import support
from ..sshd import Agent, Namespace, Sshd, chain
from .conftest import Scene


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("BPY_PYTHON", support.MARK) if name in os.environ}


def workers(mark: str) -> list[int]:
    """The Blenders, on whatever node; sshd and the agent carry the mark too."""
    found = []
    for pid in support.marked_processes(mark):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        found += [pid] if b"--python-expr" in words else []
    return found


def test_through_two_hosts_with_the_agent_and_over_ipv6_and_by_the_ssh_program(
    slow_scene: Scene, tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four nodes, all at one frame, and it is the frame that F12 gives."""
    monkeypatch.setenv("HOME", str(tmp_path))
    agent = Agent(tmp_path, "exit 1")
    with ExitStack() as stack:
        stack.callback(agent.stop)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        hops = stack.enter_context(chain(tmp_path, 3, environment=environment()))
        space = stack.enter_context(Namespace())
        six = Sshd(tmp_path / "six", address=space.address6, namespace=space.name, environment=environment())
        stack.enter_context(six)
        # As many keys as make sshd hang up, were they not told apart by the configuration.
        agent.add(*(sshd.user_key for sshd in (*hops, six)))
        first, second, last = hops
        config = tmp_path / "ssh_config"
        config.write_text(
            f"Host far\n HostName {last.address}\n Port {last.port}\n ProxyJump second\n"
            f"Host second\n HostName {second.address}\n Port {second.port}\n ProxyJump first\n"
            f"Host first\n HostName {first.address}\n Port {first.port}\n"
            f"Host six\n HostName {six.address}\n Port {six.port}\n"
        )
        own = tmp_path / "records"
        own.write_text("".join(sshd.known_hosts_line() for sshd in (*hops, six)))
        blender = {"blender": str(support.BLENDER), "threads": 1}
        nodes = [
            Node("two hops", "far", **blender),  # type: ignore[arg-type]
            Node("two hops, ssh", "far", backend="openssh", **blender),  # type: ignore[arg-type]
            Node("IPv6", "six", **blender),  # type: ignore[arg-type]
            Node("IPv6, ssh", six.address, six.port, backend="openssh", **blender),  # type: ignore[arg-type]
        ]
        job = support.job_for(slow_scene.blend, slow_scene.version)
        store = JobStore.create(tmp_path / "job", job)
        shutil.copy(slow_scene.blend, store.snapshot)
        access = Access(KnownHosts([], own), config=config)
        session = RenderSession(job, nodes, store, access=access, local_blender=())
        stack.callback(session.join, 15)
        stack.callback(session.cancel)
        start = time.monotonic()
        session.start()
        done = support.Drive(session).to_the_end()
        assert done.outcome == "done", done.error
        tiles = {row.node: row.tiles for row in done.report.rows}
        print(f"{time.monotonic() - start:.1f} s, tiles: {tiles}")
        assert len(tiles) == 4
        assert all(tiles.values()), tiles
        support.assert_equal(exr.read(store.frame_path)[0], slow_scene.f12)
        store.close()
        assert support.wait_until(lambda: not workers(mark), 5)
