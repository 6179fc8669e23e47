"""The node list: editing it, testing a node, and answering what a node asks."""

# Blender takes properties from annotations; as strings it could not read them.
# ruff: noqa: FA102

import queue
import threading
from typing import Any

import bpy

from ..engine.job import THIS_COMPUTER, EngineError, NodeInfo
from ..engine.node import check_node
from . import addon, running, status

TIMER_PERIOD_S = 0.1


def ensure_this_computer(preferences: Any) -> None:
    """This Computer is in the list from the start."""
    if not any(item.is_local for item in preferences.nodes):
        item = preferences.nodes.add()
        item.name, item.is_local = THIS_COMPUTER, True
        preferences.nodes.move(len(preferences.nodes) - 1, 0)


def _active(context: bpy.types.Context) -> Any | None:
    preferences = addon.preferences(context)
    index = preferences.active_node
    return preferences.nodes[index] if 0 <= index < len(preferences.nodes) else None


class DISTRIBUTED_CYCLES_OT_node_add(bpy.types.Operator):
    """Add a machine that can be reached over SSH"""

    bl_idname = "distributed_cycles.node_add"
    bl_label = "Add Node"

    def execute(self, context: bpy.types.Context) -> set[str]:
        preferences = addon.preferences(context)
        item = preferences.nodes.add()
        item.name = _unused_name(preferences, "Node")
        preferences.active_node = len(preferences.nodes) - 1
        return {"FINISHED"}


class _NeedsActive:
    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _active(context) is not None


class DISTRIBUTED_CYCLES_OT_node_remove(_NeedsActive, bpy.types.Operator):
    """Remove the node from the list"""

    bl_idname = "distributed_cycles.node_remove"
    bl_label = "Remove Node"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        item = _active(context)
        if item is not None and item.is_local:
            cls.poll_message_set("This Computer stays in the list; it can be disabled")
        return item is not None and not item.is_local

    def execute(self, context: bpy.types.Context) -> set[str]:
        preferences = addon.preferences(context)
        preferences.nodes.remove(preferences.active_node)
        preferences.active_node = max(0, preferences.active_node - 1)
        return {"FINISHED"}


class DISTRIBUTED_CYCLES_OT_node_duplicate(_NeedsActive, bpy.types.Operator):
    """Add a copy of the node"""

    bl_idname = "distributed_cycles.node_duplicate"
    bl_label = "Duplicate Node"

    def execute(self, context: bpy.types.Context) -> set[str]:
        preferences = addon.preferences(context)
        index = preferences.active_node
        name = _unused_name(preferences, preferences.nodes[index].name)
        copy = preferences.nodes.add()
        original = preferences.nodes[index]  # Adding may have moved it in memory.
        for field in ("is_local", "host", "port", "user", "key_file", "blender", "threads", "enabled"):
            setattr(copy, field, getattr(original, field))
        copy.name, copy.is_local = name, False
        preferences.nodes.move(len(preferences.nodes) - 1, index + 1)
        preferences.active_node = index + 1
        return {"FINISHED"}


class DISTRIBUTED_CYCLES_OT_node_move(_NeedsActive, bpy.types.Operator):
    """Move the node in the list"""

    bl_idname = "distributed_cycles.node_move"
    bl_label = "Move Node"

    direction: bpy.props.EnumProperty(items=(("UP", "Up", ""), ("DOWN", "Down", "")))

    def execute(self, context: bpy.types.Context) -> set[str]:
        preferences = addon.preferences(context)
        index = preferences.active_node
        other = index + (1 if self.direction == "DOWN" else -1)
        if not 0 <= other < len(preferences.nodes):
            return {"CANCELLED"}
        preferences.nodes.move(index, other)
        preferences.active_node = other
        return {"FINISHED"}


def _unused_name(preferences: Any, stem: str) -> str:
    names = {item.name for item in preferences.nodes}
    number = 2
    name = stem
    while name in names:
        name = f"{stem} {number}"
        number += 1
    return name


