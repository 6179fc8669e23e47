"""Whether a node's host key is trusted, and what a person must do where it is not."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from .job import HostKeyChanged, HostKeyUnknown
from .known_hosts import KnownHosts, Verdict, fingerprint
from .ssh_config import Target


def judge(
    target: Target, records: KnownHosts, key_type: str, key_base64: str, authority: bytes | None = None
) -> None:
    """Return if `records` vouch for the key that `target` shows; raise HostKeyUnknown or HostKeyChanged.

    `authority` is the key that signed a valid certificate of the host key, for this host and now.
    """
    host, port = target.record
    print_ = fingerprint(key_base64)
    verdict = records.check(host, port, key_type, key_base64, authority)
    if verdict is Verdict.UNKNOWN:
        raise unknown(target, records.own, key_type, key_base64)
    if verdict is Verdict.REVOKED:
        raise HostKeyChanged(
            f"The host key of {host} ({print_}) is marked as revoked.",
            REVOKED_HINT,
        )
    if verdict is Verdict.CHANGED:
        raise HostKeyChanged(
            f"The host key of {host} has changed: it now shows {key_type} {print_}.",
            changed_hint(host, port, records.own),
        )


def unknown(target: Target, own: Path, key_type: str, key_base64: str) -> HostKeyUnknown:
    """The question whether `target` may be trusted; `own` is where the answer goes."""
    host, port = target.record
    print_ = fingerprint(key_base64)
    return HostKeyUnknown(
        f"The host key of {host} is not known yet: {key_type} {print_}.",
        f"If that is its fingerprint, trust it by running: {_trusting_line(target, own)}"
        " (on the command line, --accept-new-host-keys trusts every host that is new).",
        "",
        host=host,
        port=port,
        key=f"{key_type} {key_base64}",
        fingerprint=print_,
    )


REVOKED_HINT = "Do not use this host before its administrator has given it a new key."


def changed_hint(host: str, port: int, own: Path) -> str:
    """What to do where a host shows another key than the one on record."""
    return (
        "Somebody may be in between. If the machine was set up anew, remove its old key:"
        f' ssh-keygen -R "{host if port == 22 else f"[{host}]:{port}"}"'
        f" (add -f {_quoted(str(own))} for a key that was accepted in Blender)."
    )


def _trusting_line(target: Target, own: Path) -> str:
    """The command by which ssh asks about the host key and stores the answer where we read it."""
    # ssh replaces %, and takes what stands in one pair of quotes as one file.
    path = str(own).replace("%", "%%")
    option = f'UserKnownHostsFile="{path}"' if " " in path else f"UserKnownHostsFile={path}"
    login = _quoted(f"{target.user}@{target.alias}")
    return f"ssh -p {target.port} -o {_quoted(option)} {login} exit"


def _quoted(word: str) -> str:
    """`word` as this system's shell takes it for one word."""
    return subprocess.list2cmdline([word]) if os.name == "nt" else shlex.quote(word)
