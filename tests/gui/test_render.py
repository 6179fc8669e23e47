"""A person adds a node, renders, watches, stops and resumes: in a real window, by mouse and keyboard."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engine import exr

from .. import support
from . import stage as stages
from .stage import EXTENSION, PREFERENCES, STATUS, Picture, Stage
from .window import Window

NODES = f"{PREFERENCES}.nodes"
TEST = f"{STATUS}.tests['Workhorse']"
PARTS = (0.1, 0.4, 0.7)
"""Of the frame, when the window is looked at."""
LONGEST_FREEZE_S = 1.0
"""Two workers and the software that draws share two cores with Blender."""
RENDER_S = 120
FIRST_TILE_S = 1.0
"""From the click; 0.3 s where nothing else uses the two cores."""
FIRST_TILE = f"""
import importlib, time
bpy.app.driver_namespace.pop("first_tile", None)
bpy.app.driver_namespace.pop("opened", None)
running = importlib.import_module({EXTENSION!r} + ".operators.running")
show = running.show
def watch(message):
    if type(message).__name__ == "TileEnded":
        bpy.app.driver_namespace.setdefault("first_tile", time.monotonic())
    elif type(message).__name__ == "NodeChanged" and message.status.detail == "opening the scene":
        bpy.app.driver_namespace["opened"] = message.status.name
    show(message)
running.show = watch
"""
UNDO_STEPS = "import ctypes; C.window_manager.print_undo_steps(); ctypes.CDLL(None).fflush(None)"
WORKERS_END_S = 15
LABEL_PX, TITLE_PX = 45, 33
"""From the heading of the preferences, from the title of the panel, down to the first button below."""
OTHER_PANELS_PX = 3 * 28
"""Below the extension's: Grease Pencil, Freestyle, Color Management, closed."""


@dataclass
class Seen:
    """What was seen of a render."""

    screens: list[Picture] = field(default_factory=list)
    """Before the first tile, at PARTS, at the end: the Image Editor."""
    answer_s: float = 0
    longest_freeze_s: float = 0
    tiles: dict[str, int] = field(default_factory=dict)
    result: exr.Planes = field(default_factory=dict)
    image: exr.Planes = field(default_factory=dict)
    result_screen: Picture = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    """The Image Editor with the Render Result."""
    undo_steps: list[list[str]] = field(default_factory=list)
    """Before and after."""
    is_dirty: bool = True
    """Whether the file has unsaved changes after the render; it had none before."""


@pytest.fixture(scope="module")
def node_answers(stage: Stage) -> list[str]:
    """A node is added, tested, trusted and tested again: what was said to the first and the second test."""
    window, desktop, node = stage.window, stage.desktop, stage.node
    with stage.preferences():
        _, top = stage.press("node_add", "PREFERENCES", at=0.967)
        port = window.find_value("0", "PREFERENCES", below=top)  # the first of those that are 0
        desktop.fill(port, [str(node.port), node.address, "Workhorse"], "shift+Tab")
        desktop.fill(port, [str(node.port), node.user, node.key_file], "Tab")
        fields = ", ".join(f"{NODES}[1].{name}" for name in ("name", "host", "port", "user", "key_file"))
        typed = ["Workhorse", node.address, node.port, node.user, node.key_file]
        assert window.ask(f"[{fields}]") == typed
        _, bottom = stage.press("node_test", "PREFERENCES", at=0.3, below=port[1] + 100)
        window.until(f"{TEST}.text and not {TEST}.is_running", 30)
        answers = [window.ask(f"{TEST}.text")]
        assert window.ask(f"{TEST}.question") == "TRUST"
        window.wait_for_drawing()
        stage.press("trust_host", "PREFERENCES", at=0.7, below=bottom - 20)
        window.wait_for_drawing()
        stages.keep(desktop.pixels(), "trust")
        desktop.key("Return")  # OK of the dialog; the test is repeated then
        window.until(f"{TEST}.is_good", 30)
        answers.append(window.ask(f"{TEST}.text"))
        desktop.move(port[0], top - LABEL_PX)
        window.wait_for_drawing()
        stage.keep_part(desktop.pixels(), "preferences", "PREFERENCES", top - LABEL_PX)
    return answers


