"""A windowed Blender in the Debian trixie of the tests, with a home of its own, seen from outside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import support
from .desktop import SIZE, Desktop

IN_TRIXIE = support.REPOSITORY / "tools" / "in_trixie"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
TRIXIE = Path(os.environ.get("DC_CHROOT") or CACHE / "distributed-cycles" / "trixie").resolve()
START_S = 90
"""Software OpenGL draws the first window slowly."""
REMOVE_S = 15
DEBIAN_BLENDER = ("usr/bin/blender", "usr/share/blender")
"""Program and data, from the root of the trixie."""
STEP = 14
"""Pixels; buttons are 20 high."""
PAGE_CLICKS = 6
"""Of the wheel; less than the lowest editor shows at once."""


class Home:
    """A home folder inside the trixie; everything of one test is below it, and goes with it."""

    def __enter__(self) -> Home:
        self.folder = Path(tempfile.mkdtemp(prefix="dc-gui-", dir=TRIXIE / "tmp"))
        return self

    def __exit__(self, *_: object) -> None:
        # Workers of a Blender that was killed remove their own folders meanwhile.
        assert support.wait_until(self._removed, REMOVE_S), f"{self.folder} is still written to"

    def _removed(self) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def inside(self, *parts: str) -> str:
        """The path of something in this home, as programs inside the trixie see it."""
        return "/" + str(self.folder.joinpath(*parts).relative_to(TRIXIE))

    def command(self, *command: str, **environment: str) -> list[str]:
        home = self.inside()
        variables = {"HOME": home, "XDG_RUNTIME_DIR": home, "TMPDIR": home, **environment}
        settings = [f"{name}={value}" for name, value in variables.items()]
        return [str(IN_TRIXIE), "env", "-u", "XDG_CONFIG_HOME", *settings, *command]

    def run(self, *command: str) -> str:
        """Run a program inside the trixie to its end; what it printed."""
        done = subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, archive: Path) -> None:
        """Install and enable an extension as a user would on the command line; no splash from now on."""
        shutil.copy(archive, self.folder)
        place = self.inside(archive.name)
        self.run("blender", "--command", "extension", "install-file", "-r", "user_default", "-e", place)
        self.run(
            *("blender", "--background", "--python-exit-code", "1", "--python-expr"),
            "import bpy; bpy.context.preferences.view.show_splash = False; bpy.ops.wm.save_userpref()",
        )

    def portable(self) -> str:
        """Debian's Blender with its data beside it, in a folder that can be sent; the program inside the trixie."""
        folder = self.folder / "blender-4.3.2-linux-x64"
        folder.mkdir()
        program, data = (TRIXIE / path for path in DEBIAN_BLENDER)
        for source, target in ((program, folder / "blender"), (data, folder / "4.3")):
            # As links: nobody writes to them.
            subprocess.run(["cp", "-Rl", str(source), str(target)], check=True)
        return self.inside(folder.name, "blender")


