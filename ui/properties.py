"""The extension's properties: settings on a Scene, status on the WindowManager, nodes in the preferences.

No `from __future__ import annotations` here: Blender reads the annotations themselves.
"""

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

LEVELS = (("INFO", "Info", ""), ("WARNING", "Warning", ""), ("ERROR", "Error", ""))
QUESTIONS = (
    ("NONE", "None", ""),
    ("TRUST", "Trust", "The host's key is not known yet"),
    ("PASSPHRASE", "Passphrase", "The key file is locked"),
    ("ANSWERS", "Answers", "The SSH server asks for a password or a code"),
    ("SEND", "Send Blender", "There is no Blender that suits"),
)
DEVICES = (
    ("AUTO", "Automatic", "CPU for scenes set to CPU, for others the fastest kind of GPU that is there"),
    ("CPU", "CPU", ""),
    ("OPTIX", "OptiX", "NVIDIA, with ray tracing in hardware"),
    ("CUDA", "CUDA", "NVIDIA"),
    ("HIP", "HIP", "AMD"),
    ("ONEAPI", "oneAPI", "Intel"),
    ("METAL", "Metal", "Apple"),
)


class DistributedCyclesNode(bpy.types.PropertyGroup):
    """A listed machine. There is no field for a password: none is ever stored."""

    name: StringProperty(name="Name", description="What this node is called in lists and messages")
    is_this_computer: BoolProperty(options={"HIDDEN"})
    enabled: BoolProperty(name="Enabled", description="Let this node take part in renders", default=True)
    host: StringProperty(
        name="Host",
        description="Name or address of the machine's SSH server, or a Host of your ~/.ssh/config",
    )
    port: IntProperty(
        name="Port",
        description="Port of the SSH server; 0 for that of your ~/.ssh/config, which is 22 where it says nothing",
        default=0,
        min=0,
        max=65535,
    )
    user: StringProperty(
        name="User",
        description="Name to log in with; if empty, that of your ~/.ssh/config or the one you have on this computer",
    )
    key_file: StringProperty(
        name="Key File",
        description="Private key to offer first; if empty, those of your ~/.ssh/config and of the SSH agent",
        subtype="FILE_PATH",
    )
    blender: StringProperty(
        name="Blender",
        description="Path of Blender on the node; if empty, it is looked for in the usual places",
    )
    threads: IntProperty(
        name="Threads",
        description="CPU threads a render may use there; 0 for all",
        default=0,
        min=0,
        max=1024,
    )
    mappings: StringProperty(
        name="Shared Folders",
        description=r"Storage that the machine sees as well: nothing below it is sent. Folder here = folder there,"
        r" as in /mnt/projects = P:\ with a semicolon between two of them",
    )
    cache_folder: StringProperty(
        name="Cache Folder",
        description="Where the machine keeps the files it was sent; if empty, in its user's cache folder",
    )
    cache_gib: IntProperty(
        name="Cache Size",
        description="In GiB; beyond it, the files that were unused longest are removed there",
        default=64,
        min=1,
        max=1 << 20,
    )
    backend: EnumProperty(
        name="SSH by",
        description="Who speaks SSH to this machine",
        items=(
            ("paramiko", "Built In", "Needs nothing installed, and asks for passwords and passphrases"),
            (
                "openssh",
                "ssh Program",
                "The ssh of this computer: for security keys, GSSAPI, shared connections; it never asks",
            ),
        ),
        default="paramiko",
    )
    device: EnumProperty(name="Device", description="What renders there", items=DEVICES)
    device_numbers: StringProperty(
        name="Only Devices",
        description="Numbers of the GPUs to use, from 0, in the order in which Test shows those of a kind",
    )
    workers: IntProperty(
        name="Workers",
        description="Blenders that render there side by side; 0: one for each GPU that is used, or else one",
        default=0,
        min=0,
        max=256,
    )
    launcher: StringProperty(
        name="Launcher",
        description="What stands before Blender's command there: srun --gres=gpu:1, docker exec -i NAME, nice -n 19",
    )
    use_preferences: BoolProperty(
        name="Own Preferences",
        description="Load the preferences and add-ons of the user there, for scenes that need them",
        default=False,
    )
    send_blender: BoolProperty(
        name="Send Blender",
        description="Send this Blender, or the archive below, if there is none that suits",
        default=False,
    )
    blender_archive: StringProperty(
        name="Archive",
        description="A Blender from blender.org for the node's system; if empty, this Blender is sent",
        subtype="FILE_PATH",
    )


