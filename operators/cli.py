"""blender SCENE.blend --command distributed_cycles render|nodes ...

Exit status: 0 done, 1 failed, 2 wrong usage, 130 cancelled and resumable.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from ..engine.job import THIS_COMPUTER, EngineError, HostKeyUnknown, Node, NodeInfo
from ..engine.known_hosts import KnownHosts
from ..engine.messages import Message, NodeChanged, Progress, SessionDone
from ..engine.node import check_node
from ..engine.nodelist import named_apart, parse_address, read_nodes
from ..engine.ssh import Access
from ..engine.store import JobStore
from . import addon, result, running, start
from .nodes import ensure_this_computer

NAME = "distributed_cycles"
DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 130
LINE_PERIOD_S = 2.0
"""Between progress lines where they go to a file."""


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except SystemExit as request:  # argparse: 0 after --help, 2 for wrong usage
        return int(request.code or 0)
    except EngineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"blender SCENE.blend --command {NAME}",
        description="Render one Cycles still on many computers over SSH.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    render = commands.add_parser("render", help="render the scene's frame")
    render.set_defaults(run=_render)
    render.add_argument("--frame", type=int, metavar="N", help="frame to render (default: the scene's)")
    _add_node_options(render)
    render.add_argument("--output", metavar="PATH", help="output path as in Blender: # is the frame, // the file's folder")
    render.add_argument("--tile-size", type=_tile_size, default=0, metavar="PX", help="edge of a tile (default: automatic)")
    render.add_argument("--resume", action="store_true", help="go on with the interrupted render of this file")
    render.add_argument("--job-dir", type=Path, metavar="DIR", help="folder for snapshot, tiles and merged frame")
    render.add_argument("--json", action="store_true", help="print one JSON object at the end instead of a table")

    nodes = commands.add_parser("nodes", help="check nodes without a render")
    actions = nodes.add_subparsers(dest="action", required=True)
    test = actions.add_parser("test", help="connect to each node and say what is there, or what is wrong")
    test.set_defaults(run=_test_nodes)
    _add_node_options(test)
    test.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    return parser


def _add_node_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("nodes", "Without --node and --nodes: those enabled in the preferences.")
    group.add_argument("--node", action="append", default=[], metavar="[USER@]HOST[:PORT]", help="a node; repeatable")
    group.add_argument("--nodes", type=Path, metavar="FILE", help="TOML file with [[node]] tables")
    group.add_argument("--no-local", action="store_true", help="do not add this computer to the nodes")
    group.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads used on this computer")
    group.add_argument("--identity", type=Path, metavar="KEY", help="private key for nodes that name none")
    group.add_argument("--known-hosts", type=Path, metavar="FILE", help="the only known_hosts file to trust")
    group.add_argument(
        "--accept-new-host-keys", action="store_true", help="trust hosts that are not known yet (never changed ones)"
    )


def _tile_size(text: str) -> int:
    size = int(text)
    if not 8 <= size <= 16384:
        raise argparse.ArgumentTypeError("must be 8 to 16384")
    return size


def _nodes(options: argparse.Namespace) -> list[Node]:
    if options.node or options.nodes:
        nodes = [parse_address(text) for text in options.node]
        listed = read_nodes(options.nodes) if options.nodes else []
        nodes += [node for node in listed if node.enabled]
        # A file that lists this computer itself says how it takes part.
        if not options.no_local and not any(node.is_local for node in listed):
            nodes.insert(0, Node(THIS_COMPUTER))
    else:
        ensure_this_computer(addon.preferences(bpy.context))
        nodes = addon.listed_nodes(bpy.context)
        if options.no_local:
            nodes = [node for node in nodes if not node.is_local]
    if options.threads:
        nodes = [replace(node, threads=options.threads) if node.is_local else node for node in nodes]
    if options.identity:
        key = str(options.identity)
        nodes = [node if node.is_local or node.key_file else replace(node, key_file=key) for node in nodes]
    if not nodes:
        raise EngineError("No node is left to render on.", "Name one with --node or --nodes, or leave out --no-local.")
    return named_apart(nodes)


def _access(options: argparse.Namespace) -> Access:
    if options.known_hosts:
        return Access(KnownHosts([], options.known_hosts))
    return addon.access()


def _accept_new(options: argparse.Namespace, access: Access, error: EngineError | None) -> bool:
    """Trust an unknown host where the command line says so; whether the node may be tried again."""
    if not (options.accept_new_host_keys and isinstance(error, HostKeyUnknown)):
        return False
    print(f"{error.node}: trusting {error.host} port {error.port}, {error.fingerprint}", file=sys.stderr)
    try:
        access.known_hosts.add(error.host, error.port, error.key)
    except OSError as failure:
        raise EngineError(f"The host key could not be stored: {failure}.", node=error.node) from None
    return True


def _render(options: argparse.Namespace) -> int:
    scene = bpy.context.scene
    nodes, access = _nodes(options), _access(options)
    if options.frame is not None:
        scene.frame_set(options.frame)
    if options.output is not None:
        scene.render.filepath = options.output
    if options.resume:
        store = start.resumable(options.job_dir)
        if store is None:
            raise EngineError("There is no interrupted render of this file.", "Start one without --resume.")
        prepared = start.again(store, scene, nodes, access, can_ask=options.accept_new_host_keys)
    else:
        _refuse_unfinished(options.job_dir)
        prepared = start.new(
            scene,
            nodes,
            access,
            tile_size=options.tile_size,
            can_ask=options.accept_new_host_keys,
            folder=options.job_dir,
        )
    for warning in prepared.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    running.begin(prepared)
    try:
        return _follow(options, prepared, access)
    finally:
        running.stop()


def _refuse_unfinished(folder: Path | None) -> None:
    """A new render must not wipe out the tiles of an interrupted one."""
    if folder is None or not (folder / "job.json").exists():
        return
    store = JobStore.open(folder)
    try:
        if not store.is_complete and store.finished():
            raise EngineError(
                f"{folder} holds an interrupted render.", "Go on with it by --resume, or choose another --job-dir."
            )
    finally:
        store.close()


def _follow(options: argparse.Namespace, current: running.Running, access: Access) -> int:
    """Drive the session to its end and bring the result home."""
    line = _ProgressLine()
    errors: list[str] = []
    with _cancel_on_interrupt(current):
        done = None
        while done is None:
            for message in current.session.poll(timeout=0.2):
                line.show(message)
                if isinstance(message, NodeChanged) and message.status.error is not None:
                    name, error = message.status.name, message.status.error
                    if _accept_new(options, access, error):
                        current.session.retry(name)
                        continue
                    errors.append(str(error))
                    line.interrupt(f"{error}")
                if isinstance(message, SessionDone):
                    done = message
    line.interrupt("")
    status, output = {"done": DONE, "cancelled": CANCELLED}.get(done.outcome, FAILED), ""
    try:
        if status == DONE:
            output = str(_bring_home(current))
    except EngineError as error:
        status = FAILED
        errors.append(str(error))
        print(f"Error: {error}", file=sys.stderr)
    if done.error is not None:
        errors.append(str(done.error))
        print(f"Error: {done.error}", file=sys.stderr)
    if status == CANCELLED:
        print(f"Cancelled. Go on with: --resume --job-dir {current.store.folder}", file=sys.stderr)
    if options.json:
        values = {"output": output, "frame": str(current.store.frame_path), "job": str(current.store.folder)}
        print(json.dumps({"status": status, **values, **done.report.to_json(), "errors": errors}))
    else:
        print(done.report.table())
        if output:
            print(f"Saved: {output}")
    return status


def _bring_home(current: running.Running) -> Path:
    job = current.store.job
    scene = bpy.data.scenes.get(job.scene)
    if scene is None:
        raise EngineError(f"The file has no scene {job.scene!r} any more.", f"See {current.store.frame_path}.")
    return result.finish(scene, job, current.store.frame_path, current.output)


@contextmanager
def _cancel_on_interrupt(current: running.Running) -> Iterator[None]:
    """SIGINT stops cleanly. Blender's own handler would only set a flag nobody asks for."""

    def cancel(_signal: int, _frame: Any) -> None:
        current.session.cancel()

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: it was set outside Python, which Python cannot set again.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class _ProgressLine:
    """One line that is written over on a terminal; a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last = 0.0
        self._working: dict[str, str] = {}

    def show(self, message: Message) -> None:
        if isinstance(message, NodeChanged):
            self._working[message.status.name] = message.status.state
        if not isinstance(message, Progress):
            return
        now = time.monotonic()
        is_last = message.done == message.total
        if not is_last and now - self._last < (0.1 if self._is_terminal else LINE_PERIOD_S):
            return
        self._last = now
        left = "" if message.seconds_left is None else f", {message.seconds_left:.0f} s left"
        active = sum(state == "rendering" for state in self._working.values())
        text = f"{100 * message.fraction:5.1f}%  {message.done}/{message.total} tiles, {active} nodes{left}"
        print(f"\r\033[K{text}" if self._is_terminal else text, end="" if self._is_terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    def interrupt(self, text: str) -> None:
        """Print a line of its own above the progress."""
        if self._is_terminal:
            print("\r\033[K", end="", file=sys.stderr)
        if text:
            print(text, file=sys.stderr)
        sys.stderr.flush()


def _test_nodes(options: argparse.Namespace) -> int:
    nodes, access = _nodes(options), _access(options)
    addon.check_online(nodes)

    def test(node: Node) -> NodeInfo | EngineError:
        try:
            return check_node(node, access=access, local_blender=addon.local_blender())
        except EngineError as error:
            if _accept_new(options, access, error):
                return test(node)
            return error

    # Side by side: one that hangs must not hold up the others.
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        answers = list(pool.map(test, nodes))
    rows = []
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, NodeInfo):
            text = (
                f"{answer.system} {answer.machine}, Blender {answer.version_text} ({answer.blender_path}),"
                f" {answer.cores} cores, {', '.join(answer.devices)}"
            )
            rows.append({"node": node.name, "ok": True, "text": text})
        else:
            rows.append({"node": node.name, "ok": False, "text": f"{answer.message} {answer.hint}".strip()})
    if options.json:
        print(json.dumps({"nodes": rows}))
    else:
        for row in rows:
            print(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['node']}: {row['text']}")
    return DONE if all(row["ok"] for row in rows) else FAILED


_command: Any = None


def register() -> None:
    global _command
    _command = bpy.utils.register_cli_command(NAME, main)


def unregister() -> None:
    global _command
    if _command is not None:
        bpy.utils.unregister_cli_command(_command)
        _command = None
