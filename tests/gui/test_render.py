"""A person adds a node, renders, watches, stops and resumes: in a real window, by mouse and keyboard."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import exr

from .. import support
from .desktop import Desktop
from .node import TrixieNode
from .window import Home, Window

SIZE = (480, 270)
SAMPLES = 48
"""Some fifteen seconds on two cores: long enough to be watched."""
SCENE = f"""
import bpy, sys
scene = bpy.context.scene
scene.render.resolution_x, scene.render.resolution_y = {SIZE}
scene.cycles.samples = {SAMPLES}
scene.render.filepath = "//out/picture"
bpy.ops.wm.save_mainfile()
"""
WIDER_PX = 150
TITLE_PX = 41
"""From the row of Device down to the title of Sampling, the first panel."""
LONGEST_FREEZE_S = 1.0
"""Two workers and the software that draws share two cores with Blender."""
RENDER_S = 120

EXTENSION = "bl_ext.user_default.distributed_cycles"
STATUS = "C.window_manager.distributed_cycles"
NODES = f"C.preferences.addons[{EXTENSION!r}].preferences.nodes"
AREA = "next(a for a in C.window_manager.windows[0].screen.areas if a.type == {!r})"
BUILD = support.REPOSITORY / "build" / "gui"

Picture = np.ndarray[Any, np.dtype[np.uint8]]


class Stage:
    """A windowed Blender with a scene, in the workspace Rendering, and a node that it does not know yet."""

    def __init__(self, home: Home, desktop: Desktop, window: Window, node: TrixieNode, mark: str) -> None:
        self.home, self.desktop, self.window, self.node, self.mark = home, desktop, window, node, mark

    def arrange(self) -> None:
        """Make Properties wider and close the panel Sampling, so that the extension's is seen whole."""
        self.window.switch_to("Rendering")
        left, top, _, bottom = self.window.region("PROPERTIES")
        edge = self.window.region("IMAGE_EDITOR")[2]
        self.desktop.drag((edge, (top + bottom) // 2), (edge - WIDER_PX, (top + bottom) // 2))
        self.window.execute(f"{AREA.format('IMAGE_EDITOR')}.spaces.active.show_region_ui = False; value = 0")
        self.window.wait_for_drawing()
        assert self.window.region("PROPERTIES")[0] < left
        x, y = self.window.find_property("cycles.device", "PROPERTIES")
        self.desktop.move(x, y + TITLE_PX)
        self.desktop.key("a")
        # Pixels of the frame as two by two on the screen.
        self.desktop.move(*self.middle_of("IMAGE_EDITOR"))
        self.desktop.key("shift+KP_2")
        self.window.wait_for_drawing()

    def middle_of(self, editor: str) -> tuple[int, int]:
        left, top, right, bottom = self.window.region(editor)
        return (left + right) // 2, (top + bottom) // 2

    def look(self, name: str, editor: str = "IMAGE_EDITOR") -> Picture:
        """What an editor shows now; the whole screen is kept as a file of this name."""
        pixels = self.desktop.pixels()
        left, top, right, bottom = self.window.region(editor)
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / f"{name}.ppm").write_bytes(b"P6 %d %d 255\n" % pixels.shape[1::-1] + pixels.tobytes())
        return pixels[top:bottom, left:right]

    def workers(self) -> list[int]:
        """Processes of Blender without a window, wherever this stage started them."""
        return [
            pid
            for pid in support.marked_processes(self.mark)
            if b"--background" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.fixture(scope="module")
def stage(archive: Path) -> Iterator[Stage]:
    with support.marked() as mark, Home() as home, Desktop() as desktop, TrixieNode(home, mark) as node:
        home.install(archive)
        home.run(
            *("blender", "--background", "--python-expr"),
            "import bpy; bpy.context.preferences.view.render_display_type = 'AREA'; bpy.ops.wm.save_userpref()",
        )
        shutil.copy(support.REPOSITORY / "tools" / "demo_scene.py", home.folder)
        scene = home.inside("still_life.blend")
        home.run(
            *("blender", "--background", "--factory-startup", "--python-exit-code", "1"),
            *("--python", home.inside("demo_scene.py"), "--python-expr", SCENE, "--", scene),
        )
        with Window(home, desktop, "--online-mode", scene) as window:
            stage = Stage(home, desktop, window, node, mark)
            stage.arrange()
            yield stage


def press(stage: Stage, operator: str, editor: str, at: float) -> None:
    stage.desktop.click(*stage.window.find_operator(f"bpy.ops.distributed_cycles.{operator}(", editor, at=at))


@pytest.fixture(scope="module")
def preferences(stage: Stage) -> Iterator[Stage]:
    """The Preferences in the place of the Image Editor, with the extension's found by name and opened."""
    window = stage.window
    window.execute(
        f"{AREA.format('IMAGE_EDITOR')}.type = 'PREFERENCES'; C.preferences.active_section = 'ADDONS';"
        "C.window_manager.addon_search = 'Distributed Cycles'; value = 0"
    )
    window.wait_for_drawing()
    stage.desktop.click(*window.find_operator("bpy.ops.preferences.addon_expand(", "PREFERENCES", at=0.02))
    window.wait_for_drawing()
    stage.desktop.screenshot(BUILD / "stage2.png")
    yield stage
    window.execute(f"{AREA.format('PREFERENCES')}.type = 'IMAGE_EDITOR'; value = 0")
    window.wait_for_drawing()


@pytest.fixture(scope="module")
def listed(preferences: Stage) -> None:
    """The node as it was typed in."""
    stage, node = preferences, preferences.node
    press(stage, "node_add", "PREFERENCES", 0.95)
    assert len(stage.window.ask(f"[node.name for node in {NODES}]")) == 2
    values = {"name": "Workhorse", "host": node.address, "port": node.port, "user": node.user}
    values["key_file"] = node.key_file
    stage.desktop.screenshot(BUILD / "stage3.png")
    places = stage.window.find_properties([f"nodes[1].{name}" for name in values], "PREFERENCES")
    for name, value in values.items():
        stage.desktop.fill(places[f"nodes[1].{name}"], str(value))
    stage.desktop.screenshot(BUILD / "stage4.png")
    assert stage.window.ask(f"[{', '.join(f'{NODES}[1].{name}' for name in values)}]") == [*values.values()]


def test_a_node_is_tested_and_its_host_trusted(preferences: Stage, listed: None) -> None:
    stage, window = preferences, preferences.window
    result = f"{STATUS}.tests['Workhorse']"
    press(stage, "node_test", "PREFERENCES", 0.3)
    window.until(f"not {result}.is_running", 30)
    assert window.ask(f"{result}.question") == "TRUST"
    stage.desktop.screenshot(BUILD / "stage5.png")
    press(stage, "trust_host", "PREFERENCES", 0.7)
    window.wait_for_drawing()
    stage.desktop.screenshot(BUILD / "stage6.png")
    stage.desktop.key("Return")
    window.until(f"{result}.is_good", 30)
    window.wait_for_drawing()
    stage.desktop.screenshot(BUILD / "stage7.png")
    assert "Blender 4.3" in window.ask(f"{result}.text")
