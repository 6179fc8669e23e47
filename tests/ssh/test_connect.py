"""Being let in, or not, by a real sshd; what is said when not is what a person can act on."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.job import (
    ConnectError,
    HostKeyChanged,
    HostKeyUnknown,
    HostNotFound,
    LoginRefused,
    Node,
    NodeError,
    PassphraseNeeded,
)
from engine.known_hosts import KnownHosts
from engine.ssh import Access, SshConnection

from ..sshd import Namespace, Sshd, free_port, keygen


@pytest.fixture(autouse=True)
def no_keys_but_the_test_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def connect(node: Node, access: Access) -> None:
    connection = SshConnection(node, access)
    try:
        connection.connect()
        assert connection.run("echo hello; echo there >&2; exit 3", 10) == (3, "hello\n", "there\n")
    finally:
        connection.close()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.02)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield
    process.terminate()
    process.wait()


def add_to_agent(*keys: Path) -> None:
    subprocess.run(["ssh-add", "-q", *map(str, keys)], check=True, stdin=subprocess.DEVNULL)


def test_key_file(sshd: Sshd) -> None:
    connect(sshd.node(), sshd.access())


def test_agent(sshd: Sshd, agent: None) -> None:
    add_to_agent(sshd.user_key)
    connect(sshd.node(key_file=""), sshd.access())


def test_usual_key(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    sshd.user_key.rename(tmp_path / ".ssh" / "id_ed25519")
    connect(sshd.node(key_file=""), sshd.access())


@pytest.mark.parametrize("kind", [("rsa", "2048"), ("ecdsa", "256")])
def test_other_kinds_of_keys(sshd: Sshd, tmp_path: Path, kind: tuple[str, str]) -> None:
    key = keygen(tmp_path / "key", "-t", kind[0], "-b", kind[1])
    (sshd.folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    connect(sshd.node(key_file=str(key)), sshd.access())


@pytest.mark.parametrize("format_", [(), ("-m", "PEM")])
def test_passphrase(sshd: Sshd, tmp_path: Path, format_: tuple[str, ...]) -> None:
    kind = ("-t", "rsa", "-b", "2048") if format_ else ("-t", "ed25519")
    key = keygen(tmp_path / "locked", *kind, *format_, passphrase="correct horse")
    (sshd.folder / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    node, access = sshd.node(key_file=str(key)), sshd.access()
    with pytest.raises(PassphraseNeeded, match="is locked") as missing:
        connect(node, access)
    assert missing.value.key_file == str(key)
    access.passphrases[str(key)] = "wrong"
    with pytest.raises(PassphraseNeeded, match="passphrase .* is wrong"):
        connect(node, access)
    access.passphrases[str(key)] = "correct horse"
    connect(node, access)
    assert "correct horse" not in repr(access)


def test_wrong_key(sshd: Sshd, tmp_path: Path) -> None:
    wrong = keygen(tmp_path / "wrong")
    with pytest.raises(LoginRefused, match=r"accepts none of the 1 keys.*authorized_keys"):
        connect(sshd.node(key_file=str(wrong)), sshd.access())


def test_no_key(sshd: Sshd) -> None:
    with pytest.raises(LoginRefused, match="There is no key to log in"):
        connect(sshd.node(key_file=""), sshd.access())


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("nonsense", "not a private key")])
def test_unusable_key_file(sshd: Sshd, tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content)
    with pytest.raises(LoginRefused, match=words):
        connect(sshd.node(key_file=str(tmp_path / "key")), sshd.access())


def test_too_many_keys_in_the_agent(sshd: Sshd, tmp_path: Path, agent: None) -> None:
    """sshd hangs up after MaxAuthTries (6); the node's own key file comes first and helps."""
    add_to_agent(*(keygen(tmp_path / f"other{number}") for number in range(8)), sshd.user_key)
    with pytest.raises(LoginRefused, match=r"closed the connection after \d keys.*key file"):
        connect(sshd.node(key_file=""), sshd.access())
    connect(sshd.node(), sshd.access())


