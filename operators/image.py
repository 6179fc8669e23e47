"""The picture while it renders: an Image datablock that fills with tiles, shown in an Image Editor."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..engine.framebuffer import Framebuffer

NAME = "Distributed Render"
HEAT_MAP = "Distributed Heat Map"
OWN_IMAGES = (NAME, HEAT_MAP)
"""No part of the scene."""


def prepare(framebuffer: Framebuffer, folder: Path) -> bpy.types.Image:
    """The Image of this framebuffer. Whatever showed the last one shows this one.

    It stands for a file in the job folder from the start: Blender shows no other Image through
    the scene's view transform. Raises OSError and RuntimeError.
    """
    last = bpy.data.images.get(NAME)
    path = folder / "picture.exr"
    framebuffer.make_file(path)
    image = bpy.data.images.load(str(path))
    if last is not None:
        last.user_remap(image)
        bpy.data.images.remove(last)
    image.name = NAME
    # The framebuffer holds what Cycles computed: linear, with premultiplied alpha.
    image.colorspace_settings.name = working_space()
    image.alpha_mode = "PREMUL"
    image.use_view_as_render = True
    return image


def working_space() -> str:
    """The color space in which Cycles computes."""
    if hasattr(bpy.data, "colorspace"):  # Blender 5.0 and later: each file has its own
        return bpy.data.colorspace.working_space
    return "Linear Rec.709"


def flush(framebuffer: Framebuffer, folder: Path) -> None:
    """Bring the whole framebuffer into the Image. Costs about 20 ms for 4K; at most once a tick."""
    image = bpy.data.images.get(NAME)
    # The user may have removed it, or scaled it, at any time.
    if image is None or tuple(image.size) != (framebuffer.width, framebuffer.height) or not image.is_float:
        image = prepare(framebuffer, folder)
    image.pixels.foreach_set(framebuffer.pixels.reshape(-1))
    image.update()


def keep(framebuffer: Framebuffer) -> None:
    """Let the Image show its file, which the session has filled.

    Otherwise Blender would ask, when it quits, whether to save it.
    """
    image = bpy.data.images.get(NAME)
    if image is not None and framebuffer.is_saved:
        image.reload()


def show_heat_map(path: Path) -> None:
    """Let an Image stand for the heat map; whatever showed the last one shows this one. Raises RuntimeError."""
    last = bpy.data.images.get(HEAT_MAP)
    image = bpy.data.images.load(str(path))
    if last is not None:
        last.user_remap(image)
        bpy.data.images.remove(last)
    image.name = HEAT_MAP


def show() -> None:
    """Show the Image where the user's preferences want renders to be shown."""
    image = bpy.data.images[NAME]
    if _show_in_editor(image) or bpy.app.background:
        return
    # Blender's own View Render opens a window or an editor, as the preference says.
    before = _editors()
    if "FINISHED" in bpy.ops.render.view_show("INVOKE_DEFAULT"):
        opened = [space for space in _editors() if space not in before]
        for space in opened or _editors()[:1]:
            space.image = image


def _show_in_editor(image: bpy.types.Image) -> bool:
    editors = _editors()
    for space in editors:
        if space.image == image:
            return True
    # One that shows a render or nothing; a picture that is being painted is left alone.
    for space in editors:
        if (space.image is None or space.image.type == "RENDER_RESULT") and not space.use_image_pin:
            space.image = image
            return True
    return False


def _editors() -> list[bpy.types.SpaceImageEditor]:
    return [
        area.spaces.active
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "IMAGE_EDITOR"
        and area.ui_type == "IMAGE_EDITOR"
        and area.spaces.active.mode == "VIEW"
    ]
