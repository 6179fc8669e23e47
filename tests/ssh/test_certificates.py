"""Certificates instead of keys, made by ssh-keygen and judged by a real sshd, or by the real ssh."""

from __future__ import annotations

import base64
import getpass
import subprocess
from pathlib import Path

import paramiko
import pytest

from engine.host_certificate import authority_of
from engine.job import HostKeyChanged, HostKeyUnknown, LoginRefused

from ..sshd import Agent, Sshd, keygen, log_in
from .test_known_hosts import Verdict, oracle

KINDS = pytest.mark.parametrize(
    "kind", [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "2048")]
)


def sign(authority: Path, key: Path, *options: str) -> Path:
    """Let `authority` certify `key`: KEY-cert.pub appears beside it."""
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", *options, f"{key}.pub"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return Path(f"{key}-cert.pub")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return keygen(tmp_path / "authority")


@pytest.fixture
def strict(tmp_path: Path, authority: Path) -> object:
    """An sshd that lets in whom the authority has certified, and nobody by a bare key."""
    options = f"TrustedUserCAKeys {authority}.pub\nAuthorizedKeysFile none\n"
    with Sshd(tmp_path / "strict", options=options) as sshd:
        yield sshd


@KINDS
@pytest.mark.parametrize("place", ["beside", "named", "agent", "agent, named"])
def test_logging_in_by_a_certificate(
    strict: Sshd, authority: Path, tmp_path: Path, agent: Agent, kind: tuple[str, str], place: str
) -> None:
    key = keygen(tmp_path / "mine", "-t", kind[0], "-b", kind[1])
    if "agent, named" in place:
        agent.add(key)
    node, config = strict.node(key_file="" if "agent" in place else str(key)), ""
    with pytest.raises(LoginRefused):
        log_in(node, strict.access(config=config))
    certificate = sign(authority, key, "-n", f"{getpass.getuser()},other")
    if "named" in place:
        certificate.rename(tmp_path / "elsewhere-cert.pub")
        config = f"CertificateFile {tmp_path}/elsewhere-cert.pub\n"
    elif place == "agent":
        agent.add(key)
        key.unlink()
        certificate.unlink()
    log_in(node, strict.access(config=config))


def test_a_certificate_that_does_not_hold_is_not_in_the_way_of_its_key(sshd: Sshd, authority: Path) -> None:
    sign(authority, sshd.user_key, "-n", "somebody-else", "-V", "20200101:20200102")
    log_in(sshd.node(), sshd.access())


HOST_CERTIFICATES = {
    "good": ("-h", "-n", "127.0.0.1,elsewhere"),
    "for all hosts": ("-h",),
    "pattern": ("-h", "-n", "127.0.0.*"),
    "other host": ("-h", "-n", "elsewhere"),
    "of a user": ("-n", "127.0.0.1"),
    "expired": ("-h", "-n", "127.0.0.1", "-V", "20200101:20200102"),
    "not yet": ("-h", "-n", "127.0.0.1", "-V", "20990101:20990102"),
}


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        *((("ed25519", "256"), case) for case in HOST_CERTIFICATES),
        # Other kinds of keys differ in their own fields alone.
        *((kind, "good") for kind in (("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "2048"))),
    ],
)
def test_host_certificates_as_ssh_judges_them(
    tmp_path: Path, authority: Path, kind: tuple[str, str], case: str
) -> None:
    key = keygen(tmp_path / "certified", "-t", kind[0], "-b", kind[1])
    certificate = sign(authority, key, *HOST_CERTIFICATES[case])
    options = f"HostKey {key}\nHostCertificate {certificate}\n"
    with Sshd(tmp_path / "sshd", options=options) as sshd:
        access = sshd.access(trusted=False)
        records = access.known_hosts.own
        records.write_text(f"@cert-authority [127.0.0.1]:* {authority.with_suffix('.pub').read_text()}")
        expected = oracle(sshd, records)
        assert (expected is Verdict.KNOWN) == (case in ("good", "for all hosts"))
        if expected is Verdict.KNOWN:
            log_in(sshd.node(), access)
        else:
            with pytest.raises(HostKeyUnknown):
                log_in(sshd.node(), access)


def certified(tmp_path: Path, authority: Path) -> tuple[Sshd, Path]:
    key = keygen(tmp_path / "certified")
    certificate = sign(authority, key, "-h", "-n", "127.0.0.1")
    sshd = Sshd(tmp_path / "sshd", options=f"HostKey {key}\nHostCertificate {certificate}\n")
    return sshd, key


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ("@cert-authority elsewhere {ca}\n", Verdict.UNKNOWN),
        ("@cert-authority * {other}\n", Verdict.UNKNOWN),
        ("@cert-authority * {ca}\n@revoked * {ca}\n", Verdict.REVOKED),
        ("@cert-authority * {ca}\n@revoked * {key}\n", Verdict.REVOKED),
        ("@cert-authority 127.0.0.1 {ca}\n", Verdict.KNOWN),
    ],
)
def test_authorities_on_record_as_ssh_judges_them(
    tmp_path: Path, authority: Path, lines: str, verdict: Verdict
) -> None:
    sshd, key = certified(tmp_path, authority)
    other = keygen(tmp_path / "other")
    values = {
        word: " ".join(file.with_suffix(".pub").read_text().split()[:2])
        for word, file in (("ca", authority), ("key", key), ("other", other))
    }
    with sshd:
        access = sshd.access(trusted=False)
        access.known_hosts.own.write_text(lines.format(**values))
        assert oracle(sshd, access.known_hosts.own) is verdict
        if verdict is Verdict.KNOWN:
            log_in(sshd.node(), access)
        else:
            with pytest.raises(HostKeyUnknown if verdict is Verdict.UNKNOWN else HostKeyChanged):
                log_in(sshd.node(), access)


def test_a_certificate_with_one_changed_bit_is_none(tmp_path: Path, authority: Path) -> None:
    key = keygen(tmp_path / "certified")
    blob = base64.b64decode(sign(authority, key, "-h", "-n", "h").read_text().split()[1])
    public = base64.b64decode(authority.with_suffix(".pub").read_text().split()[1])

    def judged(data: bytes) -> bytes | None:
        shown = paramiko.PKey.from_path(key)
        shown.public_blob = paramiko.PublicBlob("ssh-ed25519-cert-v01@openssh.com", data)
        return authority_of(shown, "h")

    assert judged(blob) == public
    # All that is signed, and the signature itself. Between them stand lengths and a name, 23 bytes.
    for position in (*range(len(blob) - 87), *range(len(blob) - 64, len(blob))):
        changed = bytearray(blob)
        changed[position] ^= 1
        assert judged(bytes(changed)) is None, position
        assert judged(blob[:position]) is None, position
