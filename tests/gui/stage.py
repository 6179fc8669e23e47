"""A windowed Blender with a scene to render, and a node beside it that it does not know yet."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine import exr

from .. import support
from .desktop import Desktop
from .node import TrixieNode
from .window import Home, Window

EXTENSION = "bl_ext.user_default.distributed_cycles"
STATUS = "C.window_manager.distributed_cycles"
PICTURES = support.REPOSITORY / "build" / "gui"
"""Where screenshots go: those in docs/images come from there."""
PREFERENCES = f"C.preferences.addons[{EXTENSION!r}].preferences"
AREA = "next(a for a in C.window_manager.windows[0].screen.areas if a.type == {!r})"
IS_EXPANDED = f"""
import addon_utils
value = any(addon_utils.module_bl_info(module)["show_expanded"]
            for module in addon_utils.modules() if module.__name__ == {EXTENSION!r})
"""
USE_EDITOR = """
import bpy
bpy.context.preferences.view.render_display_type = 'AREA'
bpy.ops.wm.save_userpref()
"""
SCENE = """
import bpy
scene = bpy.context.scene
scene.render.resolution_x, scene.render.resolution_y = 480, 270
scene.cycles.samples = 48
scene.render.filepath = "//out/picture"
# The picture is not what the camera sees: it is turned about, as only the whole frame can be.
scene.use_nodes = True
tree = scene.node_tree
tree.nodes.clear()
layers, flip, output = (tree.nodes.new("CompositorNode" + name) for name in ("RLayers", "Flip", "Composite"))
tree.links.new(layers.outputs["Image"], flip.inputs["Image"])
tree.links.new(flip.outputs["Image"], output.inputs["Image"])
bpy.ops.wm.save_mainfile()
"""
"""Some fifteen seconds on two cores: long enough to be watched."""
SAVE = """
settings = C.scene.render.image_settings
before = settings.file_format, settings.color_depth
settings.file_format, settings.color_depth = "OPEN_EXR", "32"
bpy.data.images[{name!r}].save_render({path!r})
settings.file_format, settings.color_depth = before
"""
WIDER_PX = 150
TITLE_PX = 41
"""From the row of Device down to the title of Sampling, the first panel."""
BORDER_PX = 5

Picture = np.ndarray[Any, np.dtype[np.uint8]]


class Stage:
    """What the tests of rendering act on."""

    def __init__(self, home: Home, desktop: Desktop, window: Window, node: TrixieNode, mark: str) -> None:
        self.home, self.desktop, self.window, self.node, self._mark = home, desktop, window, node, mark
        self._arrange()

    def _arrange(self) -> None:
        """Make Properties wider and close the panel Sampling, so that the extension's is seen whole."""
        window, desktop = self.window, self.desktop
        window.switch_to("Rendering")
        window.execute(f"{AREA.format('IMAGE_EDITOR')}.spaces.active.show_region_ui = False")
        window.wait_for_drawing()
        edge, y = window.region("IMAGE_EDITOR")[2], self.middle_of("IMAGE_EDITOR")[1]
        desktop.drag((edge, y), (edge - WIDER_PX, y))
        window.wait_for_drawing()
        assert window.region("IMAGE_EDITOR")[2] < edge, "the editors' edge did not move"
        x, y = window.find_property("cycles.device", "PROPERTIES")
        desktop.move(x, y + TITLE_PX)
        desktop.key("a")
        # A pixel of the frame as two by two on the screen.
        desktop.move(*self.middle_of("IMAGE_EDITOR"))
        desktop.key("shift+KP_2")
        window.wait_for_drawing()

    @contextmanager
    def preferences(self) -> Iterator[None]:
        """The extension's preferences in the place of the Image Editor, found by name and opened."""
        self.window.execute(
            f"{AREA.format('IMAGE_EDITOR')}.type = 'PREFERENCES'; C.preferences.active_section = 'ADDONS';"
            "C.window_manager.addon_search = 'Distributed Cycles'"
        )
        self.window.wait_for_drawing()
        if not self.window.execute(IS_EXPANDED):
            self.desktop.click(
                *self.window.find_operator("preferences.addon_expand(", "PREFERENCES", at=0.02)
            )
            self.window.wait_for_drawing()
        yield
        self.window.execute(f"{AREA.format('PREFERENCES')}.type = 'IMAGE_EDITOR'")
        self.window.wait_for_drawing()

    def press(self, operator: str, editor: str, *, at: float = 0.5, below: int = 0) -> tuple[int, int]:
        """Click a button of the extension. Returns where it is."""
        text = f"bpy.ops.distributed_cycles.{operator}("
        place = self.window.find_operator(text, editor, at=at, below=below)
        self.desktop.click(*place)
        return place

    def middle_of(self, editor: str) -> tuple[int, int]:
        left, top, right, bottom = self.window.region(editor)
        return (left + right) // 2, (top + bottom) // 2

    def part_of(self, screen: Picture, editor: str) -> Picture:
        left, top, right, bottom = self.window.region(editor)
        return screen[top:bottom, left:right]

    def keep_part(self, screen: Picture, name: str, editor: str, top: int, cut: int = 0) -> None:
        """Keep the picture of an editor from `top` down to the last thing in it, less `cut` pixels."""
        pixels = self.part_of(screen, editor)[top - self.window.region(editor)[1] : -BORDER_PX]
        inner = pixels[:, 2 * BORDER_PX : -4 * BORDER_PX]  # without the scroll bar
        used = np.flatnonzero((inner != inner[-1]).any(axis=(1, 2)))
        keep(pixels[: used[-1] + 8 - cut], name)

    def workers(self) -> list[int]:
        """Processes of Blender without a window, here and on the node."""
        return [pid for pid in support.marked_processes(self._mark) if b"--background" in _command(pid)]

    def save_image(self, datablock: str) -> exr.Planes:
        """The pixels of an Image of Blender's, as 32-bit floats of an EXR file that Blender writes."""
        path = self.home.folder / "saved.exr"
        self.window.execute(SAVE.format(name=datablock, path=self.home.inside(path.name)))
        return exr.read(path)[0]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has just ended


def keep(pixels: Picture, name: str) -> None:
    """Write pixels as build/gui/NAME.png, with a palette: a screenshot in the documentation is to be small."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    height, width, _ = pixels.shape
    command = ["convert", "-size", f"{width}x{height}", "-depth", "8", "rgb:-", "+dither", "-colors", "256"]
    command += ["-define", "png:compression-level=9", "-define", "png:compression-filter=0"]
    subprocess.run([*command, str(PICTURES / f"{name}.png")], input=pixels.tobytes(), check=True)


@contextmanager
def stage(archive: Path) -> Iterator[Stage]:
    """All of it, from an empty home to an open window in the workspace Rendering."""
    with support.marked() as mark, Home() as home, Desktop() as desktop, TrixieNode(home, mark) as node:
        home.install(archive)
        home.run("blender", "--background", "--python-expr", USE_EDITOR)
        shutil.copy(support.REPOSITORY / "tools" / "demo_scene.py", home.folder)
        scene = home.inside("still_life.blend")
        home.run(
            *("blender", "--background", "--factory-startup", "--python-exit-code", "1"),
            *("--python", home.inside("demo_scene.py"), "--python-expr", SCENE, "--", scene),
        )
        # One that can be sent to a node; those of Debian's are spread over the system.
        with Window(home, desktop, "--online-mode", scene, program=home.portable()) as window:
            yield Stage(home, desktop, window, node, mark)