class DISTRIBUTED_CYCLES_OT_node_test(_NeedsActive, bpy.types.Operator):
    """Connect to the node, start its Blender, and say what was found or what is wrong"""

    bl_idname = "distributed_cycles.node_test"
    bl_label = "Test"

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """In a thread: a node that hangs must not hang Blender."""
        if not self._begin(context):
            return {"CANCELLED"}
        manager = context.window_manager
        self._timer = manager.event_timer_add(TIMER_PERIOD_S, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """And wait for it: for scripts."""
        return self._end(context, self._answers.get()) if self._begin(context) else {"CANCELLED"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        try:
            answer = self._answers.get_nowait()
        except queue.Empty:
            return {"PASS_THROUGH"}
        context.window_manager.event_timer_remove(self._timer)
        return self._end(context, answer)

    def cancel(self, context: bpy.types.Context) -> None:
        context.window_manager.event_timer_remove(self._timer)

    def _begin(self, context: bpy.types.Context) -> bool:
        item = _active(context)
        node = addon.to_node(item)
        self._name = item.name
        self._answers: queue.Queue[NodeInfo | EngineError] = queue.Queue()
        if not node.is_local and not node.host:
            item.test_result = "Enter the host first: a name or an address."
            return False
        try:
            addon.check_online([node])
        except EngineError as error:
            item.test_result = str(error)
            return False
        access, blender, answers = addon.access(), addon.local_blender(), self._answers

        def test() -> None:
            try:
                answers.put(check_node(node, access=access, local_blender=blender))
            except EngineError as error:
                answers.put(error)
            except Exception as bug:  # noqa: BLE001 - it must reach the person who pressed Test
                answers.put(EngineError(f"internal error: {bug!r}", "Please report it."))

        item.test_result = "Testing..."
        item.test_question.question = "NONE"
        threading.Thread(target=test, name="dc-test", daemon=True).start()
        return True

    def _end(self, context: bpy.types.Context, answer: NodeInfo | EngineError) -> set[str]:
        item = addon.preferences(context).nodes.get(self._name)
        is_good = isinstance(answer, NodeInfo)
        if item is not None:
            item.test_result = _describe(answer) if is_good else str(answer)
            status.ask_about(item.test_question, None if is_good else answer)
            item.test_question.name = item.name
        for window in context.window_manager.windows:
            for area in window.screen.areas:
                area.tag_redraw()
        self.report({"INFO"} if is_good else {"ERROR"}, _describe(answer) if is_good else str(answer))
        return {"FINISHED"}


def _describe(info: NodeInfo) -> str:
    same = info.blender_version[:2] == bpy.app.version[:2]
    note = "" if same else f" It does not match this Blender ({bpy.app.version_string}) and would be left out."
    return (
        f"Ready: {info.system} {info.machine}, Blender {info.version_text} ({info.blender_path or 'bpy module'}),"
        f" {info.cores} cores, {', '.join(info.devices)}.{note}"
    )


def _question(context: bpy.types.Context, name: str) -> Any | None:
    """The open question of the node `name`: from the running render, or from its last test."""
    item = context.window_manager.distributed_cycles.nodes.get(name)
    if item is not None and item.question != "NONE":
        return item
    listed = addon.preferences(context).nodes.get(name)
    if listed is not None and listed.test_question.question != "NONE":
        return listed.test_question
    return None


def _answered(context: bpy.types.Context, name: str) -> None:
    current = running.current()
    if current is not None:
        current.session.retry(name)
    listed = addon.preferences(context).nodes.get(name)
    if listed is not None and listed.test_question.question != "NONE":
        listed.test_question.question = "NONE"
        listed.test_result = "Press Test again."


class DISTRIBUTED_CYCLES_OT_trust_host(bpy.types.Operator):
    """Compare the fingerprint with the host's own, and trust it from now on"""

    bl_idname = "distributed_cycles.trust_host"
    bl_label = "Trust This Host"

    node: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self, width=520)

    def draw(self, context: bpy.types.Context) -> None:
        question = _question(context, self.node)
        if question is not None:
            self.layout.label(text=f"{question.host}, port {question.port}, shows this key:")
            self.layout.label(text=f"{question.key.split()[0]}  {question.fingerprint}")
            self.layout.label(text="On that machine, ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub shows the same.")

    def execute(self, context: bpy.types.Context) -> set[str]:
        question = _question(context, self.node)
        if question is None or question.question != "HOST_KEY":
            self.report({"ERROR"}, f"{self.node} asks nothing any more")
            return {"CANCELLED"}
        try:
            addon.access().known_hosts.add(question.host, question.port, question.key)
        except OSError as error:
            self.report({"ERROR"}, f"The key could not be stored: {error}")
            return {"CANCELLED"}
        _answered(context, self.node)
        return {"FINISHED"}


_typed = ""
"""What stands in the passphrase dialog. A property of its own would be written to disk."""


def _get_typed(_self: Any) -> str:
    return _typed


def _set_typed(_self: Any, value: str) -> None:
    global _typed
    _typed = value


class DISTRIBUTED_CYCLES_OT_passphrase(bpy.types.Operator):
    """Unlock a private key for this Blender session; the passphrase is not stored"""

    bl_idname = "distributed_cycles.passphrase"
    bl_label = "Enter Passphrase"

    node: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    passphrase: bpy.props.StringProperty(
        name="Passphrase", subtype="PASSWORD", options={"SKIP_SAVE"}, get=_get_typed, set=_set_typed
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        _set_typed(self, "")
        return context.window_manager.invoke_props_dialog(self, width=420)

    def draw(self, context: bpy.types.Context) -> None:
        question = _question(context, self.node)
        if question is not None:
            self.layout.label(text=f"{question.key_file} is locked.")
        self.layout.prop(self, "passphrase")

    def execute(self, context: bpy.types.Context) -> set[str]:
        question = _question(context, self.node)
        if question is None or question.question != "PASSPHRASE":
            self.report({"ERROR"}, f"{self.node} asks nothing any more")
            return {"CANCELLED"}
        addon.access().passphrases[question.key_file] = _typed
        _set_typed(self, "")
        _answered(context, self.node)
        return {"FINISHED"}


_CLASSES = (
    DISTRIBUTED_CYCLES_OT_node_add,
    DISTRIBUTED_CYCLES_OT_node_remove,
    DISTRIBUTED_CYCLES_OT_node_duplicate,
    DISTRIBUTED_CYCLES_OT_node_move,
    DISTRIBUTED_CYCLES_OT_node_test,
    DISTRIBUTED_CYCLES_OT_trust_host,
    DISTRIBUTED_CYCLES_OT_passphrase,
)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
