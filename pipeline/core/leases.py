"""Renewal of leases while their holders work: one thread of the process renews all of them."""

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
    """A lease as its holder knows it, by this process's own clock."""

    renew: Callable[[], bool]
    seconds: float
    since: float  # for `seconds` from this time of the monotonic clock, no other process can claim the lease
    due: float
    log_fields: dict[str, str]
    lost: bool = False
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def is_valid(self) -> bool:
        """Return whether no other process can have claimed the lease.

        The clock runs while the process is stopped, but renewals do not happen.
        """
        return not self.lost and time.monotonic() < self.since + self.seconds

    def renew_unless_ended(self) -> None:
        # Under the lock, so that no renewal can follow the last write of a holder that is done.
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
                # If this thread ended, all leases of the process would expire.
                log.exception("lease_not_renewed", **self.log_fields)


class LeaseRenewer:
    """Renews the leases of a process, in one thread that starts with the first lease.

    A thread per lease would be simpler, but costs a busy process 16 ms or more per lease (measured): its holder must wait
    for the interpreter to start it, and again to end it.
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
        """Yield the lease, and call `renew` three times in `seconds` while the block runs, never after it.

        `renew` returns whether the holder still had the lease. `since` is the monotonic time just before the claim, by
        default now. `log_fields` are logged with a failed renewal.
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
            # Leases are renewed one after another. The deadline bounds all waits for locks together, so that no other lease
            # expires meanwhile.
            deadline.set_deadline(min(lease.seconds for lease in due) / 3)
            for lease in due:
                lease.renew_unless_ended()

    def _due(self) -> list[Lease]:
        """Wait until a lease is due for renewal, and return all that are due."""
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


#: The renewer of this process.
LEASE_RENEWER: Final = LeaseRenewer()
