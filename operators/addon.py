"""What belongs to the extension itself: its name, preferences, folders and what lets it in to nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..engine.job import EngineError, Node
from ..engine.known_hosts import KnownHosts
from ..engine.nodelist import named_apart
from ..engine.ssh import Access, usual_known_hosts

PACKAGE = __package__.rpartition(".")[0]

ONLINE_OFF = "Nodes over SSH need online access, which is switched off in Blender."
ONLINE_HINT = "Allow it in Preferences > System > Network, or start Blender with --online-mode."


def preferences(context: bpy.types.Context) -> Any:
    return context.preferences.addons[PACKAGE].preferences


def folder(*parts: str) -> Path:
    """A folder of the extension's own that outlives updates."""
    return Path(bpy.utils.extension_path_user(PACKAGE, path="/".join(parts), create=True))


_access: Access | None = None


def access() -> Access:
    """Known hosts and passphrases of this Blender session; passphrases are never stored."""
    global _access
    if _access is None:
        _access = Access(KnownHosts(usual_known_hosts(), folder() / "known_hosts"))
    return _access


def listed_nodes(context: bpy.types.Context) -> list[Node]:
    """The enabled nodes of the preferences, as the engine knows them."""
    return named_apart(to_node(item) for item in preferences(context).nodes if item.enabled)


def to_node(item: Any) -> Node:
    return Node(
        name=item.name,
        host="" if item.is_local else item.host.strip(),
        port=item.port,
        user=item.user.strip(),
        key_file=bpy.path.abspath(item.key_file) if item.key_file else "",
        blender=item.blender.strip(),
        threads=item.threads,
        enabled=item.enabled,
    )


def local_blender() -> list[str]:
    """How to start Blender on this computer."""
    return [bpy.app.binary_path]


def check_online(nodes: list[Node]) -> None:
    """Raise EngineError where a node needs the network and Blender forbids it."""
    if any(not node.is_local for node in nodes) and not bpy.app.online_access:
        raise EngineError(ONLINE_OFF, ONLINE_HINT)
