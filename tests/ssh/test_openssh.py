"""The back end that is the system's own ssh: a real one, against a real sshd, and what its complaints become."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from engine.access import Access
from engine.job import (
    ConnectError,
    HostKeyChanged,
    HostKeyUnknown,
    HostNotFound,
    LoginRefused,
    Node,
    NodeError,
)
from engine.known_hosts import KnownHosts
from engine.openssh import OpenSshConnection, SshProcess

from ..sshd import Agent, Namespace, Sshd, free_port, keygen, log_in
from ..support import wait_until
from .test_channel import ALL_BYTES, exchange
from .test_connect import serve


def node(sshd: Sshd, **changes: object) -> Node:
    return sshd.node(backend="openssh", **changes)


def opened(sshd: Sshd, command: str) -> SshProcess:
    connection = OpenSshConnection(node(sshd), sshd.access())
    connection.connect()
    return connection.open(command)


def refused(where: Node, access: Access) -> NodeError:
    start = time.monotonic()
    with pytest.raises(NodeError) as error:
        log_in(where, access)
    assert error.value.node == where.name
    assert time.monotonic() - start < 15
    return error.value


def test_all_bytes_come_back(sshd: Sshd) -> None:
    assert exchange(node(sshd), sshd.access(), ALL_BYTES * 16) < 10


def test_a_flood_on_stderr_does_not_stop_stdout(sshd: Sshd) -> None:
    channel = opened(sshd, "head -c 50000000 /dev/zero >&2; echo last words >&2; echo done; exit 7")
    assert channel.read(100) == b"done\n"
    assert channel.read(100) == b""
    assert channel.exit_status(10) == 7
    assert channel.stderr_tail().endswith("last words\n")
    channel.close()


def test_exit_status(sshd: Sshd) -> None:
    for command, status in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", None)):
        channel = opened(sshd, command)
        assert channel.read(1) == b""
        assert channel.exit_status(5) == status
    channel = opened(sshd, "cat")
    assert channel.exit_status(0.1) is None
    sshd.stop()
    assert channel.read(1) == b""
    assert channel.exit_status(5) is None
    with pytest.raises(ConnectError, match="ssh ended"):
        channel.write(bytes(1 << 20))


def test_close_frees_a_reader_and_a_writer_and_leaves_no_process(sshd: Sshd) -> None:
    channel = opened(sshd, "sleep 10")
    freed: list[str] = []

    def write() -> None:
        with pytest.raises(ConnectError):
            channel.write(bytes(64 << 20))
        freed.append("writer")

    threads = [
        threading.Thread(target=lambda: freed.append(repr(channel.read(1)))),
        threading.Thread(target=write),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    channel.close()
    channel.close()
    for thread in threads:
        thread.join(5)
    assert sorted(freed) == ["b''", "writer"]
    assert wait_until(lambda: not sshd.children(), 5)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sleep 10", "did not end within 1 s"),
        ("yes", "more than 1 MiB"),
        ("kill -9 $PPID", "connection broke"),
    ],
)
def test_a_command_that_does_not_answer_as_it_should(sshd: Sshd, command: str, words: str) -> None:
    connection = OpenSshConnection(node(sshd), sshd.access())
    connection.connect()
    with pytest.raises(ConnectError, match=words) as failed:
        connection.run(command, 1)
    assert failed.value.node == "node"
    connection.close()
    with pytest.raises(ConnectError, match="closed"):
        connection.open("true")


def test_an_unknown_host_key_is_shown_and_then_trusted(sshd: Sshd) -> None:
    access = sshd.access(trusted=False)
    error = refused(node(sshd), access)
    assert isinstance(error, HostKeyUnknown)
    assert error.key == sshd.public_host_key
    assert error.fingerprint in error.message
    assert f"ssh -p {sshd.port} -o UserKnownHostsFile={access.known_hosts.own}" in error.hint
    assert "Accepted" not in sshd.log.read_text()
    access.known_hosts.add(error.host, error.port, error.key)
    log_in(node(sshd), access)


def test_a_changed_and_a_revoked_host_key(sshd: Sshd, tmp_path: Path) -> None:
    access = sshd.access()
    access.known_hosts.own.write_text(sshd.known_hosts_line() + f"@revoked * {sshd.public_host_key}\n")
    error = refused(node(sshd), access)
    assert isinstance(error, HostKeyChanged)
    assert "revoked" in error.message
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text().split()
    access.known_hosts.own.write_text(f"[127.0.0.1]:{sshd.port} {other[0]} {other[1]}\n")
    error = refused(node(sshd), access)
    assert isinstance(error, HostKeyChanged)
    assert "it now shows SHA256:" in error.message
    assert f'ssh-keygen -R "[127.0.0.1]:{sshd.port}"' in error.hint


def test_what_is_configured_cannot_make_it_trust(sshd: Sshd) -> None:
    config = (
        "StrictHostKeyChecking no\nUpdateHostKeys yes\nBatchMode no\nRequestTTY force\nRemoteCommand true\n"
    )
    access = sshd.access(trusted=False, config=config)
    assert isinstance(refused(node(sshd), access), HostKeyUnknown)
    assert access.known_hosts.own.read_text() == ""
    access.known_hosts.own.write_text(sshd.known_hosts_line())
    log_in(node(sshd), access)


def test_refused_logins(sshd: Sshd, tmp_path: Path, agent: Agent) -> None:
    agent.add(*(keygen(tmp_path / f"other{number}") for number in range(8)), sshd.user_key)
    error = refused(node(sshd, key_file=""), sshd.access())
    assert isinstance(error, LoginRefused)
    assert "too many keys" in error.message
    log_in(node(sshd), sshd.access())
    error = refused(node(sshd, key_file=str(tmp_path / "other1")), sshd.access())
    assert isinstance(error, LoginRefused)
    assert "does not let ssh in without a question (publickey)" in error.message


def test_hosts_that_are_not_there(
    tmp_path: Path, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.openssh.LOGIN_S", 3.0)
    access = Access(KnownHosts([], tmp_path / "records"))
    (tmp_path / "config").write_text("ConnectTimeout 1\n")
    access.config = tmp_path / "config"
    error = refused(Node("n", "nowhere.invalid", backend="openssh"), access)
    assert isinstance(error, HostNotFound)
    assert "no host named 'nowhere.invalid'" in error.message
    port = free_port()
    assert (
        f"refused the connection to port {port}"
        in refused(Node("n", "127.0.0.1", port, backend="openssh"), access).message
    )
    namespace.partition()
    assert (
        "did not answer in time" in refused(Node("n", namespace.address, backend="openssh"), access).message
    )
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200, b"SSH-2.0-Silent\r\n"):
        where = Node("n", "127.0.0.1", serve(answer), backend="openssh")
        error = refused(where, access)
        assert isinstance(error, ConnectError), error
        assert not error.is_final


def test_a_computer_without_ssh(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    error = refused(node(sshd), sshd.access())
    assert "There is no ssh program" in error.message
    assert error.is_final
    log_in(sshd.node(), sshd.access())


def test_a_connection_that_the_user_shares_is_used(sshd: Sshd, tmp_path: Path) -> None:
    """ControlMaster: who has logged in by hand, by a password say, is not asked again."""
    config = f"ControlPath {tmp_path}/shared\n"
    access = sshd.access(config=config)
    options = ["-o", f"UserKnownHostsFile={access.known_hosts.own}", "-i", str(sshd.user_key)]
    where = ["-p", str(sshd.port), f"{sshd.node().user}@127.0.0.1"]
    master = ["ssh", "-F", str(access.config), "-M", "-N", *options, *where]
    process = subprocess.Popen(master, stdin=subprocess.DEVNULL)
    try:
        assert wait_until((tmp_path / "shared").exists, 5)
        (sshd.folder / "authorized_keys").write_text("")
        log_in(node(sshd, key_file=""), access)
        exchange(node(sshd, key_file=""), access, ALL_BYTES)
        assert len(sshd.children()) == 1
    finally:
        process.terminate()
        process.wait()
    assert isinstance(refused(node(sshd, key_file=""), access), LoginRefused)


def test_nothing_is_left_in_the_temporary_folder(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    log_in(node(sshd), sshd.access())
    refused(node(sshd), sshd.access(trusted=False))
    assert os.listdir(tmp_path / "tmp") == []  # noqa: PTH208
