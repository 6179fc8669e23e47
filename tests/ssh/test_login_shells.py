"""Login shells as people have them, on a real sshd: the worker's real command line, and a real Blender behind it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from engine.starter import check_node

from .. import support
from ..sshd import Sshd, User

SHELLS = ("sh", "bash", "dash", "zsh", "fish", "tcsh")
HARD = "it's the home of José & co. 100% (日本)"
HOMES = {"plain": "home", "hard": HARD, "nasty": f'{HARD} "quoted" $HOME `x` \\'}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A machine with users of each shell, in homes that are more and more difficult to quote."""
    folder = tmp_path_factory.mktemp("shells")
    users = []
    for shell in SHELLS:
        path = shutil.which(shell)
        assert path is not None, f"{shell} is missing: tools/install brings it"
        users += [User(f"{shell}-{kind}", path, folder / f"{shell} {home}") for kind, home in HOMES.items()]
    # Login scripts that talk, as many do.
    for user in users:
        for name in (".bashrc", ".zshenv", ".cshrc", ".profile", ".config/fish/config.fish"):
            (user.home / name).parent.mkdir(parents=True, exist_ok=True)
            (user.home / name).write_text("echo Welcome\n")
    environment = {"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}
    with Sshd(folder / "sshd", users=users, options="PermitRootLogin yes\n", environment=environment) as sshd:
        yield sshd


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("backend", "kind"), [("paramiko", "nasty"), ("openssh", "plain")])
def test_a_worker_starts(machine: Sshd, shell: str, backend: str, kind: str) -> None:
    node = machine.node(user=f"{shell}-{kind}", blender=str(support.BLENDER), backend=backend)
    assert check_node(node, access=machine.access(), local_blender=()).devices


@pytest.mark.parametrize("shell", SHELLS)
def test_a_blender_in_a_home_that_is_hard_to_quote(machine: Sshd, shell: str) -> None:
    """It is started by the path that a person typed, and found there where nobody did."""
    blender = machine.folder.parent / f"{shell} {HARD}" / "blender 4.5" / "blender"
    blender.parent.mkdir()
    blender.symlink_to(support.BLENDER)
    # Where no locale is set, fish hands on a HOME with other than ASCII letters in another encoding.
    before = sorted(machine.folder.parent.iterdir())
    for path in (str(blender), ""):
        node = machine.node(user=f"{shell}-hard", blender=path)
        assert check_node(node, access=machine.access(), local_blender=()).devices
    assert sorted(machine.folder.parent.iterdir()) == before, "a home of another name was made"
