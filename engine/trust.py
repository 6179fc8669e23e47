"""Whether a node's host key is trusted, and what a person must do where it is not."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from .job import HostKeyChanged, HostKeyUnknown, Node
from .known_hosts import KnownHosts, Verdict, fingerprint


def judge(node: Node, records: KnownHosts, key_type: str, key_base64: str) -> None:
    """Return if `records` vouch for the key that `node` shows; raise HostKeyUnknown or HostKeyChanged."""
    host, port, print_ = node.host, node.port, fingerprint(key_base64)
    verdict = records.check(host, port, key_type, key_base64)
    if verdict is Verdict.UNKNOWN:
        raise HostKeyUnknown(
            f"The host key of {host} is not known yet: {key_type} {print_}.",
            f"If that is its fingerprint, trust it by running: {_trusting_line(node, records.own)}"
            " (on the command line, --accept-new-host-keys trusts every host that is new).",
            node.name,
            host=host,
            port=port,
            key=f"{key_type} {key_base64}",
            fingerprint=print_,
        )
    if verdict is Verdict.REVOKED:
        raise HostKeyChanged(
            f"The host key of {host} ({print_}) is marked as revoked.",
            "Do not use this host before its administrator has given it a new key.",
        )
    if verdict is Verdict.CHANGED:
        raise HostKeyChanged(
            f"The host key of {host} has changed: it now shows {key_type} {print_}.",
            "Somebody may be in between. If the machine was set up anew, remove its old key:"
            f' ssh-keygen -R "{host if port == 22 else f"[{host}]:{port}"}"'
            f" (add -f {_quoted(str(records.own))} for a key that was accepted in Blender).",
        )


def _trusting_line(node: Node, own: Path) -> str:
    """The command by which ssh asks about the host key and stores the answer where we read it."""
    # ssh replaces %, and takes what stands in one pair of quotes as one file.
    path = str(own).replace("%", "%%")
    option = f'UserKnownHostsFile="{path}"' if " " in path else f"UserKnownHostsFile={path}"
    user = f"{node.user}@" if node.user else ""
    return f"ssh -p {node.port} -o {_quoted(option)} {_quoted(user + node.host)} exit"


def _quoted(word: str) -> str:
    """`word` as this system's shell takes it for one word."""
    return subprocess.list2cmdline([word]) if os.name == "nt" else shlex.quote(word)
