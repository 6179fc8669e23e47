"""Nodes as text: a TOML file with [[node]] tables, and addresses on a command line."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .job import BACKENDS, THIS_COMPUTER, Node, NodeListError
from .mapping import parse_mappings
from .worker.devices import parse as parse_device

_ADDRESS = re.compile(
    r"^(?:(?P<user>[^@\s]+)@)?(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^@:\s\[\]]+)(?::(?P<port>\d+))?$"
)
MOST_WORKERS = 256
_USUAL = {field.name: field.default for field in dataclasses.fields(Node) if field.name != "name"}
_FIELDS = {name: type(value) for name, value in _USUAL.items()}


def parse_address(text: str) -> Node:
    """A node from `[USER@]HOST[:PORT]`; an IPv6 address stands in brackets. Raise NodeListError."""
    match = _ADDRESS.match(text.strip())
    port = int(match["port"]) if match and match["port"] else None
    if not match or not (port is None or 0 < port < 65536):
        raise NodeListError(f"{text!r} is not a node address.", "Write it as [USER@]HOST[:PORT].")
    return Node(name=text.strip(), host=match["host"].strip("[]"), port=port or 0, user=match["user"] or "")


def read_nodes(path: Path) -> list[Node]:
    """The nodes of a TOML file. Raise NodeListError that names the entry and the mistake."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NodeListError(
            f"The nodes file {path} cannot be read ({error.strerror}).", "Check its path."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise NodeListError(f"The nodes file {path} is not valid TOML: {error}.") from None
    tables = data.pop("node", None)
    if data or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise NodeListError(
            f"The nodes file {path} must hold [[node]] tables and nothing else.",
            'Begin each node with a line [[node]], then e.g. host = "render1".',
        )
    return named_apart(_node(table, f"{path}, node {number}") for number, table in enumerate(tables, 1))


def write_nodes(nodes: Iterable[Node]) -> str:
    """The nodes as the text of a TOML file that `read_nodes` reads; what is as usual is left out."""
    tables = []
    for node in nodes:
        lines = ["[[node]]", f"name = {_toml(node.name)}"]
        for name, usual in _USUAL.items():
            value = getattr(node, name)
            if value != usual:
                lines.append(f"{name} = {_toml(value)}")
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def _toml(value: Any) -> str:
    # JSON's strings, numbers and truth values are TOML's, but for one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _node(table: dict[str, Any], where: str) -> Node:
    for key, value in table.items():
        expected = str if key == "name" else _FIELDS.get(key)
        if expected is None:
            raise NodeListError(
                f"{where}: there is no setting {key!r}.", f"Settings are name, {', '.join(_FIELDS)}."
            )
        if type(value) is not expected:
            raise NodeListError(f"{where}: {key} must be {_NAMES[expected]}, not {value!r}.")
    node = Node(**{"name": table.get("host") or THIS_COMPUTER, **table})
    if not 0 <= node.port < 65536 or node.threads < 0:
        raise NodeListError(
            f"{where}: port must be 1 to 65535, or 0 for that of the SSH configuration; threads 0 or more."
        )
    if node.backend not in BACKENDS:
        raise NodeListError(f"{where}: backend must be one of {', '.join(BACKENDS)}.")
    if node.cache_gib < 1:
        raise NodeListError(f"{where}: cache_gib must be 1 or more.")
    try:
        parse_mappings(node.mappings)
    except NodeListError as error:
        raise NodeListError(f"{where}: {error.message}", error.hint) from None
    if not 0 <= node.workers <= MOST_WORKERS:
        raise NodeListError(f"{where}: workers must be 0 to {MOST_WORKERS}.")
    try:
        parse_device(node.device)
    except ValueError as error:
        raise NodeListError(f"{where}: {error}.") from None
    return node


_NAMES = {str: "a text in quotes", int: "a whole number", bool: "true or false"}


def named_apart(nodes: Iterable[Node]) -> list[Node]:
    """The nodes with names made different where they were not: a name identifies a node."""
    seen: Counter[str] = Counter()
    result = []
    for node in nodes:
        seen[node.name] += 1
        count = seen[node.name]
        result.append(dataclasses.replace(node, name=f"{node.name} ({count})") if count > 1 else node)
    return result