class DistributedCyclesTest(bpy.types.PropertyGroup):
    """What the Test button found out about the node of the same name."""

    is_running: BoolProperty()
    is_good: BoolProperty()
    text: StringProperty()
    """Lines, separated by newlines."""
    question: EnumProperty(items=QUESTIONS)


class DistributedCyclesMessage(bpy.types.PropertyGroup):
    """A line of the panel."""

    text: StringProperty()
    level: EnumProperty(items=LEVELS)


class DistributedCyclesNodeStatus(bpy.types.PropertyGroup):
    """A node of the render that is running, or was the last to run."""

    state: StringProperty()
    detail: StringProperty()
    tile: StringProperty()
    tiles_done: IntProperty()
    mean_seconds: FloatProperty()
    error: StringProperty()
    question: EnumProperty(items=QUESTIONS)
    device: StringProperty()
    speed: FloatProperty()
    """Pixels per second; 0 while it is not known."""


class DistributedCyclesSettings(bpy.types.PropertyGroup):
    """Settings, saved with the scene."""

    use_auto_tile_size: BoolProperty(
        name="Automatic Tile Size",
        description="Let the size of each tile follow its node's speed, its cost, and what is left",
        default=True,
    )
    tile_size: IntProperty(
        name="Tile Size",
        description="Edge of a tile; small tiles balance the nodes, large ones cost less margin",
        default=128,
        min=16,
        max=4096,
        subtype="PIXEL",
    )

    use_auto_margin: BoolProperty(
        name="Automatic Margin",
        description="Render as much around each tile as the scene needs for the same pixels as in one render",
        default=True,
    )
    margin: IntProperty(
        name="Margin",
        description="Pixels rendered around each tile and thrown away",
        default=4,
        min=0,
        max=1024,
        subtype="PIXEL",
    )
    split: EnumProperty(
        name="Split",
        description="What a node renders at a time",
        items=(
            ("AUTO", "Automatic", "Tiles, or samples where tiles cannot give the same pixels as one render"),
            ("TILES", "Tiles", "A piece of the frame with all its samples"),
            ("SAMPLES", "Samples", "The whole frame with a part of its samples (Blender 4.4 and later)"),
        ),
    )
    use_heat_map: BoolProperty(
        name="Heat Map",
        description="Show where the frame took long: an Image, and two PNG files in the job folder",
    )

    @classmethod
    def register(cls) -> None:
        bpy.types.Scene.distributed_cycles = PointerProperty(type=cls)

    @classmethod
    def unregister(cls) -> None:
        del bpy.types.Scene.distributed_cycles


class DistributedCyclesStatus(bpy.types.PropertyGroup):
    """What is going on now."""

    is_running: BoolProperty()
    phase: StringProperty()
    progress: FloatProperty(subtype="FACTOR", min=0.0, max=1.0)
    tiles_done: IntProperty()
    tiles_total: IntProperty()
    seconds_left: FloatProperty(default=-1.0)
    """Negative while it is not known."""
    messages: CollectionProperty(type=DistributedCyclesMessage)
    nodes: CollectionProperty(type=DistributedCyclesNodeStatus)
    tests: CollectionProperty(type=DistributedCyclesTest)

    @classmethod
    def register(cls) -> None:
        bpy.types.WindowManager.distributed_cycles = PointerProperty(type=cls)

    @classmethod
    def unregister(cls) -> None:
        del bpy.types.WindowManager.distributed_cycles
