"""Commands on a real sshd: all bytes, much data, a peer that is gone, and an end in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.access import Access, connection_to
from engine.job import ConnectError, Node, NodeError
from engine.ssh import SshChannel, SshConnection

from ..sshd import Namespace, Sshd


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
    connection = connection_to(node, access)
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
    channel = connection.open("sleep 10")
    results: list[object] = []

    def write() -> None:
        try:
            channel.write(bytes(64 << 20))
        except ConnectError as error:
            results.append(error)

    threads = [
        threading.Thread(target=lambda: results.append(channel.read(1))),
        threading.Thread(target=write),
    ]
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


def opened(sshd: Sshd, command: str) -> SshChannel:
    connection = SshConnection(sshd.node(), sshd.access())
    connection.connect()
    return connection.open(command)


@pytest.fixture
def far(tmp_path: Path, namespace: Namespace) -> Iterator[Sshd]:
    with Sshd(tmp_path / "far", address=namespace.address, namespace=namespace.name) as sshd:
        yield sshd


def test_a_black_holed_peer_is_noticed(far: Sshd, namespace: Namespace) -> None:
    writing, reading = opened(far, "cat"), opened(far, "cat")
    writing.write(b"x")
    assert writing.read(1) == b"x"
    namespace.partition()
    start = time.monotonic()
    with pytest.raises(ConnectError, match="the connection broke") as broken:
        while True:
            writing.write(bytes(1 << 20))
    assert broken.value.node == "node"
    assert reading.read(1) == b"", "which sends nothing and has only the kernel's probes"
    assert time.monotonic() - start < 25
    assert writing.exit_status(1) is reading.exit_status(1) is None
    for channel in (writing, reading):
        channel.close()


def test_a_black_holed_peer_is_left_at_once(far: Sshd, namespace: Namespace) -> None:
    channel = opened(far, "cat")
    namespace.partition()
    ended: list[str] = []

    def write() -> None:
        with pytest.raises(ConnectError):
            channel.write(bytes(64 << 20))
        ended.append("writer")

    def read() -> None:
        assert channel.read(1) == b""
        ended.append("reader")

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    time.sleep(1)  # Long enough to fill all buffers on the way.
    assert not ended
    start = time.monotonic()
    channel.close()
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - start < 2
    assert sorted(ended) == ["reader", "writer"]


def test_a_short_partition_does_no_harm(far: Sshd, namespace: Namespace) -> None:
    channel = opened(far, "cat")
    namespace.partition()
    channel.write(b"still there")
    time.sleep(2)
    namespace.heal()
    assert channel.read(100) == b"still there"
    channel.close()


def test_a_server_that_is_killed(sshd: Sshd, capfd: pytest.CaptureFixture[str]) -> None:
    channel = opened(sshd, "cat")
    sshd.stop()
    assert channel.read(1) == b""
    with pytest.raises(ConnectError):
        channel.write(bytes(1 << 20))
    assert channel.exit_status(1) is None
    channel.close()
    assert "".join(capfd.readouterr()) == "", "no tracebacks from paramiko's threads"


def test_exit_status(sshd: Sshd) -> None:
    for command, status in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -1)):
        channel = opened(sshd, command)
        assert channel.read(1) == b""
        assert channel.exit_status(5) == status
        channel.close()
    channel = opened(sshd, "cat")
    assert channel.exit_status(0.1) is None
    channel.close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sleep 10", "did not end within 1 s"),
        ("while sleep 0.2; do echo x; done", "did not end within 1 s"),
        ("yes", "more than 1 MiB"),
        ("yes >&2", "more than 1 MiB|did not end"),
        ("kill -9 $PPID", "connection broke"),
    ],
)
def test_a_command_that_does_not_answer_as_it_should(sshd: Sshd, command: str, words: str) -> None:
    connection = SshConnection(sshd.node(), sshd.access())
    connection.connect()
    start = time.monotonic()
    with pytest.raises(ConnectError, match=words) as failed:
        connection.run(command, 1)
    assert time.monotonic() - start < 4
    assert failed.value.node == "node"
    connection.close()
