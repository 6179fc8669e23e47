"""The node list in the extension's preferences.

No `from __future__ import annotations` here: Blender reads the annotations themselves.
"""

from typing import Any

import bpy
from bpy.props import BoolProperty, CollectionProperty, IntProperty

from ..operators import addon
from ..operators.nodes import node_title
from .properties import DistributedCyclesNode
from .wrap import wrapped


class DISTRIBUTED_CYCLES_UL_nodes(bpy.types.UIList):
    """One line per node: whether it takes part, its name, its host."""

    def draw_item(
        self,
        _context: bpy.types.Context,
        layout: bpy.types.UILayout,
        _data: Any,
        node: DistributedCyclesNode,
        _icon: int,
        _active_data: Any,
        _active_property: str,
    ) -> None:
        row = layout.row(align=True)
        row.prop(node, "enabled", text="")
        split = row.split(factor=0.5)
        split.active = node.enabled
        icon = "DESKTOP" if node.is_this_computer else "NETWORK_DRIVE"
        if node.is_this_computer:
            split.label(text=node.name, icon=icon)
            split.label(text="needs no set-up")
        else:
            split.prop(node, "name", text="", emboss=False, icon=icon, placeholder=node_title(node))
            split.label(text=node.host or "no host yet")


class DistributedCyclesPreferences(bpy.types.AddonPreferences):
    """The machines that render. Passwords and passphrases are asked for and never stored."""

    bl_idname = addon.PACKAGE

    nodes: CollectionProperty(type=DistributedCyclesNode)
    active_node: IntProperty(name="Active Node", default=0)
    show_more: BoolProperty(
        name="More", description="Files, SSH, devices and launchers of the node: what is seldom needed"
    )

    keep_minutes: IntProperty(
        name="Keep Workers",
        description=(
            "How many minutes nodes keep Blender and the scene after a render, so that the next one"
            " starts at once. They hold memory as long. 0: not at all"
        ),
        default=addon.DEFAULT_KEEP_MINUTES,
        min=0,
        soft_max=60,
        max=1440,
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.label(text="Nodes: machines with Blender and an SSH server")
        row = layout.row()
        row.template_list(
            "DISTRIBUTED_CYCLES_UL_nodes", "", self, "nodes", self, "active_node", rows=5, sort_lock=True
        )
        column = row.column(align=True)
        column.operator("distributed_cycles.node_add", text="", icon="ADD")
        column.operator("distributed_cycles.node_remove", text="", icon="REMOVE")
        column.separator()
        column.operator("distributed_cycles.node_duplicate", text="", icon="DUPLICATE")
        column.separator()
        column.operator("distributed_cycles.node_move", text="", icon="TRIA_UP").direction = "UP"
        column.operator("distributed_cycles.node_move", text="", icon="TRIA_DOWN").direction = "DOWN"
        row = layout.row(align=True)
        row.operator("distributed_cycles.nodes_from_ssh_config", icon="IMPORT")
        row.operator("distributed_cycles.nodes_import", text="Import...", icon="FILE_FOLDER")
        row.operator("distributed_cycles.nodes_export", text="Export...", icon="EXPORT")
        if 0 <= self.active_node < len(self.nodes):
            node = self.nodes[self.active_node]
            self._draw_node(layout.box(), node)
            self._draw_test(layout.box(), context, node)
        row = layout.split(factor=0.4)
        row.prop(self, "keep_minutes", text="Keep Workers (Minutes)")
        if not bpy.app.online_access:
            text = "Online access is off: only This Computer renders. Allow it in Preferences > System > Network."
            wrapped(layout, context, text, icon="INTERNET_OFFLINE")

    def _draw_node(self, layout: bpy.types.UILayout, node: DistributedCyclesNode) -> None:
        layout.use_property_split = True
        layout.use_property_decorate = False
        if not node.is_this_computer:
            layout.prop(node, "name", placeholder=node_title(node))
            layout.prop(node, "host")
            layout.prop(node, "port")
            layout.prop(node, "user")
            layout.prop(node, "key_file")
        layout.prop(node, "blender", placeholder="this Blender" if node.is_this_computer else "look for it")
        layout.prop(node, "threads")
        row = layout.row()
        row.use_property_split = False
        row.alignment = "LEFT"
        row.prop(self, "show_more", icon="TRIA_DOWN" if self.show_more else "TRIA_RIGHT", emboss=False)
        if self.show_more:
            self._draw_more(layout, node)

    def _draw_more(self, layout: bpy.types.UILayout, node: DistributedCyclesNode) -> None:
        """What most nodes need not be told."""
        if not node.is_this_computer:
            layout.prop(node, "mappings", placeholder="/here = /there; ...")
            layout.prop(node, "cache_folder", placeholder="the usual place")
            layout.prop(node, "cache_gib")
            layout.prop(node, "backend")
        layout.prop(node, "device")
        if node.device not in ("AUTO", "CPU"):
            layout.prop(node, "device_numbers", placeholder="all")
        layout.prop(node, "workers")
        layout.prop(node, "launcher")
        layout.prop(node, "use_preferences")
        if not node.is_this_computer:
            layout.prop(node, "send_blender")
            if node.send_blender:
                layout.prop(node, "blender_archive", placeholder="this Blender")

    def _draw_test(
        self, layout: bpy.types.UILayout, context: bpy.types.Context, node: DistributedCyclesNode
    ) -> None:
        test = context.window_manager.distributed_cycles.tests.get(node_title(node))
        row = layout.row()
        is_running = test is not None and test.is_running
        row.operator(
            "distributed_cycles.node_test", text="Testing..." if is_running else "Test", icon="PLUGIN"
        )
        draw_question(row, node_title(node), test.question if test else "NONE")
        if test is not None and test.text:
            icon = "CHECKMARK" if test.is_good else "ERROR"
            wrapped(layout, context, test.text, icon="NONE" if is_running else icon)


def draw_question(layout: bpy.types.UILayout, name: str, question: str) -> None:
    """The button that answers what a node asks, if it asks anything."""
    if question == "TRUST":
        layout.operator("distributed_cycles.trust_host", icon="LOCKED").node = name
    elif question == "PASSPHRASE":
        layout.operator("distributed_cycles.enter_passphrase", icon="KEYINGSET").node = name
    elif question == "ANSWERS":
        layout.operator("distributed_cycles.answer_login", icon="KEYINGSET").node = name
    elif question == "SEND":
        layout.operator("distributed_cycles.send_blender", icon="EXPORT").node = name
