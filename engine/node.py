"""One node's life in a render: start a worker or find one kept, send the files, render, be lost, come back.

Each node has a thread of its own; everything it learns goes to the session's inbox as an
event, everything it is told comes through its own queue. It shares nothing else.
"""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import exr, sample_count
from .framebuffer import window
from .job import (
    EngineError,
    Job,
    Node,
    NodeError,
    NodeInfo,
    SceneFile,
    SceneRefused,
    Tile,
    WorkerLost,
)
from .link import WorkerLink
from .pool import KeptWorker, WorkerPool
from .recipes import RecipeBook
from .starter import GOODBYE_S, Starter, open_worker
from .tiling import border, with_overscan
from .upload import Upload
from .worker.protocol import HEARTBEAT_S

if TYPE_CHECKING:
    from .access import Access

CONNECT_TRIES = 3
LONGEST_PAUSE_S = 30.0
SLOW_LINE = 1.25
JITTER_S = 0.01


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The node is in another state; `detail` is one line for a person."""

    node: str
    state: str
    detail: str = ""
    info: NodeInfo | None = None
    error: EngineError | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """The scene is open on the node."""

    node: str
    device: str = "CPU"
    """What renders there, in words."""
    gpus: int = 0
    """How many GPUs its workers can share."""


@dataclass(frozen=True, slots=True)
class Left:
    """The node's worker is gone; unless `is_final` it is being connected again."""

    node: str
    error: EngineError
    is_final: bool


@dataclass(frozen=True, slots=True)
class Arrived:
    """A tile came back and is what was asked for."""

    node: str
    tile: Tile
    attempt: int
    seconds: float
    render_seconds: float
    data: bytes
    kept: exr.Planes
    """The part that is shown: Combined of the shown view layer, without the margin."""
    channels: frozenset[str]
    samples: sample_count.Samples


