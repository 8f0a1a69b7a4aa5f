"""Tests of leases: one thread renews them while they are held, and never afterwards."""

import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from pipeline.core import deadline, leases
from pipeline.core.errors import DatabaseBusy
from pipeline.core.leases import LeaseRenewer

SECONDS = 0.06
LONG = 3_600.0


class Renewals:
    """Counts the renewals of one lease; a test can wait for them."""

    def __init__(self, error: Exception | None = None, *, held: bool = True) -> None:
        self.count = 0
        self.held = held
        self.threads: set[int] = set()
        self._error = error
        self._counted = threading.Condition()

    def __call__(self) -> bool:
        with self._counted:
            self.count += 1
            self.threads.add(threading.get_ident())
            self._counted.notify_all()
        if self._error is not None:
            raise self._error
        return self.held

    def wait_for(self, count: int) -> bool:
        """Return whether there were `count` renewals within ten seconds."""
        with self._counted:
            return self._counted.wait_for(lambda: self.count >= count, timeout=10)


def test_held_lease_is_renewed_repeatedly() -> None:
    renewals = Renewals()
    with LeaseRenewer().hold(SECONDS, renewals):
        assert renewals.wait_for(3)


def test_ended_lease_is_not_renewed() -> None:
    renewer, ended, later = LeaseRenewer(), Renewals(), Renewals()
    with renewer.hold(SECONDS, ended):
        assert ended.wait_for(1)
    count = ended.count
    with renewer.hold(SECONDS, later):
        assert later.wait_for(3)
    assert ended.count == count


def test_short_lease_is_renewed_alongside_a_long_one() -> None:
    renewer, long, short = LeaseRenewer(), Renewals(), Renewals()
    with renewer.hold(LONG, long), renewer.hold(SECONDS, short):
        assert short.wait_for(2)
    assert long.count == 0


def test_failed_renewal_is_retried_and_stops_no_other() -> None:
    renewer, busy, broken, sound = (
        LeaseRenewer(),
        Renewals(DatabaseBusy("not now")),
        Renewals(ValueError("a fault")),
        Renewals(),
    )
    with renewer.hold(SECONDS, busy), renewer.hold(SECONDS, broken), renewer.hold(SECONDS, sound):
        assert all(each.wait_for(2) for each in (busy, broken, sound))


class Locked(Renewals):
    """A renewal that waits for a lock on its row until the deadline."""

    def __init__(self) -> None:
        super().__init__(DatabaseBusy("another has the lock"))
        self.released = threading.Event()

    def __call__(self) -> bool:
        self.released.wait(deadline.seconds_left(LONG))
        return super().__call__()


def test_renewal_that_waits_for_a_lock_lets_no_other_lease_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "SHORTEST_SECONDS", 0.001)  # the default is longer than these leases
    renewer, sound = LeaseRenewer(), Renewals()
    several = [Locked() for _ in range(3)]
    with ExitStack() as held:
        for locked in several:
            held.enter_context(renewer.hold(SECONDS, locked))
            held.callback(locked.released.set)
        lease = held.enter_context(renewer.hold(SECONDS, sound))
        assert sound.wait_for(3)
        assert not lease.lost


def test_one_thread_keeps_every_lease() -> None:
    renewer, one, other = LeaseRenewer(), Renewals(), Renewals()
    with renewer.hold(SECONDS, one), renewer.hold(SECONDS, other):
        assert one.wait_for(2)
        assert other.wait_for(2)
    assert one.threads == other.threads
    assert len(one.threads) == 1


def test_lease_is_valid_for_its_seconds_since_just_before_the_claim() -> None:
    renewer = LeaseRenewer()
    with (
        renewer.hold(LONG, Renewals()) as fresh,
        renewer.hold(LONG, Renewals(), since=time.monotonic() - LONG) as stale,
    ):
        assert fresh.is_valid()
        assert not stale.is_valid()


def test_renewal_extends_the_lease_unless_another_holder_has_it() -> None:
    renewer, kept, taken = LeaseRenewer(), Renewals(), Renewals(held=False)
    before = time.monotonic()
    with renewer.hold(SECONDS, kept) as renewed, renewer.hold(SECONDS, taken) as lost:
        assert kept.wait_for(3)
        assert taken.wait_for(2)
        assert renewed.since > before + SECONDS / 3
        assert lost.lost
        assert not lost.is_valid()


def test_renewed_lease_counts_from_before_the_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def renew_slowly() -> bool:
        now[0] += 20
        return True

    lease = leases.Lease(renew_slowly, seconds=30, since=80, due=90, log_fields={})
    lease.renew_unless_ended()
    valid = [lease.is_valid()]
    now[0] = 130
    assert [*valid, lease.is_valid()] == [True, False]


def test_holder_waits_for_a_running_renewal() -> None:
    renewer = LeaseRenewer()
    begun, released, happened = threading.Event(), threading.Event(), []

    def renew() -> bool:
        begun.set()
        assert released.wait(60)
        happened.append("renewed")
        return True

    def hold() -> None:
        with renewer.hold(SECONDS, renew):
            assert begun.wait(60)
        happened.append("ended")

    holder = threading.Thread(target=hold)
    holder.start()
    assert begun.wait(60)
    released.set()
    holder.join(60)
    assert happened[-1] == "ended"
    assert set(happened) == {"renewed", "ended"}
