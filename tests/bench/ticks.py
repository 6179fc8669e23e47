"""What a render costs Blender's main thread, in a real window: each tick beside the Image, and the Image.

    python -m tests.bench.ticks [4K|8K ...]

Renders the demo scene with few samples by This Computer in the windowed Blender of the trixie. Prints for
each size: ticks (messages, panels' data) and flushes of the Image in milliseconds, and how long Blender
was away from its event loop at most, drawing included, which here is done by the processor.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from .. import support
from ..gui.desktop import Desktop
from ..gui.stage import AREA, EXTENSION, STATUS
from ..gui.window import Home, Window

SIZES = {"4K": (3840, 2160), "8K": (7680, 4320)}
TILE_PX = 128
TIMED = f"""
import importlib, time
store = bpy.app.driver_namespace
running = importlib.import_module({EXTENSION!r} + ".operators.running")
image = importlib.import_module({EXTENSION!r} + ".operators.image")
store["ticks"], store["flushes"] = [], []
def timed(function, name):
    def call(*arguments):
        start = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            store[name].append(time.perf_counter() - start)
    return call
running.tick, image.flush = timed(running.tick, "ticks"), timed(image.flush, "flushes")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "tools/build.py", "--python", "cp313", "--platform", "linux-x64"]
        command += ["--blender-min", "4.2.0", "--output", name]
        subprocess.run(command, cwd=support.REPOSITORY, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(name).rglob("*.zip")
        for size in sys.argv[1:] or SIZES:
            measure(archive, size)


def measure(archive: Path, size: str) -> None:
    width, height = SIZES[size]
    scene_code = (
        "import bpy; s = bpy.context.scene;"
        f"s.render.resolution_x, s.render.resolution_y = {width}, {height}; s.cycles.samples = 1;"
        f"s.cycles.use_denoising = False; s.distributed_cycles.use_auto_tile_size = False; s.distributed_cycles.tile_size = {TILE_PX};"
        "s.render.filepath = '//out/picture'; bpy.ops.wm.save_mainfile()"
    )
    with support.marked(), Home() as home, Desktop() as desktop:
        home.install(archive)
        (home.folder / "demo_scene.py").write_text(
            (support.REPOSITORY / "tools" / "demo_scene.py").read_text()
        )
        scene = home.inside("still_life.blend")
        home.run(
            "blender",
            "--background",
            "--factory-startup",
            "--python",
            home.inside("demo_scene.py"),
            "--",
            scene,
        )
        home.run("blender", "--background", scene, "--python-exit-code", "1", "--python-expr", scene_code)
        with Window(home, desktop, scene) as window:
            window.switch_to("Rendering")
            window.wait_for_drawing()
            window.execute(TIMED)
            editor = AREA.format("PROPERTIES")
            window.execute(
                f"with C.temp_override(window=C.window_manager.windows[0], area={editor}):\n"
                " import time\n start = time.perf_counter()\n"
                " bpy.ops.distributed_cycles.render('INVOKE_DEFAULT')\n"
                " bpy.app.driver_namespace['click'] = time.perf_counter() - start"
            )
            window.until(f"{STATUS}.is_running", 60)
            window.execute("pulse.restart()")
            window.until(f"{STATUS}.progress > 0.97 or not {STATUS}.is_running", 600)
            away = [window.ask("bpy.app.driver_namespace['click']"), window.ask("pulse.longest_s")]
            window.execute("pulse.restart()")
            window.until(f"not {STATUS}.is_running", 600)
            away.append(window.ask("pulse.longest_s"))
            ticks = window.ask("bpy.app.driver_namespace['ticks']")
            flushes = window.ask("bpy.app.driver_namespace['flushes']")
            tiles = window.ask(f"{STATUS}.tiles_done")
    print(f"{size}: {tiles} tiles of {TILE_PX} px")
    show("tick beside the flush", ticks)
    show("flush of the Image", flushes)
    print(
        "  away from the event loop: at the click {:.2f} s, while tiles arrive at most {:.2f} s,".format(
            *away
        )
    )
    print(f"  at the end {away[2]:.2f} s, when Blender reads the frame and saves the picture", flush=True)


def show(what: str, seconds: list[float]) -> None:
    times = sorted(1000 * value for value in seconds)
    high = times[int(0.95 * (len(times) - 1))]
    print(
        f"  {what}: {len(times)} times, median {statistics.median(times):.1f} ms, 95% below {high:.1f} ms,"
        f" most {times[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
