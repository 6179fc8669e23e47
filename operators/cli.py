"""`blender SCENE.blend --command distributed_cycles render ...` and `... nodes test ...`.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 cancelled and resumable.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..engine.heatmap import grey_path
from ..engine.job import EngineError, HostKeyUnknown, Job, JobError, NodeInfo
from ..engine.launcher import is_queued
from ..engine.messages import NodeChanged, NodeStatus, PhaseChanged, Progress, SessionDone, TileEnded
from ..engine.nodelist import read_nodes
from ..engine.starter import check_node
from . import addon, cli_nodes, node_files, result, running, snapshot, start
from .nodes import describe

if TYPE_CHECKING:
    from ..engine.access import Access

COMMAND = "distributed_cycles"
DONE, FAILED, WRONG_USAGE, CANCELLED = 0, 1, 2, 130
POLL_S = 0.25
LINE_PERIOD_S = 5.0
"""Between two lines of progress where they cannot replace each other."""

_handles: list[Any] = []


def register() -> None:
    _handles.append(bpy.utils.register_cli_command(COMMAND, main))


def unregister() -> None:
    while _handles:
        bpy.utils.unregister_cli_command(_handles.pop())


def main(arguments: list[str]) -> int:
    """Carry out one command line; returns the exit status."""
    try:
        options = _parser().parse_args(arguments)
        with _stdout_for_json(options.json) as stdout:
            status, answer = options.run(options)
            sys.stdout.flush()
            if options.json:
                print(json.dumps(answer), file=stdout, flush=True)
        return status
    except SystemExit as request:  # argparse: 2 for wrong usage, 0 after -h
        return int(request.code or 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"blender SCENE.blend --command {COMMAND}",
        description="Render one Cycles still on many machines over SSH.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    render = commands.add_parser("render", help="render a frame", description="Render a frame of the .blend.")
    render.set_defaults(run=_render)
    render.add_argument("--frame", type=int, metavar="N", help="frame to render (default: the scene's)")
    render.add_argument(
        "--output",
        metavar="PATH",
        help="where the picture goes, instead of the scene's output path: // is the folder of the .blend,"
        " # a digit of the frame's number, the extension follows the scene's format",
    )
    render.add_argument(
        "--tile-size", type=_tile_size, metavar="PX", help="edge of a tile (default: the scene's setting)"
    )
    render.add_argument(
        "--margin",
        type=_margin,
        metavar="PX",
        help="margin rendered around each tile (default: what the scene needs)",
    )
    render.add_argument(
        "--split",
        type=str.upper,
        choices=("AUTO", "TILES", "SAMPLES"),
        help="how the frame is split (default: the scene's setting)",
    )
    render.add_argument(
        "--heatmap",
        type=Path,
        metavar="PATH",
        help="write a PNG of where the frame took long, and one in greys",
    )
    render.add_argument(
        "--resume", action="store_true", help="go on with the last render that was interrupted"
    )
    render.add_argument(
        "--job-dir", type=Path, metavar="DIR", help="folder for the job and its finished tiles"
    )
    render.add_argument(
        "--strict", action="store_true", help="do not render where files that the scene needs are missing"
    )
    cli_nodes.add_arguments(render)
    nodes = commands.add_parser("nodes", help="look after the nodes")
    kinds = nodes.add_subparsers(required=True, metavar="COMMAND")
    test = kinds.add_parser(
        "test",
        help="check the nodes without a render",
        description="Connect to each node, start Blender there.",
    )
    test.set_defaults(run=_test_nodes)
    cli_nodes.add_arguments(test)
    export = kinds.add_parser("export", help="write the node list of the preferences as TOML")
    export.set_defaults(run=_export_nodes)
    export.add_argument("file", type=Path, metavar="FILE.toml")
    import_ = kinds.add_parser("import", help="add nodes to the list in the preferences, which are saved")
    import_.set_defaults(run=_import_nodes)
    import_.add_argument("file", type=Path, nargs="?", metavar="FILE.toml")
    import_.add_argument(
        "--from-ssh-config", action="store_true", help="the hosts of your SSH configuration, not enabled yet"
    )
    for command in (render, test, export, import_):
        command.add_argument("--json", action="store_true", help="print one JSON object at the end")
    return parser


def _tile_size_of(job: Job) -> int | str:
    return "automatic ones" if job.use_auto_tile_size else job.tile_size


def _margin(text: str) -> int:
    margin = int(text)
    if not 0 <= margin <= 1024:
        raise argparse.ArgumentTypeError("must be 0 to 1024")
    return margin


def _tile_size(text: str) -> int:
    size = int(text)
    if not 8 <= size <= 65536:
        raise argparse.ArgumentTypeError("must be 8 to 65536")
    return size


@contextmanager
def _stdout_for_json(is_json: bool) -> Iterator[Any]:
    """Keep what Blender prints away from standard output, so that the JSON object stands alone.

    To the end of the process: in a pipe Blender's own first words come only when it quits.
    """
    if not is_json:
        yield sys.stdout
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stdout:
        os.dup2(2, 1)
        yield stdout
        sys.stdout.flush()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _render(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    answer: dict[str, Any] = {"outcome": "failed", "output": None, "errors": []}
    try:
        with _cancelled_by_signals():
            return _rendered(options, answer), answer
    except EngineError as error:
        _say(f"Error: {error}")
        answer["errors"].append(str(error))
        return FAILED, answer
    finally:
        running.end()


def _rendered(options: argparse.Namespace, answer: dict[str, Any]) -> int:
    begun = _begin(options)
    answer["job"] = str(begun.store.folder)
    for line in running.status().messages:
        _say(f"Warning: {line.text}")
    done = _drive(begun, options)
    answer.update(done.report.to_json(), outcome=done.outcome)
    answer["errors"] += [f"{row.node}: {row.error}" for row in done.report.rows if row.error]
    if done.outcome == "cancelled":
        _say(f"Cancelled. Go on with --resume --job-dir {begun.store.folder}")
        return CANCELLED
    if done.outcome == "failed":
        answer["errors"].append(str(done.error))
        _say(f"Error: {done.error}")
        _say(f"Finished tiles are in {begun.store.folder}; go on with --resume --job-dir.")
        return FAILED
    _say("Saving the picture...")
    answer["output"] = result.finish(begun.job, begun.store.frame_path)
    if options.heatmap:
        answer["heatmap"] = str(_copy_heat_map(begun, options.heatmap.absolute()))
    answer["frame"] = str(begun.store.frame_path)
    if not options.json:
        print(done.report.table())
        print(f"Saved {answer['output']}", flush=True)
    return DONE


def _copy_heat_map(begun: running.Running, target: Path) -> Path:
    """Both pictures from the job folder to where they are wanted. Raises EngineError."""
    source = begun.store.heatmap_path
    if not source.is_file():
        raise EngineError("There is no heat map: the render that went on was begun without one.")
    target = target.with_suffix(".png")
    try:
        shutil.copyfile(source, target)
        shutil.copyfile(grey_path(source), grey_path(target))
    except OSError as error:
        raise EngineError(f"The heat map could not be written: {error}.", f"It is in {source}.") from None
    return target


def _begin(options: argparse.Namespace) -> running.Running:
    scene = bpy.context.scene
    nodes = cli_nodes.chosen(options)
    access = cli_nodes.access(options, nodes)
    can_ask = options.accept_new_host_keys or cli_nodes.has_terminal()
    if options.output:
        is_whole = options.output.startswith("//") or Path(options.output).is_absolute()
        # Not joined as a Path, for which a slash at the end means nothing.
        scene.render.filepath = options.output if is_whole else f"{Path.cwd()}{os.sep}{options.output}"
    folder = options.job_dir.absolute() if options.job_dir else None
    if options.resume:
        begun = start.old_job(nodes, access=access, can_ask=can_ask, folder=folder)
        for name, given, of_job in (
            ("--frame", options.frame, begun.job.frame),
            ("--tile-size", options.tile_size, _tile_size_of(begun.job)),
        ):
            if given not in (None, of_job):
                _say(f"Warning: {name} {given} is not used: the render that goes on has {of_job}.")
        return begun
    if folder is not None and (folder / "job.json").exists() and not (folder / "frame.exr").exists():
        raise JobError(
            f"{folder} holds an unfinished render.", "Go on with it by --resume, or choose another folder."
        )
    if options.frame is not None:
        scene.frame_set(options.frame)
    wishes = snapshot.wishes_of(scene)
    given = {"tile_size": options.tile_size, "margin": options.margin, "split": options.split}
    given["use_heat_map"] = True if options.heatmap else None
    wishes = dataclasses.replace(
        wishes, **{name: value for name, value in given.items() if value is not None}
    )
    layer = bpy.context.view_layer.name
    return start.new_job(
        scene,
        layer,
        nodes,
        access=access,
        wishes=wishes,
        can_ask=can_ask,
        folder=folder,
        is_strict=options.strict,
    )


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Ctrl-C, and a polite request to end, stop the render and keep its finished tiles."""
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda *_: running.cancel()) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            # None: Blender's own handler, which Python cannot put back.
            signal.signal(name, signal.SIG_DFL if handler is None else handler)


