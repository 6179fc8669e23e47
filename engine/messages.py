"""What a running session tells whoever drives it: the user interface, the command line, a test."""

from __future__ import annotations

from dataclasses import dataclass

from .job import EngineError, NodeInfo, Tile
from .report import Report


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node as it is now."""

    name: str
    state: str = "offline"
    """offline, connecting, starting, syncing, idle, rendering, paused or failed."""
    detail: str = ""
    """One line for a person."""
    tile: Tile | None = None
    """What it renders."""
    tiles_done: int = 0
    mean_seconds: float = 0.0
    info: NodeInfo | None = None
    error: EngineError | None = None
    device: str = ""
    """What renders there, once the scene is open."""
    speed: float = 0.0
    """Pixels of this scene per second; 0 while it is not known."""


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node's status is another one now."""

    status: NodeStatus


@dataclass(frozen=True, slots=True)
class TileStarted:
    """A tile was handed to a node. Exactly one TileEnded follows, also after a cancel."""

    tile: Tile
    node: str
    attempt: int


@dataclass(frozen=True, slots=True)
class TileEnded:
    """What became of a tile that was handed to a node."""

    tile: Tile
    node: str
    attempt: int
    outcome: str
    """done, failed, dropped (another node was first) or cancelled."""
    seconds: float = 0.0
    """Time from request to result on the node; 0 without a result."""
    render_seconds: float = 0.0
    """Cycles' own part of it."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the frame is."""

    done: int
    """Tiles that are there."""
    total: int | None
    """None where tiles are cut as they are needed."""
    fraction: float
    """By area, 0 to 1."""
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """All tiles are there; what is done with them now, for a person."""

    phase: str


@dataclass(frozen=True, slots=True)
class SessionDone:
    """The last message: nothing follows it."""

    outcome: str
    """done, failed or cancelled."""
    error: EngineError | None
    report: Report


Message = NodeChanged | TileStarted | TileEnded | Progress | PhaseChanged | SessionDone
