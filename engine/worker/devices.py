"""What renders in this worker: the CPU, or which GPUs. Shipped to the node as source.

A worker is started without its user's preferences, where Blender keeps this choice, so it is made
anew: a scene that is set to CPU renders on CPUs everywhere, since GPUs compute other pixels; one that
is set to GPU on the fastest kind of GPU that is there. What the node's settings say comes first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

FASTEST_FIRST = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")
CPU = "CPU"

Device = tuple[str, str]
"""Id and name, as Cycles gives them."""


class DeviceError(RuntimeError):
    """What the node's settings ask for is not there."""


def parse(text: str) -> tuple[str, tuple[int, ...]]:
    """Kind and numbers of `OPTIX:0,2`. Raise ValueError."""
    kind, colon, numbers = text.strip().upper().partition(":")
    if kind not in ("", CPU, *FASTEST_FIRST) or (colon and (kind in ("", CPU) or not numbers)):
        raise ValueError(f"{text!r} is no device: {', '.join((CPU, *FASTEST_FIRST))}, or e.g. OPTIX:0,2")
    return kind, tuple(sorted({int(number) for number in numbers.split(",")})) if numbers else ()


def share_of(devices: Sequence[Device], index: int, count: int) -> list[Device]:
    """The GPUs of worker `index` of `count`; with count 0 each worker has one."""
    if count == 0:
        return list(devices[index : index + 1])
    if count >= len(devices):
        return [devices[index % len(devices)]]
    return list(devices[index::count])


def picked(devices: Sequence[Device], numbers: Sequence[int], kind: str) -> list[Device]:
    """Those with the given numbers, or all. Raise DeviceError."""
    if not devices:
        raise DeviceError(f"there is no {kind} device on the node")
    missing = [number for number in numbers if number >= len(devices)]
    if missing:
        names = ", ".join(f"{number}: {name}" for number, (_, name) in enumerate(devices))
        raise DeviceError(f"there is no {kind} device {missing[0]} on the node, only {names}")
    return [devices[number] for number in numbers] if numbers else list(devices)


def threads_for(wanted: int, count: int) -> int:
    """CPU threads of one of `count` workers; 0 lets Blender decide."""
    if wanted or count < 2:
        return wanted
    available = os.cpu_count() or 1
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        allowed = available
    # A worker that was given a part of the machine, by Slurm say, may use all of that.
    return allowed if allowed < available else max(1, available // count)


def use(scene: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Set the scene and the preferences up to render on what `request` asks for; say what that is.

    `gpus` of the answer counts those that workers could share, 0 on a CPU.
    """
    import bpy

    preferences = bpy.context.preferences.addons["cycles"].preferences
    kind, numbers = parse(request["device"])
    index, count = request["share"]
    # Asking for GPUs loads their drivers, which takes seconds and can crash.
    if kind == CPU or (not kind and scene.cycles.device == CPU):
        return _on_cpu(scene)
    own_kind, own_ids = request["own_device"], request["own_device_ids"]
    if not kind and request["use_preferences"] and preferences.get_compute_device_type() != "NONE":
        own_kind = preferences.get_compute_device_type()
        own_ids = [entry.id for entry in preferences.devices if entry.use]
    if not kind and own_kind == "NONE":
        return _on_cpu(scene)
    if not kind and own_kind:
        # As F12 does it where these are the preferences of the one who looks at the picture.
        here = [device for device in _devices(preferences, own_kind) if device[0] in own_ids]
        if not here:
            return _on_cpu(scene)
        if CPU in own_ids:
            return _on_gpus(scene, preferences, own_kind, here, 1, [CPU])
        return _on_gpus(scene, preferences, own_kind, share_of(here, index, count), len(here))
    if kind:
        found = picked(_devices(preferences, kind), numbers, kind)
    else:
        for kind in FASTEST_FIRST:
            found = _devices(preferences, kind)
            if found:
                break
        else:
            return _on_cpu(scene)
    return _on_gpus(scene, preferences, kind, share_of(found, index, count), len(found))


def _devices(preferences: Any, kind: str) -> list[Device]:
    kinds = [item[0] for item in preferences.get_device_types(None)]
    if kind not in kinds:
        return []  # This Blender was built without it.
    return [(entry[2], entry[0]) for entry in preferences.get_device_list(kind) if entry[1] == kind]


def _on_cpu(scene: Any) -> dict[str, Any]:
    scene.cycles.device = CPU
    return {"device": CPU, "names": [], "gpus": 0}


def _on_gpus(
    scene: Any, preferences: Any, kind: str, used: list[Device], gpus: int, also: Sequence[str] = ()
) -> dict[str, Any]:
    scene.cycles.device = "GPU"
    preferences.compute_device_type = kind
    ids = [identity for identity, _ in used]
    for entry in preferences.devices:
        entry.use = (entry.type == kind and entry.id in ids) or (entry.type == CPU and CPU in also)
    return {"device": kind, "names": [*(name for _, name in used), *also], "gpus": gpus}
