"""The node list in the add-on's preferences."""

# Blender takes properties from annotations; as strings it could not read them.
# ruff: noqa: FA102

import bpy

from ..operators import nodes
from ..operators.addon import PACKAGE
from .properties import Question
from .text import draw_wrapped


class NodeItem(bpy.types.PropertyGroup):
    """One listed machine. Holds no password and no passphrase."""

    enabled: bpy.props.BoolProperty(name="Enabled", description="Render on this node", default=True)
    is_local: bpy.props.BoolProperty()
    host: bpy.props.StringProperty(name="Host", description="Name or address of the machine")
    port: bpy.props.IntProperty(name="Port", description="Port of its SSH server", default=22, min=1, max=65535)
    user: bpy.props.StringProperty(name="User", description="Login name there; empty: the same as here")
    key_file: bpy.props.StringProperty(
        name="Key File",
        description="Private key to log in with; empty: the SSH agent's and those in ~/.ssh",
        subtype="FILE_PATH",
    )
    blender: bpy.props.StringProperty(
        name="Blender", description="Path of Blender there; empty: look for it, or on this computer the running one"
    )
    threads: bpy.props.IntProperty(
        name="Threads", description="CPU threads a render may use there; 0: all", min=0, max=1024
    )
    test_result: bpy.props.StringProperty(options={"SKIP_SAVE"})
    test_question: bpy.props.PointerProperty(type=Question)


class DISTRIBUTED_CYCLES_UL_nodes(bpy.types.UIList):
    """Enabled, name, address."""

    def draw_item(
        self, _context, layout, _data, item, _icon, _active_data, _active_property, _index=0, _flag=0
    ) -> None:
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        row.prop(item, "name", text="", emboss=False, icon="DESKTOP" if item.is_local else "NETWORK_DRIVE")
        place = row.row()
        place.alignment = "RIGHT"
        place.active = False
        user = f"{item.user}@" if item.user else ""
        place.label(text="" if item.is_local else f"{user}{item.host}" or "no host yet")


class DistributedCyclesPreferences(bpy.types.AddonPreferences):
    """Nodes live here and nowhere else."""

    bl_idname = PACKAGE

    nodes: bpy.props.CollectionProperty(type=NodeItem)
    active_node: bpy.props.IntProperty()

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        row = layout.row()
        row.template_list("DISTRIBUTED_CYCLES_UL_nodes", "", self, "nodes", self, "active_node", rows=5)
        buttons = row.column(align=True)
        buttons.operator("distributed_cycles.node_add", text="", icon="ADD")
        buttons.operator("distributed_cycles.node_remove", text="", icon="REMOVE")
        buttons.separator()
        buttons.operator("distributed_cycles.node_duplicate", text="", icon="DUPLICATE")
        buttons.separator()
        buttons.operator("distributed_cycles.node_move", text="", icon="TRIA_UP").direction = "UP"
        buttons.operator("distributed_cycles.node_move", text="", icon="TRIA_DOWN").direction = "DOWN"
        if 0 <= self.active_node < len(self.nodes):
            self._draw_node(context, self.nodes[self.active_node])

    def _draw_node(self, context: bpy.types.Context, item: NodeItem) -> None:
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        if not item.is_local:
            column.prop(item, "host")
            column.prop(item, "port")
            column.prop(item, "user")
            column.prop(item, "key_file")
        column.prop(item, "blender")
        column.prop(item, "threads")
        column.operator("distributed_cycles.node_test", icon="CHECKMARK")
        if item.test_result:
            is_good = item.test_result.startswith(("Ready", "Testing", "Press"))
            draw_wrapped(self.layout.box(), context, item.test_result, "INFO" if is_good else "ERROR")
        draw_question(self.layout, item.test_question, item.name)


def draw_question(layout: bpy.types.UILayout, item: Question, node: str) -> None:
    """A button that leads to the answer, where there is a question."""
    if item.question == "HOST_KEY":
        layout.operator("distributed_cycles.trust_host", text="Trust This Host...", icon="KEY_HLT").node = node
    elif item.question == "PASSPHRASE":
        layout.operator("distributed_cycles.passphrase", text="Enter Passphrase...", icon="LOCKED").node = node


_CLASSES = (NodeItem, DISTRIBUTED_CYCLES_UL_nodes, DistributedCyclesPreferences)


def _fill_list() -> None:
    """Also where the preferences are there only after registering, as with --addons."""
    addon = bpy.context.preferences.addons.get(PACKAGE)
    if addon is not None and addon.preferences is not None:
        nodes.ensure_this_computer(addon.preferences)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    _fill_list()
    bpy.app.timers.register(_fill_list, first_interval=0)


def unregister() -> None:
    if bpy.app.timers.is_registered(_fill_list):
        bpy.app.timers.unregister(_fill_list)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
