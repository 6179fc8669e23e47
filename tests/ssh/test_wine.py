r"""cmd.exe's own reading of our command lines, under Wine, as Win32-OpenSSH hands them over.

`sshd.exe` does what do_exec_windows of Win32-OpenSSH does for cmd.exe: `"cmd.exe" /c "COMMAND"`, nothing escaped.
`blender.exe` prints back the program that was started and each argument as the C library got it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import delivery
from engine.bootstrap import remote_command, worker_words
from engine.job import Node
from engine.locate import Found, search, suitable
from engine.shells import Shell, command_line, shell_of
from engine.transport import ProcessChannel

SOURCES = Path(__file__).parents[1] / "wine"


class Wine:
    """A Windows of its own in a folder, and commands run there."""

    def __init__(self, folder: Path) -> None:
        self.drive = folder / "prefix" / "drive_c"
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "DISPLAY"},
            "WINEPREFIX": str(folder / "prefix"),
            "WINEDEBUG": "-all",
            "LC_ALL": "C.UTF-8",
        }
        subprocess.run(
            ["wine", "wineboot", "-i"], env=self._environment, check=True, capture_output=True, timeout=120
        )
        self.compile("sshd")
        # As long as something runs, Wine's services need not start for each command anew. They keep
        # the stdout of whoever starts them, so that is nobody's pipe.
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = ["wine", str(self._sshd)]
        self._waiting = subprocess.Popen(
            command, env={**self._environment, "DC_COMMAND": "pause"}, stdin=subprocess.PIPE, **quiet
        )
        subprocess.run(
            command, env={**self._environment, "DC_COMMAND": "ver"}, check=True, timeout=60, **quiet
        )

    def compile(self, name: str, *options: str) -> Path:
        program = self._folder / f"{name}{len(list(self._folder.iterdir()))}.exe"
        compiler = ("x86_64-w64-mingw32-gcc", "-municode", "-Werror", "-Wall", "-O1")
        subprocess.run([*compiler, *options, "-o", str(program), str(SOURCES / f"{name}.c")], check=True)
        if name == "sshd":
            self._sshd = program
        return program

    def put(self, program: Path, folder: str) -> str:
        place = self.drive / folder.replace("\\", "/")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, place / "blender.exe")
        return f"C:\\{folder}\\blender.exe"

    def run(self, command: str, timeout: float) -> tuple[int, str, str]:
        done = subprocess.run(
            ["wine", str(self._sshd)],
            env={**self._environment, "DC_COMMAND": command},
            cwd=self.drive,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")

    def open(self, command: str) -> ProcessChannel:
        settings = [f"{name}={self._environment[name]}" for name in ("WINEPREFIX", "WINEDEBUG", "LC_ALL")]
        words = ["env", "-u", "DISPLAY", *settings, f"DC_COMMAND={command}", "wine", str(self._sshd)]
        return ProcessChannel(words, 0, "wine")

    def stop(self) -> None:
        subprocess.run(["wineserver", "-k"], env=self._environment, check=False)
        self._waiting.communicate()


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wine]:
    made = Wine(tmp_path_factory.mktemp("wine"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def blender(wine: Wine) -> Path:
    return wine.compile("blender", '-DVERSION="4.5.3 LTS"')


def test_the_probe(wine: Wine) -> None:
    assert shell_of(wine, 20) is Shell.CMD


@pytest.mark.parametrize(
    "folder",
    [
        *("plain", "Program Files\\Blender Foundation\\Blender 4.5", "it's", "100%", "%OS%", "a %OS% b"),
        *("x^y&z", "(x86) & $y", "ünï 日本", "a!b,c;d=e", "p %% q"),
    ],
)
def test_the_command_line_that_blender_gets(wine: Wine, blender: Path, folder: str) -> None:
    path = wine.put(blender, folder)
    status, output, errors = wine.run(remote_command(path, Node("n"), Shell.CMD), 20)
    assert (status, errors) == (0, "")
    assert output.splitlines() == worker_words([path], Node("n"))
    words = [path, f"C:\\{folder}\\", "a b\\", "%OS%\\%OS%", "50% & more", "^", "(", "-x=y"]
    assert wine.run(command_line(words, Shell.CMD), 20)[1].splitlines() == words


def test_the_search(wine: Wine, blender: Path) -> None:
    older = wine.compile("blender", '-DVERSION="4.2.1"')
    paths = {
        wine.put(blender, "Program Files\\Blender Foundation\\Blender 4.5"): (4, 5, 3),
        wine.put(older, "Program Files\\Blender Foundation\\Blender 4.2"): (4, 2, 1),
        wine.put(older, "Program Files (x86)\\Steam\\steamapps\\common\\Blender"): (4, 2, 1),
        wine.put(blender, "blender & co"): (4, 5, 3),
    }
    survey = search(wine, Shell.CMD)
    assert survey.system == "Windows AMD64"
    assert {one.path: one.version for one in survey.found} == paths
    best = suitable(survey.found, (4, 2, 1))[0]
    assert best == Found("C:\\Program Files\\Blender Foundation\\Blender 4.2\\blender.exe", (4, 2, 1))
    # And it can be started by the path that was found.
    assert wine.run(command_line([best.path, "--version"], Shell.CMD), 20)[1].startswith("Blender 4.2.1")


def test_a_blender_is_received(wine: Wine, blender: Path, tmp_path: Path) -> None:
    """cmd.exe makes the folders, moves them and says where; Windows' own tar is played by the system's."""
    shutil.copy(wine.compile("tar"), wine.drive / "windows" / "system32" / "tar.exe")
    folder = tmp_path / "blender-4.5.3-windows-x64"
    (folder / "4.5" / "data files").mkdir(parents=True)
    (folder / "4.5" / "data files" / "noise").write_bytes(os.urandom(1 << 20))
    shutil.copy(blender, folder / "blender.exe")
    installation = delivery.Installation(folder)
    said: list[str] = []
    path = delivery.deliver(wine, Shell.CMD, installation, said.append)
    assert path.endswith(f".cache\\distributed-cycles\\blender\\{installation.key()}\\blender.exe")
    assert "sending Blender: 100% of 1 MB" in said
    assert wine.run(command_line([path, "--version"], Shell.CMD), 20)[1].startswith("Blender 4.5.3")
    place = wine.drive / path.removeprefix("C:\\").replace("\\", "/")
    noise = place.parent / "4.5" / "data files" / "noise"
    assert noise.read_bytes() == (folder / "4.5" / "data files" / "noise").read_bytes()
    assert [entry.name for entry in place.parents[1].iterdir()] == [installation.key()]
    # It is there now, for the search too, and is not sent again.
    said.clear()
    assert delivery.deliver(wine, Shell.CMD, installation, said.append) == path
    assert said == ["looking at the Blender to send"]
    assert path in [one.path for one in search(wine, Shell.CMD).found]
