"""What session and scheduler say to each other: events tell what happened, commands say what to do."""

from __future__ import annotations

from dataclasses import dataclass

from .job import Tile


@dataclass(frozen=True, slots=True)
class NodeExpected:
    """A node was listed; it may join at any time."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """The node has the scene open and can render."""

    node: str
    speed: float | None = None
    """Pixels of this scene per second, from a benchmark; None if nobody knows."""


@dataclass(frozen=True, slots=True)
class NodeLeft:
    """The node's worker is gone. Unless `is_final`, it is expected back."""

    node: str
    reason: str
    is_final: bool


@dataclass(frozen=True, slots=True)
class TileDone:
    """A valid result arrived. `seconds` is the node's own time for it."""

    node: str
    tile: int
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TileFailed:
    """The node answered, but not with a valid tile."""

    node: str
    tile: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = NodeExpected | NodeJoined | NodeLeft | TileDone | TileFailed | Tick


@dataclass(frozen=True, slots=True)
class Assign:
    """Send the tile to the node."""

    node: str
    tile: Tile
    attempt: int


@dataclass(frozen=True, slots=True)
class Keep:
    """This result is the tile: store it, show it."""

    node: str
    tile: Tile
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class EndLease:
    """A lease ended without a result that is kept."""

    node: str
    tile: Tile
    attempt: int
    outcome: str
    """`failed`, or `dropped` where somebody else was first."""
    reason: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """The node gets no tile for `seconds`."""

    node: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Do not use the node again."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do. `failed` are the tiles nobody could render."""

    failed: tuple[Tile, ...]
    reason: str


Command = Assign | Keep | EndLease | SetAside | Drop | Finish
