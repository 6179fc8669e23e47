"""One running job: nodes' threads on one side, whoever drives it on the other.

    node threads --events--> inbox --> session thread: Scheduler.handle -> commands
         ^                                 |   store, framebuffer (this thread alone)
         +------------ assign -------------+--messages--> poll()

`RenderSession` is the same object for the modal operator, which polls it, for the command
line, which blocks on it, and for tests. Its promises: each tile handed out ends in exactly one
TileEnded, also after a cancel; nothing follows SessionDone; `cancel` may be called at any
time, any number of times; `join` is bounded.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import benchmark, denoise, exr, framebuffer, heatmap, merge, node, plan
from .blend import scene_name, states_of
from .job import (
    AnswersNeeded,
    EngineError,
    HostKeyUnknown,
    Job,
    JobError,
    Node,
    PassphraseNeeded,
    StoreError,
    Tile,
)
from .messages import (
    Message,
    NodeChanged,
    NodeStatus,
    PhaseChanged,
    Progress,
    SessionDone,
    TileEnded,
    TileStarted,
)
from .pool import WorkerPool
from .recipes import RecipeBook
from .report import NodeRow, Report
from .scheduler import Scheduler
from .store import JobStore
from .tiling import grid_of
from .workers import merged, merged_row, worker_name

if TYPE_CHECKING:
    from .access import Access

TICK_S = 0.5
STOP_S = 8.0
"""Bound on the wait for all nodes' threads at the end."""


@dataclass(frozen=True, slots=True)
class _Declined:
    """Nobody will answer what the node asks."""

    node: str


