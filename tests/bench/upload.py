"""How fast a scene's files reach two nodes, against `ssh host 'cat > f'` and OpenSSH's sftp, side by side.

    python -m tests.bench.upload [MIB [ROUNDS]]

Textures of noise, which nothing compresses, go to two real sshd, on loopback and through a proxy that
takes 10 and 50 ms each way. Ours is the whole of it: reading, hashing, asking, sending, checking and storing
there, by both back ends. Then the second render, and an edit of one object in a .blend of 500 MiB.

All ways take turns, ROUNDS times, and the median counts: whatever else the machine does meets them alike. A
virtual machine gives free memory back to its host, soon or at once, and gets it again slowly (0.5 GiB/s
in place of 5, here); so before each way as much as it will write is written to a file, which shrinks by
as much as the way writes.
"""

from __future__ import annotations

import os
import queue
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from engine.job import Node, SceneFile
from engine.known_hosts import KnownHosts
from engine.recipes import RecipeBook
from engine.ssh import Access
from engine.starter import open_worker
from engine.upload import Upload

from .. import support
from ..sshd import Sshd

MIB = 1 << 20
FILE_MIB = 16
ROUND_TRIPS_MS = (0, 20, 100)
ROUNDS = 5
LONG_ROUNDS = 2
"""A line that is waited for is the same each time."""
AHEAD_BYTES = 256 << 20
MAKE_WAY_BYTES = 64 << 20
BLEND = """
import bpy, sys, random
import numpy as np
rng = np.random.default_rng(1)
for number in range(40):
    side = 400
    count = side * side
    mesh = bpy.data.meshes.new(f"mesh {number}")
    mesh.vertices.add(count)
    mesh.vertices.foreach_set("co", rng.random(count * 3, dtype=np.float32))
    index = np.arange(count).reshape(side, side)
    quads = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1).reshape(-1)
    mesh.loops.add(len(quads))
    mesh.loops.foreach_set("vertex_index", quads)
    mesh.polygons.add(len(quads) // 4)
    mesh.polygons.foreach_set("loop_start", np.arange(0, len(quads), 4))
    mesh.uv_layers.new()
    mesh.update(calc_edges=True)
    bpy.context.scene.collection.objects.link(bpy.data.objects.new(f"object {number}", mesh))
one, two, three = sys.argv[-3:]
def save(path):
    bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, compress=False)
save(one)
bpy.data.objects["object 7"].location.x += 1
save(two)
bpy.ops.wm.open_mainfile(filepath=two)
bpy.data.objects["object 8"].location.x += 1
save(three)
"""


