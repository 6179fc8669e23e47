"""The line that starts a worker: one line, and the nonce is not to be read off an echo of it."""

from __future__ import annotations

import base64
import zlib

from engine.bootstrap import MODULES, first_line, remote_command


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


def test_the_command_needs_no_escaping_but_quotes() -> None:
    command = remote_command("blender")
    assert command.startswith("blender --background --factory-startup")
    assert command.endswith('--python-expr "import sys;exec(sys.stdin.buffer.readline())"')
    assert remote_command("/opt/my blender/blender").startswith('"/opt/my blender/blender" ')
    for mark in "$`!\\%":
        assert mark not in command