def test_unknown_host_key(sshd: Sshd) -> None:
    access = sshd.access(trusted=False)
    with pytest.raises(HostKeyUnknown) as unknown:
        connect(sshd.node(), access)
    error = unknown.value
    listed = subprocess.run(["ssh-keygen", "-lf", str(sshd.host_key)], capture_output=True, text=True, check=True)
    assert error.fingerprint == listed.stdout.split()[1]
    assert error.fingerprint in error.message
    assert error.key == sshd.public_host_key
    line = f"ssh -p {sshd.port} -o UserKnownHostsFile={access.known_hosts.own} {sshd.node().user}@127.0.0.1 exit"
    assert line in error.hint
    assert "Accepted" not in sshd.log.read_text()
    access.known_hosts.add(error.host, error.port, error.key)
    connect(sshd.node(), access)


def test_the_line_of_the_hint_does_what_it_says(sshd: Sshd) -> None:
    access = sshd.access(trusted=False)
    with pytest.raises(HostKeyUnknown) as unknown:
        connect(sshd.node(), access)
    line = unknown.value.hint.partition(": ")[2].replace(
        "ssh ", f"ssh -i {sshd.user_key} -o StrictHostKeyChecking=accept-new -o BatchMode=yes ", 1
    )
    subprocess.run(line, shell=True, check=True, stderr=subprocess.DEVNULL)
    connect(sshd.node(), access)


def test_changed_host_key_is_refused_before_any_login(sshd: Sshd, tmp_path: Path) -> None:
    access = sshd.access()
    sshd.stop()
    sshd.host_key.unlink()
    keygen(sshd.host_key)
    sshd.start()
    with pytest.raises(HostKeyChanged, match=r"has changed.*ssh-keygen -R"):
        connect(sshd.node(), access)
    log = sshd.log.read_text()
    assert "publickey" not in log
    assert "Accepted" not in log


def test_revoked_host_key(sshd: Sshd) -> None:
    access = sshd.access()
    access.known_hosts.own.write_text(sshd.known_hosts_line() + f"@revoked * {sshd.public_host_key}\n")
    with pytest.raises(HostKeyChanged, match="revoked"):
        connect(sshd.node(), access)


