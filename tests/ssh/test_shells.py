"""Command lines for the shells that nodes have, each read by the real one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell

from engine.bootstrap import worker_words
from engine.job import ConnectError, Node
from engine.locate import Found, search
from engine.shells import PROBE, Shell, command_line, quoted, shell_of

SHELLS = {
    "sh": Shell.POSIX,
    "dash": Shell.POSIX,
    "bash": Shell.POSIX,
    "zsh": Shell.POSIX,
    "fish": Shell.FISH,
    "tcsh": Shell.CSH,
}
WORDS = (
    *("plain", "two words", "it's", '"quoted"', "$HOME", "`id`", "a!b", "!!", "back\\slash\\", "ünï 日本"),
    *(
        "(x86)",
        "100%",
        "^&;|<>",
        "*?[a]",
        "~",
        "#no comment",
        "=ls",
        "a\\'b",
        "",
        "{a,b}",
        "\\!x",
        "%OS%",
        "-x",
    ),
)


class Login:
    """Runs commands as sshd does: by the login shell's -c."""

    def __init__(self, shell: str, home: Path) -> None:
        self._shell = f"/bin/{shell}"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SHELL": self._shell,
            "LC_ALL": "C.UTF-8",
        }

    def run(self, command: str, timeout: float) -> tuple[int, str, str]:
        done = subprocess.run(
            [self._shell, "-c", command],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


def fake_blender(path: Path, version: str) -> Path:
    """Something that knows its version, and prints its arguments, NUL after each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "Blender {version}"; echo "\tbuild date"; exit; }}\n'
        'printf "%s\\0" "$0" "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", SHELLS)
def test_words_arrive_as_they_were_written(tmp_path: Path, name: str) -> None:
    login = Login(name, tmp_path)
    assert shell_of(login, 10) is SHELLS[name]
    for folder in ("plain", "it's (my) $5 & 100% ^x", "ünï 日本", 'a "b" c!', "back\\slash `x`"):
        blender = fake_blender(tmp_path / folder / "blender", "4.5.3")
        status, output, errors = login.run(command_line([str(blender), *WORDS], SHELLS[name]), 10)
        assert (status, errors) == (0, "")
        assert output.split("\0")[:-1] == [str(blender), *WORDS]


@pytest.mark.parametrize("name", SHELLS)
def test_the_search_finds_what_is_there(tmp_path: Path, name: str) -> None:
    paths = {
        "blender-4.2.1-linux-x64/blender": "4.2.1 LTS",
        "apps/Blender 4.5/blender": "4.5.3 LTS",
        ".local/share/Steam/steamapps/common/Blender/blender": "5.0.0",
        ".cache/distributed-cycles/blender/0123/blender": "4.5.1",
        "Applications/Blender.app/Contents/MacOS/Blender": "4.4.0",
    }
    for path, version in paths.items():
        fake_blender(tmp_path / path, version)
    broken = tmp_path / "opt/blender-broken/blender"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho 'error while loading shared libraries' >&2\nexit 127\n")
    broken.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "blender").mkdir()  # a folder of that name is no program
    survey = search(Login(name, tmp_path), SHELLS[name])
    assert survey.system.split() == [os.uname().sysname, os.uname().machine]
    found = {one.path: one.version for one in survey.found if one.path.startswith(str(tmp_path))}
    expected = {
        str(tmp_path / path): tuple(map(int, text.split()[0].split("."))) for path, text in paths.items()
    }
    assert found == {**expected, str(broken): None}


def test_a_blender_that_hangs_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import locate

    monkeypatch.setattr(locate, "_POSIX_SEARCH", locate._POSIX_SEARCH.replace("sleep 10", "sleep 1"))
    fake_blender(tmp_path / "blender-4.5/blender", "4.5.3")
    hanging = fake_blender(tmp_path / "blender-5/blender", "5.0.0")
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    found = search(Login("sh", tmp_path), Shell.POSIX).found
    assert Found(str(tmp_path / "blender-4.5/blender"), (4, 5, 3)) in found
    assert Found(str(hanging)) in found


def test_the_search_looks_behind_a_launcher(tmp_path: Path) -> None:
    """As in `docker exec`: what counts is what is there, not what the host has."""
    fake_blender(tmp_path / "inside" / "blender-4.5" / "blender", "4.5.3")
    found = search(Login("bash", tmp_path), Shell.POSIX, f"env HOME={tmp_path}/inside").found
    assert Found(f"{tmp_path}/inside/blender-4.5/blender", (4, 5, 3)) in found
    queued = search(Login("bash", tmp_path), Shell.POSIX, f"env HOME={tmp_path}/inside srun").found
    assert f"{tmp_path}/inside/blender-4.5/blender" not in [one.path for one in queued]


class Answering:
    """Stands for shells that cannot be run here: their answers are those their documentation gives."""

    def __init__(self, answer: str, errors: str = "") -> None:
        self._result = 0, answer, errors

    def run(self, command: str, timeout: float) -> tuple[int, str, str]:
        assert command == PROBE
        return self._result


@pytest.mark.parametrize(
    ("answer", "shell"),
    [
        ('DCPROBE Windows_NT "$SHELL"\r\n', Shell.CMD),
        ("DCPROBE\r\n%OS%\r\n\r\n", Shell.POWERSHELL),
        ("Welcome!\nDCPROBE %OS% /bin/bash\n", Shell.POSIX),
        ("DCPROBE %OS% \n", Shell.POSIX),
        ("DCPROBE %OS% /usr/bin/fish\n", Shell.FISH),
        ("DCPROBE %OS% /cygdrive/c/cygwin64/bin/tcsh.exe\n", Shell.CSH),
        ("DCPROBE %OS% C:\\Program Files\\Git\\bin\\bash.exe\n", Shell.POSIX),
    ],
)
def test_which_shell_it_is(answer: str, shell: Shell) -> None:
    assert shell_of(Answering(answer), 1) is shell


def test_a_login_that_runs_nothing_is_named_with_its_words() -> None:
    with pytest.raises(ConnectError, match="runs no commands: This account is currently not available"):
        shell_of(Answering("This account is currently not available.\n"), 1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["blender", "-b"], "blender -b"),
        ([r"C:\b\blender.exe", "-b", "a b"], r"C:\b\blender.exe -b 'a b'"),
        ([r"C:\Program Files\it's\b.exe", "a"], r"& 'C:\Program Files\it''s\b.exe' a"),
        (["b", "$x `t ’quote’ 100% (x) & y"], "b '$x `t ’’quote’’ 100% (x) & y'"),
    ],
)
def test_powershell(words: list[str], line: str) -> None:
    """Not run here; by about_Quoting_Rules and about_Operators."""
    assert command_line(words, Shell.POWERSHELL) == line


def powershell_words(line: str) -> list[str]:
    """The words of the one command that `line` is, by a grammar of PowerShell that is not ours."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    root = parser.parse(line.encode()).root_node
    assert not root.has_error, root
    (command,) = _below(root, "command")
    words = []
    for node in (command.child_by_field_name("command_name"), *_elements(command)):
        assert node is not None
        text = (node.text or b"").decode()
        if _below(node, "verbatim_string_characters"):
            text = re.sub("(['\u2018\u2019\u201a\u201b])\\1", r"\1", text[1:-1])
        words.append(text)
    return words


def _elements(command: tree_sitter.Node) -> list[tree_sitter.Node]:
    elements = command.child_by_field_name("command_elements")
    found = elements.children if elements else []
    return [node for node in found if node.type != "command_argument_sep"]


def _below(node: tree_sitter.Node, kind: str) -> list[tree_sitter.Node]:
    if node.type == kind:
        return [node]
    return [found for child in node.children for found in _below(child, kind)]


@pytest.mark.parametrize(
    "path", ["blender", r"C:\b\blender.exe", r"C:\Program Files\it's (x86)\b.exe", "ünï 日本\\b"]
)
def test_powershell_reads_the_words_that_were_meant(path: str) -> None:
    """PowerShell itself is not here; whether a line is one command with these words, its grammar tells."""
    for words in ([path, *WORDS], worker_words([path], Node("n"))):
        assert powershell_words(command_line(words, Shell.POWERSHELL)) == words
    line = command_line(["cmd", "/d", "/c", 'chcp 65001>nul&echo %A% "b"'], Shell.POWERSHELL)
    assert powershell_words(line) == ["cmd", "/d", "/c", 'chcp 65001>nul&echo %A% "b"']


def test_powershell_with_a_launcher_needs_no_call_operator() -> None:
    assert command_line(["a b"], Shell.POWERSHELL, "docker exec -i x") == "docker exec -i x 'a b'"


def test_what_cannot_be_a_word_is_refused() -> None:
    for shell in Shell:
        with pytest.raises(ValueError, match="line break"):
            quoted("a\nb", shell)
    with pytest.raises(ValueError, match="quote"):
        quoted('a"b', Shell.CMD)
