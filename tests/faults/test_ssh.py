"""What can go wrong between here and a node, done for real with sshd in network namespaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine import exr
from engine.access import Access
from engine.job import HostKeyUnknown, Node
from engine.known_hosts import KnownHosts
from engine.messages import NodeChanged
from engine.session import RenderSession
from engine.store import JobStore

from .. import support
from ..sshd import Namespace, Sshd
from .conftest import Scene

HERE = Node("here", threads=1)


@pytest.fixture
def machines(
    tmp_path: Path, node_tmp: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Sshd]]:
    """Make machines with an sshd each, in network namespaces of their own."""
    made: list[Sshd] = []
    spaces: list[Namespace] = []

    def new(name: str, more: dict[str, str] | None = None) -> Sshd:
        space = Namespace()
        spaces.append(space)
        space.__enter__()
        environment = {support.MARK: mark, "TMPDIR": str(node_tmp)}
        if "BPY_PYTHON" in os.environ:
            environment["BPY_PYTHON"] = os.environ["BPY_PYTHON"]
        environment |= more or {}
        sshd = Sshd(tmp_path / name, address=space.address, namespace=space.name, environment=environment)
        sshd.start()
        sshd.space = space  # type: ignore[attr-defined] # for partition() and heal()
        made.append(sshd)
        return sshd

    yield new
    for sshd in made:
        sshd.stop()
    for space in spaces:
        space.__exit__()


def access_to(*machines: Sshd, folder: Path) -> Access:
    own = folder / "known_hosts"
    own.write_text("".join(sshd.known_hosts_line() for sshd in machines))
    return Access(KnownHosts([], own))


def remote(sshd: Sshd, name: str, **changes: object) -> Node:
    return sshd.node(name, blender=str(support.BLENDER), threads=1, **changes)


NewSession = Callable[..., support.Drive]


@pytest.fixture
def session(scene: Scene, tmp_path: Path) -> Iterator[NewSession]:
    started: list[RenderSession] = []

    def new(*nodes: Node, access: Access, can_ask: bool = False, **changes: object) -> support.Drive:
        job = replace(support.job_for(scene.blend, scene.version), **changes)  # type: ignore[arg-type]
        store = JobStore.create(tmp_path / "job", job)
        shutil.copy(changes.get("source", scene.blend), store.snapshot)  # type: ignore[arg-type]
        session = RenderSession(
            job, nodes, store, access=access, local_blender=[str(support.BLENDER)], can_ask=can_ask
        )
        started.append(session)
        session.start()
        return support.Drive(session)

    yield new
    for session in started:
        session.cancel()
        assert session.join(20)


def frame_of(drive: support.Drive) -> exr.Planes:
    return exr.read(drive.session._store.frame_path)[0]


def assert_nothing_left(mark: str, node_tmp: Path, within: float = 15) -> None:
    def own(pid: int) -> bool:
        """sshd itself does not carry the mark, what it starts does."""
        return b"bpy_as_blender" in Path(f"/proc/{pid}/cmdline").read_bytes()

    def none_runs() -> bool:
        try:
            return not any(own(pid) for pid in support.marked_processes(mark))
        except OSError:
            return False

    assert support.wait_until(none_runs, within), "a Blender still runs"
    assert list(node_tmp.glob("*")) == []


def worker_of(sshd: Sshd, mark: str) -> int:
    """The process id of the Blender that this machine's sshd started."""
    space = subprocess.run(
        ["ip", "netns", "pids", sshd.space.name],  # type: ignore[attr-defined]
        capture_output=True,
        text=True,
        check=True,
    )
    inside = {int(word) for word in space.stdout.split()}
    workers = [
        pid
        for pid in support.marked_processes(mark)
        if pid in inside and b"bpy_as_blender" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return workers[0]


def test_two_machines_and_this_computer(
    machines: Callable[..., Sshd],
    session: NewSession,
    slow_scene: Scene,
    tmp_path: Path,
    mark: str,
    node_tmp: Path,
) -> None:
    one, two = machines("one"), machines("two")
    access = access_to(one, two, folder=tmp_path)
    nodes = (HERE, remote(one, "one"), remote(two, "two"))
    drive = session(*nodes, access=access, source=str(slow_scene.blend), tile_size=16)
    done = drive.to_the_end()
    assert (done.outcome, done.error) == ("done", None)
    assert all(row.tiles for row in done.report.rows), done.report.table()
    support.assert_equal(frame_of(drive), slow_scene.f12)
    assert_nothing_left(mark, node_tmp)


def test_killed_worker_on_a_node(
    machines: Callable[..., Sshd], session: NewSession, scene: Scene, tmp_path: Path, mark: str
) -> None:
    one = machines("one")
    drive = session(remote(one, "one"), access=access_to(one, folder=tmp_path))
    drive.tiles(4)
    os.kill(worker_of(one, mark), signal.SIGKILL)
    lost = drive.until(lambda m: isinstance(m, NodeChanged) and m.status.error is not None)
    assert isinstance(lost, NodeChanged)
    assert "ended" in lost.status.detail
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)


