"""What a session tells, written into the window manager's runtime status for the panels to show."""

from __future__ import annotations

from typing import Any

from ..engine.job import HostKeyUnknown, PassphraseNeeded
from ..engine.messages import Message, NodeChanged, NodeStatus, Progress, SessionDone

UNKNOWN_S = -1.0


def begin(status: Any, warnings: list[str]) -> None:
    """Forget the last render."""
    status.is_running = True
    status.fraction, status.done, status.total = 0.0, 0, 0
    status.seconds_left = UNKNOWN_S
    status.error = ""
    status.warnings = "\n".join(warnings)
    status.report = ""
    status.nodes.clear()


def apply(status: Any, message: Message) -> bool:
    """Take in one message; whether anything that is shown changed."""
    match message:
        case NodeChanged(node):
            _apply_node(status, node)
        case Progress(done, total, fraction, seconds_left):
            status.done, status.total, status.fraction = done, total, fraction
            status.seconds_left = UNKNOWN_S if seconds_left is None else seconds_left
        case SessionDone(_, error, report):
            status.is_running = False
            status.error = str(error) if error else ""
            status.report = report.table()
        case _:
            return False
    return True


def _apply_node(status: Any, node: NodeStatus) -> None:
    item = status.nodes.get(node.name)
    if item is None:
        item = status.nodes.add()
        item.name = node.name
    item.state = node.state.upper()
    item.detail = str(node.error) if node.error else node.detail
    rect = node.tile.rect if node.tile else None
    item.tile = f"{rect.x}, {rect.y}  {rect.width} x {rect.height}" if rect else ""
    item.tiles_done = node.tiles_done
    item.mean_seconds = node.mean_seconds
    ask_about(item, node.error)


def ask_about(item: Any, error: Exception | None) -> None:
    """Keep what a person must know to answer the question in `error`, if it is one."""
    item.question = "NONE"
    if isinstance(error, HostKeyUnknown):
        item.question = "HOST_KEY"
        item.host, item.port = error.host, error.port
        item.key, item.fingerprint = error.key, error.fingerprint
    elif isinstance(error, PassphraseNeeded):
        item.question = "PASSPHRASE"
        item.key_file = error.key_file