class Window:
    """The running Blender: `ask` looks into it, `find` looks for a button; acting is the Desktop's."""

    def __init__(self, home: Home, desktop: Desktop, *arguments: str, program: str = "blender") -> None:
        self.home, self.desktop = home, desktop
        shutil.copy(Path(__file__).with_name("inside.py"), home.folder)
        self._socket = home.folder / "socket"
        environment = {
            "DISPLAY": desktop.display,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "DC_TEST_SOCKET": home.inside("socket"),
        }
        script = ["--python", home.inside("inside.py")]
        geometry = ["--window-geometry", "0", "0", *map(str, SIZE)]
        self._command = home.command(program, *geometry, *arguments, *script, **environment)

    def __enter__(self) -> Window:
        self.log = self.home.folder / "blender.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        if not support.wait_until(lambda: self._socket.exists() or self.process.poll() is not None, START_S):
            self.__exit__()
            raise AssertionError("Blender's window did not come: " + self.log.read_text())
        assert self.process.poll() is None, self.log.read_text()
        self.until("len(C.window_manager.windows)", START_S)
        self.wait_for_drawing()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._socket.unlink(missing_ok=True)

    def execute(self, code: str) -> Any:
        """Run statements in Blender's main thread; the value of `value`, as JSON carries it."""
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as stream:
            connection.settimeout(60)
            connection.connect(str(self._socket))
            stream.write(json.dumps(code) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
        assert "error" not in answer, f"{code}: {answer}"
        return answer["value"]

    def ask(self, expression: str) -> Any:
        """The value of an expression over `bpy` and `C`, the context."""
        return self.execute(f"value = {expression}")

    def until(self, expression: str, timeout: float) -> Any:
        """Wait for an expression to be true. Returns its value."""
        deadline = time.monotonic() + timeout
        while not (value := self.ask(expression)):
            assert time.monotonic() < deadline, (
                f"not within {timeout} s: {expression}\n{self.log.read_text()}"
            )
            time.sleep(0.1)
        return value

    def wait_for_drawing(self, timeout: float = 30) -> None:
        """Wait until the screen shows something and stands still."""
        deadline = time.monotonic() + timeout
        before = self.desktop.pixels()
        while time.monotonic() < deadline:
            time.sleep(0.3)
            now = self.desktop.pixels()
            if now.std() > 5 and (now == before).all():
                return
            before = now
        raise AssertionError(f"the window did not come to rest within {timeout} s")

    def region(self, editor: str, kind: str = "WINDOW") -> tuple[int, int, int, int]:
        """Left, top, right and bottom of an editor's region, in pixels of the screen."""
        left, bottom, width, height, window = self.ask(
            f"next([r.x, r.y, r.width, r.height, C.window_manager.windows[0].height]"
            f" for a in C.window_manager.windows[0].screen.areas if a.type == {editor!r}"
            f" for r in a.regions if r.type == {kind!r})"
        )
        return left, window - bottom - height, left + width, window - bottom

    def switch_to(self, workspace: str) -> None:
        """Open one of Blender's own workspaces."""
        self.execute(f"C.window_manager.windows[0].workspace = bpy.data.workspaces[{workspace!r}]")
        self.until(f"C.window_manager.windows[0].workspace.name == {workspace!r}", 10)
        self.wait_for_drawing()

    def find_operator(self, text: str, editor: str, *, at: float = 0.5, below: int = 0) -> tuple[int, int]:
        """Where in an editor the button of an operator is, by the Python that Blender has for it.

        Ctrl+C over a button copies its command: `bpy.ops.distributed_cycles.render()`.
        """
        return self._find(lambda copied: text in copied, text, editor, at, "ctrl+c", below)

    def find_property(self, text: str, editor: str, *, at: float = 0.7) -> tuple[int, int]:
        """Where in an editor a property is, by its data path, of which `text` is the end."""
        return self._find(lambda copied: copied.endswith(text), text, editor, at, "ctrl+alt+shift+c")

    def find_value(self, text: str, editor: str, *, at: float = 0.7, below: int = 0) -> tuple[int, int]:
        """Where in an editor a field is, by what is in it: preferences have no data path."""
        return self._find(lambda copied: copied == text, text, editor, at, "ctrl+c", below)

    def _find(
        self, fits: Callable[[str], bool], what: str, editor: str, at: float, keys: str, below: int = 0
    ) -> tuple[int, int]:
        left, top, right, bottom = self.region(editor)
        x, middle = int(left + at * (right - left)), (top + bottom) // 2
        seen: list[str] = []
        for clicks in (0, -100, *[PAGE_CLICKS] * 20):
            before = self.desktop.pixels()[top:bottom, left:right]
            if clicks:
                self.desktop.scroll(x, middle, clicks)
                self.wait_for_drawing()
            if clicks > 0 and (before == self.desktop.pixels()[top:bottom, left:right]).all():
                break
            for y in range(max(top, below) + STEP // 2, bottom, STEP):
                copied = self._copied(x, y, keys)
                if fits(copied):
                    return x, y
                seen += [copied] if copied and copied not in seen else []
        self.desktop.screenshot(support.REPOSITORY / "build" / "gui" / "not-found.png")
        raise AssertionError(f"no {what!r} in {editor} at {at:.0%}; there are {seen}")

    def _copied(self, x: int, y: int, keys: str) -> str:
        """What Blender copies where the pointer stands over (x, y) and `keys` are pressed."""
        self.execute("C.window_manager.clipboard = value = ''")
        self.desktop.move(x, y)
        self.desktop.key(keys)
        return str(self.ask("C.window_manager.clipboard"))
