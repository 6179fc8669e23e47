"""Settings on the Scene, runtime status on the WindowManager."""

# Blender takes properties from annotations; as strings it could not read them.
# ruff: noqa: FA102

import bpy

STATES = (
    ("OFFLINE", "Offline", ""),
    ("CONNECTING", "Connecting", ""),
    ("SYNCING", "Sending files", ""),
    ("IDLE", "Idle", ""),
    ("RENDERING", "Rendering", ""),
    ("PAUSED", "Set aside", ""),
    ("FAILED", "Failed", ""),
)
QUESTIONS = (("NONE", "None", ""), ("HOST_KEY", "Host key", ""), ("PASSPHRASE", "Passphrase", ""))


class SceneSettings(bpy.types.PropertyGroup):
    """How this scene is rendered distributed; saved with the file."""

    use_auto_tile_size: bpy.props.BoolProperty(
        name="Automatic Tile Size",
        description="Choose the tile size by the frame's size and the number of nodes",
        default=True,
    )
    tile_size: bpy.props.IntProperty(
        name="Tile Size",
        description="Edge of a tile in pixels",
        default=64,
        min=8,
        max=4096,
        subtype="PIXEL",
    )

    @classmethod
    def register(cls) -> None:
        bpy.types.Scene.distributed_cycles = bpy.props.PointerProperty(type=cls)

    @classmethod
    def unregister(cls) -> None:
        del bpy.types.Scene.distributed_cycles


class Question(bpy.types.PropertyGroup):
    """What a node waits for a person to answer. No secret is ever in here."""

    question: bpy.props.EnumProperty(items=QUESTIONS, options={"SKIP_SAVE"})
    host: bpy.props.StringProperty(options={"SKIP_SAVE"})
    port: bpy.props.IntProperty(options={"SKIP_SAVE"})
    key: bpy.props.StringProperty(options={"SKIP_SAVE"})
    fingerprint: bpy.props.StringProperty(options={"SKIP_SAVE"})
    key_file: bpy.props.StringProperty(options={"SKIP_SAVE"})


class NodeStatusItem(bpy.types.PropertyGroup):
    """One node in the running or last render."""

    question: bpy.props.EnumProperty(items=QUESTIONS)
    host: bpy.props.StringProperty()
    port: bpy.props.IntProperty()
    key: bpy.props.StringProperty()
    fingerprint: bpy.props.StringProperty()
    key_file: bpy.props.StringProperty()
    state: bpy.props.EnumProperty(items=STATES)
    detail: bpy.props.StringProperty()
    tile: bpy.props.StringProperty()
    tiles_done: bpy.props.IntProperty()
    mean_seconds: bpy.props.FloatProperty()


class RenderStatus(bpy.types.PropertyGroup):
    """The running or last render. Window managers are not saved, so nothing of it is."""

    is_running: bpy.props.BoolProperty()
    fraction: bpy.props.FloatProperty()
    done: bpy.props.IntProperty()
    total: bpy.props.IntProperty()
    seconds_left: bpy.props.FloatProperty(default=-1.0)
    error: bpy.props.StringProperty()
    warnings: bpy.props.StringProperty()
    report: bpy.props.StringProperty()
    nodes: bpy.props.CollectionProperty(type=NodeStatusItem)

    @classmethod
    def register(cls) -> None:
        bpy.types.WindowManager.distributed_cycles = bpy.props.PointerProperty(type=cls)

    @classmethod
    def unregister(cls) -> None:
        del bpy.types.WindowManager.distributed_cycles


_CLASSES = (SceneSettings, Question, NodeStatusItem, RenderStatus)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