def test_a_host_key_type_on_record_is_preferred(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", options=f"HostKey {keygen(tmp_path / 'rsa', '-t', 'rsa', '-b', '2048')}\n") as sshd:
        access = sshd.access()
        rsa = " ".join((tmp_path / "rsa.pub").read_text().split()[:2])
        access.known_hosts.own.write_text(f"[127.0.0.1]:{sshd.port} {rsa}\n")
        connect(sshd.node(), access)


def test_refused_port(tmp_path: Path) -> None:
    node = Node("n", "127.0.0.1", free_port())
    with pytest.raises(ConnectError, match=f"refused the connection to port {node.port}") as refused:
        connect(node, Access(KnownHosts([], tmp_path / "kh")))
    assert refused.value.node == "n"
    assert not refused.value.is_final


def test_host_that_does_not_resolve(tmp_path: Path) -> None:
    with pytest.raises(HostNotFound, match="no host named 'nowhere.invalid'"):
        connect(Node("n", "nowhere.invalid"), Access(KnownHosts([], tmp_path / "kh")))


def serve(answer: bytes, *, drip: float = 0) -> int:
    """A port on which something that is no SSH server answers each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            try:
                for byte in answer:
                    connection.send(bytes([byte]))
                    time.sleep(drip)
                connection.recv(1 << 20)
                time.sleep(30)
            except OSError:
                return

    threading.Thread(target=run, daemon=True).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("answer", "drip"),
    [(b"", 0), (b"SSH-2.0-Silent\r\n", 0), (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200, 0), (b"SSH-2.0-drip", 2)],
    ids=["silent", "banner only", "garbage", "slow drip"],
)
def test_peers_that_are_no_ssh_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, drip: float
) -> None:
    monkeypatch.setattr("engine.ssh.HANDSHAKE_S", 3.0)
    start = time.monotonic()
    with pytest.raises(ConnectError, match=r"does not speak SSH as it should.*port of an SSH server"):
        connect(Node("n", "127.0.0.1", serve(answer, drip=drip)), Access(KnownHosts([], tmp_path / "kh")))
    assert time.monotonic() - start < 12


def test_ipv6(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", address="::1") as sshd:
        connect(sshd.node(), sshd.access())


def test_an_address_that_is_dead_does_not_hide_the_one_that_lives(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a host with an unreachable IPv6 address: the resolver's answer is what is staged here."""
    real = socket.getaddrinfo

    def two(host: str, port: int, **options: int) -> list[object]:
        return [*real("::1", port, **options), *real(host, port, **options)]

    monkeypatch.setattr("engine.ssh.socket.getaddrinfo", two)
    connect(sshd.node(), sshd.access())


def test_many_sessions_beyond_the_servers_limit(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", options="MaxSessions 1\n") as sshd:
        connection = SshConnection(sshd.node(), sshd.access())
        connection.connect()
        channel = connection.open("cat")
        with pytest.raises(ConnectError, match="MaxSessions"):
            connection.open("cat")
        channel.close()


ALL_BYTES = bytes(range(256)) * 4096


def exchange(node: Node, access: Access, data: bytes) -> float:
    connection = SshConnection(node, access)
    connection.connect()
    channel = connection.open("cat")
    start = time.monotonic()
    writer = threading.Thread(target=channel.write, args=(data,))
    writer.start()
    back = bytearray()
    while len(back) < len(data):
        piece = channel.read(1 << 20)
        assert piece
        back += piece
    writer.join()
    assert back == data
    channel.close()
    return time.monotonic() - start


def test_all_bytes_come_back(sshd: Sshd) -> None:
    exchange(sshd.node(), sshd.access(), ALL_BYTES)


def test_much_data_both_ways(sshd: Sshd) -> None:
    seconds = exchange(sshd.node(), sshd.access(), ALL_BYTES * 64)
    print(f"64 MiB there and back in {seconds:.2f} s")
    assert 64 / seconds > 10


def test_a_flood_on_stderr_does_not_stop_stdout(sshd: Sshd) -> None:
    connection = SshConnection(sshd.node(), sshd.access())
    connection.connect()
    channel = connection.open("head -c 50000000 /dev/zero >&2; echo last words >&2; echo done; exit 7")
    assert channel.read(100) == b"done\n"
    assert channel.read(100) == b""
    assert channel.exit_status(10) == 7
    assert channel.stderr_tail().endswith("last words\n")
    assert len(channel.stderr_tail()) <= 65536
    channel.close()


def test_close_frees_a_reader_and_a_writer(sshd: Sshd) -> None:
    connection = SshConnection(sshd.node(), sshd.access())
    connection.connect()
    channel = connection.open("sleep 100")
    results: list[object] = []

    def write() -> None:
        try:
            channel.write(bytes(64 << 20))
        except ConnectError as error:
            results.append(error)

    threads = [threading.Thread(target=lambda: results.append(channel.read(1))), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    start = time.monotonic()
    channel.close()
    channel.close()
    for thread in threads:
        thread.join(3)
        assert not thread.is_alive()
    assert time.monotonic() - start < 2
    assert b"" in results
    assert any(isinstance(result, NodeError) for result in results)


def test_a_black_holed_peer_is_noticed_and_left(tmp_path: Path) -> None:
    with Namespace() as space, Sshd(tmp_path / "sshd", address=space.address, namespace=space.name) as sshd:
        connection = SshConnection(sshd.node(), sshd.access())
        connection.connect()
        channel = connection.open("cat")
        channel.write(b"x")
        assert channel.read(1) == b"x"
        space.partition()
        start = time.monotonic()
        with pytest.raises(ConnectError, match="the connection broke"):
            while True:
                channel.write(bytes(1 << 20))
        assert time.monotonic() - start < 25
        start = time.monotonic()
        channel.close()
        assert channel.read(1) == b""
        assert time.monotonic() - start < 2


def test_secrets_are_in_no_message(sshd: Sshd, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key = keygen(tmp_path / "locked", passphrase="opensesame")
    access = sshd.access()
    access.passphrases[str(key)] = "opensesame2"
    with pytest.raises(PassphraseNeeded) as wrong:
        connect(sshd.node(key_file=str(key)), access)
    access.passphrases[str(key)] = "opensesame"
    with pytest.raises(LoginRefused) as refused:
        connect(sshd.node(key_file=str(key)), access)
    printed = "".join(capfd.readouterr()) + str(wrong.value) + repr(wrong.value) + str(refused.value)
    assert "opensesame" not in printed
    assert os.environ.get("SSH_AUTH_SOCK") is None
