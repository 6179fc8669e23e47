"""Which keys are offered to an SSH server, and in which order: files, certificates, the agent's."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from .job import ConnectError, LoginRefused, PassphraseNeeded
from .ssh_config import Target

AGENT_S = 10.0
_CERTIFICATE = "-cert-v01@openssh.com"
_UNUSABLE = (paramiko.SSHException, paramiko.pkey.UnknownKeyType, UnsupportedAlgorithm, ValueError)
"""What paramiko and its library say to a file that is no key, or one of a kind they do not know."""


def public(key: paramiko.PKey) -> bytes:
    """What a server is told of a key, which tells two offers apart."""
    blob = getattr(key, "public_blob", None)
    return bytes(blob.key_blob if blob else key.asbytes())


def offers(target: Target, passphrases: dict[str, str]) -> Generator[paramiko.PKey | PassphraseNeeded]:
    """The node's own key, those that the configuration names, the agent's, the usual files.

    What is named comes first, since a server counts: sshd hangs up after six keys.
    Raises LoginRefused where the node's own key cannot be used, ConnectError where the agent hangs.
    """
    certificates = _certificates(target.certificates)
    own = Path(target.key_file) if target.key_file else None
    locked: PassphraseNeeded | None = None
    if own is not None:
        key = _load(own, passphrases)
        if isinstance(key, PassphraseNeeded):
            locked = key
        elif key is not None:
            yield from _with_certificates(key, certificates)
    try:
        agent = _agent(target.agent)
    except ConnectError as error:
        raise locked or error from None
    try:
        held = list(agent.get_keys()) if agent is not None else []
        named = [path for path in target.key_files if path != own and target.are_keys_named]
        twins = {path: _twins(path, held) for path in (*([own] if own else []), *named)}
        if own is not None and locked is not None:
            # The agent may hold the locked key, unlocked: its public half tells.
            if not twins[own]:
                raise locked
            for twin in twins[own]:
                yield from _with_certificates(twin, certificates)
        for path in named:
            for twin in twins[path]:
                yield from _with_certificates(twin, certificates)
            if not twins[path]:
                yield from _of_file(path, passphrases, certificates)
        for key in held:
            if not target.use_only_named_keys or _is_certified(key, certificates):
                yield from _with_certificates(key, certificates)
    finally:
        if agent is not None:
            agent.close()
    if not target.are_keys_named:
        for path in target.key_files:
            if path != own:
                yield from _of_file(path, passphrases, certificates)


def _of_file(
    path: Path, passphrases: dict[str, str], certificates: list[paramiko.PublicBlob]
) -> Iterator[paramiko.PKey | PassphraseNeeded]:
    """A key that need not be there, nor be one that we can use, as ssh has it."""
    if not path.is_file():
        return
    with contextlib.suppress(LoginRefused):
        key = _load(path, passphrases)
        if isinstance(key, PassphraseNeeded):
            yield key
        elif key is not None:
            yield from _with_certificates(key, certificates)


def _with_certificates(
    key: paramiko.PKey, certificates: list[paramiko.PublicBlob]
) -> Iterator[paramiko.PKey]:
    """The key with each certificate that is there for it, and at last by itself."""
    beside = getattr(key, "public_blob", None)  # paramiko finds KEY-cert.pub beside KEY.
    for blob in [*([beside] if beside else []), *(c for c in certificates if _certifies(c, key))]:
        yield _bearing(key, blob)
    if not key.get_name().endswith(_CERTIFICATE):
        yield _bearing(key, None)


def _bearing(key: paramiko.PKey, blob: paramiko.PublicBlob | None) -> paramiko.PKey:
    """The same key, shown to a server by `blob`."""
    made = object.__new__(
        type(key)
    )  # copy.copy() trips over an agent's key, which answers for its inner key.
    made.__dict__.update(key.__dict__, public_blob=blob)
    return made


def _certificates(paths: tuple[Path, ...]) -> list[paramiko.PublicBlob]:
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            found.append(paramiko.PublicBlob.from_file(str(path)))
    return found


def _is_certified(key: paramiko.PKey, certificates: list[paramiko.PublicBlob]) -> bool:
    return any(_certifies(blob, key) for blob in certificates)


def _certifies(blob: paramiko.PublicBlob, key: paramiko.PKey) -> bool:
    """Whether the certificate is one of this key: it repeats the key's fields behind a nonce."""
    if blob.key_type != key.get_name() + _CERTIFICATE:
        return False
    certificate, plain = paramiko.Message(blob.key_blob), paramiko.Message(key.asbytes())
    for message in (certificate, plain):
        message.get_binary()  # kind
    certificate.get_binary()  # nonce
    return bool(certificate.get_remainder().startswith(plain.get_remainder()))


