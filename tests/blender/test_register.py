"""Enabling and disabling, and the node list."""

from __future__ import annotations

from .house import python

TRACES = """
import addon_utils, threading

def traces():
    found = [name for name in dir(bpy.types) if "distributed_cycles" in name.lower().replace("distributedcycles", "distributed_cycles")]
    found += [name for name in dir(bpy.ops) if name == "distributed_cycles" and dir(bpy.ops.distributed_cycles)]
    found += [owner.__name__ for owner in (bpy.types.Scene, bpy.types.WindowManager) if hasattr(owner, "distributed_cycles")]
    for name in dir(bpy.app.handlers):
        handlers = getattr(bpy.app.handlers, name)
        if isinstance(handlers, list):
            found += [f"{name}: {handler}" for handler in handlers if "distributed_cycles" in handler.__module__]
    found += [thread.name for thread in threading.enumerate() if thread.name.startswith("dc-")]
    found += [item.idname for keymap in bpy.context.window_manager.keyconfigs.addon.keymaps
              for item in keymap.keymap_items if "distributed_cycles" in item.idname] \
        if bpy.context.window_manager.keyconfigs.addon else []
    return found
"""


def test_disabling_leaves_no_trace_and_enabling_again_works() -> None:
    python(
        TRACES
        + """
assert len(traces()) > 10
for _ in range(2):
    addon_utils.disable(EXTENSION, default_set=True)
    assert not traces(), traces()
    assert addon_utils.enable(EXTENSION, default_set=True)
    assert len(traces()) > 10
"""
    )


def test_enabling_imports_nothing_of_ssh() -> None:
    python("assert 'paramiko' not in sys.modules")


def test_this_computer_is_listed_and_stays() -> None:
    python(
        """
preferences = bpy.context.preferences.addons[EXTENSION].preferences
names = lambda: [entry.name for entry in preferences.nodes]
operators = bpy.ops.distributed_cycles
assert names() == ["This Computer"], names()
assert not operators.node_remove.poll() and not operators.node_duplicate.poll()

operators.node_add()
entry = preferences.nodes[preferences.active_node]
entry.name, entry.host, entry.threads, entry.key_file = "render1", "render1.example", 3, "//key"
operators.node_duplicate()
copy = preferences.nodes[preferences.active_node]
assert (copy.name, copy.host, copy.threads) == ("render1 (2)", "render1.example", 3)
operators.node_move(direction="UP")
assert names() == ["This Computer", "render1 (2)", "render1"]
operators.node_remove()
assert names() == ["This Computer", "render1"] and bpy.context.preferences.is_dirty

nodes = module("operators.nodes")
preferences.nodes[0].enabled = False
found, warnings = nodes.listed_nodes(is_online=True)
assert [(node.name, node.host, node.threads) for node in found] == [("render1", "render1.example", 3)]
found, warnings = nodes.listed_nodes(is_online=False)
assert not found and "online access" in warnings[0], warnings
"""
    )


def test_test_button_says_what_is_there_and_what_is_wrong() -> None:
    python(
        """
preferences = bpy.context.preferences.addons[EXTENSION].preferences
tests = bpy.context.window_manager.distributed_cycles.tests
bpy.ops.distributed_cycles.node_test()
found = tests["This Computer"]
assert found.is_good and "cores" in found.text and f"Blender {'.'.join(map(str, bpy.app.version))}" in found.text, found.text
assert "Devices: CPU" in found.text

preferences.nodes[0].blender = "/nonexistent/blender"
bpy.ops.distributed_cycles.node_test()
assert not found.is_good and "could not be started" in found.text, found.text

bpy.ops.distributed_cycles.node_add()
bpy.ops.distributed_cycles.node_test()
assert "no host yet" in tests["New Node"].text
"""
    )


def test_a_passphrase_is_written_nowhere(tmp_path) -> None:
    python(
        """
folder = Path(sys.argv[-1])
job, running, addon = module("engine.job"), module("operators.running"), module("operators.addon")
secret = "correct-horse-battery"
running.questions["node"] = job.PassphraseNeeded("locked", "", "node", key_file="/key")
bpy.ops.distributed_cycles.enter_passphrase(node="node", passphrase=secret)
assert addon.access().passphrases == {"/key": secret}
bpy.ops.wm.save_userpref()
bpy.ops.wm.save_as_mainfile(filepath=str(folder / "a.blend"), compress=False)
files = [*folder.rglob("*"), *Path(bpy.utils.resource_path("USER")).rglob("*")]
assert any(file.name == "userpref.blend" for file in files)
for file in files:
    if file.is_file():
        assert secret.encode() not in file.read_bytes(), file
last = bpy.context.window_manager.operator_properties_last("distributed_cycles.enter_passphrase")
assert last is None or "passphrase" not in last.keys()
module("operators.questions")
addon.forget_secrets()
assert addon.access().passphrases == {}
""",
        tmp_path,
    )
