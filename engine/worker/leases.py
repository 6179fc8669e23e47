"""Which objects of the cache living workers use, so that nobody cleans them away.

leases/x7k2q        the digests that one worker uses
leases/x7k2q.lock   held as long as it lives; the system drops it with the process
lock                held for a moment by whoever begins to use something, or cleans up
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import locked

LOCK_S = 60.0


class Leases:
    """The leases of a cache, and this worker's own among them."""

    def __init__(self, cache: Path) -> None:
        """Raises OSError."""
        self._lock_path = cache / "lock"
        self._folder = cache / "leases"
        self._own = self._folder / secrets.token_hex(8)
        # Between making the file and locking it, who cleans up would take us for dead.
        with self.held():
            self._lock = locked(self._own.with_suffix(".lock"))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody begins to use an object while somebody cleans up."""
        deadline = time.monotonic() + LOCK_S
        while (handle := locked(self._lock_path)) is None:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, f"the cache {self._lock_path.parent} is held by another worker")
            time.sleep(0.02)
        try:
            yield
        finally:
            handle.close()

    def add(self, digests: Iterable[str]) -> None:
        """Use these from now on, as long as this process lives."""
        with self.held(), self._own.open("a") as lease:
            lease.writelines(f"{digest}\n" for digest in digests)

    def used(self) -> Iterator[str]:
        """What living workers use; the leases of dead ones are removed. To be called while held."""
        for lock in self._folder.glob("*.lock"):
            lease = lock.with_suffix("")
            if lease != self._own:
                try:
                    handle = locked(lock)
                except OSError:
                    handle = None
                if handle is not None:
                    handle.close()
                    lease.unlink(missing_ok=True)
                    lock.unlink(missing_ok=True)
                    continue
            try:
                yield from lease.read_text().split()
            except OSError:
                continue

    def close(self) -> None:
        """Let others clean up what was used here."""
        self._own.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self._own.with_suffix(".lock").unlink(missing_ok=True)
