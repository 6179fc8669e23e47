"""Nodes written by people: each mistake is named, with where it stands."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from engine.job import BACKENDS, Node, NodeListError
from engine.nodelist import parse_address, read_nodes, write_nodes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("render1", Node("render1", "render1")),
        ("me@render1", Node("me@render1", "render1", user="me")),
        ("render1:22", Node("render1:22", "render1", 22)),
        ("me@render1:2222", Node("me@render1:2222", "render1", 2222, "me")),
        ("[::1]:2222", Node("[::1]:2222", "::1", 2222)),
        ("10.0.0.7", Node("10.0.0.7", "10.0.0.7")),
    ],
)
def test_addresses(text: str, expected: Node) -> None:
    assert parse_address(text) == expected
    assert parse_address(expected.address) == expected


@pytest.mark.parametrize(
    "text", ["", "a b", "host:", "host:0", "host:70000", "@host", "host:x", "a@b@c", "::1"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(NodeListError, match="USER@"):
        parse_address(text)


def test_a_nodes_file(tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(
        '[[node]]\nhost = "r1"\nport = 2201\nuser = "me"\nkey_file = "~/k"\nblender = "/opt/b"\nthreads = 4\n'
        '[[node]]\nname = "two"\nhost = "r1"\nenabled = false\n[[node]]\n[[node]]\nthreads = 1\n'
    )
    assert read_nodes(path) == [
        Node("r1", "r1", 2201, "me", "~/k", "/opt/b", 4),
        Node("two", "r1", enabled=False),
        Node("This Computer"),
        Node("This Computer (2)", threads=1),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold"),
        ("node = 3", "must hold"),
        ("node = [3]", "must hold"),
        ("[node]\nhost='a'", "must hold"),
        ("x = 1\n[[node]]", "must hold"),
        ("[[node]", "not valid TOML"),
        ("[[node]]\nhots = 'a'", "node 1: there is no setting 'hots'"),
        ("[[node]]\n[[node]]\nport = '22'", "node 2: port must be a whole number"),
        ("[[node]]\nhost = 5", "host must be a text in quotes"),
        ("[[node]]\nenabled = 1", "enabled must be true or false"),
        ("[[node]]\nport = -1", "port must be 1 to 65535"),
        ("[[node]]\nport = 65536", "port must be 1 to 65535"),
        ("[[node]]\nbackend = 'putty'", "backend must be one of paramiko, openssh"),
        ("[[node]]\nthreads = -1", "threads 0 or more"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(text)
    with pytest.raises(NodeListError, match=words):
        read_nodes(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeListError, match=r"nodes\.toml cannot be read \(No such file"):
        read_nodes(tmp_path / "nodes.toml")


TEXT = some.text(some.characters(exclude_categories=("Cs",)), max_size=8)


@given(
    some.lists(
        some.builds(
            Node,
            name=TEXT,
            host=TEXT,
            port=some.integers(0, 65535),
            user=TEXT,
            key_file=TEXT,
            blender=TEXT,
            threads=some.integers(0, 9),
            enabled=some.booleans(),
            backend=some.sampled_from(BACKENDS),
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda node: node.name,
    )
)
def test_what_is_exported_is_imported_again(nodes: list[Node]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nodes.toml")
        path.write_text(write_nodes(nodes), encoding="utf-8", newline="")
        assert read_nodes(path) == nodes


def test_an_export_holds_every_setting_and_nothing_that_is_as_usual() -> None:
    assert write_nodes([Node("a b", "h"), Node("c", "h", backend="openssh")]) == (
        '[[node]]\nname = "a b"\nhost = "h"\n\n[[node]]\nname = "c"\nhost = "h"\nbackend = "openssh"\n'
    )
    changed = {
        field.name: {str: "openssh", int: 3, bool: not field.default}[type(field.default)]
        for field in dataclasses.fields(Node)
        if field.name != "name"
    }
    text = write_nodes([Node("n", **changed)])
    assert all(f"\n{name} = " in text for name in changed)
