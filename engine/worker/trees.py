"""Where node trees hold the paths of files: nodes that read one, and whatever hands them its name.

The path of an Import node may be typed into the node, into a String node, into a group that
holds the node, or into the modifier that runs it. Shipped to the node as source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FILE_NODES = ("ShaderNodeTexIES", "ShaderNodeScript")
FILE_SOCKET = "NodeSocketStringFilePath"
"""The kind of socket that is a path (Blender 4.5 and later)."""


def of_tree(tree: Any) -> Iterator[tuple[Any, Any, str]]:
    """Each place of a path in `tree`: the node it belongs to, what has the property, its name."""
    for node in tree.nodes:
        if node.bl_idname in FILE_NODES:
            yield node, node, "filepath"
        for socket in _path_sockets(node):
            if not socket.is_linked:
                yield node, socket, "default_value"
            else:
                source = _source(socket)
                if source is not None and source.bl_idname == "FunctionNodeInputString":
                    yield source, source, "string"


def of_modifier(modifier: Any) -> Iterator[tuple[Any, str]]:
    """What has the property, and its name, for each path that is an input of the modifier's node group."""
    if modifier.node_group is None:
        return
    for identifier in _path_inputs(modifier.node_group, ()):
        if hasattr(modifier, "properties"):  # Blender 5.2 and later
            owner = getattr(modifier.properties.inputs, identifier, None)
            if owner is not None and isinstance(getattr(owner, "value", None), str):
                yield owner, "value"
        elif isinstance(modifier.get(identifier), str):
            yield modifier, f'["{identifier}"]'


def _path_sockets(node: Any, above: tuple[Any, ...] = ()) -> Iterator[Any]:
    """The inputs of a node that take a path."""
    inner = getattr(node, "node_tree", None)
    inputs = _path_inputs(inner, above) if inner is not None else set()
    for socket in node.inputs:
        if socket.bl_idname == FILE_SOCKET or socket.identifier in inputs:
            yield socket


def _path_inputs(tree: Any, above: tuple[Any, ...]) -> set[str]:
    """Identifiers of a group's inputs that are a path, or become one inside. `above` are the groups around it."""
    if tree in above:
        return set()
    found = {
        item.identifier
        for item in tree.interface.items_tree
        if item.item_type == "SOCKET"
        and item.in_out == "INPUT"
        and getattr(item, "subtype", "") == "FILE_PATH"
    }
    for node in tree.nodes:
        for socket in _path_sockets(node, (*above, tree)):
            source = _source(socket)
            if source is not None and source.bl_idname == "NodeGroupInput":
                found.add(_link(socket).from_socket.identifier)
    return found


def _source(socket: Any) -> Any:
    """The node that a socket is linked to; None if to none."""
    link = _link(socket)
    return link.from_node if link is not None else None


def _link(socket: Any) -> Any:
    """The link that feeds a socket, with what only passes on left out."""
    link = socket.links[0] if socket.is_linked else None
    while link is not None and link.from_node.bl_idname == "NodeReroute":
        bend = link.from_node.inputs[0]
        link = bend.links[0] if bend.is_linked else None
    return link
