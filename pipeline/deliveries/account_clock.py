"""The test clock of an account: deadlines and checks of its test exports follow it, and a person moves it ahead."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import select, update
from sqlmodel import Session, col

from pipeline.accounts.api_keys import Caller
from pipeline.core.clock import format_utc, midnight
from pipeline.core.db import database_now
from pipeline.core.errors import InsufficientRole, InvalidState, ValidationFailed
from pipeline.core.failpoints import failpoint
from pipeline.core.runtime import Runtime
from pipeline.customs.reference.entry import entry_rules
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import Account, Export, ExportUnit
from pipeline.exports.schemas.account_clock import ClockEvent, ClockTarget, ClockView
from pipeline.exports.states import ExportState
from pipeline.exports.step_context import parse_unit

MOST_AHEAD: Final = timedelta(days=400)

#: The units whose certifications are read for the next end of one: those of the handoffs that are due first.
_MOST_UNITS: Final = 50


def read_ahead(session: Session, account_id: str, *, test: bool) -> timedelta:
    """Return by how much the clock of the account's test or live exports is ahead: nothing for live ones."""
    if not test:
        return timedelta(0)
    seconds = session.scalar(select(col(Account.test_clock_seconds)).where(col(Account.id) == account_id))
    return timedelta(seconds=seconds or 0)


def read_now(session: Session, runtime: Runtime, caller: Caller) -> datetime:
    """Return the time by which the caller's plans are checked: in test mode, what the account's test clock shows."""
    return runtime.clock() + read_ahead(session, caller.account_id, test=caller.test)


def show_clock(runtime: Runtime, account_id: str) -> ClockView:
    """Return what the account's test clock shows, and what happens next to its open test exports."""
    with runtime.db.read() as session:
        return _build_view(session, account_id)


def move_clock(runtime: Runtime, caller: Caller, at: datetime) -> ClockView:
    """Move the test clock of the caller's account ahead to `at`, and return it; a clock that is there, or past it, stays.

    Raises InsufficientRole for live mode, and ValidationFailed if `at` lies too far ahead.
    """
    _check_test(caller)
    with runtime.db.write() as session:
        now = _read_database_now(session)
        if at - now > MOST_AHEAD:
            raise ValidationFailed(
                f"{format_utc(at)} is more than {MOST_AHEAD.days} days ahead; take an earlier instant, or reset the clock",
                field="/at",
            )
        seconds = math.ceil((at - now).total_seconds())
        ahead = col(Account.test_clock_seconds)
        moved = session.execute(
            update(Account)
            .where(col(Account.id) == caller.account_id, ahead < seconds)
            .values(test_clock_seconds=seconds)
            .returning(col(Account.id))
        ).first()
        if moved is not None:
            fact = {"at": format_utc(at), "aheadSeconds": seconds}
            record_act(session, caller.account_id, caller.actor, Action.TEST_CLOCK_MOVED, caller.account_id, fact)
        failpoint("clock.mid")
    failpoint("clock.after")
    return show_clock(runtime, caller.account_id)


def reset_clock(runtime: Runtime, caller: Caller) -> ClockView:
    """Set the test clock back to the real time, and return it.

    Raises InsufficientRole for live mode, and InvalidState while a test handoff has a deadline that is not overdue.
    """
    _check_test(caller)
    with runtime.db.write() as session:
        ahead = col(Account.test_clock_seconds)
        is_moved = col(Account.id) == caller.account_id, ahead > 0
        reset = session.execute(
            update(Account).where(*is_moved).values(test_clock_seconds=0).returning(col(Account.id))
        ).first()
        if reset is not None:
            _check_none_waits(session, caller.account_id)
            record_act(session, caller.account_id, caller.actor, Action.TEST_CLOCK_RESET, caller.account_id)
        failpoint("clock_reset.mid")
    failpoint("clock_reset.after")
    return show_clock(runtime, caller.account_id)


def _check_test(caller: Caller) -> None:
    if not caller.may_change(test=True):
        raise InsufficientRole(f"account {caller.account_id} has a clock for its test exports only; use a test key")


def _check_none_waits(session: Session, account_id: str) -> None:
    waiting = session.scalar(
        _select_open(account_id, col(BrokerSubmission.export_id))
        .where(col(BrokerSubmission.overdue_at).is_(None))
        .order_by(col(BrokerSubmission.deadline_at))
        .limit(1)
    )
    if waiting is not None:
        raise InvalidState(
            f"test export {waiting} waits for an answer by the test clock; answer its handoff, or move the clock past its"
            " deadline, then reset the clock",
            details={"exportId": waiting},
        )


def _read_database_now(session: Session) -> datetime:
    now: datetime = session.execute(select(database_now())).scalar_one()
    return now


def _build_view(session: Session, account_id: str) -> ClockView:
    ahead = read_ahead(session, account_id, test=True)
    real = _read_database_now(session)
    now = real + ahead
    found = [each for each in _find_targets(session, account_id, now) if each.at - real <= MOST_AHEAD]
    return ClockView(now=now, ahead_seconds=int(ahead.total_seconds()), targets=sorted(found, key=lambda each: each.at))


def _select_open(account_id: str, *columns: Any) -> Any:
    return (
        select(*columns)
        .select_from(BrokerSubmission)
        .join(Export, col(Export.id) == col(BrokerSubmission.export_id))
        .where(
            col(BrokerSubmission.account_id) == account_id,
            col(BrokerSubmission.test_account_id) == account_id,
            col(BrokerSubmission.deadline_at).is_not(None),
            col(Export.state) != ExportState.SUPERSEDED.value,
        )
    )


def _find_targets(session: Session, account_id: str, now: datetime) -> Iterator[ClockTarget]:
    arrives_at = col(BrokerSubmission.arrives_at)
    arriving = _select_open(account_id, arrives_at, col(BrokerSubmission.export_id)).where(arrives_at > now)
    for at, export_id in session.execute(arriving.order_by(arrives_at).limit(1)):
        yield ClockTarget(event=ClockEvent.TRUCK_ARRIVES, at=at, export_id=export_id)
    units = (
        _select_open(account_id, col(ExportUnit.export_id), col(ExportUnit.document))
        .join(ExportUnit, col(ExportUnit.export_id) == col(BrokerSubmission.export_id))
        .order_by(col(BrokerSubmission.deadline_at), col(ExportUnit.export_id), col(ExportUnit.unit_no))
    )
    ends = [
        (midnight(each.blanket_to + timedelta(days=1)), row.export_id)
        for row in session.execute(units.limit(_MOST_UNITS))
        for each in parse_unit(row).usmca_certificates
        if each.blanket_to is not None
    ]
    for at, export_id in sorted(each for each in ends if each[0] > now)[:1]:
        yield ClockTarget(event=ClockEvent.CERTIFICATE_ENDS, at=at, export_id=export_id)
    today = now.astimezone(ZoneInfo(entry_rules().clock.zone))
    first = (today.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    yield ClockTarget(event=ClockEvent.NEXT_MONTH, at=first, export_id=None)
