"""The picture while it fills: an Image datablock, shown in an Image Editor."""

from __future__ import annotations

import bpy

from ..engine.framebuffer import Framebuffer

NAME = "Distributed Render"


def flush(framebuffer: Framebuffer) -> None:
    """Copy the whole framebuffer into the Image; 19 ms for a 4K frame, so at most once a tick."""
    image = ensure(framebuffer)
    image.pixels.foreach_set(framebuffer.pixels.ravel())
    image.update()
    tag_redraw()


def ensure(framebuffer: Framebuffer) -> bpy.types.Image:
    """The Image, of the right size. An undo by the user may have taken it away."""
    size = (framebuffer.width, framebuffer.height)
    image = bpy.data.images.get(NAME)
    if image is not None and (image.source != "GENERATED" or not image.is_float):
        bpy.data.images.remove(image)
        image = None
    if image is None:
        image = bpy.data.images.new(NAME, *size, alpha=True, float_buffer=True)
        # Scene linear as it comes from Cycles; shown through the scene's view transform.
        image.colorspace_settings.name = _scene_linear()
        image.use_view_as_render = True
        image.alpha_mode = "PREMUL"
    elif tuple(image.size) != size:
        image.scale(*size)
    return image


def _scene_linear() -> str:
    """The working space's name in this Blender's colour configuration."""
    names = bpy.types.ColorManagedInputColorspaceSettings.bl_rna.properties["name"].enum_items.keys()
    return next(name for name in ("Linear Rec.709", "Linear", "scene_linear", *names) if name in names)


def show(context: bpy.types.Context, image: bpy.types.Image) -> None:
    """Show `image` in an Image Editor: one that is open, else a new window, as F12 does."""
    for area in _image_editors():
        if area.spaces.active.mode == "VIEW":
            area.spaces.active.image = image
            area.tag_redraw()
            return
    if context.window is None or bpy.app.background:
        return
    before = set(context.window_manager.windows)
    bpy.ops.wm.window_new()
    for window in set(context.window_manager.windows) - before:
        area = max(window.screen.areas, key=lambda area: area.width * area.height)
        area.type = "IMAGE_EDITOR"
        area.spaces.active.image = image


def tag_redraw() -> None:
    for area in _image_editors():
        area.tag_redraw()


def _image_editors() -> list[bpy.types.Area]:
    return [
        area
        for window in bpy.context.window_manager.windows
        for area in window.screen.areas
        if area.type == "IMAGE_EDITOR"
    ]