def _drive(begun: running.Running, options: argparse.Namespace) -> SessionDone:
    """Follow the session to its end."""
    line = _ProgressLine()
    told: set[str] = set()
    while True:
        for message in begun.session.poll(POLL_S):
            match message:
                case SessionDone():
                    line.end()
                    return message
                case Progress():
                    line.show(message)
                case PhaseChanged(phase):
                    line.say(f"{phase}...")
                case NodeChanged(status) if status.error is None:
                    for text in _worth_saying(status):
                        if text not in told:
                            told.add(text)
                            line.say(text)
                case NodeChanged(status):
                    words = (status.error.message, status.error.hint, _offer(status.error))
                    line.say(f"{status.name}: {' '.join(filter(None, words))}")
                    if _is_answered(begun.access, status.error, options):
                        begun.session.retry(status.name)
                    elif running.ask(status.name, status.error) != "NONE":
                        begun.session.decline(status.name)
                case TileEnded(tile, node, attempt, "failed", _, _, detail):
                    line.say(f"{node}: tile {tile}, attempt {attempt} failed: {detail}")


def _offer(error: EngineError) -> str:
    """What else can be done about a node without a Blender that suits."""
    can_send = addon.can_send_to(getattr(error, "system", ""))
    return "Or let this Blender be sent there: --send-blender" if can_send else ""


