"""Several workers on one node: separate for the scheduler, one node for the person who looks on.

The first is called as its node, the others `name #2` and so on. Each has a connection and leases of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .messages import NodeStatus
from .report import NodeRow

STATES = ("rendering", "idle", "syncing", "starting", "connecting", "paused", "offline", "failed")
"""Of several workers' states the first of these is that of their node."""


def worker_name(node: str, index: int) -> str:
    return f"{node} #{index + 1}" if index else node


def merged(name: str, statuses: Sequence[NodeStatus]) -> NodeStatus:
    """The status of a node with these workers."""
    if len(statuses) == 1:
        return replace(statuses[0], name=name)
    leader = min(statuses, key=lambda status: STATES.index(status.state))
    count = sum(status.tiles_done for status in statuses)
    seconds = sum(status.tiles_done * status.mean_seconds for status in statuses)
    here = sum(status.state in ("rendering", "idle") for status in statuses)
    lost = next((status for status in statuses if status.error), None)
    words = [f"{here} of {len(statuses)} workers" if here else "", leader.detail]
    if lost is not None and lost.error is not None and lost is not leader:
        words.append(f"{lost.name}: {lost.error.message}")
    return replace(
        leader,
        name=name,
        detail="; ".join(filter(None, words)),
        tiles_done=count,
        mean_seconds=seconds / count if count else 0.0,
        info=next((status.info for status in statuses if status.info), None),
        device=" + ".join(dict.fromkeys(status.device for status in statuses if status.device)),
        speed=sum(status.speed for status in statuses),
    )


def merged_row(name: str, rows: Sequence[NodeRow]) -> NodeRow:
    """The line of the closing table for a node with these workers."""
    return replace(
        rows[0],
        node=name,
        tiles=sum(row.tiles for row in rows),
        seconds=sum(row.seconds for row in rows),
        error=next((row.error for row in rows if row.error), ""),
        sent_bytes=sum(row.sent_bytes for row in rows),
    )
