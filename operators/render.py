"""Render Distributed, Resume and Cancel: a modal operator that polls a session."""

from __future__ import annotations

import time
from typing import Any

import bpy

from ..engine.job import EngineError
from ..engine.messages import Message, SessionDone
from . import addon, image, result, running, start, status

TIMER_PERIOD_S = 0.1
POLL_BUDGET_S = 0.01
"""Of each tick, for messages; what is left over waits for the next."""


class _Renders:
    """What Render and Resume have in common: everything but how the session comes about."""

    def prepare(self, context: bpy.types.Context) -> running.Running:
        raise NotImplementedError

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if running.current() is not None:
            cls.poll_message_set("A distributed render is running")
            return False
        return context.scene is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Render and wait for it: for scripts."""
        if not self._begin(context):
            return {"CANCELLED"}
        while True:
            for message in running.current().session.poll(timeout=1.0):
                status.apply(context.window_manager.distributed_cycles, message)
                if isinstance(message, SessionDone):
                    return self._end(context, message)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Render in the background; Blender stays usable."""
        if not self._begin(context):
            return {"CANCELLED"}
        self._unread: list[Message] = []
        current = running.current()
        assert current is not None
        image.show(context, image.ensure(current.session.framebuffer))
        manager = context.window_manager
        self._timer = manager.event_timer_add(TIMER_PERIOD_S, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        current = running.current()
        if current is None:  # The extension is being disabled.
            self._remove_timer(context)
            return {"CANCELLED"}
        deadline = time.perf_counter() + POLL_BUDGET_S
        self._unread += current.session.poll()
        is_changed = False
        while self._unread and time.perf_counter() < deadline:
            message = self._unread.pop(0)
            is_changed |= status.apply(context.window_manager.distributed_cycles, message)
            if isinstance(message, SessionDone):
                self._remove_timer(context)
                return self._end(context, message)
        if current.session.framebuffer.take_dirty():
            image.flush(current.session.framebuffer)
        if is_changed:
            _redraw_properties(context)
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator: another file is being opened, or the window closed."""
        self._remove_timer(context)
        running.stop()
        context.window_manager.distributed_cycles.is_running = False

    def _begin(self, context: bpy.types.Context) -> bool:
        state = context.window_manager.distributed_cycles
        try:
            prepared = self.prepare(context)
        except EngineError as error:
            state.error = str(error)
            self.report({"ERROR"}, str(error))
            return False
        self._scene_name = prepared.store.job.scene
        status.begin(state, prepared.warnings)
        running.begin(prepared)
        for warning in prepared.warnings:
            self.report({"WARNING"}, warning)
        return True

    def _end(self, context: bpy.types.Context, done: SessionDone) -> set[str]:
        current = running.current()
        assert current is not None
        state = context.window_manager.distributed_cycles
        image.flush(current.session.framebuffer)
        try:
            if done.outcome == "done":
                self._bring_home(current)
        except EngineError as error:
            state.error = str(error)
        finally:
            running.end()
            _redraw_properties(context)
        if state.error:
            self.report({"ERROR"}, state.error)
        elif done.outcome == "done":
            words = f"Rendered {done.report.tiles} tiles in {done.report.wall_seconds:.1f} s: {current.output}"
            self.report({"INFO"}, words)
        return {"FINISHED"} if done.outcome == "done" and not state.error else {"CANCELLED"}

    def _bring_home(self, current: running.Running) -> None:
        scene = bpy.data.scenes.get(self._scene_name)
        if scene is None:
            raise EngineError(
                f"The scene {self._scene_name!r} is gone.", f"The frame is in {current.store.frame_path}."
            )
        result.finish(scene, current.store.job, current.store.frame_path, current.output)

    def _remove_timer(self, context: bpy.types.Context) -> None:
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            self._timer = None


class DISTRIBUTED_CYCLES_OT_render(_Renders, bpy.types.Operator):
    """Render this frame on all enabled nodes together"""

    bl_idname = "distributed_cycles.render"
    bl_label = "Render Distributed"

    def prepare(self, context: bpy.types.Context) -> running.Running:
        settings: Any = context.scene.distributed_cycles
        tile_size = 0 if settings.use_auto_tile_size else settings.tile_size
        nodes = addon.listed_nodes(context)
        can_ask = not bpy.app.background
        return start.new(context.scene, nodes, addon.access(), tile_size=tile_size, can_ask=can_ask)


class DISTRIBUTED_CYCLES_OT_resume(_Renders, bpy.types.Operator):
    """Go on with the last render of this file that was interrupted; finished tiles are kept"""

    bl_idname = "distributed_cycles.resume"
    bl_label = "Resume"

    def prepare(self, context: bpy.types.Context) -> running.Running:
        store = start.resumable()
        if store is None:
            raise EngineError("There is no interrupted render of this file.", "Press Render Distributed.")
        scene = bpy.data.scenes.get(store.job.scene, context.scene)
        nodes = addon.listed_nodes(context)
        return start.again(store, scene, nodes, addon.access(), can_ask=not bpy.app.background)


class DISTRIBUTED_CYCLES_OT_cancel(bpy.types.Operator):
    """Stop the distributed render; Resume goes on from its finished tiles"""

    bl_idname = "distributed_cycles.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return running.current() is not None

    def execute(self, _context: bpy.types.Context) -> set[str]:
        current = running.current()
        if current is not None:
            current.session.cancel()
        return {"FINISHED"}


def _redraw_properties(context: bpy.types.Context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("PROPERTIES", "PREFERENCES"):
                area.tag_redraw()


_CLASSES = (DISTRIBUTED_CYCLES_OT_render, DISTRIBUTED_CYCLES_OT_resume, DISTRIBUTED_CYCLES_OT_cancel)
_keymap_items: list[tuple[Any, Any]] = []


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is not None:  # None without a window
        # Esc over any Image Editor, as for F12; passed on where no render runs.
        keymap = configuration.keymaps.new(name="Image Generic", space_type="IMAGE_EDITOR")
        item = keymap.keymap_items.new(DISTRIBUTED_CYCLES_OT_cancel.bl_idname, "ESC", "PRESS")
        _keymap_items.append((keymap, item))


def unregister() -> None:
    for keymap, item in _keymap_items:
        keymap.keymap_items.remove(item)
    _keymap_items.clear()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