class RenderSession:
    """Renders one job on many nodes. See the module's docstring for what it promises."""

    def __init__(
        self,
        job: Job,
        nodes: Sequence[Node],
        store: JobStore,
        *,
        access: Access | None,
        local_blender: Sequence[str],
        can_ask: bool = False,
        recipes: Path | None = None,
        speeds: benchmark.Speeds | None = None,
        pool: WorkerPool | None = None,
    ) -> None:
        """Tiles that `store` already holds are not rendered again.

        `local_blender` is the beginning of the command line that starts Blender here; without
        `access` nodes behind SSH are reported as failed. With `can_ask` somebody is there who
        answers for unknown hosts and passphrases, so nodes that need an answer are waited for.
        In the folder `recipes` it is remembered what files consist of, so that the next render
        need not read them again.
        `speeds` of earlier renders are begun with, and added to. Workers that are kept in `pool` are
        gone on with, and when the frame is done they go there.
        Raises JobError without a node.
        """
        if not nodes:
            raise JobError("No node is enabled.", "Enable This Computer or another node in the list.")
        self._job = job
        self._store = store
        self._access = access
        self._local_blender = tuple(local_blender)
        self._can_ask = can_ask
        self._grid = grid_of(job)
        self._resumed = store.finished()
        self._samples = {index: entry["samples"] for index, entry in self._resumed.items()}
        try:
            is_fixed = not job.use_auto_tile_size
            self._scheduler = Scheduler(self._grid, is_fixed=is_fixed, done=self._resumed)
        except ValueError as error:
            raise StoreError(f"The job in {store.folder} is damaged: {error}.", "Start a new one.") from None
        self._inbox: queue.Queue[node.NodeEvent | _Declined | Node | str] = queue.Queue()
        self._messages: queue.Queue[Message] = queue.Queue()
        self._cancelled = threading.Event()
        self._started = 0.0
        self._channels: frozenset[str] | None = None
        self._lives: dict[str, node.NodeLife] = {}
        """By the name of the worker: a node may have several."""
        self._book = RecipeBook(recipes)
        self._sent: Counter[str] = Counter()
        self._pool = pool
        self._scene: str | None = None
        self._states = ""
        self._scene_lock = threading.Lock()
        self._nodes: dict[str, Node] = {}
        self._owners: dict[str, str] = {}
        """Worker -> node."""
        self._status: dict[str, NodeStatus] = {}
        self._speeds = speeds or benchmark.Speeds(None)
        self._speed_keys: dict[str, str] = {}
        self._pixels: Counter[str] = Counter()
        self._pending: node.Arrived | None = None
        self._handed_out: dict[tuple[str, int, int], Tile] = {}
        self.framebuffer = framebuffer.Framebuffer(job)
        self._initial = tuple(nodes)
        self._thread = threading.Thread(target=self._run, name="dc-session", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def poll(self, timeout: float = 0.0) -> list[Message]:
        """Messages that came since the last call; waits up to `timeout` seconds for the first."""
        messages: list[Message] = []
        try:
            messages.append(self._messages.get(timeout=timeout) if timeout else self._messages.get_nowait())
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def cancel(self) -> None:
        """Stop soon; finished tiles stay in the job folder."""
        self._cancelled.set()
        self._inbox.put("wake")

    def join(self, timeout: float) -> bool:
        """Wait until everything has ended; False if it has not after `timeout` seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def add_node(self, late: Node) -> None:
        """Let a node take part that was not there at the start, or that failed before."""
        self._inbox.put(late)

    def retry(self, name: str, *, send_blender: bool = False) -> None:
        """Try a failed node again: its host is trusted now, its passphrase is known, or it may be
        sent a Blender."""
        if name in self._nodes:
            listed = self._nodes[name]
            self.add_node(replace(listed, send_blender=listed.send_blender or send_blender))

    def decline(self, name: str) -> None:
        """Nobody answers what a node asks: it is not waited for any longer."""
        self._inbox.put(_Declined(name))

    def _run(self) -> None:
        self._started = time.monotonic()
        if self._pool is not None:
            # Before any node reads them: what changes from now on makes the next scene another one.
            self._states = states_of(self._job)
            threading.Thread(target=self._scene_name, name="dc-scene", daemon=True).start()
        error: EngineError | None = None
        outcome = "failed"
        try:
            outcome, error = self._render()
            if outcome == "done" and not self._finish_frame():
                outcome = "cancelled"
        except EngineError as failure:
            outcome, error = "failed", failure
        except Exception as bug:  # noqa: BLE001 - a bug here must reach a person, not vanish
            outcome, error = "failed", EngineError(f"internal error: {bug!r}", "Please report it.")
        self._end(outcome, error)

    def _render(self) -> tuple[str, EngineError | None]:
        self._show_finished()
        if self._scheduler.is_complete:
            return "done", None
        for listed in self._initial:
            self._add(listed)
        self._store.note("start", nodes=[listed.name for listed in self._initial])
        self._say_progress()
        next_tick = 0.0
        finish = self._do(self._scheduler.handle(plan.Tick(), time.monotonic()))
        while finish is None:
            if self._cancelled.is_set():
                return "cancelled", None
            try:
                event = self._inbox.get(timeout=TICK_S)
                finish = self._take(event)
            except queue.Empty:
                pass
            now = time.monotonic()
            if now >= next_tick and finish is None:
                next_tick = now + TICK_S
                for life in self._lives.values():
                    life.check_silence()
                finish = self._do(self._scheduler.handle(plan.Tick(), now))
        if not finish.failed:
            return "done", None
        return "failed", self._failure(finish)

    def _failure(self, finish: plan.Finish) -> EngineError:
        errors = [status.error for status in self._status.values() if status.error]
        part = sum(map(self._grid.pixels, finish.failed)) / self._grid.pixels(self._grid.tile(0))
        words = f"{100 * part:.3g}% of the picture could not be rendered: {finish.reason}."
        if self._scheduler.done == 0 and len(errors) == 1:
            words += f" {errors[0]}"
        return EngineError(words, "Finished tiles are kept; mend the cause and press Resume.")

    def _show_finished(self) -> None:
        """Tiles of an earlier run appear at once."""
        for tile in self._scheduler.kept():
            file = exr.Reader(self._store.tile_path(tile))
            shown = file.rows(0, file.height, exr.combined(file.channels, self._job.view_layer))
            self._channels = self._channels or frozenset(file.channels)
            self.framebuffer.paste(tile, framebuffer.window(shown, tile, self._job))

    def _add(self, listed: Node) -> None:
        self._nodes[listed.name] = listed
        for index in range(max(1, listed.workers)):
            self._add_worker(listed, index)

    def _add_worker(self, listed: Node, index: int) -> None:
        name = worker_name(listed.name, index)
        old = self._lives.get(name)
        if old is not None and not (self._status[name].state == "failed" and old.join(1.0)):
            return  # It is still living.
        life = node.NodeLife(
            replace(listed, name=name),
            self._job,
            self._store.snapshot,
            self._inbox.put,
            access=self._access,
            local_blender=self._local_blender,
            book=self._book,
            share=(index, listed.workers),
            pool=self._pool,
            scene=self._scene_name,
        )
        self._lives[name] = life
        self._owners[name] = listed.name
        self._set_status(NodeStatus(name))
        self._do(self._scheduler.handle(plan.NodeExpected(name), time.monotonic()))
        life.start()

    def _scene_name(self) -> str:
        """Called by nodes' threads; the first one works it out, and it lasts where the .blend is large."""
        with self._scene_lock:
            if self._scene is None:
                self._scene = scene_name(self._job, self._store.snapshot, self._states)
            return self._scene

    def _take(self, event: node.NodeEvent | _Declined | Node | str) -> plan.Finish | None:
        """Turn what a node said into the scheduler's event, and carry out its commands."""
        now = time.monotonic()
        match event:
            case Node():
                self._add(event)
            case node.StateChanged(name, state, detail, info):
                status = self._status[name]
                self._set_status(
                    replace(status, state=state, detail=detail, info=info or status.info, error=None)
                )
            case _Declined(name):
                return self._do(
                    self._scheduler.handle(plan.NodeLeft(name, "not answered", is_final=True), now)
                )
            case node.Joined(name, device, gpus):
                return self._joined(name, device, gpus, now)
            case node.Left(name, error, is_final):
                state = "failed" if is_final else "offline"
                self._set_status(
                    replace(self._status[name], state=state, detail=error.message, tile=None, error=error)
                )
                self._store.note("left", node=name, reason=str(error))
                is_asking = self._can_ask and (
                    isinstance(error, HostKeyUnknown | PassphraseNeeded | AnswersNeeded)
                    or bool(getattr(error, "system", ""))
                )
                left = plan.NodeLeft(name, error.message, is_final and not is_asking)
                return self._do(self._scheduler.handle(left, now))
            case node.Spoiled(name, tile, attempt, reason):
                failed = plan.TileFailed(name, tile.index, attempt, reason)
                return self._do(self._scheduler.handle(failed, now))
            case node.Uploaded(name, size, seconds):
                self._sent[name] += size
                self._store.note("uploaded", node=name, bytes=size, seconds=round(seconds, 3))
            case node.Arrived():
                return self._arrived(event, now)
        return None

    def _joined(self, name: str, device: str, gpus: int, now: float) -> plan.Finish | None:
        status = self._status[name]
        owner = self._nodes[self._owners[name]]
        assert status.info is not None  # It comes before.
        self._speed_keys[name] = benchmark.key(owner, status.info, device, self._job)
        speed = self._speeds.of(self._speed_keys[name])
        self._set_status(replace(status, state="idle", detail="", device=device, speed=speed or 0.0))
        if name == owner.name and owner.workers == 0:
            # Only now is it known how many GPUs there are: each gets a worker of its own.
            for index in range(1, gpus):
                self._add_worker(owner, index)
        return self._do(self._scheduler.handle(plan.NodeJoined(name, speed), now))

    def _arrived(self, event: node.Arrived, now: float) -> plan.Finish | None:
        tile, name, attempt = event.tile, event.node, event.attempt
        self._channels = self._channels or event.channels
        if event.channels != self._channels:
            reason = f"its passes differ: {sorted(self._channels ^ event.channels)[:4]}"
            return self._do(self._scheduler.handle(plan.TileFailed(name, tile.index, attempt, reason), now))
        self._pending = event
        done = plan.TileDone(name, tile.index, attempt, event.seconds)
        return self._do(self._scheduler.handle(done, now))

    def _do(self, commands: list[plan.Command]) -> plan.Finish | None:
        finish = None
        touched = set()
        for command in commands:
            match command:
                case plan.Assign(name, tile, attempt):
                    self._handed_out[name, tile.index, attempt] = tile
                    self._messages.put(TileStarted(tile, name, attempt))
                    self._lives[name].assign(tile, attempt)
                    touched.add(name)
                case plan.Keep(name):
                    assert self._pending is not None
                    self._keep(self._pending)
                    touched.add(name)
                case plan.EndLease(name, tile, attempt, outcome, reason):
                    self._say_ended(TileEnded(tile, name, attempt, outcome, detail=reason))
                    if outcome == "failed":
                        self._store.note("failed", tile=tile.index, attempt=attempt, node=name, reason=reason)
                    else:
                        self._lives[name].skip(tile, attempt)
                    touched.add(name)
                case plan.SetAside(name, seconds, reason):
                    detail = f"set aside for {seconds:.0f} s: {reason}"
                    self._set_status(replace(self._status[name], state="paused", detail=detail, tile=None))
                case plan.Drop(name, reason):
                    self._lives[name].stop()
                    error = EngineError(f"failed again and again: {reason}", node=name)
                    self._set_status(
                        replace(self._status[name], state="failed", detail=reason, tile=None, error=error)
                    )
                case plan.Finish():
                    finish = command
        for name in touched:
            self._update_work(name)
        return finish

    def _keep(self, arrived: node.Arrived) -> None:
        name, tile, attempt, seconds = arrived.node, arrived.tile, arrived.attempt, arrived.seconds
        self._pixels[name] += tile.rect.area
        self._store.keep(
            tile, arrived.data, attempt=attempt, node=name, seconds=seconds, samples=arrived.samples
        )
        self._samples[tile.index] = arrived.samples
        self.framebuffer.paste(tile, arrived.kept)
        self._say_ended(TileEnded(tile, name, attempt, "done", seconds, arrived.render_seconds))
        self._say_progress()

    def _say_ended(self, ended: TileEnded) -> None:
        del self._handed_out[ended.node, ended.tile.index, ended.attempt]
        self._messages.put(ended)

    def _say_progress(self) -> None:
        plan_ = self._scheduler
        seconds_left = plan_.seconds_left(time.monotonic())
        self._messages.put(Progress(plan_.done, plan_.total, plan_.fraction, seconds_left))

    def _set_status(self, status: NodeStatus) -> None:
        if self._status.get(status.name) != status:
            self._status[status.name] = status
            owner = self._owners[status.name]
            self._messages.put(NodeChanged(merged(owner, self._statuses_of(owner))))

    def _statuses_of(self, owner: str) -> list[NodeStatus]:
        return [status for name, status in self._status.items() if self._owners[name] == owner]

    def _update_work(self, name: str) -> None:
        """Bring a node's status up to what the scheduler knows of it."""
        status = self._status[name]
        tile = self._scheduler.running_tile(name)
        count, seconds = self._scheduler.tiles_done_by(name)
        state = status.state
        if tile:
            state = "rendering"
        elif state == "rendering":
            state = "idle"
        mean = seconds / count if count else 0.0
        speed = self._pixels[name] / seconds if seconds else status.speed
        self._set_status(
            replace(status, state=state, tile=tile, tiles_done=count, mean_seconds=mean, speed=speed)
        )

    def _finish_frame(self) -> bool:
        """From tiles to the frame that F12 would have given. Returns False when cancelled meanwhile."""
        for life in self._lives.values():
            # The denoiser wants this computer's processors, or its GPU's memory, for itself.
            life.stop(keep=not (life.node.is_local and self._job.denoising and self._job.denoising.use_gpu))
        files = [(tile, self._store.tile_path(tile)) for tile in self._scheduler.kept()]
        merged = self._store.folder / "merged.exr"
        frame = self._store.frame_path
        try:
            self._messages.put(PhaseChanged("Putting the frame together"))
            tiles = merge.Tiles(self._job, files, self._samples)
            if self._job.use_heat_map:
                heat = heatmap.make(self._job, files, tiles, self._store.entries())
                heatmap.write_png(self._store.heatmap_path, heat.colored())
                heatmap.write_png(heatmap.grey_path(self._store.heatmap_path), heat.grey())
            if self._job.denoising is None:
                channels = merge.without_helpers(self._job, tiles.channels)
                merge.write_frame(self._job, tiles.bands(), channels, tiles.header, frame)
                if self._job.sample_parts:
                    self.framebuffer.show_file(
                        frame
                    )  # Parts of samples that were rendered twice were shown twice.
                return True
            tiles.write(merged)
            self._messages.put(PhaseChanged("Denoising"))
            if not denoise.run(
                self._job,
                merged,
                frame,
                samples=tiles.samples,
                blender=self._local_blender,
                cancelled=self._cancelled,
            ):
                return False
            self.framebuffer.show_file(frame)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"The frame could not be put together in {self._store.folder} ({error}).",
                "Make room there and press Resume; finished tiles are kept.",
            ) from None
        finally:
            merged.unlink(missing_ok=True)
        return True

    def _end(self, outcome: str, error: EngineError | None) -> None:
        for (name, _, attempt), tile in list(self._handed_out.items()):
            self._say_ended(TileEnded(tile, name, attempt, "cancelled", detail="the render ended"))
        for life in self._lives.values():
            life.stop(keep=outcome == "done")
        deadline = time.monotonic() + STOP_S
        for life in self._lives.values():
            if not life.join(max(0.0, deadline - time.monotonic())):
                life.stop()
        wall = time.monotonic() - self._started
        rows = []
        for name in self._lives:
            count, seconds = self._scheduler.tiles_done_by(name)
            failure = self._status[name].error
            words = str(failure.message) if failure else ""
            rows.append(NodeRow(name, count, seconds, words, self._sent[name]))
            # A part of the samples of a frame is no measure for whole pixels.
            if seconds and name in self._speed_keys and not self._job.sample_parts:
                self._speeds.learn(self._speed_keys[name], self._pixels[name] / seconds)
        self._book.clean()
        self._speeds.save()
        rows = [
            merged_row(owner, [row for row in rows if self._owners[row.node] == owner])
            for owner in dict.fromkeys(self._owners.values())
        ]
        try:
            self.framebuffer.save()
            self._store.note("end", outcome=outcome, wall_seconds=round(wall, 3))
        except StoreError as failure:
            error = error or failure
        except OSError as failure:
            words = f"The picture could not be saved in {self._store.folder} ({failure.strerror})."
            error = error or StoreError(words, "Make room there.")
        report = Report(tuple(rows), self._scheduler.done, len(self._resumed), wall)
        self._messages.put(SessionDone(outcome, error, report))
