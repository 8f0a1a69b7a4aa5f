"""Leases that are kept while their holder works: one thread of the process renews all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final

import structlog

from pipeline.core import deadline
from pipeline.core.errors import DatabaseBusy

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Lease:
    """What its holder goes by: whether the lease is still its own for certain."""

    renew: Callable[[], bool]
    seconds: float
    since: float  # from here on, by this process's own clock, nobody else can have it for `seconds`
    due: float
    log_fields: dict[str, str]
    lost: bool = False
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_valid(self) -> bool:
        """Tell whether nobody else can have taken it: the clock goes on while the process is stopped, renewals do not."""
        return not self.lost and time.monotonic() < self.since + self.seconds

    def renew_unless_ended(self) -> None:
        # Held meanwhile, so that a holder who is done never has a renewal follow what it wrote.
        with self.lock:
            if self.ended:
                return
            began = time.monotonic()
            try:
                if self.renew():
                    self.since = began
                else:
                    self.lost = True
            except DatabaseBusy:
                log.warning("lease_not_renewed", **self.log_fields)
            except Exception:
                # A thread that ends here would let every later lease run out.
                log.exception("lease_not_renewed", **self.log_fields)


class LeaseRenewer:
    """Renews the leases of a process, from a thread that begins with the first of them.

    A thread for each lease would be simpler and was measured to cost a busy process 16 ms a lease and more: to start and
    to end one, its holder has to wait for the interpreter twice.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._leases: set[Lease] = set()
        self._next_due = inf
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(
        self, seconds: float, renew: Callable[[], bool], *, since: float | None = None, **log_fields: str
    ) -> Iterator[Lease]:
        """Call `renew` three times in `seconds` while the block runs, and never after; `log_fields` goes into the log.

        `renew` returns whether the lease was still the holder's. `since` is the monotonic time just before it was taken, by
        default now.
        """
        now = time.monotonic()
        lease = Lease(renew, seconds, now if since is None else since, now + seconds / 3, log_fields)
        with self._changed:
            self._leases.add(lease)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
            elif lease.due < self._next_due:
                self._changed.notify()
        try:
            yield lease
        finally:
            with self._changed:
                self._leases.discard(lease)
            with lease.lock:
                lease.ended = True

    def _run(self) -> None:
        while True:
            due = self._due()
            # They are renewed one after another: those that have to wait for a lock wait no longer than this together, so
            # that none of the others runs out meanwhile.
            deadline.set_deadline(min(lease.seconds for lease in due) / 3)
            for lease in due:
                lease.renew_unless_ended()

    def _due(self) -> list[Lease]:
        """Wait until some lease is due, and return those that are."""
        with self._changed:
            while True:
                now = time.monotonic()
                due = [lease for lease in self._leases if lease.due <= now]
                if due:
                    for lease in due:
                        lease.due = now + lease.seconds / 3
                    return due
                self._next_due = min((lease.due for lease in self._leases), default=inf)
                self._changed.wait(None if self._next_due == inf else self._next_due - now)


#: The one of this operating system process.
LEASE_RENEWER: Final = LeaseRenewer()
