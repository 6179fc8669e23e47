"""A real sshd for the tests here, and the assurance that the user's own files stay as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..sshd import Sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def users_known_hosts_stays_as_it_was() -> Iterator[None]:
    def state() -> list[str | None]:
        paths = (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts"))
        return [hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None for path in paths]

    before = state()
    yield
    assert state() == before
