"""Certificates of host keys: what OpenSSH's authorities sign, and whether one holds for a host now.

The format is that of PROTOCOL.certkeys: nonce, the key's own fields, serial, kind, id, names, from,
until, critical options, extensions, a reserved field, the authority's key, its signature of all before.
"""

from __future__ import annotations

import time

import paramiko

SUFFIX = "-cert-v01@openssh.com"
_HOST = 2
_KEY_FIELDS = {"ssh-ed25519": 1, "ssh-rsa": 2}
"""How many fields the key itself has; an ECDSA key has its curve and its point."""


def authority_of(key: paramiko.PKey, host: str) -> bytes | None:
    """The key of the authority by whose certificate `key` is vouched for as that of `host`.

    None where it came without a certificate, or with one that does not hold.
    """
    blob = getattr(key, "public_blob", None)
    if blob is None or not blob.key_type.endswith(SUFFIX):
        return None
    try:
        return _authority(blob.key_blob, host.lower())
    except (paramiko.SSHException, paramiko.pkey.UnknownKeyType, ValueError):  # It is not what it should be.
        return None


def _authority(blob: bytes, host: str) -> bytes | None:
    message = paramiko.Message(blob)
    kind = message.get_text().removesuffix(SUFFIX)
    message.get_binary()  # nonce
    for _ in range(_KEY_FIELDS.get(kind, 2)):
        message.get_binary()
    message.get_int64()  # serial
    is_for_hosts = message.get_int() == _HOST
    message.get_binary()  # id
    names = _strings(message.get_binary())
    since, until = message.get_int64(), message.get_int64()
    critical = message.get_binary()
    message.get_binary()  # extensions
    message.get_binary()  # reserved
    authority = message.get_binary()
    signed = message.get_so_far()
    signature = message.get_binary()
    # None of a host's critical options has a meaning, so one that is there is not understood.
    is_valid = is_for_hosts and not critical and since <= time.time() < until
    # Without names it is for all hosts.
    if not is_valid or (names and host not in names) or blob[len(signed) :] != _string(signature):
        return None
    kind = paramiko.Message(authority).get_text()
    # An authority's key is a plain one, and its signature nothing by SHA-1.
    if kind.endswith(SUFFIX) or paramiko.Message(signature).get_text() == "ssh-rsa":
        return None
    signer = paramiko.PKey.from_type_string(kind, authority)
    return authority if signer.verify_ssh_sig(signed, paramiko.Message(signature)) else None


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _strings(data: bytes) -> list[str]:
    message, found = paramiko.Message(data), []
    while message.get_remainder():
        found.append(message.get_text().lower())
    return found
