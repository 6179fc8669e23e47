"""What the extension keeps outside a .blend: its preferences, its folder, what opens an SSH node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..engine.access import Access, usual_access
from ..engine.benchmark import Speeds
from ..engine.delivery import Installation, own_installation, platform_here, platform_of
from ..engine.job import Node

PACKAGE = (__package__ or "").rpartition(".")[0]
"""The name under which Blender knows the extension."""


DEFAULT_KEEP_MINUTES = 5
"""Idle workers hold memory, and on a shared machine somebody may miss it."""


class _Secrets:
    access: Access | None = None


def preferences() -> Any | None:
    """The extension's preferences; None where it was enabled for this run only (`--addons`)."""
    entry = bpy.context.preferences.addons.get(PACKAGE)
    return entry.preferences if entry else None


def seconds_to_keep() -> float:
    """How long workers stay for the next render."""
    found = preferences()
    return 60.0 * (found.keep_minutes if found else DEFAULT_KEEP_MINUTES)


def user_folder(name: str = "") -> Path:
    """A folder of the extension's own, made if need be."""
    return Path(bpy.utils.extension_path_user(PACKAGE, path=name, create=True))


def jobs_folder() -> Path:
    """Where renders keep their tiles until they are done."""
    return user_folder("jobs")


def local_blender() -> tuple[str, ...]:
    """The beginning of the command line that starts this Blender once more."""
    return (bpy.app.binary_path,)


def installation() -> Installation | None:
    """This Blender, if it is one that can be sent to a node."""
    return own_installation(bpy.app.binary_path)


def can_send_to(system: str) -> bool:
    """Whether this Blender can be sent to, and runs on, a node that calls itself `system`."""
    return bool(system) and platform_of(system) == platform_here() and installation() is not None


def speeds() -> Speeds:
    """How fast nodes rendered in the past."""
    return Speeds(user_folder() / "speeds.json")


def access() -> Access:
    """Known hosts and secrets of this Blender, the same object until it ends."""
    if _Secrets.access is None:
        _Secrets.access = usual_access(user_folder() / "known_hosts")
    return _Secrets.access


def access_for(nodes: list[Node]) -> Access | None:
    """What the given nodes need; None where none of them is behind SSH."""
    return None if all(node.is_local for node in nodes) else access()


def forget_secrets() -> None:
    """Drop the passphrases and passwords that were entered."""
    _Secrets.access = None
