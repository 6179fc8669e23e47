"""Pictures of a schedule: a render by its nodes over time, and efficiency over the number of nodes.

    make plots        # of the demo's render; needs matplotlib, which `make plots` installs

Writes docs/images/gantt.png from a job folder's journal, and docs/images/efficiency.png from the simulator.
"""

from __future__ import annotations

import random
import statistics
import sys
from datetime import datetime
from pathlib import Path

import matplotlib as mpl

from engine.store import JobStore

from .. import support
from .simulator import Cost, Machine, cluster, policies

mpl.use("agg")
import matplotlib.pyplot as plt

IMAGES = support.REPOSITORY / "docs" / "images"
NODES = (1, 2, 4, 8, 16, 32, 64)
WORLDS = 5
"""Random clusters for each number of nodes."""
FRAME_S = 120.0
"""What all nodes together need for the frame."""
SHOWN = {
    "ours": "this",
    "fixed grid, pull": "fixed grid that nodes pull from",
    "the same, fresh Blenders": "the same, a fresh Blender for each tile",
    "strips by speed": "a strip for each node by its speed",
    "64 px tiles, 16 px margin, fresh Blenders": "64 px tiles, 16 px margin, fresh Blenders",
}


def main() -> None:
    gantt(Path(sys.argv[1]), IMAGES / "gantt.png")
    efficiency(IMAGES / "efficiency.png")


def gantt(job: Path, path: Path) -> None:
    """Each tile from its beginning to its end, a line for each node."""
    store = JobStore.open(job)
    entries = sorted(store.entries().values(), key=lambda entry: entry["time"])
    store.close()
    bars: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        end = datetime.fromisoformat(entry["time"]).timestamp()
        bars.setdefault(entry["node"], []).append((end - entry["seconds"], entry["seconds"]))
    first = min(start for line in bars.values() for start, _ in line)
    figure, axes = plt.subplots(figsize=(9, 0.9 + 0.5 * len(bars)))
    for row, (name, line) in enumerate(sorted(bars.items())):
        shifted = [(start - first, seconds) for start, seconds in line]
        axes.broken_barh(shifted, (row - 0.35, 0.7), edgecolor="white", linewidth=0.6)
        print(f"{name}: {len(line)} tiles, busy {sum(seconds for _, seconds in line):.1f} s")
    axes.set_yticks(range(len(bars)), sorted(bars))
    axes.set_xlabel("seconds")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def efficiency(path: Path) -> None:
    """Lower bound over makespan, the mean of some clusters whose nodes' speeds differ by up to ten."""
    found: dict[str, list[float]] = {name: [] for name in SHOWN}
    for count in NODES:
        ratios: dict[str, list[float]] = {}
        for seed in range(WORLDS):
            machines: list[Machine] = cluster(random.Random(seed), count=count, spread=10)
            seconds = FRAME_S * sum(machine.speed for machine in machines)
            for name, outcome in policies(Cost.of("demo", 1920, 1080, seconds), machines).items():
                ratios.setdefault(name, []).append(1 / outcome.ratio)
        for name, line in found.items():
            line.append(statistics.mean(ratios[name]))
    figure, axes = plt.subplots(figsize=(9, 4))
    for name, line in found.items():
        axes.plot(NODES, line, marker="o", label=SHOWN[name], linewidth=2.5 if name == "ours" else 1.2)
        print(f"{SHOWN[name]}: {', '.join(f'{value:.2f}' for value in line)}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(NODES, [str(count) for count in NODES])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("nodes")
    axes.set_ylabel("efficiency")
    axes.legend(loc="center left", bbox_to_anchor=(0, 0.5), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
