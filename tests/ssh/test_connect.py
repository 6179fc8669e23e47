"""Reaching a real sshd, or something else, and whether its host key is trusted."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from engine.access import Access
from engine.job import ConnectError, HostKeyChanged, HostKeyUnknown, HostNotFound, Node
from engine.known_hosts import KnownHosts
from engine.ssh import SshConnection

from ..sshd import Namespace, Sshd, free_port, keygen, log_in


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd whose log tells of every attempt to log in, also of one without a key."""
    with Sshd(tmp_path / "talkative", options="LogLevel DEBUG1\n") as sshd:
        yield sshd


def test_unknown_host_key(talkative: Sshd) -> None:
    sshd = talkative
    access = sshd.access(trusted=False)
    with pytest.raises(HostKeyUnknown) as unknown:
        log_in(sshd.node(), access)
    error = unknown.value
    listed = subprocess.run(
        ["ssh-keygen", "-lf", str(sshd.host_key)], capture_output=True, text=True, check=True
    )
    assert error.fingerprint == listed.stdout.split()[1]
    assert error.fingerprint in error.message
    assert error.key == sshd.public_host_key
    line = (
        f"ssh -p {sshd.port} -o UserKnownHostsFile={access.known_hosts.own} {sshd.node().user}@127.0.0.1 exit"
    )
    assert line in error.hint
    assert "--accept-new-host-keys" in error.hint
    assert "userauth-request" not in sshd.log.read_text()
    access.known_hosts.add(error.host, error.port, error.key)
    SshConnection(sshd.node(), access).connect()


@pytest.mark.parametrize("folder", ["plain", "Application Support", "it's 100%"])
def test_the_line_of_the_hint_does_what_it_says(sshd: Sshd, tmp_path: Path, folder: str) -> None:
    own = tmp_path / folder / "known_hosts"
    own.parent.mkdir()
    access = Access(KnownHosts([], own))
    with pytest.raises(HostKeyUnknown) as unknown:
        log_in(sshd.node(), access)
    line = unknown.value.hint.partition(": ")[2].partition(" (")[0]
    # In place of the person who answers "yes".
    line = line.replace(
        "ssh ", f"ssh -i {sshd.user_key} -o StrictHostKeyChecking=accept-new -o BatchMode=yes ", 1
    )
    subprocess.run(line, shell=True, check=True, stderr=subprocess.DEVNULL)
    assert own.exists()
    log_in(sshd.node(), access)


def test_changed_host_key_is_refused_before_any_login(talkative: Sshd) -> None:
    sshd = talkative
    access = sshd.access()
    SshConnection(sshd.node(), access).connect()
    assert "userauth-request" in sshd.log.read_text(), "the log shows logins"
    sshd.stop()
    sshd.log.write_text("")
    sshd.host_key.unlink()
    keygen(sshd.host_key)
    sshd.start()
    with pytest.raises(HostKeyChanged, match=r"has changed.*ssh-keygen -R"):
        log_in(sshd.node(), access)
    assert "userauth-request" not in sshd.log.read_text()


def test_revoked_host_key(sshd: Sshd) -> None:
    access = sshd.access()
    access.known_hosts.own.write_text(sshd.known_hosts_line() + f"@revoked * {sshd.public_host_key}\n")
    with pytest.raises(HostKeyChanged, match="revoked"):
        log_in(sshd.node(), access)


def test_a_host_key_type_on_record_is_preferred(tmp_path: Path) -> None:
    with Sshd(
        tmp_path / "sshd", options=f"HostKey {keygen(tmp_path / 'rsa', '-t', 'rsa', '-b', '2048')}\n"
    ) as sshd:
        access = sshd.access()
        rsa = " ".join((tmp_path / "rsa.pub").read_text().split()[:2])
        access.known_hosts.own.write_text(f"[127.0.0.1]:{sshd.port} {rsa}\n")
        log_in(sshd.node(), access)


