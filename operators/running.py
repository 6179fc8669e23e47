"""The one render that may be running: the only place that holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..engine.session import RenderSession
from ..engine.store import JobStore

STOP_S = 2.5


@dataclass
class Running:
    """A session, and what is needed to bring its result home."""

    session: RenderSession
    store: JobStore
    output: Path
    warnings: list[str] = field(default_factory=list)


_current: Running | None = None


def current() -> Running | None:
    return _current


def begin(running: Running) -> None:
    global _current
    _current = running
    running.session.start()


def end() -> None:
    """The session is over; its job folder may be used by others."""
    global _current
    if _current is not None:
        _current.store.close()
        _current = None


def stop() -> None:
    """End whatever runs, within a few seconds: the extension is being disabled, or Blender quits."""
    if _current is not None:
        _current.session.cancel()
        _current.session.join(STOP_S)
        end()