@pytest.fixture(scope="module")
def seen(stage: Stage, node_answers: list[str]) -> Seen:
    """A render from the click on the button to its end."""
    window, desktop = stage.window, stage.desktop
    window.execute("pulse.restart()")
    before = _undo_steps(window)
    _, top = stage.press("render", "PROPERTIES", at=0.25)
    window.until(f"{STATUS}.is_running", 10)
    screens = [desktop.pixels()]
    assert window.ask(f"{STATUS}.tiles_done") == 0
    seen = Seen(undo_steps=[before])
    for part in PARTS:
        window.until(f"{STATUS}.progress >= {part}", RENDER_S)
        screens.append(desktop.pixels())
        seen.answer_s = seen.answer_s or _toggle_sidebar(stage)
    window.until(f"not {STATUS}.is_running", RENDER_S)
    seen.longest_freeze_s = window.ask("pulse.longest_s")
    assert window.ask(f"{STATUS}.phase") == "Done", window.ask(f"[m.text for m in {STATUS}.messages]")
    window.wait_for_drawing()
    screens.append(desktop.pixels())
    for number, screen in enumerate(screens):
        stages.keep(screen, f"rendering-{number}")
        seen.screens.append(stage.part_of(screen, "IMAGE_EDITOR"))
    stage.keep_part(screens[2], "panel", "PROPERTIES", top - TITLE_PX, OTHER_PANELS_PX)
    seen.is_dirty = window.ask("bpy.data.is_dirty")
    seen.undo_steps.append(_undo_steps(window))
    seen.result_screen = _show_result(stage)
    seen.tiles = window.ask(f"{{node.name: node.tiles_done for node in {STATUS}.nodes}}")
    seen.result = stage.save_image("Render Result")
    seen.image = stage.save_image("Distributed Render")
    return seen


def _undo_steps(window: Window) -> list[str]:
    """What could be undone, one line a step."""
    before = len(window.log.read_text())
    window.execute(UNDO_STEPS)
    return [line for line in window.log.read_text()[before:].splitlines() if "type=" in line]


def _show_result(stage: Stage) -> Picture:
    """The Image Editor with the Render Result chosen in it."""
    space = f"{stages.AREA.format('IMAGE_EDITOR')}.spaces.active"
    stage.window.execute(f"{space}.image = bpy.data.images['Render Result']")
    stage.window.wait_for_drawing()
    screen = stage.desktop.pixels()
    stages.keep(screen, "render-result")
    return stage.part_of(screen, "IMAGE_EDITOR")


def _toggle_sidebar(stage: Stage) -> float:
    """Open and close the Image Editor's sidebar: how long Blender took to open it."""
    shown = f"{stages.AREA.format('IMAGE_EDITOR')}.spaces.active.show_region_ui"
    stage.desktop.move(*stage.middle_of("IMAGE_EDITOR"))
    start = time.monotonic()
    stage.desktop.key("n")
    stage.window.until(shown, 10)
    answer_s = time.monotonic() - start
    stage.desktop.key("n")
    stage.window.until(f"not {shown}", 10)
    return answer_s


@pytest.fixture(scope="module")
def f12(stage: Stage, seen: Seen) -> exr.Planes:
    """The frame as this Blender renders it alone, afterwards."""
    stage.desktop.move(*stage.middle_of("IMAGE_EDITOR"))
    stage.desktop.key("F12")
    stage.window.until("bpy.app.is_job_running('RENDER')", 10)
    stage.window.until("not bpy.app.is_job_running('RENDER')", RENDER_S)
    picture = stage.home.inside("f12.png")
    stage.window.execute(f"bpy.data.images['Render Result'].save_render({picture!r}, scene=C.scene)")
    return stage.save_image("Render Result")


def test_a_node_is_ready_when_its_host_is_trusted(node_answers: list[str]) -> None:
    unknown, ready = node_answers
    assert "The host key of 127.0.0.1 is not known yet: ssh-ed25519 SHA256:" in unknown
    assert ready.startswith("Ready: Linux")
    assert "Blender 4.3" in ready


def test_tiles_are_seen_arriving(seen: Seen) -> None:
    """In the window itself: more and more of it looks as it does in the end, through the view transform."""
    empty, *_, final = seen.screens
    covered = (final != empty).any(axis=2)
    assert covered.mean() > 0.4
    shares = [(screen == final).all(axis=2)[covered].mean() for screen in seen.screens[1:-1]]
    print(f"of the picture is seen: {shares}")
    assert all(part - 0.05 < share < 1 for part, share in zip(PARTS, shares, strict=True)), shares
    assert all(later > earlier + 0.1 for earlier, later in pairwise(shares)), shares


def test_blender_answers_meanwhile(seen: Seen) -> None:
    print(f"longest freeze {seen.longest_freeze_s:.2f} s, answer after {seen.answer_s:.2f} s")
    assert seen.longest_freeze_s < LONGEST_FREEZE_S
    assert seen.answer_s < LONGEST_FREEZE_S


