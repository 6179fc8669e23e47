"""Logging in to an SSH server: which keys are offered, in which order, and what a refusal means."""

from __future__ import annotations

import base64
import contextlib
import getpass
import threading
import time
from collections.abc import Generator
from pathlib import Path

import paramiko

from .job import ConnectError, LoginRefused, Node, PassphraseNeeded
from .known_hosts import fingerprint

LOGIN_S = 30.0
"""For all keys together; an agent may have to ask its owner."""
AGENT_S = 10.0
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
MOST_KEYS = 12


class Transport(paramiko.Transport):  # type: ignore[misc] # paramiko has no types
    """Remembers why the server hung up, which paramiko only logs."""

    reason = ""

    def _parse_disconnect(self, m: paramiko.Message) -> None:
        m.get_int()
        self.reason = m.get_text()


def log_in(transport: Transport, node: Node, passphrases: dict[str, str]) -> None:
    """Log in as the node's user with the first key that is let in.

    Raises LoginRefused, PassphraseNeeded, or ConnectError where trying again may help.
    """
    transport.auth_timeout = LOGIN_S
    user = node.user or getpass.getuser()
    deadline = time.monotonic() + LOGIN_S
    locked: PassphraseNeeded | None = None
    offered: list[bytes] = []
    with contextlib.closing(_keys(node, passphrases)) as keys:
        for key in keys:
            if isinstance(key, PassphraseNeeded):
                locked = locked or key
                continue
            # A key that the agent holds as well must not spend one of the server's MaxAuthTries.
            if key.asbytes() in offered:
                continue
            if len(offered) == MOST_KEYS:
                break
            offered.append(key.asbytes())
            if _is_let_in(transport, user, key, len(offered)):
                return
            if time.monotonic() > deadline:
                raise ConnectError(
                    f"The login was not answered within {LOGIN_S:.0f} s.",
                    "Does your SSH agent wait for a confirmation, or is the server overloaded?",
                )
    if locked is not None:
        raise locked
    count = f"{len(offered)} keys" if len(offered) != 1 else "one key"
    raise LoginRefused(
        f"{user}@{node.host} does not accept the {count} that could be offered."
        if offered
        else f"There is no key to log in to {user}@{node.host} with.",
        "Set the node's user and key file; the public key belongs into ~/.ssh/authorized_keys there.",
    )


def _is_let_in(transport: Transport, user: str, key: paramiko.PKey, count: int) -> bool:
    try:
        # A server may ask for more than a key; what it asks is left unanswered.
        return not transport.auth_publickey(user, key)
    except (OSError, EOFError, paramiko.SSHException) as error:
        if transport.is_active():
            return False
        if "too many authentication failures" in transport.reason.lower():
            raise LoginRefused(
                f"The server closed the connection after {count} keys that it does not accept.",
                "Set the node's key file, which is offered first; the server's MaxAuthTries is the limit.",
            ) from None
        if "signing" in str(error):
            raise LoginRefused(
                f"Your SSH agent did not sign with the key {key.get_name()} {fingerprint(key.get_base64())}.",
                "Was it declined? Log in with another key by setting the node's key file.",
            ) from None
        raise ConnectError(f"The connection broke during the login ({error}).") from None


def _keys(node: Node, passphrases: dict[str, str]) -> Generator[paramiko.PKey | PassphraseNeeded]:
    """Keys in the order to offer them: the node's own, the agent's, the usual files."""
    own = Path(node.key_file).expanduser() if node.key_file else None
    locked: PassphraseNeeded | None = None
    if own is not None:
        key = _load(own, passphrases)
        if isinstance(key, PassphraseNeeded):
            locked = key
        else:
            yield key
    try:
        agent = _agent()
    except ConnectError as error:
        raise locked or error from None
    try:
        held = list(agent.get_keys()) if agent is not None else []
        if own is not None and locked is not None:
            # The agent may hold the locked key, unlocked: its public half tells.
            twins = [key for key in held if key.asbytes() == _public_half(own)]
            if not twins:
                raise locked
            yield from twins
        yield from held
    finally:
        if agent is not None:
            agent.close()
    for name in DEFAULT_KEYS:
        path = Path("~/.ssh", name).expanduser()
        if path.is_file() and path != own:
            with contextlib.suppress(LoginRefused):
                yield _load(path, passphrases)


def _agent() -> paramiko.Agent | None:
    """The SSH agent with its list of keys. One that is broken counts as none."""
    found: list[paramiko.Agent] = []

    def ask() -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, paramiko.SSHException):
            found.append(paramiko.Agent())

    # paramiko waits for an agent without end.
    thread = threading.Thread(target=ask, name="dc-ssh-agent", daemon=True)
    thread.start()
    thread.join(AGENT_S)
    if thread.is_alive():
        raise ConnectError(
            f"The SSH agent on this computer did not answer within {AGENT_S:.0f} s.",
            "Unlock or restart it, or set the node's key file.",
        )
    return found[0] if found else None


def _public_half(path: Path) -> bytes:
    """The public key beside a private one, b"" if there is none."""
    try:
        return base64.b64decode(Path(f"{path}.pub").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return b""


def _load(path: Path, passphrases: dict[str, str]) -> paramiko.PKey | PassphraseNeeded:
    """Read a private key. Raise LoginRefused where `path` is none."""
    passphrase = passphrases.get(str(path))
    try:
        # A passphrase for a key without one is an error to paramiko.
        return paramiko.PKey.from_path(path, passphrase.encode() if passphrase and _is_locked(path) else None)
    except OSError as error:
        raise LoginRefused(
            f"The key file {path} cannot be read ({error.strerror}).", "Check the node's key file."
        ) from None
    except (paramiko.PasswordRequiredException, TypeError):
        words = f"The key file {path} is locked."
    except (paramiko.SSHException, ValueError) as error:
        if passphrase is None or not _is_locked(path):
            raise LoginRefused(
                f"The key file {path} is not a private key that can be used ({error}).",
                "Check the node's key file; it is the one without .pub.",
            ) from None
        words = f"The passphrase for {path} is wrong."
    return PassphraseNeeded(
        words,
        "Enter its passphrase, or add the key to your SSH agent (its .pub file must be beside it).",
        "",
        key_file=str(path),
    )


def _is_locked(path: Path) -> bool:
    """Whether the key cannot be read without a passphrase."""
    try:
        paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):
        return True
    except (OSError, ValueError, paramiko.SSHException):
        return False
    return False
