"""Render Distributed, Resume, Cancel.

invoke() -> snapshot -> session.start() -> modal(): each tick messages, then the Image
                                             -> SessionDone -> result.finish()
execute() is the same with a loop in the place of the timer, for scripts.

No `from __future__ import annotations` here: Blender reads the annotations themselves.
"""

import time

import bpy
from bpy.props import BoolProperty

from ..engine.job import EngineError, MissingFiles
from ..engine.messages import SessionDone
from . import addon, image, nodes, result, running, snapshot, start

TIMER_PERIOD_S = 0.1
POLL_S = 0.25
FLUSH_PART = 0.1
"""Of Blender's time that the Image may take. Drawing it anew takes some more: at 8K a flush lasts longer than
a tick, and Blender would do nothing else."""


class _RenderOperator:
    """One render from its start to its end; `_begin` is what its children differ in."""

    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if running.current() is not None:
            cls.poll_message_set("A distributed render is running")
            return False
        if context.scene is None or context.scene.render.engine != "CYCLES":
            cls.poll_message_set("The scene's render engine is not Cycles")
            return False
        return True

    _next_flush = 0.0

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if not self._started(context, can_ask=True):
            return {"CANCELLED"}
        manager = context.window_manager
        self._timer = manager.event_timer_add(TIMER_PERIOD_S, window=context.window)
        manager.modal_handler_add(self)
        image.show()
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if running.current() is not self._running:
            # Stopped from outside: another file is loaded, or the extension goes.
            self._remove_timer(context)
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        try:
            is_changed, done = running.tick(self._running)
            self._flush()
        except BaseException:
            # A bug here must not leave a render behind that nobody can stop any more.
            self.cancel(context)
            raise
        if done is not None:
            self._remove_timer(context)
            return self._ended(done)
        if is_changed:
            running.redraw("PROPERTIES")
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends the operator itself: its window closes, or another file is loaded."""
        self._remove_timer(context)
        if running.current() is self._running:
            running.stop()

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not self._started(context, can_ask=False):
            return {"CANCELLED"}
        while True:
            for message in self._running.session.poll(POLL_S):
                if isinstance(message, SessionDone):
                    self._flush()
                    return self._ended(message)
                running.show(message)

    def _begin(self, context: bpy.types.Context, *, can_ask: bool) -> running.Running:
        raise NotImplementedError

    def _started(self, context: bpy.types.Context, *, can_ask: bool) -> bool:
        try:
            running.pool.seconds = addon.seconds_to_keep()
            self._running = self._begin(context, can_ask=can_ask)
            image.prepare(self._running.session.framebuffer, self._running.store.folder)
        except MissingFiles as error:
            # The question comes before anything else has begun, so nothing is to be undone.
            running.missing_files[:] = error.lines
            bpy.ops.distributed_cycles.missing_files("INVOKE_DEFAULT")
            return False
        except (EngineError, RuntimeError, OSError) as error:
            running.stop()
            running.reset_status()
            running.say(str(error), "ERROR")
            running.redraw("PROPERTIES")
            self.report({"ERROR"}, str(error))
            return False
        return True

    def _flush(self) -> None:
        start = time.monotonic()
        framebuffer = self._running.session.framebuffer
        if start >= self._next_flush and framebuffer.take_dirty():
            image.flush(framebuffer, self._running.store.folder)
            end = time.monotonic()
            self._next_flush = end + (end - start) * (1 / FLUSH_PART - 1)
            running.redraw("IMAGE_EDITOR")

    def _ended(self, done: SessionDone) -> set[str]:
        ended = self._running
        status = running.status()
        try:
            image.keep(ended.session.framebuffer)
            if done.outcome == "done":
                path = result.finish(ended.job, ended.store.frame_path)
                if ended.job.use_heat_map:
                    image.show_heat_map(ended.store.heatmap_path)
                status.phase = "Done"
                self._say("INFO", f"Saved {path} after {done.report.wall_seconds:.1f} s.")
            elif done.outcome == "cancelled":
                status.phase = "Cancelled"
                self._say("INFO", "Cancelled. Resume goes on with it.")
            else:
                status.phase = "Failed"
                self._say("ERROR", str(done.error))
        except (EngineError, RuntimeError, OSError) as error:
            status.phase = "Failed"
            self._say("ERROR", str(error))
        finally:
            running.end()
            running.redraw("PROPERTIES", "IMAGE_EDITOR")
        return {"FINISHED"} if status.phase == "Done" else {"CANCELLED"}

    def _say(self, level: str, text: str) -> None:
        running.say(text, level)
        self.report({level}, text)

    def _remove_timer(self, context: bpy.types.Context) -> None:
        context.window_manager.event_timer_remove(self._timer)


class DISTRIBUTED_CYCLES_OT_render(_RenderOperator, bpy.types.Operator):
    """Render this frame on all enabled nodes together"""

    bl_idname = "distributed_cycles.render"
    bl_label = "Render Distributed"

    use_missing: BoolProperty(options={"SKIP_SAVE", "HIDDEN"})
    """Whether it was said that files that are missing do not matter."""

    def _begin(self, context: bpy.types.Context, *, can_ask: bool) -> running.Running:
        listed, warnings = nodes.listed_nodes(is_online=bpy.app.online_access)
        started = start.new_job(
            context.scene,
            context.view_layer.name,
            listed,
            access=addon.access_for(listed),
            wishes=snapshot.wishes_of(context.scene),
            can_ask=can_ask,
            is_strict=can_ask and not self.use_missing,
        )
        for text in warnings:
            running.say(text, "WARNING")
        return started


class DISTRIBUTED_CYCLES_OT_resume(_RenderOperator, bpy.types.Operator):
    """Go on with the last render of this file that did not come to its end"""

    bl_idname = "distributed_cycles.resume"
    bl_label = "Resume"

    def _begin(self, context: bpy.types.Context, *, can_ask: bool) -> running.Running:
        listed, warnings = nodes.listed_nodes(is_online=bpy.app.online_access)
        started = start.old_job(listed, access=addon.access_for(listed), can_ask=can_ask)
        for text in warnings:
            running.say(text, "WARNING")
        return started


class DISTRIBUTED_CYCLES_OT_end_workers(bpy.types.Operator):
    """End the workers that are kept for the next render; their memory is free again"""

    bl_idname = "distributed_cycles.end_workers"
    bl_label = "End Workers"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        running.pool.close()
        running.redraw("PROPERTIES")
        return {"FINISHED"}


class DISTRIBUTED_CYCLES_OT_cancel(bpy.types.Operator):
    """Stop the distributed render; finished tiles are kept for Resume"""

    bl_idname = "distributed_cycles.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return running.current() is not None

    def execute(self, _context: bpy.types.Context) -> set[str]:
        running.cancel()
        running.redraw("PROPERTIES")
        return {"FINISHED"}
