"""The node list from elsewhere and to elsewhere: the SSH configuration, and TOML files.

No `from __future__ import annotations` here: Blender reads the annotations themselves.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..engine.job import EngineError, Node, NodeListError
from ..engine.nodelist import named_apart, read_nodes, write_nodes
from ..engine.ssh_config import listed_hosts
from . import addon, nodes

FILTER = "*.toml"


def add_hosts() -> int:
    """Put the hosts of the SSH configuration that are not listed yet into the list; returns how many.

    They are not enabled: not every machine that one logs in to is there to render.
    """
    entries = addon.preferences().nodes
    listed = {entry.host.strip() for entry in entries}
    found = [host for host in listed_hosts() if host not in listed]
    for host in found:
        entry = entries.add()
        entry.host = host
        entry.enabled = False
    if found:
        nodes.changed(len(entries) - 1)
    return len(found)


def add_nodes(found: Iterable[Node]) -> int:
    """Put nodes into the list; one of a name that is listed takes its place. Returns how many."""
    entries = addon.preferences().nodes
    count = 0
    for node in found:
        if node.is_local:
            entry = next(entry for entry in entries if entry.is_this_computer)
        else:
            titles = {nodes.node_title(entry): number for number, entry in enumerate(entries)}
            entry = entries[titles[node.name]] if node.name in titles else entries.add()
            entry.name = node.name
        nodes.fill(entry, node)
        count += 1
    nodes.changed(len(entries) - 1)
    return count


def all_nodes() -> list[Node]:
    """The whole list, also what is not enabled; entries without a host are left out."""
    entries = addon.preferences().nodes
    return named_apart(
        nodes.to_node(entry) for entry in entries if entry.is_this_computer or entry.host.strip()
    )


def write(path: Path) -> int:
    """Write the list as a TOML file; returns how many nodes it holds. Raise NodeListError."""
    found = all_nodes()
    try:
        path.write_text(write_nodes(found), encoding="utf-8")
    except OSError as error:
        raise NodeListError(
            f"{path} cannot be written ({error.strerror}).", "Choose another place."
        ) from None
    return len(found)


class _Listed:
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return addon.preferences() is not None

    def done(self, text: str) -> set[str]:
        self.report({"INFO"}, text)  # type: ignore[attr-defined]
        return {"FINISHED"}


class DISTRIBUTED_CYCLES_OT_nodes_from_ssh_config(_Listed, bpy.types.Operator):
    """Add the hosts that your ~/.ssh/config names, not enabled yet; everything else about them stays there"""

    bl_idname = "distributed_cycles.nodes_from_ssh_config"
    bl_label = "Import Hosts from SSH Config"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        count = add_hosts()
        if not count:
            return self.done("The SSH configuration names no host that is not listed yet")
        return self.done(f"{count} hosts were added; enable those that shall render")


class DISTRIBUTED_CYCLES_OT_nodes_import(_Listed, ImportHelper, bpy.types.Operator):
    """Add the nodes of a TOML file; one that is listed under the same name gets its settings"""

    bl_idname = "distributed_cycles.nodes_import"
    bl_label = "Import Nodes"

    filename_ext = ".toml"
    filter_glob: StringProperty(default=FILTER, options={"HIDDEN"})

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            return self.done(f"{add_nodes(read_nodes(Path(self.filepath)))} nodes were imported")
        except EngineError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}


class DISTRIBUTED_CYCLES_OT_nodes_export(_Listed, ExportHelper, bpy.types.Operator):
    """Write the node list to a TOML file, which holds no secrets"""

    bl_idname = "distributed_cycles.nodes_export"
    bl_label = "Export Nodes"

    filename_ext = ".toml"
    filter_glob: StringProperty(default=FILTER, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.filepath = "nodes.toml"
        found: Any = super().invoke(context, event)
        return found

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            return self.done(f"{write(Path(self.filepath))} nodes were exported")
        except EngineError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
