"""What a render comes to at its end: who did how much."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node's part in a render."""

    node: str
    tiles: int
    seconds: float
    """Sum of the node's own time over its tiles."""
    error: str = ""
    """Why it did not take part, or stopped."""
    sent_bytes: int = 0
    """What was sent to bring the scene's files there."""

    @property
    def mean_seconds(self) -> float:
        return self.seconds / self.tiles if self.tiles else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """The closing table of a render."""

    rows: tuple[NodeRow, ...]
    tiles: int
    """Results that are there."""
    resumed: int
    """How many of them were there from an earlier run."""
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "tiles": self.tiles,
            "resumed": self.resumed,
            "wall_seconds": round(self.wall_seconds, 3),
            "nodes": [{**asdict(row), "mean_seconds": row.mean_seconds} for row in self.rows],
        }

    def table(self) -> str:
        """Text with a row per node: tiles, mean time per tile, share of the tiles."""
        cells = [("node", "tiles", "mean time", "share")]
        for row in self.rows:
            mean = f"{row.mean_seconds:.2f} s" if row.tiles else "-"
            share = f"{100 * row.tiles / self.tiles:.0f}%" if self.tiles else "-"
            cells.append((row.node, str(row.tiles), mean, share))
        if self.resumed:
            cells.append(("(earlier)", str(self.resumed), "-", f"{100 * self.resumed / self.tiles:.0f}%"))
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        lines = []
        for name, *numbers in cells:
            right = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
            lines.append("  ".join((name.ljust(widths[0]), *right)))
        lines.insert(1, "-" * len(lines[0]))
        lines.append(f"{self.tiles} tiles in {self.wall_seconds:.1f} s")
        lines += [f"{row.node}: {row.error}" for row in self.rows if row.error]
        return "\n".join(lines)
