"""What a node asks of a person: whether its host may be trusted, what opens a key file.

No `from __future__ import annotations` here: Blender reads the annotations themselves.
"""

from typing import Any

import bpy
from bpy.props import StringProperty

from ..engine.delivery import megabytes
from ..engine.job import EngineError, HostKeyUnknown, PassphraseNeeded
from . import addon, running
from .nodes import node_title

DIALOG_WIDTH_PX = 520


class _Typed:
    """The passphrase while its dialog is open. A property of Blender's own would be stored."""

    text = ""


def _answered(context: bpy.types.Context, node: str, *, send_blender: bool = False) -> None:
    """Go on where the question came up: in the running render, or in the Test."""
    running.questions.pop(node, None)
    status = context.window_manager.distributed_cycles
    if node in status.nodes:
        status.nodes[node].question = "NONE"
    current = running.current()
    if current is not None and node in status.nodes:
        current.session.retry(node, send_blender=send_blender)
    elif not bpy.app.background:
        bpy.ops.distributed_cycles.node_test("INVOKE_DEFAULT", name=node)
    running.redraw("PROPERTIES", "PREFERENCES")


class DISTRIBUTED_CYCLES_OT_trust_host(bpy.types.Operator):
    """Look at the host's key, and trust it from now on"""

    bl_idname = "distributed_cycles.trust_host"
    bl_label = "Trust Host..."
    bl_options = {"INTERNAL"}

    node: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if self._question() is None:
            return {"CANCELLED"}
        return context.window_manager.invoke_props_dialog(self, width=DIALOG_WIDTH_PX)

    def draw(self, _context: bpy.types.Context) -> None:
        question = self._question()
        if question is None:
            return
        column = self.layout.column()
        column.label(text=f"{question.host}, port {question.port}, is not known yet.", icon="QUESTION")
        for name, value in (("Key", question.key.split()[0]), ("Fingerprint", question.fingerprint)):
            split = column.split(factor=0.2)
            split.label(text=name)
            split.label(text=value)
        column.label(text="Trust it only if this is the fingerprint that the machine itself shows.")

    def execute(self, context: bpy.types.Context) -> set[str]:
        question = self._question()
        if question is None:
            return {"CANCELLED"}
        try:
            addon.access().known_hosts.add(question.host, question.port, question.key)
        except (OSError, EngineError) as error:
            self.report({"ERROR"}, f"The key could not be stored: {error}")
            return {"CANCELLED"}
        _answered(context, self.node)
        return {"FINISHED"}

    def _question(self) -> HostKeyUnknown | None:
        question = running.questions.get(self.node)
        return question if isinstance(question, HostKeyUnknown) else None


def _get_typed(_operator: Any) -> str:
    return _Typed.text


def _set_typed(_operator: Any, value: str) -> None:
    _Typed.text = value


class DISTRIBUTED_CYCLES_OT_enter_passphrase(bpy.types.Operator):
    """Unlock the key file for as long as Blender runs; the passphrase is not stored"""

    bl_idname = "distributed_cycles.enter_passphrase"
    bl_label = "Enter Passphrase..."
    bl_options = {"INTERNAL"}

    node: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    # With callbacks of its own the value never becomes part of the operator's stored properties.
    passphrase: StringProperty(
        name="Passphrase", subtype="PASSWORD", options={"SKIP_SAVE"}, get=_get_typed, set=_set_typed
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        _set_typed(self, "")
        if self._question() is None:
            return {"CANCELLED"}
        return context.window_manager.invoke_props_dialog(self, width=DIALOG_WIDTH_PX)

    def draw(self, _context: bpy.types.Context) -> None:
        question = self._question()
        if question is not None:
            self.layout.label(text=question.message, icon="KEYINGSET")
            self.layout.prop(self, "passphrase")

    def execute(self, context: bpy.types.Context) -> set[str]:
        question = self._question()
        if question is None:
            return {"CANCELLED"}
        addon.access().passphrases[question.key_file] = _Typed.text
        _set_typed(self, "")
        _answered(context, self.node)
        return {"FINISHED"}

    def cancel(self, _context: bpy.types.Context) -> None:
        """The dialog was closed."""
        _set_typed(self, "")

    def _question(self) -> PassphraseNeeded | None:
        question = running.questions.get(self.node)
        return question if isinstance(question, PassphraseNeeded) else None


class DISTRIBUTED_CYCLES_OT_send_blender(bpy.types.Operator):
    """Send this Blender to the machine, which has none that suits"""

    bl_idname = "distributed_cycles.send_blender"
    bl_label = "Send Blender..."
    bl_options = {"INTERNAL"}

    node: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        installation = addon.installation()
        if installation is None or self.node not in running.questions:
            return {"CANCELLED"}
        self._size = installation.size
        return context.window_manager.invoke_props_dialog(self, width=DIALOG_WIDTH_PX)

    def draw(self, _context: bpy.types.Context) -> None:
        column = self.layout.column()
        column.label(text=f"Send Blender {bpy.app.version_string} to {self.node}?", icon="EXPORT")
        column.label(text=f"{megabytes(self._size)}, compressed on the way, once.")
        column.label(text="It is kept there in ~/.cache/distributed-cycles/blender.")

    def execute(self, context: bpy.types.Context) -> set[str]:
        if addon.installation() is None or self.node not in running.questions:
            return {"CANCELLED"}
        preferences = addon.preferences()
        for entry in preferences.nodes if preferences else ():
            if node_title(entry) == self.node:
                entry.send_blender = True
                context.preferences.is_dirty = True
        _answered(context, self.node, send_blender=True)
        return {"FINISHED"}