def _is_answered(access: Access | None, error: EngineError, options: argparse.Namespace) -> bool:
    """Whether what a node asks has got an answer, from the command line or on the terminal."""
    if isinstance(error, HostKeyUnknown) and options.accept_new_host_keys:
        cli_nodes.accept(access, error)
        return True
    return cli_nodes.answer(access, error)


def _worth_saying(status: NodeStatus) -> Iterator[str]:
    """What a person should hear of a node that is well: a queue it stands in, a Blender that is sent."""
    if status.info and status.info.warning:
        yield f"Warning: {status.name}: {status.info.warning}"
    if is_queued(status.detail) or status.detail.startswith("sending Blender: 0%"):
        yield f"{status.name}: {status.detail.replace(': 0% of', ',')}"


def _teller(name: str) -> Callable[[str, str], None]:
    """Says the same things during a test."""

    def say(state: str, detail: str) -> None:
        for text in _worth_saying(NodeStatus(name, state, detail)):
            _say(text)

    return say


class _ProgressLine:
    """One line on standard error that is kept up to date; in a log file, a line now and then."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._width = 0
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
        whole = f" of {progress.total}" if progress.total else ""
        text = f"{progress.done}{whole} tiles, {100 * progress.fraction:.0f}%{left}"
        now = time.monotonic()
        if self._is_terminal:
            sys.stderr.write(f"\r{text:{self._width}}")
            sys.stderr.flush()
            self._width = len(text)
        elif now >= self._next or progress.fraction == 1.0:
            self._next = now + LINE_PERIOD_S
            _say(text)

    def say(self, text: str) -> None:
        self.end()
        _say(text)

    def end(self) -> None:
        if self._width:
            sys.stderr.write("\n")
            self._width = 0


def _test_nodes(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    try:
        nodes = cli_nodes.chosen(options)
        access = cli_nodes.access(options, nodes)
    except EngineError as error:
        _say(f"Error: {error}")
        return FAILED, {"nodes": [], "errors": [str(error)]}
    blender = addon.local_blender()

    def check(node: Any) -> NodeInfo | EngineError:
        try:
            return check_node(
                node,
                access=access,
                local_blender=blender,
                version=tuple(bpy.app.version),
                say=_teller(node.name),
            )
        except EngineError as error:
            if not _is_answered(access, error, options):
                return error
        return check(node)

    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        results = list(pool.map(check, nodes))
    rows: list[dict[str, Any]] = []
    for node, found in zip(nodes, results, strict=True):
        if isinstance(found, NodeInfo):
            text = describe(found)
            rows.append(
                {
                    "node": node.name,
                    "system": found.system,
                    "blender_version": found.version_text,
                    "blender_path": found.blender_path,
                    "cores": found.cores,
                    "devices": list(found.devices),
                    "error": None,
                    "warning": found.warning or None,
                    "others": list(found.others),
                }
            )
        else:
            text = "\n".join(filter(None, (found.message, found.hint, _offer(found))))
            rows.append({"node": node.name, "error": f"{found.message} {found.hint}".strip()})
        if not options.json:
            print(f"{node.name}: {'ready' if isinstance(found, NodeInfo) else 'FAILED'}")
            print("\n".join(f"    {line}" for line in text.splitlines()), flush=True)
    errors = [f"{row['node']}: {row['error']}" for row in rows if row["error"]]
    return (FAILED if errors or not rows else DONE), {"nodes": rows, "errors": errors}


def _export_nodes(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    return _about_the_list(lambda: node_files.write(options.file), f"nodes are in {options.file}")


def _import_nodes(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    def add() -> int:
        if bool(options.file) == options.from_ssh_config:
            raise EngineError("Name one of FILE.toml and --from-ssh-config.")
        count = (
            node_files.add_hosts()
            if options.from_ssh_config
            else node_files.add_nodes(read_nodes(options.file))
        )
        bpy.ops.wm.save_userpref()
        return count

    return _about_the_list(add, "nodes were imported")


def _about_the_list(do: Callable[[], int], text: str) -> tuple[int, dict[str, Any]]:
    try:
        if addon.preferences() is None:
            raise EngineError(
                "There is no node list: the extension is enabled for this run only.",
                "Enable it in the preferences.",
            )
        count = do()
    except EngineError as error:
        _say(f"Error: {error}")
        return FAILED, {"nodes": 0, "errors": [str(error)]}
    _say(f"{count} {text}")
    return DONE, {"nodes": count, "errors": []}
