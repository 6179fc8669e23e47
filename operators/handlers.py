"""Blender's own events that concern a running render."""

from __future__ import annotations

import bpy
from bpy.app.handlers import persistent

from . import nodes, running


@persistent
def _before_load(*_: object) -> None:
    # Another file takes the place of the scene that the frame belongs to. Finished tiles stay.
    running.stop()


@persistent
def _after_load(*_: object) -> None:
    # The window manager is stored with a file, and so is what the panels showed at that time.
    if running.current() is None:
        running.reset_status()


@persistent
def _after_factory_preferences(*_: object) -> None:
    nodes.ensure_this_computer()


HANDLERS = (
    (bpy.app.handlers.load_pre, _before_load),
    (bpy.app.handlers.load_post, _after_load),
    (bpy.app.handlers.load_factory_preferences_post, _after_factory_preferences),
)


def register() -> None:
    for handlers, function in HANDLERS:
        handlers.append(function)


def unregister() -> None:
    for handlers, function in HANDLERS:
        handlers.remove(function)
