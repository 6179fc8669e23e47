"""What a node asks of a person: whether its host may be trusted, what opens a key file, a password.

No `from __future__ import annotations` here: Blender reads the annotations themselves.
"""

from typing import Any

import bpy
from bpy.props import StringProperty

from ..engine.delivery import megabytes
from ..engine.job import AnswersNeeded, EngineError, HostKeyUnknown, PassphraseNeeded
from . import addon, running
from .nodes import node_title

DIALOG_WIDTH_PX = 520
SHOWN_FILES = 20
LINE_LETTERS = 90


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


def _dialog(operator: bpy.types.Operator, context: bpy.types.Context, title: str, confirm: str) -> set[str]:
    """Open the operator's dialog; `confirm` stands on the button that carries it out."""
    return set(
        context.window_manager.invoke_props_dialog(
            operator, width=DIALOG_WIDTH_PX, title=title, confirm_text=confirm
        )
    )


class DISTRIBUTED_CYCLES_OT_trust_host(bpy.types.Operator):
    """Look at the host's key, and trust it from now on"""

    bl_idname = "distributed_cycles.trust_host"
    bl_label = "Trust Host..."
    bl_options = {"INTERNAL"}

    node: StringProperty(options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if self._question() is None:
            return {"CANCELLED"}
        return _dialog(self, context, "Trust Host", "Trust")

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
        return _dialog(self, context, "Enter Passphrase", "Unlock")

    def draw(self, _context: bpy.types.Context) -> None:
        question = self._question()
        if question is not None:
            self.layout.label(text=question.message, icon="KEYINGSET")
            row = self.layout.row()
            row.activate_init = True  # It can be typed at once.
            row.prop(self, "passphrase")

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


class DISTRIBUTED_CYCLES_OT_missing_files(bpy.types.Operator):
    """Look at the files that cannot be found, and render without them all the same"""

    bl_idname = "distributed_cycles.missing_files"
    bl_label = "Missing Files"
    bl_options = {"INTERNAL"}

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return _dialog(self, context, "Missing Files", "Render Anyway")

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        column.label(text="The picture will lack what they hold, as with F12.", icon="ERROR")
        for line in running.missing_files[:SHOWN_FILES]:
            # The end of a path says more than its beginning.
            column.label(text=line if len(line) <= LINE_LETTERS else f"...{line[-LINE_LETTERS:]}")
        if len(running.missing_files) > SHOWN_FILES:
            column.label(text=f"and {len(running.missing_files) - SHOWN_FILES} more")

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return set(bpy.ops.distributed_cycles.render("INVOKE_DEFAULT", use_missing=True))


class _Answers:
    """The answers while their dialog is open, for the same reason as _Typed."""

    texts = [""] * 4


def _answer(number: int, subtype: str = "PASSWORD") -> Any:
    """A field of the dialog; the server's own words stand before it, and it says whether to hide it."""

    def get(_operator: Any) -> str:
        return _Answers.texts[number]

    def put(_operator: Any, value: str) -> None:
        _Answers.texts[number] = value

    return StringProperty(name="Answer", subtype=subtype, options={"SKIP_SAVE"}, get=get, set=put)


class DISTRIBUTED_CYCLES_OT_answer_login(bpy.types.Operator):
    """Answer what the SSH server asks; the answers are not stored"""

    bl_idname = "distributed_cycles.answer_login"
    bl_label = "Log In..."
    bl_options = {"INTERNAL"}

    node: StringProperty(options={"SKIP_SAVE", "HIDDEN"})
    # As many as engine.ssh_login.MOST_PROMPTS.
    answer_1: _answer(0)
    answer_2: _answer(1)
    answer_3: _answer(2)
    answer_4: _answer(3)
    shown_1: _answer(0, "NONE")
    shown_2: _answer(1, "NONE")
    shown_3: _answer(2, "NONE")
    shown_4: _answer(3, "NONE")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        self.cancel(context)
        if self._question() is None:
            return {"CANCELLED"}
        return _dialog(self, context, "Log In", "Log In")

    def draw(self, _context: bpy.types.Context) -> None:
        question = self._question()
        if question is None:
            return
        column = self.layout.column()
        column.label(text=question.message, icon="KEYINGSET")
        for number, prompt in enumerate(question.prompts, 1):
            split = column.split(factor=0.5)
            split.label(text=prompt.text)
            split.activate_init = number == 1
            split.prop(self, f"{'shown' if prompt.is_shown else 'answer'}_{number}", text="")

    def execute(self, context: bpy.types.Context) -> set[str]:
        question = self._question()
        if question is None:
            return {"CANCELLED"}
        answers = addon.access().answers
        for prompt, text in zip(question.prompts, _Answers.texts, strict=False):
            answers[question.login, prompt.text] = text
        self.cancel(context)
        _answered(context, self.node)
        return {"FINISHED"}

    def cancel(self, _context: bpy.types.Context) -> None:
        """The dialog was closed."""
        _Answers.texts[:] = [""] * len(_Answers.texts)

    def _question(self) -> AnswersNeeded | None:
        question = running.questions.get(self.node)
        return question if isinstance(question, AnswersNeeded) else None


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
        return _dialog(self, context, "Send Blender", "Send")

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
