"""Nodes on a command line: the arguments that name them, and what opens them."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import bpy

from ..engine.job import (
    THIS_COMPUTER,
    AnswersNeeded,
    EngineError,
    HostKeyUnknown,
    JobError,
    Node,
    NodeListError,
    PassphraseNeeded,
)
from ..engine.known_hosts import KnownHosts
from ..engine.nodelist import named_apart, parse_address, read_nodes
from . import addon
from .nodes import listed_nodes

if TYPE_CHECKING:
    from ..engine.access import Access


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `render` and `nodes test` have in common."""
    group = parser.add_argument_group(
        "nodes", "Without --node and --nodes, the list in the preferences is used."
    )
    group.add_argument(
        "--node",
        action="extend",
        nargs="+",
        type=_address,
        default=[],
        metavar="[USER@]HOST[:PORT]",
        help="a machine with an SSH server and Blender; This Computer takes part as well",
    )
    group.add_argument(
        "--nodes", type=_file, default=[], metavar="FILE.toml", help="nodes as [[node]] tables of a TOML file"
    )
    group.add_argument("--no-local", action="store_true", help="leave out This Computer")
    group.add_argument(
        "--threads",
        type=_count,
        default=0,
        metavar="N",
        help="CPU threads a render may use on this computer (0: all)",
    )
    group.add_argument("--identity", type=Path, metavar="KEY", help="private key file to offer first")
    group.add_argument(
        "--known-hosts",
        type=Path,
        metavar="FILE",
        help="the known_hosts file to use instead of the usual ones",
    )
    group.add_argument(
        "--ssh-config",
        type=Path,
        metavar="FILE",
        help="the SSH configuration to use instead of the usual ones",
    )
    group.add_argument(
        "--accept-new-host-keys",
        action="store_true",
        help="trust hosts that are not known yet; a changed key is refused all the same",
    )
    group.add_argument(
        "--send-blender",
        action="store_true",
        help="send this Blender, or that of --blender-archive, to nodes that have none that suits",
    )
    group.add_argument(
        "--blender-archive", type=Path, metavar="FILE", help="archive of a Blender to send, from blender.org"
    )


def _address(text: str) -> Node:
    try:
        return parse_address(text)
    except NodeListError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _file(text: str) -> list[Node]:
    try:
        return read_nodes(Path(text))
    except NodeListError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    count = int(text)
    if not 0 <= count <= 1024:
        raise argparse.ArgumentTypeError("must be 0 to 1024")
    return count


def chosen(options: argparse.Namespace) -> list[Node]:
    """The nodes that were asked for. Raises JobError where some of them cannot be used at all."""
    if options.node or options.nodes:
        nodes = [*options.nodes, *options.node]
        # In a file `--no-local` is about the node that is there by itself, not about those written down.
        if not options.no_local and not any(node.is_local for node in nodes):
            nodes.insert(0, Node(THIS_COMPUTER))
        nodes = [node for node in nodes if node.enabled]
    else:
        listed, _ = listed_nodes(is_online=True)
        nodes = [node for node in listed if not (options.no_local and node.is_local)]
    if not nodes:
        raise JobError("No node is left to render on.", "Name one with --node, or leave out --no-local.")
    if not bpy.app.online_access and not all(node.is_local for node in nodes):
        raise JobError(
            "Blender may not go online, so no SSH node can be reached.", "Start it with --online-mode."
        )
    archive = str(options.blender_archive.expanduser().absolute()) if options.blender_archive else ""
    identity = str(options.identity.expanduser().absolute()) if options.identity else ""
    return named_apart(
        dataclasses.replace(
            node,
            threads=node.threads or (options.threads if node.is_local else 0),
            key_file=node.key_file or ("" if node.is_local else identity),
            send_blender=node.send_blender or (not node.is_local and (options.send_blender or bool(archive))),
            blender_archive=node.blender_archive or archive,
        )
        for node in nodes
    )


def access(options: argparse.Namespace, nodes: list[Node]) -> Access | None:
    """What opens the nodes, None where all are on this computer. Raises EngineError."""
    usual = addon.access_for(nodes)
    if usual is None:
        return None
    records = usual.known_hosts
    if options.known_hosts is not None:
        records = KnownHosts((), options.known_hosts.expanduser().absolute())
    config = options.ssh_config.expanduser().absolute() if options.ssh_config else None
    return dataclasses.replace(usual, known_hosts=records, config=config)


def accept(access: Access | None, error: HostKeyUnknown) -> None:
    """Trust a host that is not known yet, because the command line says so. Raises EngineError."""
    assert access is not None  # nobody else asks
    try:
        access.known_hosts.add(error.host, error.port, error.key)
    except OSError as failure:
        raise EngineError(f"The host key could not be stored: {failure}.", "Check --known-hosts.") from None


_asking = threading.Lock()
"""One question at a time: the nodes are tested side by side."""


def has_terminal() -> bool:
    """Whether somebody is there who can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def answer(access: Access | None, error: EngineError) -> bool:
    """Ask on the terminal what a node asks; False where nobody answers, or it asks nothing."""
    if access is None or not has_terminal() or not isinstance(error, PassphraseNeeded | AnswersNeeded):
        return False
    with _asking:
        print(f"{error.node}: {error.message}", file=sys.stderr, flush=True)
        try:
            if isinstance(error, PassphraseNeeded):
                access.passphrases[error.key_file] = getpass.getpass(f"Passphrase for {error.key_file}: ")
            else:
                for prompt in error.prompts:
                    access.answers[error.login, prompt.text] = getpass.getpass(
                        f"{prompt.text.rstrip(': ')}: "
                    )
        except (EOFError, KeyboardInterrupt):
            return False
    return True
