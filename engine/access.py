"""What lets us in at nodes: known hosts, secrets, the SSH configuration; and who speaks SSH to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .job import Node, NodeError
from .known_hosts import KnownHosts
from .ssh_config import Target, usual_known_hosts
from .transport import Channel


@dataclass
class Access:
    """What is needed to be let in. Secrets are kept in memory only."""

    known_hosts: KnownHosts
    passphrases: dict[str, str] = field(default_factory=dict, repr=False)
    """Key file -> passphrase; an empty one: go on without this key."""
    answers: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    """(login, text of the prompt) of an AnswersNeeded -> what a person answered."""
    config: Path | None = None
    """The only SSH configuration file to read; None: the user's and the system's."""

    def records(self, target: Target) -> KnownHosts:
        """Where the host key of `target` is looked up: in the files that its configuration names."""
        if not self.known_hosts.files:  # One file was named instead of all the usual ones.
            return self.known_hosts
        return KnownHosts(target.known_hosts, self.known_hosts.own)


class Connection(Protocol):
    """One connection to a node, made once; after `close` it stays closed."""

    @property
    def is_open(self) -> bool:
        """Whether the next command can be run."""

    def connect(self) -> None:
        """Connect and log in. Raises a NodeError that says what to do; bounded in time."""

    def open(self, command: str) -> Channel:
        """Run `command` with its stdin, stdout and stderr as a channel. Never on a terminal."""

    def run(self, command: str, timeout: float) -> tuple[int, str, str]:
        """Run a small command to its end: exit status, stdout, stderr."""

    def close(self) -> None:
        """Close at once, whether or not anybody is at the other end. From any thread."""


def connection_to(node: Node, access: Access) -> Connection:
    """A connection to `node`, not made yet, by the back end that its settings name."""
    if node.backend == "openssh":
        from .openssh import OpenSshConnection

        return OpenSshConnection(node, access)
    try:
        from .ssh import SshConnection
    except ImportError as error:
        raise NodeError(
            f"SSH is not available in this Blender ({error}).",
            "Install the extension's zip for this platform and this version of Blender,"
            " or let the node use the ssh program.",
        ) from None
    return SshConnection(node, access)


def usual_access(own: Path) -> Access:
    """Access with the user's known hosts, and `own` for those that are accepted here."""
    return Access(KnownHosts(usual_known_hosts(), own))
