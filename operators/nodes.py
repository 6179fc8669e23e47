"""The node list: from preferences to engine values, the buttons beside it, and the Test button.

No `from __future__ import annotations` here: Blender reads the annotations themselves.
"""

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from bpy.props import EnumProperty, StringProperty

from ..engine.job import THIS_COMPUTER, EngineError, Node, NodeError, NodeInfo
from ..engine.nodelist import named_apart
from ..engine.starter import check_node
from . import addon, running

TEST_PERIOD_S = 0.1
COPIED = (
    *("enabled", "host", "port", "user", "key_file", "blender", "threads"),
    *(
        "device",
        "device_numbers",
        "workers",
        "launcher",
        "use_preferences",
        "send_blender",
        "blender_archive",
    ),
    *("mappings", "cache_folder", "cache_gib", "backend"),
)


def ensure_this_computer() -> None:
    """Put This Computer at the head of the list where it is missing."""
    preferences = addon.preferences()
    if preferences is None or any(entry.is_this_computer for entry in preferences.nodes):
        return
    entry = preferences.nodes.add()
    entry.name = THIS_COMPUTER
    entry.is_this_computer = True
    preferences.nodes.move(len(preferences.nodes) - 1, 0)


def node_title(entry: Any) -> str:
    """What a list entry is called: its name, or else its address."""
    return entry.name.strip() or _node(entry, entry.host.strip()).address or "New Node"


def to_node(entry: Any) -> Node:
    """The engine's value of a list entry."""
    return _node(entry, node_title(entry))


def _node(entry: Any, name: str) -> Node:
    key_file = entry.key_file.strip()
    return Node(
        name=name,
        host="" if entry.is_this_computer else entry.host.strip(),
        port=entry.port,
        user=entry.user.strip(),
        key_file=str(Path(bpy.path.abspath(key_file)).expanduser()) if key_file else "",
        blender=entry.blender.strip(),
        threads=entry.threads,
        enabled=entry.enabled,
        mappings=entry.mappings.strip(),
        cache_folder=entry.cache_folder.strip(),
        cache_gib=entry.cache_gib,
        backend=entry.backend,
        device=_device(entry),
        workers=entry.workers,
        launcher=entry.launcher.strip(),
        use_preferences=entry.use_preferences,
        send_blender=entry.send_blender and not entry.is_this_computer,
        blender_archive=bpy.path.abspath(entry.blender_archive.strip()),
    )


def fill(entry: Any, node: Node) -> None:
    """Give a list entry the settings of `node`; the other way round than `to_node`."""
    kind, _, numbers = node.device.upper().partition(":")
    entry.device, entry.device_numbers = kind or "AUTO", numbers
    for name in COPIED:
        if not name.startswith("device") and (name != "host" or not node.is_local):
            setattr(entry, name, getattr(node, name))


def _device(entry: Any) -> str:
    if entry.device == "AUTO":
        return ""
    numbers = ",".join(re.findall(r"\d+", entry.device_numbers))
    return f"{entry.device}:{numbers}" if numbers and entry.device != "CPU" else str(entry.device)


def listed_nodes(*, is_online: bool) -> tuple[list[Node], list[str]]:
    """The enabled nodes of the preferences that can be used, and warnings about the others."""
    preferences = addon.preferences()
    if preferences is None:
        return [Node(THIS_COMPUTER)], []
    nodes, warnings = [], []
    for entry in preferences.nodes:
        if not entry.enabled:
            continue
        if not entry.is_this_computer and not entry.host.strip():
            warnings.append(f"{node_title(entry)} is left out: it has no host yet.")
        elif not entry.is_this_computer and not is_online:
            warnings.append(
                f"{node_title(entry)} is left out: online access is off."
                " Allow it in Preferences > System > Network."
            )
        else:
            nodes.append(to_node(entry))
    return named_apart(nodes), warnings