def main() -> None:
    size, rounds = (*map(int, sys.argv[1:]), *(1024, ROUNDS)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        machines = [
            stack.enter_context(
                Sshd(folder / node, environment=environment(), options="Subsystem sftp internal-sftp\n")
            )
            for node in ("one", "two")
        ]
        for round_trip in ROUND_TRIPS_MS:
            # What a long line takes long for is the same with less.
            files = textures(folder, size if round_trip == 0 else size // 2 if round_trip < 50 else size // 8)
            compare(machines, files, folder, round_trip, LONG_ROUNDS if round_trip else rounds)
        edit(machines[0], folder)


def environment() -> dict[str, str]:
    return {"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}


def textures(folder: Path, mib: int) -> list[Path]:
    shutil.rmtree(folder / "tex", ignore_errors=True)
    (folder / "tex").mkdir()
    files = []
    for number in range(max(1, mib // FILE_MIB)):
        files.append(folder / "tex" / f"{number:03}.bin")
        files[-1].write_bytes(random.Random(number).randbytes(FILE_MIB * MIB))
    return files


@contextmanager
def lines(machines: list[Sshd], round_trip_ms: int) -> Iterator[list[int]]:
    """The ports by which the machines are reached."""
    proxies = []
    try:
        ports = []
        for sshd in machines:
            if round_trip_ms == 0:
                ports.append(sshd.port)
                continue
            command = [sys.executable, "-m", "tests.bench.delay", str(sshd.port), str(round_trip_ms / 2)]
            proxy = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=support.REPOSITORY)
            proxies.append(proxy)
            assert proxy.stdout is not None
            ports.append(int(proxy.stdout.readline()))
        yield ports
    finally:
        for proxy in proxies:
            proxy.kill()
            proxy.wait()


def compare(machines: list[Sshd], files: list[Path], folder: Path, round_trip_ms: int, rounds: int) -> None:
    size = sum(path.stat().st_size for path in files)
    total = len(machines) * size / MIB
    print(f"round trip {round_trip_ms} ms, {size / MIB:.0f} MiB to each of two nodes, {rounds} times")
    rates: dict[str, list[float]] = {}
    with lines(machines, round_trip_ms) as ports:
        own = folder / "known_hosts"
        own.write_text(
            "".join(f"[127.0.0.1]:{p} {s.public_host_key}\n" for s, p in zip(machines, ports, strict=True))
        )
        access = Access(KnownHosts([], own))

        logins = [side_by_side(by_nothing, machines, ports, files) for _ in range(rounds)]
        for _ in range(rounds):
            for name, command in (("ssh 'cat > f'", by_cat), ("sftp", by_sftp)):
                empty(machines)
                with warm_memory(folder, len(machines) * size):
                    rates.setdefault(name, []).append(total / side_by_side(command, machines, ports, files))
            for name in ("paramiko", "openssh"):
                empty(machines)
                nodes = nodes_of(machines, ports, name)
                _, seconds = ours(nodes, access, files, folder)
                rates.setdefault(f"ours, {name}", []).append(total / seconds)
        sent, seconds = ours(nodes_of(machines, ports, "paramiko"), access, files, folder)
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    better = max(rate for name, rate in medians.items() if not name.startswith("ours"))
    for name, measured in rates.items():
        spread = f"{min(measured):.0f} to {max(measured):.0f}"
        rate = medians[name]
        print(f"  {name:15} {rate:6.0f} MiB/s ({spread}), {rate / better:.2f} of the better one", flush=True)
    print(f"  of which ssh and sftp take {statistics.median(logins):.2f} s to log in to both nodes")
    print(f"  second render   {sent / 1024:6.1f} KiB sent  ({seconds:.1f} s)", flush=True)


def nodes_of(machines: list[Sshd], ports: list[int], backend: str) -> list[Node]:
    return [
        sshd.node(f"node {port}", blender=str(support.BLENDER), port=port, threads=1, backend=backend)
        for sshd, port in zip(machines, ports, strict=True)
    ]


def empty(machines: list[Sshd]) -> None:
    """Files are only emptied and moved away: ext4 looks through all that were removed just now for each new one."""
    for sshd in machines:
        for name in ("cache", "received"):
            if (sshd.folder / name).exists():
                old = tempfile.mkdtemp(dir=sshd.folder, prefix="old-")
                (sshd.folder / name).rename(Path(old, name))
                for path in Path(old).rglob("*"):
                    if path.is_file() and not path.is_symlink():
                        path.chmod(0o600)
                        os.truncate(path, 0)
        (sshd.folder / "received").mkdir()


@contextmanager
def warm_memory(folder: Path, size: int) -> Iterator[None]:
    """Memory of this machine's own for the next `size` bytes that are written: a file that makes way for them."""
    piece = bytes(MIB)
    is_over = threading.Event()
    with (folder / "filler").open("wb", buffering=0) as file:
        for _ in range(size // MIB):
            file.write(piece)

        def make_way() -> None:
            left = size
            free = os.statvfs(folder).f_bfree
            while left and not is_over.wait(0.01):
                status = os.statvfs(folder)
                if (status.f_bfree - free) * status.f_frsize < AHEAD_BYTES:
                    left = max(0, left - MAKE_WAY_BYTES)
                    file.truncate(left)

        thread = threading.Thread(target=make_way)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            (folder / "filler").unlink()


def side_by_side(
    command: Callable[[Sshd, int, list[Path]], None],
    machines: list[Sshd],
    ports: list[int],
    files: list[Path],
) -> float:
    start = time.perf_counter()
    threads = [
        threading.Thread(target=command, args=(sshd, port, files))
        for sshd, port in zip(machines, ports, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def options(sshd: Sshd) -> list[str]:
    settings = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    return ["-i", str(sshd.user_key), *(word for setting in settings for word in ("-o", setting))]


def by_nothing(sshd: Sshd, port: int, _: list[Path]) -> None:
    subprocess.run(["ssh", *options(sshd), "-p", str(port), "127.0.0.1", "true"], check=True)


def by_cat(sshd: Sshd, port: int, files: list[Path]) -> None:
    """One stream, which no file system and no round trip interrupts: the most that ssh can do."""
    target = shlex.quote(str(sshd.folder / "received/all"))
    reading = subprocess.Popen(["cat", *map(str, files)], stdout=subprocess.PIPE)
    subprocess.run(
        ["ssh", *options(sshd), "-p", str(port), "127.0.0.1", f"cat > {target}"],
        stdin=reading.stdout,
        check=True,
    )
    reading.wait()


def by_sftp(sshd: Sshd, port: int, files: list[Path]) -> None:
    batch = "".join(f'put "{path}" "{sshd.folder}/received/{path.name}"\n' for path in files)
    subprocess.run(
        ["sftp", "-q", *options(sshd), "-P", str(port), "-b", "-", "127.0.0.1"],
        input=batch.encode(),
        check=True,
        stdout=subprocess.DEVNULL,
    )


def ours(nodes: list[Node], access: Access, files: list[Path], folder: Path) -> tuple[int, float]:
    """Bytes sent to all nodes, and the seconds until the last had all, from when Blender runs on all."""
    needed = [SceneFile(str(path), f"tex/{path.name}") for path in files]
    book = RecipeBook(None)  # Each time it reads and hashes all of them.
    with ExitStack() as cleanup:
        pool = cleanup.enter_context(ThreadPoolExecutor(len(nodes)))

        def begun(node: Node) -> Upload:
            inbox: queue.Queue[Any] = queue.Queue()
            link, _ = open_worker(node, inbox, access=access, local_blender=[], version=None, cleanup=cleanup)
            return Upload(node, link, inbox, needed, book, lambda _: None)

        uploads = list(pool.map(begun, nodes))
        with warm_memory(folder, len(nodes) * sum(path.stat().st_size for path in files)):
            start = time.perf_counter()
            assert all(pool.map(Upload.run, uploads))
            seconds = time.perf_counter() - start
    return sum(upload.amount.wire for upload in uploads), seconds


def edit(sshd: Sshd, folder: Path) -> None:
    """What goes over the wire for a .blend that is a little different."""
    saved = [folder / f"{name}.blend" for name in ("first", "edited", "reopened")]
    support.run_python(BLEND, *map(str, saved))
    node = sshd.node("node", blender=str(support.BLENDER), threads=1)
    print(f"a .blend of {saved[0].stat().st_size / MIB:.0f} MiB")
    for name, path in zip(("first", "one object moved", "opened anew, another moved"), saved, strict=True):
        sent, seconds = ours([node], sshd.access(), [path], folder)
        print(f"  {name:26} {sent / MIB:8.2f} MiB sent  ({seconds:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