def test_killed_sshd_that_comes_back(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    tmp_path: Path,
    mark: str,
    node_tmp: Path,
) -> None:
    one = machines("one")
    drive = session(remote(one, "one"), access=access_to(one, folder=tmp_path))
    drive.tiles(4)
    one.stop()
    assert_nothing_left(mark, node_tmp)
    drive.until(lambda m: isinstance(m, NodeChanged) and m.status.state == "offline")
    one.start()
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)


def test_cable_out(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    tmp_path: Path,
    mark: str,
    node_tmp: Path,
) -> None:
    """Nothing tells either side: the node is given up in time, the picture completed by others,
    and the worker there ends by itself."""
    one = machines("one")
    drive = session(remote(one, "one"), access=access_to(one, folder=tmp_path))
    drive.tiles(4)
    one.space.partition()  # type: ignore[attr-defined]
    cut = time.monotonic()
    drive.until(lambda m: isinstance(m, NodeChanged) and m.status.error is not None, 20)
    assert time.monotonic() - cut < 17
    drive.session.add_node(HERE)
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)
    assert_nothing_left(mark, node_tmp, within=75 - (time.monotonic() - cut))


def test_bad_nodes_are_reported_and_not_waited_for(
    machines: Callable[..., Sshd], session: NewSession, scene: Scene, tmp_path: Path
) -> None:
    good, changed, bare = machines("good"), machines("changed"), machines("bare")
    access = access_to(good, bare, folder=tmp_path)
    with access.known_hosts.own.open("a") as file:
        file.write(f"[{changed.address}]:{changed.port} {good.public_host_key}\n")
    silent = socket.create_server(("127.0.0.1", 0))
    nodes = [
        remote(good, "good"),
        remote(changed, "changed"),
        bare.node("no blender", blender="/opt/none/blender"),
        Node("silent", "127.0.0.1", silent.getsockname()[1]),
        Node("nowhere", "nowhere.invalid"),
    ]
    start = time.monotonic()
    drive = session(*nodes, access=access)
    done = drive.to_the_end()
    assert done.outcome == "done"
    assert time.monotonic() - start < 12
    errors = {row.node: row.error for row in done.report.rows}
    assert "has changed" in errors["changed"]
    assert "no Blender on the node" in errors["no blender"]
    assert "no host named" in errors["nowhere"]
    assert errors["good"] == ""
    support.assert_equal(frame_of(drive), scene.f12)
    silent.close()


def test_blender_is_looked_for_and_the_one_that_suits_is_taken(
    machines: Callable[..., Sshd], session: NewSession, scene: Scene, tmp_path: Path
) -> None:
    """The first on the PATH ends at once, the one in the home folder works."""
    home, path = tmp_path / "home", tmp_path / "bin"
    for place, lines in (
        (path / "blender", "echo too bad >&2; exit 1"),
        (home / "blender-9 (new)" / "blender", f'exec "{support.BLENDER}" "$@"'),
    ):
        place.parent.mkdir(parents=True)
        place.write_text(f"#!/bin/sh\n{lines}\n")
        place.chmod(0o755)
    one = machines("one", more={"HOME": str(home), "PATH": f"{path}:{os.environ['PATH']}"})
    drive = session(one.node("one", threads=1), access=access_to(one, folder=tmp_path))
    done = drive.to_the_end()
    assert (done.outcome, done.error) == ("done", None)
    support.assert_equal(frame_of(drive), scene.f12)


