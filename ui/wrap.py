"""Long lines in a layout, which has no word wrap of its own."""

from __future__ import annotations

import textwrap

import bpy

CHARACTER_PX = 7.0
"""A little more than the mean width of a letter at 100% interface scale."""
MARGIN_PX = 60


def wrapped(
    layout: bpy.types.UILayout,
    context: bpy.types.Context,
    text: str,
    *,
    icon: str = "NONE",
    is_alert: bool = False,
) -> None:
    """Draw `text` in as many lines as the region's width needs; `icon` stands before the first."""
    width = context.region.width if context.region else 400
    scale = context.preferences.system.ui_scale or 1.0  # 0 without a window
    columns = max(20, int((width / scale - MARGIN_PX) / CHARACTER_PX))
    column = layout.column(align=True)
    column.alert = is_alert
    column.scale_y = 0.8
    shown = icon
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, columns) or [""]:
            column.label(text=line, icon=shown)
            # The lines below stand under the first one's text, not under its icon.
            shown = "BLANK1" if icon != "NONE" else "NONE"
