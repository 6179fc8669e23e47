"""Render properties > Distributed Cycles."""

import bpy

from ..engine.job import JobError
from ..operators import snapshot
from ..operators.addon import preferences
from .preferences import draw_question
from .text import draw_wrapped, duration

STATE_ICONS = {
    "OFFLINE": "UNLINKED",
    "CONNECTING": "LINKED",
    "SYNCING": "EXPORT",
    "IDLE": "CHECKMARK",
    "RENDERING": "RENDER_STILL",
    "PAUSED": "PAUSE",
    "FAILED": "ERROR",
}


class _RenderPanel:
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene is not None and context.scene.render.engine == "CYCLES"


class DISTRIBUTED_CYCLES_PT_render(_RenderPanel, bpy.types.Panel):
    bl_label = "Distributed Cycles"
    bl_order = -1

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        status = context.window_manager.distributed_cycles
        if status.is_running:
            self._draw_progress(layout, status)
        else:
            row = layout.row(align=True)
            row.scale_y = 1.4
            row.operator("distributed_cycles.render", icon="RENDER_STILL")
            row.operator("distributed_cycles.resume", icon="PLAY")
        if status.error:
            draw_wrapped(layout.box(), context, status.error, "ERROR")
        self._draw_warnings(context, status)
        self._draw_settings(context)

    def _draw_progress(self, layout: bpy.types.UILayout, status) -> None:
        row = layout.row(align=True)
        row.scale_y = 1.4
        text = f"{100 * status.fraction:.0f}%  {status.done} of {status.total} tiles"
        if status.seconds_left >= 0:
            text += f"  {duration(status.seconds_left)} left"
        row.progress(factor=status.fraction, text=text)
        row.operator("distributed_cycles.cancel", text="", icon="X")

    def _draw_warnings(self, context: bpy.types.Context, status) -> None:
        if status.is_running or status.report:
            words = status.warnings.splitlines()
        else:
            try:
                snapshot.check(context.scene)
                words = snapshot.notes(context.scene)
            except JobError as error:
                words = [str(error)]
        for warning in words:
            draw_wrapped(self.layout, context, warning, "INFO")

    def _draw_settings(self, context: bpy.types.Context) -> None:
        scene = context.scene
        settings = scene.distributed_cycles
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.active = not context.window_manager.distributed_cycles.is_running
        column.prop(settings, "use_auto_tile_size")
        if not settings.use_auto_tile_size:
            column.prop(settings, "tile_size")
        margin = snapshot.overscan(scene)
        seed = f"{scene.cycles.seed}{' (animated)' if scene.cycles.use_animated_seed else ''}"
        draw_wrapped(
            self.layout, context, f"Frame {scene.frame_current}, seed {seed}, margin {margin} px", "BLANK1"
        )


class DISTRIBUTED_CYCLES_PT_nodes(_RenderPanel, bpy.types.Panel):
    bl_label = "Nodes"
    bl_parent_id = "DISTRIBUTED_CYCLES_PT_render"

    def draw(self, context: bpy.types.Context) -> None:
        status = context.window_manager.distributed_cycles
        if status.nodes:
            for item in status.nodes:
                self._draw_node(context, item)
        else:
            for item in preferences(context).nodes:
                row = self.layout.row()
                row.active = item.enabled
                row.prop(item, "enabled", text=item.name)
        operator = self.layout.operator("preferences.addon_show", text="Edit Nodes...", icon="PREFERENCES")
        operator.module = preferences(context).bl_idname

    def _draw_node(self, context: bpy.types.Context, item) -> None:
        box = self.layout.box()
        row = box.row()
        row.label(text=item.name, icon=STATE_ICONS[item.state])
        state = row.row()
        state.alignment = "RIGHT"
        state.label(text=item.bl_rna.properties["state"].enum_items[item.state].name)
        if item.tiles_done or item.tile:
            row = box.row()
            row.active = False
            row.label(text=f"{item.tiles_done} tiles, {item.mean_seconds:.2f} s each")
            if item.tile:
                row.label(text=f"at {item.tile}")
        if item.detail:
            draw_wrapped(box, context, item.detail)
        draw_question(box, item, item.name)


_CLASSES = (DISTRIBUTED_CYCLES_PT_render, DISTRIBUTED_CYCLES_PT_nodes)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