def test_no_blender_is_found(machines: Callable[..., Sshd], session: NewSession, tmp_path: Path) -> None:
    one = machines("one", more={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    done = session(one.node("one"), access=access_to(one, folder=tmp_path)).to_the_end()
    assert done.outcome == "failed"
    assert "No Blender was found on the node" in str(done.error)


def test_an_unknown_host_waits_for_the_answer(
    machines: Callable[..., Sshd], session: NewSession, scene: Scene, tmp_path: Path
) -> None:
    one = machines("one")
    access = access_to(folder=tmp_path)
    drive = session(remote(one, "one"), access=access, can_ask=True)
    asked = drive.until(lambda m: isinstance(m, NodeChanged) and m.status.error is not None)
    assert isinstance(asked, NodeChanged)
    error = asked.status.error
    assert isinstance(error, HostKeyUnknown)
    access.known_hosts.add(error.host, error.port, error.key)
    drive.session.retry("one")
    assert drive.to_the_end().outcome == "done"
    support.assert_equal(frame_of(drive), scene.f12)


def test_a_node_that_joins_when_half_is_done(
    machines: Callable[..., Sshd], session: NewSession, slow_scene: Scene, tmp_path: Path
) -> None:
    one = machines("one")
    source = str(slow_scene.blend)
    drive = session(HERE, access=access_to(one, folder=tmp_path), tile_size=16, source=source)
    drive.tiles(drive.session._scheduler.total // 2)
    drive.session.add_node(remote(one, "late"))
    done = drive.to_the_end()
    assert done.outcome == "done"
    assert all(row.tiles for row in done.report.rows), done.report.table()
    support.assert_equal(frame_of(drive), slow_scene.f12)


def test_cancel_leaves_nothing_on_a_node(
    machines: Callable[..., Sshd], session: NewSession, tmp_path: Path, mark: str, node_tmp: Path
) -> None:
    one = machines("one")
    drive = session(remote(one, "one"), access=access_to(one, folder=tmp_path))
    drive.tiles(3)
    drive.session.cancel()
    assert drive.to_the_end().outcome == "cancelled"
    assert_nothing_left(mark, node_tmp)


MAIN = """
import shutil, sys
from pathlib import Path
from engine.job import Node
from engine.known_hosts import KnownHosts
from engine.session import RenderSession
from engine.access import Access
from engine.store import JobStore
from tests import support
blend, folder, version, host, port, user, key, known = sys.argv[1:]
store = JobStore.create(Path(folder), support.job_for(Path(blend), tuple(map(int, version.split(".")))))
shutil.copy(blend, store.snapshot)
node = Node("one", host, int(port), user, key, str(support.BLENDER), 1)
session = RenderSession(
    store.job, [node], store, access=Access(KnownHosts([], Path(known))), local_blender=[]
)
session.start()
support.Drive(session).tiles(4)
print("now", flush=True)
session.join(100)
"""


def test_killed_main_process_leaves_nothing_on_a_node(
    machines: Callable[..., Sshd], scene: Scene, tmp_path: Path, mark: str, node_tmp: Path
) -> None:
    one = machines("one")
    access = access_to(one, folder=tmp_path)
    node = remote(one, "one")
    version = ".".join(map(str, scene.version))
    arguments = [scene.blend, tmp_path / "job", version, node.host, node.port, node.user, node.key_file]
    main = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments), str(access.known_hosts.own)],
        stdout=subprocess.PIPE,
        cwd=support.REPOSITORY,
    )
    assert main.stdout is not None
    assert main.stdout.readline() == b"now\n"
    main.kill()
    main.wait()
    main.stdout.close()
    assert_nothing_left(mark, node_tmp)


class Proxy:
    """A port that passes everything on to a machine, but not as it should."""

    def __init__(
        self,
        target: tuple[str, int],
        *,
        piece: int = 65536,
        cut_after: int = 0,
        flip_at: int = 0,
        cut_up_after: int = 0,
        up_pause: float = 0.0,
    ):
        self._cut_up_after, self._up_pause = cut_up_after, up_pause
        self.passed_up = 0
        """Bytes that reached the machine, over all connections."""
        self._target, self._piece, self._cut_after, self._flip_at = target, piece, cut_after, flip_at
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            # Only the first connection is spoiled; what the client does next is the point.
            is_bad = self.connections == 1
            server = socket.create_connection(self._target)
            cut_up = self._cut_up_after if is_bad else 0
            threading.Thread(target=self._pump_up, args=(client, server, cut_up), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, is_bad), daemon=True).start()

    def _pump_up(self, source: socket.socket, sink: socket.socket, cut_after: int) -> None:
        """To the machine; the wire is cut after so many bytes, if not 0."""
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(self._piece):
                passed += len(data)
                if cut_after and passed > cut_after:
                    break
                sink.sendall(data)
                self.passed_up += len(data)
                time.sleep(self._up_pause)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, spoils: bool) -> None:
        passed = 0
        try:
            while data := source.recv(self._piece):
                if spoils and self._flip_at and passed <= self._flip_at < passed + len(data):
                    spoiled = bytearray(data)
                    spoiled[self._flip_at - passed] ^= 1
                    data = bytes(spoiled)
                passed += len(data)
                if spoils and self._cut_after and passed > self._cut_after:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize(
    "fault",
    [{"piece": 7}, {"cut_after": 120_000}, {"flip_at": 100_000}],
    ids=["slices", "cut in the middle", "bit flip"],
)
def test_a_bad_wire_never_makes_a_wrong_pixel(
    machines: Callable[..., Sshd],
    session: NewSession,
    scene: Scene,
    tmp_path: Path,
    fault: dict[str, int],
) -> None:
    one = machines("one")
    proxy = Proxy((one.address, one.port), **fault)
    own = tmp_path / "known_hosts"
    own.write_text(f"[127.0.0.1]:{proxy.port} {one.public_host_key}\n")
    node = replace(remote(one, "one"), host="127.0.0.1", port=proxy.port)
    drive = session(node, access=Access(KnownHosts([], own)))
    assert drive.to_the_end().outcome == "done"
    assert proxy.connections == (1 if "piece" in fault else 2)
    support.assert_equal(frame_of(drive), scene.f12)
    proxy.close()
