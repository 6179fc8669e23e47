"""Words of any length in a panel of any width."""

import textwrap
from typing import Any

PIXELS_PER_CHARACTER = 7.0
INDENT_PX = 60


def draw_wrapped(layout: Any, context: Any, text: str, icon: str = "NONE") -> None:
    """Draw `text` as lines that fit the region's width; the icon stands before the first."""
    scale = context.preferences.system.ui_scale
    width = max(20, int((context.region.width / scale - INDENT_PX) / PIXELS_PER_CHARACTER))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, width) or [""]:
            column.label(text=line, icon=icon)
            icon = "BLANK1" if icon != "NONE" else icon


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
