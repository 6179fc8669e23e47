"""Every panel's draw() against a layout that knows what Blender knows: properties, operators, icons."""

from __future__ import annotations

from pathlib import Path

from .house import python

LAYOUT = """
class Layout:
    '''Takes what a panel draws and refuses what Blender's own layout would complain about.'''
    icons = set(bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys())
    def __init__(self, lines):
        object.__setattr__(self, "lines", lines)
    def __setattr__(self, name, value):
        assert name in bpy.types.UILayout.bl_rna.properties, name
    def _sub(self, *args, **keywords):
        return Layout(self.lines)
    row = column = box = split = _sub
    def separator(self, *args, **keywords):
        pass
    def _icon(self, keywords):
        assert keywords.get("icon", "NONE") in self.icons, keywords
    def label(self, **keywords):
        self._icon(keywords)
        self.lines.append(keywords["text"])
    def prop(self, data, name, **keywords):
        self._icon(keywords)
        assert name in data.bl_rna.properties, (data, name)
        assert set(keywords) <= set(bpy.types.UILayout.bl_rna.functions["prop"].parameters.keys()), keywords
        self.lines.append(f"[{name}]")
    def operator(self, name, **keywords):
        self._icon(keywords)
        group, _, operator = name.partition(".")
        kind = getattr(getattr(bpy.ops, group), operator).get_rna_type()
        self.lines.append(f"<{name}>")
        class Properties:
            def __setattr__(self, key, value):
                assert key in kind.properties, (name, key)
        return Properties()
    def progress(self, **keywords):
        self.lines.append(keywords["text"])
    def template_list(self, kind, *rest, **keywords):
        assert hasattr(bpy.types, kind)
        self.lines.append(kind)

def drawn(cls):
    class Self:
        pass
    for name, value in vars(cls).items():
        if callable(value):
            setattr(Self, name, value)
    panel = Self()
    panel.layout = Layout([])
    panel.draw(bpy.context)
    return "\\n".join(panel.layout.lines)
"""


def test_render_panel_in_all_its_states(blend: Path) -> None:
    python(
        LAYOUT
        + """
panels, running = module("ui.panels"), module("operators.running")
main, nodes = panels.DISTRIBUTED_CYCLES_PT_render, panels.DISTRIBUTED_CYCLES_PT_nodes
scene, status = bpy.context.scene, bpy.context.window_manager.distributed_cycles
assert main.poll(bpy.context)
text = drawn(main)
for words in ("<distributed_cycles.render>", "<distributed_cycles.resume>", "Frame", "Seed", "tiles, no margin needed"):
    assert words in text, text
assert "[tile_size]" not in text
scene.distributed_cycles.use_auto_tile_size = False
scene.cycles.use_adaptive_sampling = True
scene.cycles.use_animated_seed = True
text = drawn(main)
assert "[tile_size]" in text and "tiles, with 4 px around each" in text and "(animated)" in text
assert "preferences" in drawn(nodes)
scene.cycles.use_guiding = True
assert "Path Guiding learns" in drawn(main).replace("\\n", " ")
scene.cycles.time_limit = 60
text = drawn(main).replace("\\n", " ")
assert "Time Limit of 60 s" in text and "Path Guiding learns" not in text, text
scene.cycles.time_limit, scene.cycles.use_guiding = 0, False

job, messages, report = module("engine.job"), module("engine.messages"), module("engine.report")
status.is_running = True
running.show(messages.Progress(3, 12, 0.25, 3725.0))
tile = job.Tile(4, job.Rect(32, 64, 32, 36))
running.show(messages.NodeChanged(messages.NodeStatus("one", "rendering", "", tile, 3, 1.5)))
unknown = job.HostKeyUnknown("unknown key", "trust it", "two", host="h", port=22, key="ssh-ed25519 AAAA", fingerprint="SHA256:x")
running.show(messages.NodeChanged(messages.NodeStatus("two", "failed", "unknown key", error=unknown)))
locked = job.PassphraseNeeded("locked", "", "three", key_file="/key")
running.show(messages.NodeChanged(messages.NodeStatus("three", "failed", "locked", error=locked)))
running.show(messages.TileEnded(tile, "one", 1, "failed", detail="a reason " * 30))
text = drawn(main)
for words in ("<distributed_cycles.cancel>", "Rendering  25%", "3 of 12 tiles", "1:02:05 left", "tile 32 x 36 at 32, 64, attempt 1 failed"):
    assert words in text, text
assert "<distributed_cycles.render>" not in text
text = drawn(nodes)
for words in ("32 x 36 at 32, 64", "1.50 s each", "3 tiles", "unknown key trust it", "<distributed_cycles.trust_host>", "<distributed_cycles.enter_passphrase>"):
    assert words in text, text
scene.render.engine = "BLENDER_WORKBENCH"
status.is_running = False
assert not main.poll(bpy.context)
""",
        blend=blend,
    )


def test_preferences(blend: Path) -> None:
    python(
        LAYOUT
        + """
import types
shown = module("ui.preferences")
preferences = bpy.context.preferences.addons[EXTENSION].preferences
def text():
    names = ("nodes", "active_node", "show_more", "bl_rna")
    self = types.SimpleNamespace(layout=Layout([]), **{name: getattr(preferences, name) for name in names})
    cls = shown.DistributedCyclesPreferences
    for name in ("_draw_node", "_draw_more", "_draw_test"):
        setattr(self, name, types.MethodType(getattr(cls, name), self))
    cls.draw(self, bpy.context)
    return "\\n".join(self.layout.lines)
first = text()
assert "<distributed_cycles.node_test>" in first and "[threads]" in first and "[host]" not in first
bpy.ops.distributed_cycles.node_add()
second = text()
more = ("mappings", "cache_folder", "cache_gib", "backend", "device", "workers", "launcher", "use_preferences", "send_blender")
for name in ("host", "port", "user", "key_file", "blender", "threads"):
    assert f"[{name}]" in second, second
assert not any(f"[{name}]" in second for name in more), second
preferences.show_more = True
assert all(f"[{name}]" in text() for name in more), text()
for name in ("nodes_from_ssh_config", "nodes_import", "nodes_export"):
    assert f"<distributed_cycles.{name}>" in first, first
for kind, operator in (("TRUST", "trust_host"), ("PASSPHRASE", "enter_passphrase"), ("ANSWERS", "answer_login")):
    line = Layout([])
    shown.draw_question(line, "node", kind)
    assert line.lines == [f"<distributed_cycles.{operator}>"], line.lines
assert "password" not in second.lower()
bpy.ops.distributed_cycles.node_test()
assert "no host yet" in text().replace("\\n", " ")
for node in preferences.nodes:
    line = Layout([])
    shown.DISTRIBUTED_CYCLES_UL_nodes.draw_item(None, bpy.context, line, preferences, node, 0, preferences, "active_node")
    assert "[enabled]" in line.lines
""",
        blend=blend,
    )
