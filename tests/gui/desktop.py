"""An X screen that nobody looks at, and hands for it: Xvfb, xdotool, ImageMagick's import."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (1440, 960)
SETTLE_S = 0.06
"""Blender takes an input event with its next redraw."""
DRAG_S = 0.3


class Desktop:
    """One Xvfb on a display number that was free; a context manager."""

    def __enter__(self) -> Desktop:
        Path("/tmp/.X11-unix").mkdir(mode=0o1777, exist_ok=True)
        read, write = os.pipe()
        width, height = SIZE
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as numbers:
            self.display = f":{numbers.readline().strip()}"
        assert self.display != ":", "Xvfb did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait(10)

    def pixels(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """What the screen shows: (height, width, 3), top row first."""
        data = self._run("import", "-window", "root", "-depth", "8", "rgb:-")
        return np.frombuffer(data, np.uint8).reshape(SIZE[1], SIZE[0], 3)

    def screenshot(self, path: Path, *options: str) -> Path:
        """Write what the screen shows; the options are ImageMagick's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._run("import", "-window", "root", *options, str(path))
        return path

    def move(self, x: int, y: int) -> None:
        """Put the pointer on a pixel, counted from the top left. Blender wants to see it arrive."""
        self._xdotool("mousemove", str(x - 2), str(y), "mousemove", str(x), str(y))

    def click(self, x: int, y: int, *, button: int = 1, times: int = 1) -> None:
        self.move(x, y)
        self._xdotool("click", "--repeat", str(times), "--delay", "60", str(button))

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        self.move(*start)
        time.sleep(DRAG_S)  # until what is below has noticed the pointer
        self._xdotool("mousedown", "1")
        middle = (start[0] + end[0]) // 2, (start[1] + end[1]) // 2
        for place in (middle, end):
            time.sleep(DRAG_S)
            self.move(*place)
        self._xdotool("mouseup", "1")

    def scroll(self, x: int, y: int, clicks: int) -> None:
        """Turn the wheel over a pixel: down where `clicks` is positive."""
        self.move(x, y)
        self._xdotool("click", "--repeat", str(abs(clicks)), "--delay", "30", "5" if clicks > 0 else "4")

    def key(self, *keys: str) -> None:
        self._xdotool("key", *keys)

    def fill(self, place: tuple[int, int], texts: list[str], key: str) -> None:
        """Type into the text or number field at `place`, and into those that `key` leads to from there."""
        self.click(*place, times=2)
        for text in texts:
            self.key("ctrl+a")
            self.type(text)
            self.key("Return" if text is texts[-1] else key)

    def type(self, text: str) -> None:
        self._xdotool("type", "--delay", "20", text)

    def _xdotool(self, *arguments: str) -> None:
        self._run("xdotool", *arguments)
        time.sleep(SETTLE_S)

    def _run(self, *command: str) -> bytes:
        environment = {**os.environ, "DISPLAY": self.display}
        return subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30).stdout
