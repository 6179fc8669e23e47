r"""The one place that knows the render which is running, and the Blender data that shows it.

session.poll() -> tick() -> window_manager.distributed_cycles -> panels
                       \-> questions (an unknown host key, a locked key file)
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import bpy

from ..engine.job import (
    THIS_COMPUTER,
    AnswersNeeded,
    BlenderNotFound,
    BlenderUnsuitable,
    EngineError,
    HostKeyUnknown,
    Job,
    Node,
    PassphraseNeeded,
)
from ..engine.messages import Message, NodeChanged, NodeStatus, PhaseChanged, Progress, SessionDone, TileEnded
from ..engine.pool import WorkerPool
from ..engine.session import RenderSession
from ..engine.store import JobStore
from . import addon

if TYPE_CHECKING:
    from ..engine.access import Access

TICK_BUDGET_S = 0.015
"""Main-thread time that messages may take per tick; the rest of them waits for the next one."""
STOP_S = 2.5


@dataclass
class Running:
    """A session and what came with it."""

    session: RenderSession
    store: JobStore
    job: Job
    access: Access | None
    is_cancelled: bool = False
    pending: deque[Message] = field(default_factory=deque)


class _State:
    current: Running | None = None


pool = WorkerPool()
"""Workers that wait for the next render of this Blender; none, as long as nobody says for how long."""


questions: dict[str, EngineError] = {}
"""Node name -> the error that a person can answer."""
missing_files: list[str] = []
"""What the render that was asked for last would go without, a line for each file."""


def current() -> Running | None:
    """The running render, if there is one."""
    return _State.current


def begin(job: Job, store: JobStore, nodes: list[Node], *, access: Access | None, can_ask: bool) -> Running:
    """Start rendering `job`. Raises EngineError; then `store` is closed."""
    try:
        session = RenderSession(
            job,
            nodes,
            store,
            access=access,
            local_blender=addon.local_blender(),
            can_ask=can_ask,
            recipes=addon.user_folder("recipes"),
            speeds=addon.speeds(),
            pool=pool if pool.seconds else None,
        )
    except EngineError:
        store.close()
        raise
    questions.clear()
    _State.current = Running(session, store, job, access)
    reset_status()
    status().is_running = True
    status().phase = "Preparing"
    session.start()
    return _State.current


def cancel() -> None:
    """Ask the running render to stop; its SessionDone comes later."""
    if _State.current is not None and not _State.current.is_cancelled:
        _State.current.is_cancelled = True
        status().phase = "Stopping"
        _State.current.session.cancel()


def end() -> None:
    """The render is over: let go of it and of its folder."""
    if _State.current is not None:
        _State.current.store.close()
    _State.current = None
    questions.clear()
    shown = status()
    shown.is_running = False
    for line in shown.nodes:
        line.tile, line.question = "", "NONE"
        if line.state != "failed":
            line.state = "offline"


def stop() -> None:
    """Stop whatever runs, within a bounded time: the extension is disabled, or Blender quits."""
    running, _State.current = _State.current, None
    if running is not None:
        running.session.cancel()
        # Workers end by themselves when their stdin closes, should this not be long enough.
        running.session.join(STOP_S)
        running.store.close()
        # The window manager keeps what it was given, even without the extension.
        reset_status()
    questions.clear()


def status() -> Any:
    """What the panels show."""
    return bpy.context.window_manager.distributed_cycles


def reset_status() -> None:
    """Forget the last render."""
    shown = status()
    shown.is_running = False
    shown.progress = 0.0
    shown.tiles_done = shown.tiles_total = 0
    shown.seconds_left = -1.0
    shown.phase = ""
    shown.messages.clear()
    shown.nodes.clear()


def say(text: str, level: str = "INFO") -> None:
    """Add a line to what the panel shows; level is INFO, WARNING or ERROR."""
    line = status().messages.add()
    line.text, line.level = text, level


def tick(running: Running) -> tuple[bool, SessionDone | None]:
    """Take messages for a short time: whether anything is to be redrawn, and the last message."""
    deadline = time.perf_counter() + TICK_BUDGET_S
    running.pending.extend(running.session.poll())
    is_changed = bool(running.pending)
    while running.pending and time.perf_counter() < deadline:
        message = running.pending.popleft()
        if isinstance(message, SessionDone):
            return True, message
        show(message)
    return is_changed, None


def show(message: Message) -> None:
    """Bring the status in Blender up to what the session said."""
    shown = status()
    match message:
        case Progress(done, total, fraction, seconds_left):
            if not (_State.current and _State.current.is_cancelled):
                shown.phase = "Rendering"
            shown.progress = fraction
            shown.tiles_done, shown.tiles_total = done, total or 0
            shown.seconds_left = -1.0 if seconds_left is None else seconds_left
        case PhaseChanged(phase):
            shown.phase = phase
        case NodeChanged(node):
            _show_node(shown, node)
        case TileEnded(tile, name, attempt, "failed", _, _, detail):
            say(f"{name}: tile {tile}, attempt {attempt} failed: {detail}", "WARNING")


def _show_node(shown: Any, node: NodeStatus) -> None:
    line = shown.nodes.get(node.name)
    if line is None:
        line = shown.nodes.add()
        line.name = node.name
    line.state = node.state
    line.detail = node.detail
    line.tile = str(node.tile) if node.tile else ""
    line.tiles_done = node.tiles_done
    line.mean_seconds = node.mean_seconds
    line.device, line.speed = node.device, node.speed
    warning = f"{node.name}: {node.info.warning}" if node.info and node.info.warning else ""
    if warning and all(message.text != warning for message in shown.messages):
        say(warning, "WARNING")
    line.error = f"{node.error.message} {node.error.hint}".strip() if node.error else ""
    line.question = ask(node.name, node.error)
    if node.state == "failed" and line.question == "NONE" and node.name == THIS_COMPUTER:
        say(f"{node.name}: {line.error}", "ERROR")


def ask(name: str, error: EngineError | None) -> str:
    """Keep an error that a person can answer, and say which question it is."""
    kind = "NONE"
    if isinstance(error, HostKeyUnknown):
        kind = "TRUST"
    elif isinstance(error, PassphraseNeeded):
        kind = "PASSPHRASE"
    elif isinstance(error, AnswersNeeded):
        kind = "ANSWERS"
    elif isinstance(error, BlenderNotFound | BlenderUnsuitable) and addon.can_send_to(error.system):
        kind = "SEND"
    if kind == "NONE" or error is None:
        questions.pop(name, None)
    else:
        questions[name] = error
    return kind


def redraw(*area_types: str) -> None:
    """Redraw the areas of these types in all windows."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in area_types:
                area.tag_redraw()