@dataclass(frozen=True, slots=True)
class Spoiled:
    """The node answered, but not with the tile that was asked for."""

    node: str
    tile: Tile
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The files are there, or the upload ended before they were."""

    node: str
    bytes: int
    """What was sent for them."""
    seconds: float


NodeEvent = StateChanged | Joined | Left | Arrived | Spoiled | Uploaded


class NodeLife:
    """The thread that lives one node's life. `assign`, `skip`, `stop` may be called from any thread."""

    def __init__(
        self,
        node: Node,
        job: Job,
        snapshot: Path,
        post: Callable[[NodeEvent], None],
        *,
        access: Access | None,
        local_blender: Sequence[str],
        book: RecipeBook,
        share: tuple[int, int] = (0, 1),
        pool: WorkerPool | None = None,
        scene: Callable[[], str] = str,
    ) -> None:
        """`share` says which of how many workers of its node this is; of 0 where each has one GPU.

        From `pool` a worker is taken where one is kept. `scene` names the scene and all its files; it is
        asked in this node's thread.
        """
        self.node = node
        self._share = share
        self._job = job
        self._snapshot = snapshot
        self._post = post
        self._access = access
        self._local_blender = local_blender
        self._book = book
        self._pool = pool
        self._scene = scene
        self._is_kept = False
        self._is_sound = True
        """Whether its last answer was a tile: a GPU that failed once goes on failing in that process."""
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._link: WorkerLink | None = None
        self._asked: dict[tuple[int, int], tuple[Tile, float]] = {}
        """With the time at which each was asked for."""
        self._answered = 0.0
        """Time of the last answer."""
        self._use_zip = False
        self._has_joined = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"dc-node-{node.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def assign(self, tile: Tile, attempt: int) -> None:
        self._inbox.put(("render", tile, attempt))

    def skip(self, tile: Tile, attempt: int) -> None:
        """The tile is no longer wanted; only what has not begun is saved by it."""
        self._inbox.put(("skip", tile, attempt))

    def check_silence(self) -> None:
        if self._link is not None:
            self._link.check_silence()

    def stop(self, *, keep: bool = False) -> None:
        """End the thread, whatever it is doing. The worker ends too, or goes into the pool with `keep`."""
        self._is_kept = keep and self._has_joined and self._is_sound and self._pool is not None
        self._stopping.set()
        self._inbox.put(("stop", None, 0))
        if self._is_kept:
            return
        # A tile that is being rendered, or a file being sent, is not waited for.
        threading.Thread(target=self._end_worker, name="dc-stop", daemon=True).start()

    def _end_worker(self) -> None:
        if self._link is not None:
            self._link.close(GOODBYE_S)

    def join(self, timeout: float) -> bool:
        """Wait for the thread; False if it still runs after `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            error: EngineError
            try:
                self._has_joined = False
                self._live()
                return
            except EngineError as failure:
                error = failure
            except Exception as bug:  # noqa: BLE001 - a bug here must reach a person, not vanish
                error = WorkerLost(f"internal error: {bug!r}", "Please report it.")
            error.node = self.node.name
            tries = 1 if self._has_joined else tries + 1
            is_final = getattr(error, "is_final", True) or tries >= CONNECT_TRIES
            if self._stopping.is_set():
                return
            self._post(Left(self.node.name, error, is_final))
            if is_final:
                return
            pause = min(2.0 ** (tries - 1), LONGEST_PAUSE_S)
            self._stopping.wait(pause * random.uniform(0.8, 1.2))

    def _live(self) -> None:
        """One connection, from its beginning to its end. Returns when told to stop."""
        self._inbox = queue.Queue()
        self._asked.clear()
        try:
            self._state("connecting")
            worker = self._kept_worker()
            is_new = worker is None
            worker = worker or self._new_worker()
            with worker.cleanup:
                if self._stopping.is_set():
                    return
                self._post(StateChanged(self.node.name, "syncing", "", worker.info))
                try:
                    if not self._has_open(worker) and not (self._sync(worker) and self._open(worker)):
                        return
                except SceneRefused as error:
                    if is_new:
                        raise
                    raise WorkerLost(error.message, "It is tried again in a new Blender.") from None
                self._has_joined = True
                self._post(Joined(self.node.name, worker.device, worker.gpus))
                self._serve(worker.link)
                if self._is_kept and self._pool is not None:
                    worker.scene, worker.has_run_scripts = self._scene_there(), self._job.use_scripts
                    worker.cleanup = worker.cleanup.pop_all()
                    self._pool.keep(self.node.name, self._key, worker)
        finally:
            self._link = None

    @property
    def _key(self) -> Hashable:
        """Who has the same one can go on with this worker."""
        return self.node, self._share, self._job.blender_version, self._job.ocio

    def _kept_worker(self) -> KeptWorker | None:
        worker = self._pool.take(self.node.name, self._key) if self._pool is not None else None
        if worker is None:
            return None
        # What scripts and add-ons did to its Blender, and which devices it was given, is not undone by opening a file.
        is_marked = worker.has_run_scripts or self._job.use_scripts or self.node.use_preferences
        if is_marked and not self._has_open(worker):
            worker.cleanup.close()
            return None
        worker.link.deliver_to(self._inbox)
        self._hold(worker.link)
        return worker

    def _new_worker(self) -> KeptWorker:
        with ExitStack() as cleanup:
            link, info = open_worker(
                self.node,
                self._inbox,
                access=self._access,
                local_blender=self._local_blender,
                version=self._job.blender_version,
                cleanup=cleanup,
                starter=Starter(self._say_while_starting, self._hold),
            )
            worker = KeptWorker(link, info)
            if not self._stopping.is_set():
                self._restart_for_colors(worker)
            worker.cleanup = cleanup.pop_all()
        return worker

    def _restart_for_colors(self, worker: KeptWorker) -> None:
        """Blender reads its OCIO configuration when it starts, so it starts anew where that is another one."""
        job, there = self._job, worker.info.ocio
        if job.ocio == there and (self.node.is_local or not job.ocio or "://" in job.ocio):
            return
        if self._send_files(worker, [file for file in job.files if file.path in job.ocio_files]):
            self._state("starting", "once more, with this computer's color management")
            worker.link.restart(job.ocio)

    def _scene_there(self) -> str:
        """What this life's worker has open: the files, and how they were opened. Empty if nobody knows."""
        files = self._scene()
        return files and json.dumps([files, self._open_request()])

    def _has_open(self, worker: KeptWorker) -> bool:
        return bool(worker.scene) and worker.scene == self._scene_there()

    def _hold(self, link: WorkerLink) -> None:
        """What is starting can be stopped too: in a queue it may stand for hours."""
        self._link = link
        if self._stopping.is_set():
            link.abort("told to stop")

    def _say_while_starting(self, state: str, detail: str) -> None:
        # A Blender that is being sent is not finished; the thread that watches a start has nothing to end.
        if self._stopping.is_set() and threading.current_thread() is self._thread:
            raise WorkerLost("Told to stop.")
        self._state(state, detail)

    def _state(self, state: str, detail: str = "") -> None:
        self._post(StateChanged(self.node.name, state, detail))

    def _sync(self, worker: KeptWorker) -> bool:
        """Bring the files there; False when told to stop meanwhile."""
        job = self._job
        if worker.scene:
            worker.link.send({"type": "renew"})
        names = (name for entry in job.pixels for name in entry.files)
        pixels = (SceneFile(str(self._snapshot.parent / name), name) for name in names)
        return self._send_files(worker, [SceneFile(str(self._snapshot), job.blend), *pixels, *job.files])

    def _send_files(self, worker: KeptWorker, files: Sequence[SceneFile]) -> bool:
        link = worker.link
        if self.node.is_local:
            entries = [(file.path, file.source) for file in files]
            link.send({"type": "links"}, json.dumps(entries).encode())
            return True
        say = partial(self._state, "syncing")
        upload = Upload(self.node, link, self._inbox, files, self._book, say)
        start = time.monotonic()
        try:
            return upload.run()
        finally:
            self._post(Uploaded(self.node.name, upload.amount.wire, time.monotonic() - start))

    def _open_request(self) -> dict[str, Any]:
        job = self._job
        return {
            "type": "open",
            "blend": job.blend,
            "scene": job.scene,
            "frame": job.frame,
            "subframe": job.subframe,
            "use_scripts": job.use_scripts,
            "helpers": job.helpers,
            "threads": self.node.threads,
            "pixels": [asdict(entry) for entry in job.pixels],
            "device": self.node.device,
            "share": self._share,
            "working_space": job.working_space,
            "by_samples": bool(job.sample_parts),
            "use_preferences": self.node.use_preferences,
            # F12's own devices count here; those of other machines are others.
            "own_device": job.compute_device if self.node.is_local else "",
            "own_device_ids": job.compute_device_ids,
        }

    def _open(self, worker: KeptWorker) -> bool:
        """Open the scene there; False when told to stop meanwhile. Raise SceneRefused."""
        self._state("syncing", "opening the scene")
        link = worker.link
        link.send(self._open_request())
        while True:
            try:
                item = self._inbox.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                link.send({"type": "ping"})  # A worker that hears nothing ends itself.
                continue
            if isinstance(item, NodeError):
                raise item
            if item[0] == "stop":
                return False
            if isinstance(item[0], str):
                continue  # What was meant for the worker before this one.
            header = item[0]
            if header["type"] == "opened":
                worker.device = ", ".join((str(header["device"]), *map(str, header["names"])))
                worker.gpus = int(header["gpus"])
                return True
            raise SceneRefused(f"The scene could not be opened there: {header.get('text', header)}")

    def _serve(self, link: WorkerLink) -> None:
        while True:
            try:
                item = self._inbox.get(timeout=HEARTBEAT_S)
            except queue.Empty:
                link.send({"type": "ping"})
                continue
            if isinstance(item, NodeError):
                raise item
            match item:
                case ("stop", _, _):
                    return
                case ("render", tile, attempt):
                    self._ask(link, tile, attempt)
                case ("skip", tile, attempt):
                    link.send({"type": "skip", "tile": tile.index, "attempt": attempt})
                case (header, payload):
                    self._take(header, payload)

    def _ask(self, link: WorkerLink, tile: Tile, attempt: int) -> None:
        job = self._job
        asked = with_overscan(tile.rect, job.overscan, job.region)
        self._asked[tile.index, attempt] = tile, time.monotonic()
        link.send(
            {
                "type": "render",
                "tile": tile.index,
                "attempt": attempt,
                "border": border(asked, job.width, job.height),
                "samples": [tile.samples.first, tile.samples.count] if tile.samples else None,
                "use_zip": self._use_zip,
            }
        )

    def _take(self, header: dict[str, Any], payload: bytes) -> None:
        """Check an answer. Raise WorkerLost where it answers nothing that was asked."""
        key = header.get("tile"), header.get("attempt")
        found = self._asked.pop(key, None)  # type: ignore[arg-type] # whatever came is looked up
        if found is None or header["type"] not in ("tile", "error"):
            raise WorkerLost(f"The node answered what was not asked: {str(header)[:200]}")
        tile, asked = found
        self._is_sound = header["type"] == "tile"
        name, attempt = self.node.name, int(header["attempt"])
        if header["type"] == "error":
            self._post(Spoiled(name, tile, attempt, str(header.get("text"))))
            return
        try:
            file = exr.Reader(payload)
            shown = exr.combined(file.channels, self._job.view_layer)
            kept = window(file.rows(0, file.height, shown), tile, self._job)
            seconds, render_seconds = float(header["seconds"]), float(header["render_seconds"])
            samples = {str(layer): int(count) for layer, count in header["samples"].items()}
            self._look_at_the_line(asked, seconds + float(header["build_seconds"]))
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            self._post(Spoiled(name, tile, attempt, str(error)))
            return
        # Cycles itself writes no NaN into Combined. Should a scene do so all the same, the
        # second attempt is believed.
        if attempt == 1 and any(_has_nan(kept[channel]) for channel in shown):
            self._post(Spoiled(name, tile, attempt, "the tile holds values that are not numbers"))
            return
        channels = frozenset(file.channels)
        self._post(Arrived(name, tile, attempt, seconds, render_seconds, payload, kept, channels, samples))

    def _look_at_the_line(self, asked: float, seconds: float) -> None:
        """Compressing takes the node's time: it pays where an answer is waited for longer than it was worked on.

        A tile's turn begins when it is asked for, or when the one before it is there.
        """
        now = time.monotonic()
        waited = now - max(asked, self._answered)
        self._answered = now
        self._use_zip = waited > SLOW_LINE * seconds + JITTER_S


def _has_nan(plane: Any) -> bool:
    return bool(np.isnan(plane).any())
