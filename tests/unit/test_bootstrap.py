"""The line that starts a worker: one line, and the nonce is not to be read off an echo of it."""

from __future__ import annotations

import base64
import zlib

from engine.bootstrap import BLENDER_ARGUMENTS, MODULES, first_line, worker_words
from engine.job import Node


def test_one_line_without_its_own_nonce() -> None:
    line = first_line("0123456789abcdef")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    packed = line.split(b"'")[1]
    program = zlib.decompress(base64.b64decode(packed)).decode()
    assert "0123456789abcdef" not in program
    assert "fedcba9876543210" in program
    compile(program, "worker", "exec")
    assert all(f"'{name}': " in program for name in MODULES)


def test_the_expression_needs_no_escaping_but_quotes() -> None:
    for mark in "$`!\\%'\"":
        assert mark not in BLENDER_ARGUMENTS[-1]


def test_the_users_own_preferences_are_loaded_where_that_is_asked_for() -> None:
    assert "--factory-startup" in worker_words(["b"], Node("n"))
    assert worker_words(["b"], Node("n", use_preferences=True))[:2] == ["b", "--background"]
    assert "--factory-startup" not in worker_words(["b"], Node("n", use_preferences=True))