class _ListOperator:
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        return addon.preferences() is not None

    @staticmethod
    def active() -> Any | None:
        preferences = addon.preferences()
        if preferences is None or not 0 <= preferences.active_node < len(preferences.nodes):
            return None
        return preferences.nodes[preferences.active_node]


def changed(active: int) -> set[str]:
    """Make `active` the active entry of a list that is another one now."""
    preferences = addon.preferences()
    preferences.active_node = active
    # Python's changes to a list do not tell Blender that there is something to save.
    bpy.context.preferences.is_dirty = True
    return {"FINISHED"}


class DISTRIBUTED_CYCLES_OT_node_add(_ListOperator, bpy.types.Operator):
    """Add a machine to the list"""

    bl_idname = "distributed_cycles.node_add"
    bl_label = "Add Node"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        entries = addon.preferences().nodes
        entries.add()
        return changed(len(entries) - 1)


class DISTRIBUTED_CYCLES_OT_node_remove(_ListOperator, bpy.types.Operator):
    """Remove the active machine from the list"""

    bl_idname = "distributed_cycles.node_remove"
    bl_label = "Remove Node"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        entry = cls.active()
        if entry is not None and entry.is_this_computer:
            cls.poll_message_set("This Computer stays in the list; it can be disabled")
        return entry is not None and not entry.is_this_computer

    def execute(self, _context: bpy.types.Context) -> set[str]:
        preferences = addon.preferences()
        index = preferences.active_node
        preferences.nodes.remove(index)
        return changed(min(index, len(preferences.nodes) - 1))


class DISTRIBUTED_CYCLES_OT_node_duplicate(_ListOperator, bpy.types.Operator):
    """Add another machine with the settings of the active one"""

    bl_idname = "distributed_cycles.node_duplicate"
    bl_label = "Duplicate Node"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        entry = cls.active()
        return entry is not None and not entry.is_this_computer

    def execute(self, _context: bpy.types.Context) -> set[str]:
        preferences = addon.preferences()
        index = preferences.active_node
        copy = preferences.nodes.add()
        # Adding may move the list in memory, so the original is looked up afterwards.
        original = preferences.nodes[index]
        for name in COPIED:
            setattr(copy, name, getattr(original, name))
        taken = {entry.name for entry in preferences.nodes}
        number = 2
        while f"{node_title(original)} ({number})" in taken:
            number += 1
        copy.name = f"{node_title(original)} ({number})"
        preferences.nodes.move(len(preferences.nodes) - 1, index + 1)
        return changed(index + 1)


class DISTRIBUTED_CYCLES_OT_node_move(_ListOperator, bpy.types.Operator):
    """Move the active machine in the list"""

    bl_idname = "distributed_cycles.node_move"
    bl_label = "Move Node"

    direction: EnumProperty(items=(("UP", "Up", ""), ("DOWN", "Down", "")))

    def execute(self, _context: bpy.types.Context) -> set[str]:
        preferences = addon.preferences()
        index = preferences.active_node
        target = index + (-1 if self.direction == "UP" else 1)
        if not 0 <= target < len(preferences.nodes):
            return {"CANCELLED"}
        preferences.nodes.move(index, target)
        return changed(target)


@dataclass
class NodeTest:
    """A check of one node in a thread of its own."""

    node: Node
    result: NodeInfo | EngineError | None = None
    progress: str = ""
    """What is going on, in words."""

    def __post_init__(self) -> None:
        self._access = addon.access_for([self.node])
        self._local_blender = addon.local_blender()
        self._version = tuple(bpy.app.version)
        self.thread = threading.Thread(target=self._run, name="dc-test", daemon=True)
        self.thread.start()

    def _say(self, state: str, detail: str) -> None:
        self.progress = f"{state.capitalize()}: {detail}"

    def _run(self) -> None:
        try:
            self.result = check_node(
                self.node,
                access=self._access,
                local_blender=self._local_blender,
                version=self._version,
                say=self._say,
            )
        except EngineError as error:
            self.result = error
        except Exception as bug:  # noqa: BLE001 - a bug here must reach a person, not vanish
            self.result = NodeError(f"internal error: {bug!r}", "Please report it.", self.node.name)


