"""known_hosts as people have it, judged line by line as the real ssh judges it."""

from __future__ import annotations

import base64
import stat
import subprocess
from pathlib import Path

import pytest

from engine.known_hosts import KnownHosts, Verdict

from ..sshd import Sshd, keygen


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> object:
    with Sshd(tmp_path_factory.mktemp("kh") / "sshd") as sshd:
        yield sshd


def hashed(line: str, folder: Path) -> str:
    """The line as `ssh-keygen -H` writes it."""
    path = folder / "to_hash"
    path.write_text(line)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    return path.read_text()


def oracle(server: Sshd, known_hosts: Path) -> Verdict:
    """What the real ssh thinks of the server's key with this file."""
    done = subprocess.run(
        [
            *("ssh", "-F", "none", "-i", str(server.user_key), "-p", str(server.port)),
            *("-o", f"UserKnownHostsFile={known_hosts}", "-o", "GlobalKnownHostsFile=none"),
            *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"),
            *(f"{server.node().user}@{server.address}", "true"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return Verdict.KNOWN
    if "REVOKED" in done.stderr or "is revoked" in done.stderr.lower():
        return Verdict.REVOKED
    if "HAS CHANGED" in done.stderr:
        return Verdict.CHANGED
    assert "is known for" in done.stderr or "Host key verification failed" in done.stderr, done.stderr
    return Verdict.UNKNOWN


CASES = {
    "empty": b"",
    "plain": b"{name} {key}\n",
    "comment at the end": b"{name} {key} me@home\n",
    "double space and tab": b"  {name}   \t{key}\n",
    "CRLF": b"{name} {key}\r\n",
    "no newline": b"{name} {key}",
    "commented out": b"#{name} {key}\n",
    "Latin-1 beside it": b"# caf\xe9\n{name} {key} \xe9\n",
    "bad base64 beside it": b"{name} ssh-ed25519 AAAA!!!!\n{name} {key}\n",
    "nonsense beside it": b"one\ntwo words\n\n@\n{name} {key}\n",
    "another host": b"[10.9.8.7]:{port} {key}\n",
    "another port": b"[{address}]:1 {key}\n",
    "list": b"other,{name},third {key}\n",
    "wildcard": b"[127.0.0.*]:{port} {key}\n",
    "question mark": b"[127.0.0.?]:{port} {key}\n",
    "star": b"* {key}\n",
    "negated": b"*,!{name} {key}\n",
    "another key": b"{name} {other}\n",
    "two keys, ours second": b"{name} {other}\n{name} {key}\n",
    "revoked": b"{name} {key}\n@revoked {name} {key}\n",
    "revoked everywhere": b"{name} {key}\n@revoked * {key}\n",
    "another revoked": b"{name} {key}\n@revoked * {other}\n",
    "authority only": b"@cert-authority * {key}\n",
    "authority of another": b"@cert-authority * {other}\n{name} {key}\n",
    "key of another type": b"{name} {rsa}\n",
    "type does not match the key": b"{name} ssh-rsa {key64}\n",
    "too much padding": b"{name} ssh-ed25519 {key64}=\n",
    "cut key": b"{name} ssh-ed25519 {cut}\n",
    "rubbish after the key": b"{name} {key}!\n",
    "of no port": b"{address} {key}\n",
    "of no port, another key": b"{address} {other}\n",
    "of no port, revoked": b"@revoked {address} {key}\n",
    "of no port, and of the port another": b"{address} {key}\n{name} {other}\n",
    "revoked of no port, known with it": b"@revoked {address} {key}\n{name} {key}\n",
    "negated first": b"!{name},* {key}\n",
    "negation of another": b"!elsewhere,{name} {key}\n",
    "negation alone": b"!elsewhere {key}\n",
    "negated pattern": b"{name},!*.0.0.* {key}\n",
    "unknown marker": b"@trusted {name} {key}\n",
    "two markers": b"@revoked @cert-authority {name} {key}\n",
    "blanks before a marker": b"  @revoked {name} {key}\n{name} {key}\n",
    "bad hash beside it": b"|1|AAAA|!!!! {key}\n|1|x {key}\n|2|AAAA|AAAA {key}\n{name} {key}\n",
    "bad hash": b"|1|AAAA|!!!! {key}\n",
    "NUL beside it": b"#\0\n{name} {key}\n",
    "brackets are no set": b"[[]127.0.0.1]:{port} {key}\n",
    "comma alone": b",,,{name},, {key}\n",
    **{
        f"comment with byte {byte:#x}": b"# once " + bytes([byte]) + b"{name} {key}\n"
        for byte in (0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0xA0)
    },
    "no-break space is part of a word": b"other\xa0{name} {key}\n",
}


@pytest.mark.parametrize("case", CASES)
def test_as_ssh_judges(server: Sshd, tmp_path: Path, case: str) -> None:
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text().split()
    rsa = keygen(tmp_path / "rsa", "-t", "rsa", "-b", "2048").with_suffix(".pub").read_text().split()
    values = {
        "name": f"[{server.address}]:{server.port}",
        "address": server.address,
        "port": str(server.port),
        "key": server.public_host_key,
        "key64": server.public_host_key.split()[1],
        "cut": server.public_host_key.split()[1][:40],
        "other": " ".join(other[:2]),
        "rsa": " ".join(rsa[:2]),
    }
    text = CASES[case]
    for name, value in values.items():
        text = text.replace(b"{" + name.encode() + b"}", value.encode())
    path = tmp_path / "known_hosts"
    path.write_bytes(text)
    found = KnownHosts([path], tmp_path / "own").check(
        server.address, server.port, *server.public_host_key.split()
    )
    expected = oracle(server, path)
    assert found is expected
    assert path.read_bytes() == text


def test_hashed(server: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(hashed(server.known_hosts_line(), tmp_path))
    assert "|1|" in path.read_text()
    records = KnownHosts([path], tmp_path / "own")
    key = server.public_host_key.split()
    assert records.check(server.address, server.port, *key) is oracle(server, path) is Verdict.KNOWN
    assert records.check("127.0.0.2", server.port, *key) is Verdict.UNKNOWN


def test_a_byte_order_mark_is_passed_over(server: Sshd, tmp_path: Path) -> None:
    """Windows editors write one; ssh stumbles over it, which helps nobody."""
    path = tmp_path / "known_hosts"
    path.write_bytes(b"\xef\xbb\xbf" + server.known_hosts_line().encode())
    verdict = KnownHosts([path], tmp_path / "own").check(
        server.address, server.port, *server.public_host_key.split()
    )
    assert verdict is Verdict.KNOWN


def test_what_is_added_is_known_to_us_and_to_ssh(server: Sshd, tmp_path: Path) -> None:
    own = tmp_path / "sub" / "own"
    records = KnownHosts([], own)
    key = server.public_host_key
    assert records.check(server.address, server.port, *key.split()) is Verdict.UNKNOWN
    records.add(server.address, server.port, key)
    assert records.check(server.address, server.port, *key.split()) is Verdict.KNOWN
    assert records.key_types(server.address, server.port) == ["ssh-ed25519"]
    assert oracle(server, own) is Verdict.KNOWN
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    records.add("host", 22, key)
    assert own.read_text().endswith(f"\nhost {key}\n")
    assert records.check("HOST", 22, *key.split()) is Verdict.KNOWN


def test_an_unreadable_file_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    key = base64.b64encode(b"x").decode()
    assert KnownHosts([tmp_path / "folder"], tmp_path / "own").check("h", 22, "t", key) is Verdict.UNKNOWN
