"""What a person sees: properties, preferences, panels."""

import bpy

from . import panels, preferences, properties

CLASSES = (
    properties.DistributedCyclesNode,
    properties.DistributedCyclesTest,
    properties.DistributedCyclesMessage,
    properties.DistributedCyclesNodeStatus,
    properties.DistributedCyclesSettings,
    properties.DistributedCyclesStatus,
    preferences.DISTRIBUTED_CYCLES_UL_nodes,
    preferences.DistributedCyclesPreferences,
    panels.DISTRIBUTED_CYCLES_PT_render,
    panels.DISTRIBUTED_CYCLES_PT_nodes,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
