"""Esc in an Image Editor stops the distributed render, as it stops Blender's own.

A key of its own, because the operator that renders hears only the window it was started in,
and the picture often has another one.
"""

from __future__ import annotations

import bpy

from .render import DISTRIBUTED_CYCLES_OT_cancel

_items: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def register() -> None:
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is None:  # without a window
        return
    keymap = configuration.keymaps.new(name="Image", space_type="IMAGE_EDITOR")
    # While nothing renders the operator's poll fails, and Esc means what it always does.
    _items.append((keymap, keymap.keymap_items.new(DISTRIBUTED_CYCLES_OT_cancel.bl_idname, "ESC", "PRESS")))


def unregister() -> None:
    for keymap, item in _items:
        keymap.keymap_items.remove(item)
    _items.clear()
