"""What nodes and Blender ask of a person, answered in a real window by mouse and keyboard."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..ssh.test_questions import ASKS, CHECK, code
from ..sshd import Sshd, User, keygen
from . import stage as stages
from .node import TrixieNode
from .stage import EXTENSION, PREFERENCES, STATUS, Stage
from .window import IN_TRIXIE, PAGE_CLICKS, TRIXIE

SECRET = "correct-horse-battery"
NODES = f"{PREFERENCES}.nodes"
ADD = """
entries = {nodes}
while len(entries) > 1:  # A longer list would take the wheel for itself.
    entries.remove(1)
entry = entries.add()
for name, value in {settings!r}.items():
    setattr(entry, name, value)
{preferences}.active_node = len(entries) - 1
"""
TEST_S = 40
MORE_PX, MORE_X_PX = 36, 60
"""From the button Test up to the word More, and how far that is from the left."""
LOWER_PX, PANEL_PX = 600, 400
"""Where looking for a button begins, so that it is soon found."""
LOSE_FILE = """
image = bpy.data.images.new("Oak", 1, 1)
image.source, image.filepath, image.use_fake_user = "FILE", "//textures/oak {number}.png", True
material = bpy.data.materials.new("Floor {number}")
material.use_nodes = True
material.node_tree.nodes.new("ShaderNodeTexImage").image = image
C.scene.objects[0].data.materials.append(material)
"""


def test_missing_files_are_asked_about(stage: Stage) -> None:
    window, desktop = stage.window, stage.desktop
    for number in range(2):
        window.execute(LOSE_FILE.format(number=number))
    listed = f"__import__('sys').modules['{EXTENSION}.operators.running'].missing_files"
    folders = list(stage.home.folder.rglob("jobs/*"))
    place = stage.press("render", "PROPERTIES", at=0.25, below=PANEL_PX)
    window.until(listed, 10)
    window.wait_for_drawing()
    stages.keep(desktop.pixels(), "missing-files")
    desktop.key("Escape")
    window.wait_for_drawing()
    assert not window.ask(f"{STATUS}.is_running")
    assert list(stage.home.folder.rglob("jobs/*")) == folders, "nothing has begun"

    desktop.click(*place)
    window.wait_for_drawing()
    desktop.key("Return")  # Render Anyway
    window.until(f"{STATUS}.is_running", 10)
    said = window.ask(f"[message.text for message in {STATUS}.messages]")
    assert len([text for text in said if "oak" in text]) == 2, said
    desktop.move(*stage.middle_of("IMAGE_EDITOR"))
    desktop.key("Escape")
    window.until(f"not {STATUS}.is_running", TEST_S)


@dataclass
class Desk:
    """The preferences, open at a node whose usual settings and buttons are all in view."""

    stage: Stage
    test: tuple[int, int]
    question: tuple[int, int]

    def add(self, **settings: object) -> None:
        """Put a node into the list in the place of the last one."""
        self.name = str(settings["name"])
        self.stage.window.execute(ADD.format(nodes=NODES, settings=settings, preferences=PREFERENCES))
        self.stage.window.wait_for_drawing()

    def press_test(self) -> str:
        self._click(self.test)
        # A button that another one takes the place of under the pointer would not notice the next click.
        self.stage.desktop.move(*self.stage.middle_of("PROPERTIES"))
        return self.answer()

    def _click(self, place: tuple[int, int]) -> None:
        """Click when Blender has noticed that the pointer is over the button."""
        self.stage.desktop.move(*place)
        self.stage.window.wait_for_drawing()
        self.stage.desktop.click(*place)

    def answer(self) -> str:
        """What the running test says in the end."""
        test = f"{STATUS}.tests[{self.name!r}]"
        self.stage.window.until(f"{self.name!r} in {STATUS}.tests and {test}.text", 10)
        self.stage.window.until(f"not {test}.is_running", TEST_S)
        self.stage.window.wait_for_drawing()
        return str(self.stage.window.ask(f"{test}.text"))

    @property
    def asks(self) -> str:
        return str(self.stage.window.ask(f"{STATUS}.tests[{self.name!r}].question"))

    def reply(self, picture: str, text: str) -> str:
        """Press the button beside Test, type into the dialog that comes, and say OK."""
        test = f"{STATUS}.tests[{self.name!r}]"
        before = self.stage.window.ask(f"{test}.text")
        self._click(self.question)
        self.stage.window.wait_for_drawing()
        if text:
            self.stage.desktop.type(text)
        self.stage.window.wait_for_drawing()
        stages.keep(self.stage.desktop.pixels(), picture)
        self.stage.desktop.key(*(("Return", "Return") if text else ("Return",)))
        self.stage.window.until(f"{test}.is_running or {test}.text != {before!r}", 10)
        return self.answer()


@pytest.fixture(scope="module")
def desk(stage: Stage) -> Iterator[Desk]:
    with stage.preferences():
        made = Desk(stage, (0, 0), (0, 0))
        made.add(name="Blank", host="nowhere.invalid")
        test = "distributed_cycles.node_test("
        x, y = stage.window.find_operator(test, "PREFERENCES", at=0.3, below=LOWER_PX)
        left, _, right, _ = stage.window.region("PREFERENCES")
        made.test, made.question = (x, y), (left + int(0.7 * (right - left)), y)
        yield made


@contextmanager
def asking(stage: Stage, folder: Path, options: str, *, pam: str = "") -> Iterator[Sshd]:
    """An sshd that asks, and behind the login the trixie with its Blender; its host key is known."""
    shell = folder / "sh"
    shell.parent.mkdir()
    shell.write_text(f'#!/bin/sh\nDC_CHROOT={TRIXIE} exec {IN_TRIXIE} sh "$@"\n')
    shell.chmod(0o755)
    user = User("artist", shell=str(shell), password=SECRET)
    with Sshd(folder / "sshd", options=f"{ASKS}{options}", users=[user], pam=pam) as sshd:
        trust(stage, sshd.address, sshd.port, sshd.public_host_key)
        yield sshd


def trust(stage: Stage, host: str, port: int, key: str) -> None:
    """As its dialog does, which the tests of rendering press."""
    module = f"{EXTENSION}.operators.addon"
    stage.window.execute(
        f"import sys; sys.modules[{module!r}].access().known_hosts.add({host!r}, {port}, {key!r})"
    )


def test_a_locked_key(desk: Desk, tmp_path: Path) -> None:
    key = keygen(desk.stage.home.folder / ".ssh" / "locked", passphrase=SECRET)
    with asking(desk.stage, tmp_path / "keys", "") as sshd:
        with (sshd.folder / "authorized_keys").open("a") as file:
            file.write(key.with_suffix(".pub").read_text())
        settings = {"host": sshd.address, "port": sshd.port, "user": "artist"}
        desk.add(name="Locked", key_file="~/.ssh/locked", **settings)
        assert "locked" in desk.press_test()
        assert desk.asks == "PASSPHRASE"
        desk.reply("passphrase", "wrong")
        assert desk.asks == "PASSPHRASE"
        assert desk.reply("passphrase-again", SECRET).startswith("Ready: Linux")
        assert desk.asks == "NONE"


def test_a_password_and_a_one_time_code(desk: Desk, tmp_path: Path) -> None:
    secret = base64.b32encode(secrets.token_bytes(20)).decode()
    (tmp_path / "totp").write_text(f'{secret}\n" WINDOW_SIZE 3\n" DISALLOW_REUSE\n" TOTP_AUTH\n')
    (tmp_path / "totp").chmod(0o400)
    pam = (
        "auth required pam_unix.so\n"
        f"auth required pam_google_authenticator.so secret={tmp_path}/totp user=root echo_verification_code\n{CHECK}"
    )
    options = "UsePAM yes\nKbdInteractiveAuthentication yes\nPubkeyAuthentication no\n"
    with asking(desk.stage, tmp_path / "codes", options, pam=pam) as sshd:
        desk.add(name="Bastion", host=sshd.address, port=sshd.port, user="artist")
        assert "asks: Password" in desk.press_test()
        assert desk.asks == "ANSWERS"
        assert "asks: Verification code" in desk.reply("password", SECRET)
        assert desk.asks == "ANSWERS"
        assert desk.reply("code", code(secret)).startswith("Ready: Linux")


def test_a_bare_node_is_sent_this_blender(desk: Desk) -> None:
    with TrixieNode(desk.stage.home, name="bare", is_bare=True) as node:
        key = " ".join(node.host_key.with_suffix(".pub").read_text().split()[:2])
        trust(desk.stage, node.address, node.port, key)
        desk.add(name="Bare", host=node.address, port=node.port, user=node.user, key_file=node.key_file)
        assert desk.press_test().startswith("No Blender was found on the node")
        assert desk.asks == "SEND"
        answer = desk.reply("send-blender", "")
        (kept,) = node.own_home.glob(".cache/distributed-cycles/blender/*")
        assert answer.startswith("Ready: Linux")
        assert (
            f"Blender 4.3.2: {desk.stage.home.inside('bare', 'home')}/.cache/distributed-cycles/blender/{kept.name}/blender"
            in answer
        )
        assert desk.stage.window.ask(f"{NODES}['Bare'].send_blender")


def test_what_is_seldom_needed_is_folded(desk: Desk) -> None:
    window, desktop = desk.stage.window, desk.stage.desktop
    desk.add(name="Cluster", host="cluster.example", launcher="srun", device="OPTIX", send_blender=True)
    left = window.region("PREFERENCES")[0]
    desktop.click(left + MORE_X_PX, desk.test[1] - MORE_PX)
    window.until(f"{PREFERENCES}.show_more", 5)
    window.wait_for_drawing()
    stages.keep(desktop.pixels(), "more")
    desktop.scroll(*desk.stage.middle_of("PREFERENCES"), PAGE_CLICKS)
    window.wait_for_drawing()
    place = window.find_value("srun", "PREFERENCES", below=LOWER_PX)
    stages.keep(desktop.pixels(), "more-below")
    desktop.fill(place, ["srun --gres=gpu:1", "4", "0, 2"], "shift+Tab")
    fields = ("launcher", "workers", "device_numbers")
    assert window.ask(f"[getattr({NODES}['Cluster'], name) for name in {fields}]") == [
        "srun --gres=gpu:1",
        4,
        "0, 2",
    ]