def test_the_picture_is_what_f12_renders(stage: Stage, seen: Seen, f12: exr.Planes) -> None:
    assert f12["R"].std() > 0.1
    _assert_same(seen.result, f12)
    # The Image shows the frame as rendered; the compositor turned the Render Result about.
    _assert_same({name: plane[:, ::-1] for name, plane in seen.image.items()}, f12)
    (picture,) = (stage.home.folder / "out").iterdir()
    assert picture.name == "picture.png"
    assert _decoded(picture) == _decoded(stage.home.folder / "f12.png")
    assert stage.window.ask("C.scene.render.engine") == "CYCLES"


def _assert_same(found: exr.Planes, expected: exr.Planes) -> None:
    assert set(found) == set(expected) >= set("RGB")
    assert {
        channel: np.abs(found[channel] - plane).max() for channel, plane in expected.items()
    } == dict.fromkeys(expected, 0.0)


def _decoded(path: Path) -> bytes:
    return subprocess.run(["convert", str(path), "rgb:-"], capture_output=True, check=True).stdout


def test_the_session_is_as_it_was(seen: Seen) -> None:
    """The Render Result is composited; there is nothing to save, and nothing new to undo."""
    assert not seen.is_dirty
    assert seen.undo_steps[0] == seen.undo_steps[1]
    assert seen.undo_steps[0]
    # The compositor turned it about, as a whole.
    picture, result = seen.screens[-1][200:-200], seen.result_screen[200:-200]
    assert (result == picture).all(axis=2).mean() < 0.95
    assert np.abs(result.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 2


def test_pressed_again_it_starts_at_once_and_machines_are_left_clean_when_told(
    stage: Stage, seen: Seen
) -> None:
    assert set(seen.tiles) == {"This Computer", "Workhorse"}
    assert min(seen.tiles.values()) > 0
    workers = stage.workers()
    assert workers
    window = stage.window
    place = window.find_operator("bpy.ops.distributed_cycles.render(", "PROPERTIES", at=0.25)
    # The image format was changed and changed back to save pixels: the scene is not quite what it was.
    for _ in range(2):
        window.execute(FIRST_TILE)
        start = time.monotonic()
        stage.desktop.click(*place)
        window.until("'first_tile' in bpy.app.driver_namespace", 10)
        seconds = window.ask("bpy.app.driver_namespace['first_tile']") - start
        window.until(f"not {STATUS}.is_running", RENDER_S)
        assert window.ask(f"{STATUS}.phase") == "Done", window.ask(f"[m.text for m in {STATUS}.messages]")
    assert set(stage.workers()) == set(workers)
    assert not window.ask("bpy.app.driver_namespace.get('opened')")
    print(f"click to first tile: {seconds:.2f} s")
    assert seconds < FIRST_TILE_S
    stage.press("end_workers", "PROPERTIES", at=0.93, below=place[1] + 100)
    assert support.wait_until(lambda: not stage.workers(), WORKERS_END_S)


def test_escape_stops_and_resume_goes_on(stage: Stage, f12: exr.Planes) -> None:
    window = stage.window
    _, y = stage.press("render", "PROPERTIES", at=0.25)
    window.until(f"{STATUS}.is_running and {STATUS}.progress > 0.2", RENDER_S)
    assert stage.workers()
    stage.desktop.move(*stage.middle_of("IMAGE_EDITOR"))
    stage.desktop.key("Escape")
    window.until(f"not {STATUS}.is_running", WORKERS_END_S)
    progress, phase = window.ask(f"({STATUS}.progress, {STATUS}.phase)")
    assert (phase, 0 < progress < 1) == ("Cancelled", True)
    assert support.wait_until(lambda: not stage.workers(), WORKERS_END_S)

    stage.press("resume", "PROPERTIES", at=0.75, below=y - 20)
    window.until(f"{STATUS}.is_running", 10)
    window.until(f"not {STATUS}.is_running", RENDER_S)
    assert window.ask(f"{STATUS}.phase") == "Done", window.ask(f"[m.text for m in {STATUS}.messages]")
    picture = stage.save_image("Distributed Render")
    _assert_same({name: plane[:, ::-1] for name, plane in picture.items()}, f12)
    journal = max(stage.home.folder.rglob("journal.jsonl"), key=lambda path: path.stat().st_mtime)
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    tiles = Counter(event["tile"] for event in events if event["event"] == "tile")
    assert len(tiles) == tiles.total() == window.ask(f"{STATUS}.tiles_done")
