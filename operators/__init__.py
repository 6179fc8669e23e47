"""Between Blender and the engine: all that reads or writes Blender's data, nothing about tiles."""

import bpy

from ..engine.transport import survive_broken_pipes
from . import addon, cli, handlers, keymap, node_files, nodes, questions, render, running

CLASSES = (
    nodes.DISTRIBUTED_CYCLES_OT_node_add,
    nodes.DISTRIBUTED_CYCLES_OT_node_remove,
    nodes.DISTRIBUTED_CYCLES_OT_node_duplicate,
    nodes.DISTRIBUTED_CYCLES_OT_node_move,
    nodes.DISTRIBUTED_CYCLES_OT_node_test,
    questions.DISTRIBUTED_CYCLES_OT_trust_host,
    questions.DISTRIBUTED_CYCLES_OT_enter_passphrase,
    questions.DISTRIBUTED_CYCLES_OT_send_blender,
    render.DISTRIBUTED_CYCLES_OT_render,
    render.DISTRIBUTED_CYCLES_OT_resume,
    render.DISTRIBUTED_CYCLES_OT_cancel,
    questions.DISTRIBUTED_CYCLES_OT_missing_files,
    node_files.DISTRIBUTED_CYCLES_OT_nodes_from_ssh_config,
    node_files.DISTRIBUTED_CYCLES_OT_nodes_import,
    node_files.DISTRIBUTED_CYCLES_OT_nodes_export,
    questions.DISTRIBUTED_CYCLES_OT_answer_login,
    render.DISTRIBUTED_CYCLES_OT_end_workers,
)


def register() -> None:
    survive_broken_pipes()
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    handlers.register()
    keymap.register()
    cli.register()
    nodes.ensure_this_computer()


def unregister() -> None:
    running.stop()
    running.pool.seconds = 0.0
    running.pool.close()
    cli.unregister()
    keymap.unregister()
    handlers.unregister()
    addon.forget_secrets()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