def test_refused_port(tmp_path: Path) -> None:
    node = Node("n", "127.0.0.1", free_port())
    with pytest.raises(ConnectError, match=f"refused the connection to port {node.port}") as refused:
        log_in(node, Access(KnownHosts([], tmp_path / "kh")))
    assert refused.value.node == "n"
    assert not refused.value.is_final


def test_host_that_does_not_resolve(tmp_path: Path) -> None:
    with pytest.raises(HostNotFound, match="no host named 'nowhere.invalid'"):
        log_in(Node("n", "nowhere.invalid"), Access(KnownHosts([], tmp_path / "kh")))


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
    [
        (b"", 0),
        (b"SSH-2.0-Silent\r\n", 0),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200, 0),
        (b"SSH-2.0-drip", 2),
    ],
    ids=["silent", "banner only", "garbage", "slow drip"],
)
def test_peers_that_are_no_ssh_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, drip: float
) -> None:
    monkeypatch.setattr("engine.ssh.HANDSHAKE_S", 3.0)
    start = time.monotonic()
    with pytest.raises(ConnectError, match=r"does not speak SSH as it should.*port of an SSH server"):
        log_in(Node("n", "127.0.0.1", serve(answer, drip=drip)), Access(KnownHosts([], tmp_path / "kh")))
    assert time.monotonic() - start < 12


def test_ipv6(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", address="::1") as sshd:
        log_in(sshd.node(), sshd.access())


def resolve_to(*before: tuple[object, ...], patch: pytest.MonkeyPatch) -> None:
    """Let the resolver name other addresses before the right ones, as for a host with several."""
    real = socket.getaddrinfo

    def several(host: str, port: int, **options: int) -> list[object]:
        return [*before, *real(host, port, **options)]

    patch.setattr("engine.tcp.socket.getaddrinfo", several)


def test_an_address_that_is_dead_does_not_hide_the_one_that_lives(
    sshd: Sshd, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.ssh_config.CONNECT_S", 1.0)
    namespace.partition()
    dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (namespace.address, sshd.port))
    refusing = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", free_port("::1")))
    unsupported = (socket.AF_APPLETALK, socket.SOCK_STREAM, 0, "", ("x", 1))
    resolve_to(dead, refusing, unsupported, patch=monkeypatch)
    start = time.monotonic()
    log_in(sshd.node(), sshd.access())
    assert 1 < time.monotonic() - start < 4


def test_a_host_that_does_not_answer(
    tmp_path: Path, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.ssh_config.CONNECT_S", 1.0)
    namespace.partition()
    with pytest.raises(ConnectError, match=r"did not answer on port 22 within 1 s.*firewall"):
        log_in(Node("n", namespace.address), Access(KnownHosts([], tmp_path / "kh")))


def test_close_ends_an_attempt_to_connect(tmp_path: Path) -> None:
    connection = SshConnection(Node("n", "127.0.0.1", serve(b"")), Access(KnownHosts([], tmp_path / "kh")))
    timer = threading.Timer(0.5, connection.close)
    timer.start()
    start = time.monotonic()
    with pytest.raises(ConnectError):
        connection.connect()
    assert time.monotonic() - start < 3
    timer.join()


def test_a_closed_connection_stays_closed(sshd: Sshd) -> None:
    connection = SshConnection(sshd.node(), sshd.access())
    connection.close()
    with pytest.raises(ConnectError, match="closed"):
        connection.connect()
    with pytest.raises(ConnectError, match="closed"):
        connection.open("true")


def test_too_many_logins_at_once(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", options="MaxStartups 1:100:1\n") as sshd:
        with ExitStack() as stack:
            # The connection by which sshd was seen to answer may still count.
            while True:
                waiting = stack.enter_context(socket.create_connection((sshd.address, sshd.port)))
                if waiting.recv(100).startswith(b"SSH-"):
                    break
            with pytest.raises(ConnectError, match="too many log in at once") as turned_away:
                log_in(sshd.node(), sshd.access())
            assert not turned_away.value.is_final
        deadline = time.monotonic() + 10
        while True:  # sshd takes a moment to see that the other one is gone.
            try:
                log_in(sshd.node(), sshd.access())
                break
            except ConnectError:
                assert time.monotonic() < deadline