def describe(info: NodeInfo) -> str:
    """What is known of a node's Blender, in lines."""
    lines = [
        f"{info.system} {info.machine}, {info.cores} cores",
        f"Blender {info.version_text}: {info.blender_path}",
        f"Devices: {', '.join(info.devices) or 'CPU'}",
    ]
    if info.warning:
        lines.append(f"Warning: {info.warning}")
    if info.others:
        lines.append(f"Also there: {', '.join(info.others)}")
    return "\n".join(lines)


class DISTRIBUTED_CYCLES_OT_node_test(bpy.types.Operator):
    """Connect to the active machine, start Blender there, and say what was found"""

    bl_idname = "distributed_cycles.node_test"
    bl_label = "Test Node"
    bl_options = {"INTERNAL"}

    name: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    """Name of the node; empty: the active one."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        entry = _ListOperator.active()
        if entry is None:
            return False
        test = context.window_manager.distributed_cycles.tests.get(node_title(entry))
        if test is not None and test.is_running:
            cls.poll_message_set("The test of this node is still running")
            return False
        return True

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if not self._start():
            return {"CANCELLED"}
        manager = context.window_manager
        self._timer = manager.event_timer_add(TEST_PERIOD_S, window=context.window)
        manager.modal_handler_add(self)
        running.redraw("PREFERENCES")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type == "TIMER" and self._test.progress not in ("", self._line().text):
            self._line().text = self._test.progress
            running.redraw("PREFERENCES")
        if event.type != "TIMER" or self._test.thread.is_alive():
            return {"PASS_THROUGH"}
        self.cancel(context)
        self._show_result()
        running.redraw("PREFERENCES")
        return {"FINISHED"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Also called by Blender when it loads another file or closes the window."""
        context.window_manager.event_timer_remove(self._timer)
        self._line().is_running = False

    def execute(self, _context: bpy.types.Context) -> set[str]:
        if not self._start():
            return {"CANCELLED"}
        self._test.thread.join()
        self._show_result()
        return {"FINISHED"}

    def _start(self) -> bool:
        preferences = addon.preferences()
        entries = {node_title(entry): entry for entry in preferences.nodes}
        entry = entries.get(self.name) or _ListOperator.active()
        node = to_node(entry)
        self._name = node.name
        try:
            if not entry.is_this_computer:
                if not node.host:
                    raise EngineError("This node has no host yet.", "Enter the name of its SSH server.")
                if not bpy.app.online_access:
                    raise EngineError("Online access is off.", "Allow it in Preferences > System > Network.")
            self._test = NodeTest(node)
        except EngineError as error:
            self._show(error)
            return False
        line = self._line()
        line.is_running, line.is_good, line.question = True, False, "NONE"
        line.text = f"Connecting to {node.address}..." if node.host else ""
        return True

    def _line(self) -> Any:
        tests = running.status().tests
        line = tests.get(self._name)
        if line is None:
            line = tests.add()
            line.name = self._name
        return line

    def _show_result(self) -> None:
        result = self._test.result
        assert result is not None
        self._show(result)

    def _show(self, result: NodeInfo | EngineError) -> None:
        line = self._line()
        line.is_running = False
        line.is_good = isinstance(result, NodeInfo)
        if isinstance(result, NodeInfo):
            line.text = f"Ready: {describe(result)}"
            line.question = running.ask(self._name, None)
            self.report({"INFO"}, f"{self._name} is ready: Blender {result.version_text}")
        else:
            line.text = f"{result.message}\n{result.hint}".strip()
            line.question = running.ask(self._name, result)
            self.report({"WARNING"}, f"{self._name}: {result.message}")
