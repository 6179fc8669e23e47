"""A real sshd for the tests here, and the assurance that the user's own files stay as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..sshd import Agent, Namespace, Sshd


@pytest.fixture(autouse=True)
def no_keys_but_the_test_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as space:
        yield space


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def answer() -> str:
    return "exit 1"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Iterator[Agent]:
    agent = Agent(tmp_path, answer)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    yield agent
    agent.stop()


@pytest.fixture(scope="session", autouse=True)
def users_known_hosts_stays_as_it_was() -> Iterator[None]:
    def state() -> list[str | None]:
        paths = (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts"))
        return [hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None for path in paths]

    before = state()
    yield
    assert state() == before