def _twins(path: Path, held: list[paramiko.PKey]) -> list[paramiko.PKey]:
    """Keys of the agent that are the one in `path`, as the public half beside it tells."""
    public = _public_half(path)
    return [key for key in held if key.asbytes() == public]


def _public_half(path: Path) -> bytes:
    """The public key beside a private one or in the file itself, b"" if there is none."""
    for candidate in (Path(f"{path}.pub"), path):
        try:
            return base64.b64decode(candidate.read_bytes().split()[1], validate=True)
        except (OSError, ValueError, IndexError):
            continue
    return b""


class _AgentAt(paramiko.agent.AgentSSH):  # type: ignore[misc] # paramiko has no types
    """An agent that is not the one of SSH_AUTH_SOCK."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            self._connect(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        self._close()


def _agent(path: str) -> paramiko.Agent | _AgentAt | None:
    """The SSH agent with its list of keys. One that is broken counts as none."""
    if path == "none":
        return None
    found: list[paramiko.Agent | _AgentAt] = []

    def ask() -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, paramiko.SSHException):
            # Only Unix has agents at a path; Windows has two, which paramiko knows.
            found.append(_AgentAt(path) if path and hasattr(socket, "AF_UNIX") else paramiko.Agent())

    # paramiko waits for an agent without end.
    thread = threading.Thread(target=ask, name="dc-ssh-agent", daemon=True)
    thread.start()
    thread.join(AGENT_S)
    if thread.is_alive():
        raise ConnectError(
            f"The SSH agent on this computer did not answer within {AGENT_S:.0f} s.",
            "Unlock or restart it, or set the node's key file.",
        )
    if not found:
        return None
    for key in found[0].get_keys():
        if key.get_name().endswith(_CERTIFICATE):
            # paramiko would offer the certificate's kind with the bare key.
            key.public_blob = paramiko.PublicBlob(key.get_name(), key.blob)
            key.inner_key = None
    return found[0]


def _load(path: Path, passphrases: dict[str, str]) -> paramiko.PKey | PassphraseNeeded | None:
    """Read a private key; None if a person said to do without. Raise LoginRefused where `path` is none."""
    passphrase = passphrases.get(str(path))
    try:
        is_locked = _is_locked(path) if passphrase is not None else False
        if passphrase == "" and is_locked:
            return None
        # A passphrase for a key without one is an error to paramiko.
        return paramiko.PKey.from_path(path, passphrase.encode() if passphrase and is_locked else None)
    except OSError as error:
        raise LoginRefused(
            f"The key file {path} cannot be read ({error.strerror}).", "Check the node's key file."
        ) from None
    except (paramiko.PasswordRequiredException, TypeError):
        words = f"The key file {path} is locked."
    except _UNUSABLE as error:
        if passphrase is None or not _is_locked(path):
            raise LoginRefused(
                f"The key file {path} is not a private key that can be used ({error}).",
                "Check the node's key file; it is the one without .pub."
                " For security keys (FIDO) let the node use the ssh program.",
            ) from None
        words = f"The passphrase for {path} is wrong."
    return PassphraseNeeded(
        words,
        "Enter its passphrase (nothing: go on without this key), or add the key to your SSH agent"
        " (its .pub file must be beside it).",
        "",
        key_file=str(path),
    )


def _is_locked(path: Path) -> bool:
    """Whether the key cannot be read without a passphrase."""
    try:
        paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):
        return True
    except (OSError, *_UNUSABLE):
        return False
    return False
