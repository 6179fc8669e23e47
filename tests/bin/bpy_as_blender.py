"""Blender's command line on top of the bpy wheel, as far as this project uses it.

    blender [-b] [--factory-startup] [-y|-Y] [--online-mode] [FILE] [--python-exit-code N]
            [--python-expr CODE] [--python FILE] [-t N] [--addons ID,...] [-o PATH] [-f N]
            [--version] [--command NAME ARGUMENT ...]

Arguments are carried out in their order, as Blender does. Unless --factory-startup is given,
this checkout is enabled as the extension `bl_ext.user_default.distributed_cycles`, in a user
folder that exists only as long as the process.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(os.environ.get("DC_TEST_REPOSITORY") or Path(__file__).resolve().parents[2])
PROGRAM = Path(os.environ.get("DC_TEST_PROGRAM") or Path(__file__).with_name("blender"))
EXTENSION = "bl_ext.user_default.distributed_cycles"


def main(arguments: list[str]) -> int:
    if "--version" in arguments or "-v" in arguments:
        import bpy

        print(f"Blender {bpy.app.version_string}")
        return 0
    folder = None
    if "--factory-startup" not in arguments:
        folder = Path(tempfile.mkdtemp(prefix="bpy-as-blender-"))
        extensions = folder / "extensions" / "user_default"
        extensions.mkdir(parents=True)
        (extensions / "distributed_cycles").symlink_to(REPOSITORY)
        os.environ["BLENDER_USER_RESOURCES"] = str(folder)
        signal.signal(signal.SIGTERM, lambda *_: end_at_once(folder))
    try:
        return run(arguments, use_extension=folder is not None)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def end_at_once(folder: Path) -> NoReturn:
    """What SIGTERM does to Blender, less the folder that it would leave behind."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(128 + signal.SIGTERM)


def run(arguments: list[str], *, use_extension: bool) -> int:
    import bpy

    bpy.app.binary_path = str(PROGRAM)
    commands: dict[str, Callable[[list[str]], int]] = {}
    # The wheel has no command line, so nothing else keeps these callbacks.
    register = bpy.utils.register_cli_command

    def remember(name: str, callback: Callable[[list[str]], int]) -> Any:
        commands[name] = callback
        return register(name, callback)

    bpy.utils.register_cli_command = remember
    if "--online-mode" in arguments:
        bpy.context.preferences.system.use_online_access = True
    if use_extension:
        enable(EXTENSION)

    exit_code = 0
    use_scripts = False
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if argument in ("-b", "--background", "--factory-startup", "--online-mode"):
            continue
        if argument == "--":
            break
        if argument in ("-y", "--enable-autoexec", "-Y", "--disable-autoexec"):
            use_scripts = argument in ("-y", "--enable-autoexec")
            bpy.context.preferences.filepaths.use_scripts_auto_execute = use_scripts
        elif argument == "--command":
            name, *rest = queue
            if name not in commands:
                print(f"Unrecognized command: {name!r}", file=sys.stderr)
                return 1
            return commands[name](rest)
        elif argument == "--python-exit-code":
            exit_code = int(queue.pop(0))
        elif argument in ("--python-expr", "--python", "-P"):
            value = queue.pop(0)
            code = value if argument == "--python-expr" else Path(value).read_text(encoding="utf-8")
            try:
                exec(compile(code, argument, "exec"), {"__name__": "__main__"})
            except SystemExit as request:
                return int(request.code or 0)
            except BaseException:
                traceback.print_exc()
                if exit_code:
                    return exit_code
        elif argument in ("-t", "--threads"):
            bpy.context.scene.render.threads_mode = "FIXED"
            bpy.context.scene.render.threads = int(queue.pop(0))
        elif argument == "--addons":
            for name in queue.pop(0).split(","):
                enable(name)
        elif argument in ("-o", "--render-output"):
            bpy.context.scene.render.filepath = queue.pop(0)
        elif argument in ("-f", "--render-frame"):
            bpy.context.scene.frame_set(int(queue.pop(0)))
            bpy.ops.render.render(write_still=True)
        elif argument.startswith("-"):
            print(f"unknown argument {argument!r}", file=sys.stderr)
            return 1
        else:
            bpy.ops.wm.open_mainfile(filepath=str(Path(argument).absolute()), use_scripts=use_scripts)
    return 0


def enable(name: str) -> None:
    import addon_utils

    if addon_utils.enable(name, default_set=True) is None:
        raise SystemExit(f"the add-on {name} could not be enabled")


if __name__ == "__main__":
    status = 1
    try:
        status = main(sys.argv[1:])
    except SystemExit as request:
        if isinstance(request.code, int):
            status = request.code
        else:
            print(request, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # A wheel's exit handlers can hang.
    os._exit(status)
