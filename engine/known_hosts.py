"""Which host keys are trusted: OpenSSH's known_hosts files, read as OpenSSH reads them.

Strict about keys, tolerant of lines: a line that makes no sense is passed over, as ssh does
(sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). The user's own files are read, never written; what a
person accepts here goes into a file of our own.
"""

from __future__ import annotations

import base64
import binascii
import enum
import fnmatch
import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


class Verdict(enum.Enum):
    """What the records say of a key that a host shows."""

    KNOWN = enum.auto()
    UNKNOWN = enum.auto()
    CHANGED = enum.auto()
    REVOKED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Line:
    marker: str
    hosts: str
    key_type: str
    key: bytes

    def names(self, name: str) -> bool:
        """Whether the line speaks of `name`, written as `host` or `[host]:port`."""
        if self.hosts.startswith("|1|"):
            return _matches_hash(self.hosts, name)
        found = False
        for pattern in self.hosts.lower().split(","):
            if _matches_pattern(pattern.removeprefix("!"), name):
                if pattern.startswith("!"):
                    return False
                found = True
        return found


class KnownHosts:
    """The records of several files, read anew for each question: they may change meanwhile."""

    def __init__(self, files: Sequence[Path], own: Path) -> None:
        """`own` is the file that `add` writes; it is read as well."""
        self.files = tuple(files)
        self.own = own

    def check(
        self, host: str, port: int, key_type: str, key_base64: str, authority: bytes | None = None
    ) -> Verdict:
        """Judge the key that `host` shows on `port`.

        `authority`: the key that signed a certificate for it, which has been found to be valid.
        """
        key = base64.b64decode(key_base64)
        lines = list(self._lines_for(host, port))
        if any(line.marker == "@revoked" and line.key in (key, authority) for line in lines):
            return Verdict.REVOKED
        if any(line.marker == "@cert-authority" and line.key == authority for line in lines):
            return Verdict.KNOWN
        plain = [line for line in lines if not line.marker]
        if any(line.key == key for line in plain):
            return Verdict.KNOWN
        if plain:
            return Verdict.CHANGED
        # Like ssh: a record of the host without its port vouches for a key or revokes it, but
        # another key there accuses none.
        if port != 22:
            portless = self.check(host, 22, key_type, key_base64, authority)
            if portless is not Verdict.CHANGED:
                return portless
        return Verdict.UNKNOWN

    def key_types(self, host: str, port: int) -> list[str]:
        """Types of the keys on record, to ask the host for one of those."""
        lines = [*self._lines_for(host, port), *self._lines_for(host, 22)]
        return list(dict.fromkeys(line.key_type for line in lines if not line.marker))

    def has_authority(self, host: str, port: int) -> bool:
        """Whether some authority's certificate would do for the host."""
        lines = [*self._lines_for(host, port), *self._lines_for(host, 22)]
        return any(line.marker == "@cert-authority" for line in lines)

    def add(self, host: str, port: int, key: str) -> None:
        """Trust `key` (type, space, base64) for `host` from now on. Raise OSError."""
        self.own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = self.own.read_bytes() if self.own.exists() else b""
        separator = b"" if not before or before.endswith(b"\n") else b"\n"
        handle = os.open(self.own, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(separator + f"{_name(host, port)} {key}\n".encode())

    def _lines_for(self, host: str, port: int) -> Iterator[_Line]:
        # OpenSSH looks for [host]:port where the port is not 22.
        name = _name(host, port)
        for path in (*self.files, self.own):
            for line in _read(path):
                if line.names(name):
                    yield line


def fingerprint(key_base64: str) -> str:
    """`SHA256:...`, as ssh-keygen -l prints it."""
    digest = hashlib.sha256(base64.b64decode(key_base64)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _name(host: str, port: int) -> str:
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def _read(path: Path) -> Iterator[_Line]:
    try:
        data = path.read_bytes()
    except OSError:  # No such file, which is usual; or not ours to read, which ssh ignores too.
        return
    # Lines end at a newline and words at blanks and tabs, nowhere else: what a comment holds must
    # never become a record, as it would where str.splitlines() ends a line at any odd character.
    for raw in data.removeprefix(b"\xef\xbb\xbf").decode("latin-1").split("\n"):
        words = [word for word in re.split("[ \t]+", raw.rstrip("\r")) if word]
        marker = words.pop(0).lower() if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#"):
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except ValueError:
            continue
        if base64.b64encode(key).decode() != words[2]:  # Other padding: no key to ssh either.
            continue
        # The key repeats its type at its beginning; where it does not, it is no key.
        if _fields(key)[:1] == [words[1].encode("latin-1")]:
            yield _Line(marker, words[0], words[1], key)


def _fields(key: bytes) -> list[bytes]:
    """The strings a key is made of, each behind its length; none if one is cut off."""
    fields = []
    while key:
        end = 4 + int.from_bytes(key[:4], "big")
        if len(key) < end:
            return []
        fields.append(key[4:end])
        key = key[end:]
    return fields


def _matches_hash(field: str, name: str) -> bool:
    try:
        _, _, salt, digest = field.split("|")
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False


def _matches_pattern(pattern: str, name: str) -> bool:
    # Brackets are part of a name here, not a set of characters as in fnmatch.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
