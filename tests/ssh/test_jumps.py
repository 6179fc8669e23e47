"""Nodes behind other hosts: through several jumps, each of them real, and by a ProxyCommand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.access import Access, connection_to
from engine.job import ConnectError, HostKeyChanged, HostKeyUnknown, LoginRefused, Node, NodeError
from engine.known_hosts import KnownHosts

from ..sshd import Agent, Sshd, chain, keygen, log_in
from .test_channel import ALL_BYTES, exchange

BACKENDS = pytest.mark.parametrize("backend", ["paramiko", "openssh"])


@pytest.fixture(scope="module")
def hops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Sshd]]:
    """Two hosts on the way and a node, each in a network of its own."""
    with chain(tmp_path_factory.mktemp("chain"), 3) as made:
        yield made


@pytest.fixture
def keys(hops: list[Sshd], agent: Agent) -> None:
    agent.add(*(sshd.user_key for sshd in hops))


def road(hops: list[Sshd]) -> str:
    first, second, node = hops
    return (
        f"Host node\n HostName {node.address}\n Port {node.port}\n ProxyJump second\n"
        f"Host second\n HostName {second.address}\n Port {second.port}\n"
        f" ProxyJump {first.node().user}@{first.address}:{first.port}\n"
    )


def access(hops: list[Sshd], folder: Path, *trusted: int, config: str = "") -> Access:
    file = folder / "config"
    file.write_text(config or road(hops))
    own = folder / "own"
    own.write_text("".join(hops[number].known_hosts_line() for number in trusted))
    return Access(KnownHosts([], own), config=file)


@BACKENDS
@pytest.mark.usefixtures("keys")
def test_through_two_hosts_with_the_agent(hops: list[Sshd], tmp_path: Path, backend: str) -> None:
    for hidden in hops[1:]:
        with pytest.raises(NodeError):
            log_in(hidden.node(backend=backend), access(hops, tmp_path, 0, 1, 2, config="ConnectTimeout 1\n"))
    node = Node("node", "node", backend=backend)
    log_in(node, access(hops, tmp_path, 0, 1, 2))
    seconds = exchange(node, access(hops, tmp_path, 0, 1, 2), ALL_BYTES * 8)
    print(f"8 MiB there and back in {seconds:.2f} s")
    assert all("Accepted publickey" in sshd.log.read_text() for sshd in hops)


@BACKENDS
@pytest.mark.usefixtures("keys")
def test_each_host_on_the_way_must_be_trusted(hops: list[Sshd], tmp_path: Path, backend: str) -> None:
    node = Node("node", "node", backend=backend)
    records = access(hops, tmp_path)
    for sshd in hops:
        before = sshd.log.read_text().count("Accepted")
        with pytest.raises(HostKeyUnknown) as unknown:
            log_in(node, records)
        error = unknown.value
        assert (error.host, error.port, error.node) == (sshd.address, sshd.port, "node")
        assert error.key == sshd.public_host_key
        assert sshd.log.read_text().count("Accepted") == before, "nobody logs in before that"
        records.known_hosts.add(error.host, error.port, error.key)
    log_in(node, records)
    other = keygen(tmp_path / "other").with_suffix(".pub").read_text().split()
    records.known_hosts.own.write_text(
        hops[0].known_hosts_line() + f"[{hops[1].address}]:{hops[1].port} {other[0]} {other[1]}\n"
    )
    with pytest.raises(HostKeyChanged, match=rf"key of \[?{hops[1].address}"):
        log_in(node, records)


@BACKENDS
def test_who_does_not_let_us_pass_is_named(
    hops: list[Sshd], tmp_path: Path, agent: Agent, backend: str
) -> None:
    agent.add(hops[0].user_key)
    with pytest.raises(LoginRefused, match=hops[1].address):
        log_in(Node("node", "node", backend=backend), access(hops, tmp_path, 0, 1, 2))


@pytest.mark.usefixtures("keys")
def test_a_way_that_leads_no_further(hops: list[Sshd], tmp_path: Path) -> None:
    config = road(hops).replace(f"Port {hops[2].port}", "Port 1", 1)
    with pytest.raises(
        ConnectError, match=rf"{hops[1].address} does not bring us on to {hops[2].address} port 1 \(Connect"
    ):
        log_in(Node("node", "node"), access(hops, tmp_path, 0, 1, 2, config=config))


@pytest.mark.usefixtures("keys")
def test_closing_does_not_wait_for_the_hosts_on_the_way(hops: list[Sshd], tmp_path: Path) -> None:
    connection = connection_to(Node("node", "node"), access(hops, tmp_path, 0, 1, 2))
    connection.connect()
    channel = connection.open("cat")
    start = time.monotonic()
    channel.close()
    assert time.monotonic() - start < 1
    assert channel.read(1) == b""


def test_a_proxy_command(hops: list[Sshd], tmp_path: Path) -> None:
    first = hops[0]
    config = "Host node\n HostName {0}\n Port {1}\n ProxyCommand {2}\n"
    command = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3'"
    key = {"key_file": str(first.user_key)}
    for backend in ("paramiko", "openssh"):
        text = config.format(first.address, first.port, command)
        node = Node("node", "node", backend=backend, **key)  # type: ignore[arg-type]
        log_in(node, access(hops, tmp_path, 0, config=text))
    exchange(Node("node", "node", **key), access(hops, tmp_path, 0, config=text), ALL_BYTES)  # type: ignore[arg-type]
    for command in ("false", "echo no ssh server", "/no/such/program"):
        text = config.format(first.address, first.port, command)
        start = time.monotonic()
        with pytest.raises(ConnectError, match=r"ProxyCommand for node brings us to no SSH server"):
            log_in(Node("node", "node", **key), access(hops, tmp_path, 0, config=text))  # type: ignore[arg-type]
        assert time.monotonic() - start < 20


@pytest.mark.parametrize("dying", [0, 1, 2])
def test_a_host_on_the_way_that_dies(
    tmp_path: Path, agent: Agent, capfd: pytest.CaptureFixture[str], dying: int
) -> None:
    with chain(tmp_path / "chain", 3) as hops:
        agent.add(*(sshd.user_key for sshd in hops))
        connection = connection_to(Node("node", "node"), access(hops, tmp_path, 0, 1, 2))
        connection.connect()
        channel = connection.open("cat")
        channel.write(b"x")
        assert channel.read(1) == b"x"
        hops[dying].stop()
        assert channel.read(1) == b""
        with pytest.raises(ConnectError):
            channel.write(bytes(1 << 20))
        assert channel.exit_status(1) is None
        channel.close()
        time.sleep(0.5)
    assert "".join(capfd.readouterr()) == "", "no tracebacks from paramiko's threads"
