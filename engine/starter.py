"""Starting a worker on a node: connect, find its Blender or send one, and hear its first answer.

A render, a test of the node and the denoiser all start their worker here.
"""

from __future__ import annotations

import queue
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import delivery
from .bootstrap import remote_command, worker_words
from .job import BlenderNotFound, BlenderUnsuitable, ConnectError, Node, NodeError, NodeInfo, WorkerLost
from .launcher import is_srun, leave_queue_command, local_words
from .link import WorkerLink
from .locate import Found, search, suitable, warning_about
from .shells import shell_of
from .transport import LocalChannel

if TYPE_CHECKING:
    from .access import Access, Connection
    from .shells import Shell

PROBE_S = 20.0
ECHO_S = 60.0
TEST_QUEUE_S = 120.0
"""How long a test waits for its turn in a cluster's queue; a render waits as long as it takes."""
GOODBYE_S = 3.0
LEAVE_S = 3.0
"""For a job to be taken out of a queue."""
ECHO_BYTES = bytes(range(256)) * 4096


def _unheard(_state: str, _detail: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Starter:
    """Who starts a worker, and what is done for them on the way."""

    say: Callable[[str, str], None] = _unheard
    """Hears the state and a line for a person."""
    hold: Callable[[WorkerLink], None] = lambda _link: None
    """Gets each worker before it has answered, so that it can be stopped."""
    longest_wait: float = float("inf")
    """Seconds to stand in a queue."""


def open_worker(
    node: Node,
    inbox: queue.Queue[Any],
    *,
    access: Access | None,
    local_blender: Sequence[str],
    version: tuple[int, int, int] | None,
    cleanup: ExitStack,
    starter: Starter | None = None,
) -> tuple[WorkerLink, NodeInfo]:
    """Start a worker on `node`; `cleanup` gets what has to be closed afterwards.

    With a `version`, the node's Blender must agree with it in its first two numbers.
    Raises NodeError with the node's name.
    """
    starter = starter or Starter()
    try:
        if node.is_local:
            command = [node.blender] if node.blender else list(local_blender)
            words = [*local_words(node.launcher), *worker_words(command, node)]
            channel = LocalChannel(words, has_launcher=bool(node.launcher))
            return _start(channel, inbox, version, cleanup, starter)
        if access is None:
            raise ConnectError("SSH is not available here.", "Install the extension with its wheels.")
        return _start_remote(node, access, inbox, version, cleanup, starter, local_blender)
    except NodeError as error:
        error.node = error.node or node.name
        raise
    except ValueError as error:
        raise BlenderNotFound(
            f"Blender cannot be started there: {error}.", "Mend its path in the node's settings.", node.name
        ) from None


def _start_remote(
    node: Node,
    access: Access,
    inbox: queue.Queue[Any],
    version: tuple[int, int, int] | None,
    cleanup: ExitStack,
    starter: Starter,
    local_blender: Sequence[str],
) -> tuple[WorkerLink, NodeInfo]:
    """Try the Blender that was named, or each that is found and suits, until one renders."""
    from .access import connection_to

    def connect() -> Connection:
        made = connection_to(node, access)
        cleanup.callback(made.close)
        made.connect()
        return made

    connection = connect()
    shell = shell_of(connection, PROBE_S)
    tried: Sequence[Found] = [Found(node.blender)]
    there: Sequence[Found] = ()
    if not node.blender:
        survey = search(connection, shell, node.launcher)
        there = survey.found
        try:
            tried = suitable(there, version)
        except (BlenderNotFound, BlenderUnsuitable) as error:
            error.system = survey.system
            if not node.send_blender:
                raise
            tried = [Found(_deliver(node, connection, shell, survey.system, local_blender, starter))]
    failure: NodeError | None = None
    for one in tried:
        # One login for all of it, where it can be: a code that is good for once would be asked for again.
        if not connection.is_open:
            connection = connect()
        try:
            name = f"distributed-cycles-{secrets.token_hex(4)}" if is_srun(node.launcher) else ""
            channel = connection.open(remote_command(one.path, node, shell, name))
            leave_queue = partial(_leave_queue, connection, node.launcher, name) if name else None
            link, info = _start(channel, inbox, version, cleanup, starter, leave_queue)
        except (BlenderNotFound, BlenderUnsuitable) as error:
            failure = failure or error
            continue
        others = tuple(str(other) for other in there if other != one)
        return link, replace(info, blender_path=info.blender_path or one.path, others=others)
    assert failure is not None
    raise failure


def _leave_queue(connection: Connection, launcher: str, job_name: str) -> None:
    """srun on the node does not notice that nobody waits for it any more."""
    with suppress(NodeError):
        connection.run(leave_queue_command(launcher, job_name), LEAVE_S)


def _deliver(
    node: Node,
    connection: Connection,
    shell: Shell,
    system: str,
    local_blender: Sequence[str],
    starter: Starter,
) -> str:
    """Send the node a Blender; returns its path there."""
    if node.blender_archive:
        installation: delivery.Installation | None = delivery.Installation(
            Path(node.blender_archive).expanduser()
        )
    elif delivery.platform_of(system) != delivery.platform_here():
        raise BlenderNotFound(
            f"The node has no Blender that suits, and that of this computer ({delivery.platform_here()})"
            f" does not run there ({delivery.platform_of(system) or 'unknown'}).",
            "Name an archive from blender.org that does, or install it there.",
        )
    else:
        installation = delivery.own_installation(local_blender[0])
    if installation is None or not installation.path.exists():
        raise BlenderNotFound(
            "The node has no Blender that suits, and that of this computer cannot be sent: it is part of"
            " the system it is installed in."
            if installation is None
            else f"There is no {installation.path} to send to the node.",
            "Name an archive from blender.org in the node's settings.",
        )
    with delivery.one_at_a_time(node.address):
        return delivery.deliver(connection, shell, installation, partial(starter.say, "syncing"))


def _start(
    channel: Any,
    inbox: queue.Queue[Any],
    version: tuple[int, int, int] | None,
    cleanup: ExitStack,
    starter: Starter,
    leave_queue: Callable[[], None] | None = None,
) -> tuple[WorkerLink, NodeInfo]:
    link = WorkerLink(channel, inbox, leave_queue)
    with ExitStack() as failed:
        failed.callback(link.give_up)
        starter.hold(link)
        info = link.start(partial(starter.say, "starting"), starter.longest_wait)
        if version is not None and info.blender_version[:2] != version[:2]:
            wanted = ".".join(map(str, version))
            raise BlenderUnsuitable(
                f"The node has Blender {info.version_text}, this render needs {wanted}.",
                f"Install Blender {wanted} there, and give its path in the node's settings.",
            )
        failed.pop_all()
    cleanup.callback(link.close, GOODBYE_S)
    return link, replace(info, warning=warning_about(info.blender_version, version))


def check_node(
    node: Node,
    *,
    access: Access | None,
    local_blender: Sequence[str],
    version: tuple[int, int, int] | None = None,
    say: Callable[[str, str], None] | None = None,
) -> NodeInfo:
    """Do all that a render would do before its first tile, and say what was found.

    With a `version`, the node's Blender must suit it as for a render. `say` hears what is going on.

    1 MiB of all byte values goes there and back: a terminal or a text mode in between is
    found here and not in a picture. Raises NodeError.
    """
    inbox: queue.Queue[Any] = queue.Queue()
    with ExitStack() as cleanup:
        link, info = open_worker(
            node,
            inbox,
            access=access,
            local_blender=local_blender,
            version=version,
            cleanup=cleanup,
            starter=Starter(say=say or _unheard, longest_wait=TEST_QUEUE_S),
        )
        try:
            link.send({"type": "echo"}, ECHO_BYTES)
            _, payload = _answer(inbox, "echo")
            if payload != ECHO_BYTES:
                raise WorkerLost("Bytes sent to the node come back changed.", "Is a terminal in between?")
            link.send({"type": "devices"})
            header, _ = _answer(inbox, "devices")
        except NodeError as error:
            error.node = node.name
            raise
        return replace(info, devices=tuple(map(str, header["names"])))


def _answer(inbox: queue.Queue[Any], kind: str) -> tuple[dict[str, Any], bytes]:
    try:
        item = inbox.get(timeout=ECHO_S)
    except queue.Empty:
        raise WorkerLost(f"The node did not answer within {ECHO_S:.0f} s.") from None
    if isinstance(item, NodeError):
        raise item
    header, payload = item
    if header["type"] != kind:
        raise WorkerLost(f"The node answered: {header.get('text', header['type'])}")
    return header, payload
