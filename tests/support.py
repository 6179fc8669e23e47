"""What tests of every kind need: a real Blender, scenes, F12's pixels, and a look at the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine import exr
from engine.job import Job, Rect, Tile
from engine.messages import Message, SessionDone, TileEnded, TileStarted
from engine.session import RenderSession
from engine.tiling import Grid

REPOSITORY = Path(__file__).resolve().parent.parent
BLENDER = Path(os.environ.get("BLENDER") or REPOSITORY / "tests" / "bin" / "blender")
MARK = "DC_TEST_MARK"
"""Environment variable by which a test finds its own processes again."""


def run_python(code: str, *arguments: str, blend: Path | None = None) -> str:
    """Run `code` inside Blender; `sys.argv[-n:]` are the arguments. Returns what it printed."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(code)
        script.flush()
        command = [str(BLENDER), "--background", "--factory-startup", "--python-exit-code", "1"]
        command += [str(blend)] if blend else []
        done = subprocess.run(
            [*command, "--python", script.name, "--", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SCENE = """
import bpy, random, sys
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 16
scene.cycles.use_adaptive_sampling = False
scene.cycles.use_denoising = False
scene.render.resolution_x, scene.render.resolution_y = {width}, {height}
bpy.context.view_layer.use_pass_z = True
chance = random.Random(1)
for number in range(20):
    place = [chance.uniform(-3, 3) for _ in range(3)]
    bpy.ops.mesh.primitive_uv_sphere_add(location=place, radius=chance.uniform(.2, .8))
{more}
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
"""

COMPOSITOR = """
scene = bpy.context.scene
scene.use_nodes = True
if hasattr(scene, "compositing_node_group"):  # Blender 5.0 and later
    tree = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
    scene.compositing_node_group = tree
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    output = tree.nodes.new("NodeGroupOutput")
else:
    tree = scene.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("CompositorNodeComposite")
layers = tree.nodes.new("CompositorNodeRLayers")
"""
"""A compositor's tree with its two ends, `layers` and `output`, to be joined."""

F12 = """
import bpy, sys
scene = bpy.context.scene
settings = scene.render.image_settings
if hasattr(settings, "media_type"):
    settings.media_type = "MULTI_LAYER_IMAGE"
settings.file_format = "OPEN_EXR_MULTILAYER"
if hasattr(settings, "use_exr_interleave"):
    settings.use_exr_interleave = True
settings.color_depth = "32"
scene.render.filepath = sys.argv[-1]
bpy.ops.render.render(write_still=True)
"""


def make_scene(path: Path, *, width: int = 192, height: int = 108, more: str = "") -> Path:
    """A small Cycles scene with fixed samples; `more` is Python that changes it."""
    run_python(SCENE.format(width=width, height=height, more=more), str(path))
    return path


def render_f12(blend: Path, output: Path) -> exr.Planes:
    """Every pass of the frame as one machine renders it."""
    run_python(F12, str(output), blend=blend)
    return exr.read(output)[0]


def assert_equal(found: exr.Planes, expected: exr.Planes) -> None:
    """Bit for bit, in every pass; and not an empty picture."""
    assert set(found) == set(expected)
    for name, plane in expected.items():
        np.testing.assert_array_equal(found[name], plane, err_msg=name)
    assert any(plane.std() > 0.01 for name, plane in expected.items() if ".Combined." in name)


def cells(grid: Grid, tile: Tile | None = None) -> list[Tile]:
    """The smallest tiles there are."""
    tile = tile or grid.tile(0)
    halves = grid.halves(tile)
    return [cell for half in halves for cell in cells(grid, half)] if halves else [tile]


def blender_version() -> tuple[int, int, int]:
    code = "import bpy; print('VERSION', *bpy.app.version)"
    line = next(line for line in run_python(code).splitlines() if line.startswith("VERSION"))
    major, minor, patch = map(int, line.split()[1:4])
    return major, minor, patch


def job_for(blend: Path, version: tuple[int, int, int], *, width: int = 192, height: int = 108) -> Job:
    """The job that a scene of `make_scene` makes, with some thirty tiles."""
    return Job(
        id=uuid.uuid4().hex,
        source=str(blend),
        blend=str(blend).lstrip("/"),
        scene="Scene",
        frame=1,
        width=width,
        height=height,
        region=Rect(0, 0, width, height),
        use_crop=False,
        overscan=0,
        tile_size=32,
        blender_version=version,
        view_layer="ViewLayer",
    )


@dataclass
class Drive:
    """Polls a session to its end and holds its promises on the way."""

    session: RenderSession
    messages: list[Message] = field(default_factory=list)
    unread: list[Message] = field(default_factory=list)
    running: set[tuple[str, int, int]] = field(default_factory=set)
    kept: list[int] = field(default_factory=list)

    def until(self, wanted: Callable[[Message], bool], timeout: float = 90) -> Message:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.unread += self.session.poll(0 if self.unread else 0.2)
            while self.unread:
                message = self.unread.pop(0)
                self.messages.append(message)
                match message:
                    case TileStarted(tile, node, attempt):
                        assert (node, tile.index, attempt) not in self.running
                        self.running.add((node, tile.index, attempt))
                    case TileEnded(tile, node, attempt, outcome):
                        self.running.remove((node, tile.index, attempt))
                        if outcome == "done":
                            self.kept.append(tile.index)
                if wanted(message):
                    return message
        raise AssertionError(f"not seen within {timeout} s; last: {self.messages[-5:]}")

    def tiles(self, count: int) -> None:
        """Go on until `count` tiles are done."""
        if len(self.kept) < count:
            self.until(lambda message: len(self.kept) >= count)

    def to_the_end(self, timeout: float = 120) -> SessionDone:
        done = self.until(lambda message: isinstance(message, SessionDone), timeout)
        assert isinstance(done, SessionDone)
        assert not self.running, "tiles handed out without an end"
        assert len(self.kept) == len(set(self.kept)), "a tile was kept twice"
        assert self.session.join(5)
        assert self.unread + self.session.poll(0.3) == [], "something followed SessionDone"
        return done


@contextmanager
def marked() -> Iterator[str]:
    """Processes started inside carry a mark in their environment; afterwards none may be left."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        yield mark
    finally:
        del os.environ[MARK]
        for pid in marked_processes(mark):
            os.kill(pid, signal.SIGKILL)


def marked_processes(mark: str) -> list[int]:
    """Process ids of living processes that carry `mark`, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if state != "Z" and f"{MARK}={mark}".encode() in environment:
            found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
