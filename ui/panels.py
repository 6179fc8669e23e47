"""The panel in the Render properties."""

from __future__ import annotations

import bpy

from ..engine.job import JobError
from ..operators import running, snapshot, splitting
from .preferences import draw_question
from .wrap import wrapped

ICONS = {"INFO": "INFO", "WARNING": "ERROR", "ERROR": "CANCEL"}
STATE_ICONS = {
    "offline": "UNLINKED",
    "connecting": "LINKED",
    "starting": "TIME",
    "syncing": "EXPORT",
    "idle": "PAUSE",
    "rendering": "RENDER_STILL",
    "paused": "TIME",
    "failed": "CANCEL",
}
SHOWN_MESSAGES = 12


class _RenderPanel:
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES = {"CYCLES"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        # While the finished frame goes into Blender, the scene has another engine for a moment.
        return context.engine == "CYCLES" or context.window_manager.distributed_cycles.is_running


class DISTRIBUTED_CYCLES_PT_render(_RenderPanel, bpy.types.Panel):
    """Buttons, settings, progress, messages."""

    bl_label = "Distributed Cycles"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        status = context.window_manager.distributed_cycles
        row = layout.row(align=True)
        row.scale_y = 1.3
        if status.is_running:
            row.operator("distributed_cycles.cancel", icon="X")
        else:
            row.operator("distributed_cycles.render", icon="RENDER_STILL")
            row.operator("distributed_cycles.resume", icon="PLAY")
        self._draw_progress(layout, status)
        self._draw_settings(layout, context)
        for message in status.messages[-SHOWN_MESSAGES:]:
            wrapped(
                layout, context, message.text, icon=ICONS[message.level], is_alert=message.level == "ERROR"
            )

    def _draw_progress(self, layout: bpy.types.UILayout, status: bpy.types.PropertyGroup) -> None:
        if not status.phase:
            return
        text = f"{status.phase}  {100 * status.progress:.0f}%"
        layout.progress(factor=status.progress, type="BAR", text=text)
        if status.tiles_done:
            row = layout.row()
            whole = f" of {status.tiles_total}" if status.tiles_total else ""
            row.label(text=f"{status.tiles_done}{whole} tiles")
            if status.is_running and status.seconds_left >= 0:
                row.label(text=f"{duration(status.seconds_left)} left")

    def _draw_settings(self, layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
        scene = context.scene
        settings = scene.distributed_cycles
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.active = not context.window_manager.distributed_cycles.is_running
        column.prop(settings, "use_auto_tile_size")
        if not settings.use_auto_tile_size:
            column.prop(settings, "tile_size")
        column.prop(settings, "use_auto_margin")
        if not settings.use_auto_margin:
            column.prop(settings, "margin")
        column.prop(settings, "split")
        column.prop(settings, "use_heat_map")
        wishes = snapshot.wishes_of(scene)
        split, _ = splitting.choose(scene, wishes.split)
        margin = snapshot.overscan_of(scene) if wishes.margin < 0 else wishes.margin
        for name, value in (
            ("Frame", str(scene.frame_current)),
            ("Seed", f"{scene.cycles.seed}{' (animated)' if scene.cycles.use_animated_seed else ''}"),
            *_split_lines(split, margin),
            ("Scripts", "run on nodes as here" if snapshot.use_scripts() else "do not run on nodes"),
        ):
            line = column.split(factor=0.4)
            title = line.row()
            title.alignment = "RIGHT"
            title.label(text=name)
            line.label(text=value)
        if not context.window_manager.distributed_cycles.is_running:
            self._draw_obstacles(layout, context, wishes)

    def _draw_obstacles(
        self, layout: bpy.types.UILayout, context: bpy.types.Context, wishes: snapshot.Wishes
    ) -> None:
        """What the render would be refused for, or will not do as F12 does."""
        scene = context.scene
        try:
            snapshot.check_settings(scene)
        except JobError as error:
            wrapped(layout, context, str(error), icon="CANCEL", is_alert=True)
            return
        for text in snapshot.warnings_of(scene, wishes):
            wrapped(layout, context, text, icon="ERROR")


def _split_lines(split: str, margin: int) -> list[tuple[str, str]]:
    if split == splitting.SAMPLES:
        return [("Renders", "whole frames, by samples")]
    return [("Renders", f"tiles, with {margin} px around each" if margin else "tiles, no margin needed")]


class DISTRIBUTED_CYCLES_PT_nodes(_RenderPanel, bpy.types.Panel):
    """What each node does."""

    bl_label = "Nodes"
    bl_parent_id = "DISTRIBUTED_CYCLES_PT_render"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        nodes = context.window_manager.distributed_cycles.nodes
        if not nodes:
            wrapped(layout, context, "The node list is in the extension's preferences.", icon="PREFERENCES")
        for node in nodes:
            box = layout.box()
            row = box.row()
            row.label(text=node.name, icon=STATE_ICONS.get(node.state, "DOT"))
            _at_the_right(row, node.state)
            if node.tiles_done or node.tile:
                row = box.row()
                row.label(text=f"{node.tiles_done} tiles, {node.mean_seconds:.2f} s each", icon="BLANK1")
                _at_the_right(row, node.tile)
            if node.device:
                row = box.row()
                row.label(text=node.device, icon="BLANK1")
                _at_the_right(row, f"{node.speed:,.0f} px/s" if node.speed else "")
            if node.error:
                wrapped(box, context, node.error, icon="ERROR", is_alert=True)
            elif node.detail:
                wrapped(box, context, node.detail)
            draw_question(box, node.name, node.question)
        kept = len(running.pool.names())
        if kept:
            row = layout.row()
            row.label(text=f"Kept for the next render: {kept} worker{'s' if kept > 1 else ''}")
            row.operator("distributed_cycles.end_workers", text="", icon="X")


def _at_the_right(row: bpy.types.UILayout, text: str) -> None:
    row = row.row()
    row.alignment = "RIGHT"
    row.label(text=text)


def duration(seconds: float) -> str:
    """`1:05:09`, or `5:09` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
