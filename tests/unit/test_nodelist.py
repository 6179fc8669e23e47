"""Nodes written by people: each mistake is named, with where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.job import Node, NodeListError
from engine.nodelist import parse_address, read_nodes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("render1", Node("render1", "render1")),
        ("me@render1", Node("me@render1", "render1", user="me")),
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
        ("[[node]]\nport = 0", "port must be 1 to 65535"),
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
