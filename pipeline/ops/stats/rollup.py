"""The rollup: the sweeper counts new events and finished steps once, and adds them to the statistics."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Row, case, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from pipeline.core import metrics, tenancy
from pipeline.core.db import constants, database_now, row_count, table
from pipeline.core.heartbeats import Heartbeat
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries.outbox.outbox import OPERATOR, UPSTREAM
from pipeline.exports.event_models import Event
from pipeline.exports.events import EventType
from pipeline.exports.metrics import HANDOFF_SECONDS, OUTCOMES, STATUS_SECONDS
from pipeline.exports.models import Export, Step
from pipeline.exports.states import MILESTONES, Milestone, Outcome, SubmissionState
from pipeline.ops.queue_samples import sample_queues
from pipeline.ops.stats.durations import bin_of
from pipeline.ops.stats.models import (
    ALL,
    CORRECTION,
    HANDOFF,
    OUTCOME,
    OVERDUE,
    PERIODS,
    QUEUE_DELAY,
    QUEUE_DEPTH,
    REACHED,
    REVIEW,
    STATUS,
    STEP,
    Stat,
    period_start,
)

#: How often the sweeper counts.
ROLL_UP_SECONDS: Final = 10.0
#: What happened longer ago is committed, so that no reading misses it.
UNCOMMITTED_SECONDS: Final = 30.0
#: The first rollup begins at most so long ago.
FIRST: Final = timedelta(days=2)
#: The longest time that one transaction counts.
WINDOW: Final = timedelta(minutes=10)

#: Partners write the pointers of corrections; an index entry must not become too long.
_MAX_LABEL: Final = 200

_CURSOR: Final = "stats"
_INDEX_IN_POINTER: Final = re.compile(r"/\d+(?=/|$)")

_events, _exports, _steps, _stats = (table(model).c for model in (Event, Export, Step, Stat))
_STATUS_EVENTS: Final = (
    EventType.HANDED_OFF,
    EventType.BROKER_NOTIFIED,
    EventType.BROKER_ACKNOWLEDGED,
    EventType.BROKER_REJECTED,
    EventType.BROKER_QUERIED,
    EventType.BROKER_RELEASED,
    EventType.BROKER_ANSWER_CARRIED,
)
_STATUS_MEMBERS: Final = ("submissionStatus", "status")
_REVIEWS: Final = frozenset(
    each.value
    for each in (
        SubmissionState.ACCEPTED,
        SubmissionState.REJECTED,
        SubmissionState.QUERY,
        SubmissionState.FILED,
        SubmissionState.HELD,
        SubmissionState.RELEASED,
    )
)
_OUTCOMES: Final[Mapping[str, Outcome]] = {
    EventType.EXPORT_ACCEPTED: Outcome.IN_PROGRESS,
    EventType.EXPORT_EXECUTED: Outcome.WITH_BROKER,
    EventType.EXPORT_FAILED: Outcome.NEEDS_ATTENTION,
    EventType.EXPORT_CANCELLED: Outcome.CANCELLED,
    EventType.HANDOFF_OVERDUE: Outcome.OVERDUE,
    EventType.HANDOFF_HELD: Outcome.HANDOFF_HELD,
    EventType.HANDOFF_HOLD_RELEASED: Outcome.IN_PROGRESS,
}
_COUNTED: Final = (
    *_STATUS_EVENTS,
    *_OUTCOMES,
    EventType.EXPORT_AMENDED,
    EventType.DELIVERY_DEAD,
    EventType.EXPORT_WITHDRAWAL_REQUESTED,
)


class Fact(NamedTuple):
    """One thing that happened; `seconds` is its duration if it has one."""

    account_id: str
    name: str
    partner_id: str
    label: str
    at: datetime
    seconds: float | None = None


def roll_up(runtime: Runtime) -> bool:
    """Count what happened since the last rollup, and add it; return whether more is left. Raises DatabaseBusy."""
    with tenancy.account_scope(ALL_ACCOUNTS):
        with runtime.db.read() as session:
            cursor = select(col(Heartbeat.arrived_at)).where(col(Heartbeat.name) == _CURSOR)
            now, since = session.execute(select(database_now(), cursor.scalar_subquery())).one()
            latest: datetime = now - timedelta(seconds=UNCOMMITTED_SECONDS)
            began = since or _find_first(session, now - FIRST) or latest
        if latest < began + timedelta(seconds=ROLL_UP_SECONDS):
            return False
        until = min(latest, began + WINDOW)
        count_until(runtime, began, until, now=now if until == latest else None)
    return until < latest


def _find_first(session: Session, since: datetime) -> datetime | None:
    """Return an instant just before the first event after `since`, or None if there is none."""
    first = session.scalar(select(func.min(_events.at)).where(_events.at > since))
    return None if first is None else first - timedelta(milliseconds=1)


def count_until(runtime: Runtime, since: datetime, until: datetime, *, now: datetime | None = None) -> bool:
    """Count what happened between two instants, and with `now` the due work; return False if it was counted before.

    The counts and the instant until which they count are written together, so that nothing counts twice.
    """
    with runtime.db.read() as session:
        facts = [*_read_events(session, since, until), *_read_steps(session, since, until)]
        samples = {} if now is None else _sample_queues(session, now)
    counts = Counter(key for fact in facts for key in _keys(fact))
    # If two sweepers write the first cursor, the first one counts.
    with suppress(IntegrityError):
        with runtime.db.write() as session:
            if not _move_cursor(session, since, until):
                return False
            _write(session, counts, adds=True)
            _write(session, samples, adds=False)
            _delete_old(session, until)
        _observe(facts)
        return True
    return False


def _observe(facts: Iterable[Fact]) -> None:
    """Count the facts in the metrics, which have no account and no partner."""
    for fact in facts:
        if fact.name == OUTCOME:
            metrics.count(OUTCOMES, fact.label)
        elif fact.name == HANDOFF:
            metrics.observe(HANDOFF_SECONDS, fact.seconds or 0)
        elif fact.name == STATUS and fact.label != OVERDUE:
            metrics.observe(STATUS_SECONDS, fact.seconds or 0, fact.label)


def _move_cursor(session: Session, since: datetime, until: datetime) -> bool:
    cursor = col(Heartbeat.name) == _CURSOR
    if session.scalar(select(1).where(cursor)) is None:
        session.execute(insert(table(Heartbeat)).values(name=_CURSOR, arrived_at=until))
        return True
    moved = update(Heartbeat).where(cursor, col(Heartbeat.arrived_at) == since).values(arrived_at=until)
    return row_count(session.execute(moved)) == 1


def _read_events(session: Session, since: datetime, until: datetime) -> Iterator[Fact]:
    earlier = table(Event).alias()
    # Of the handoff after the answer; older versions wrote only the status of the answer.
    reached = func.coalesce(*(earlier.c.data[name].as_string() for name in _STATUS_MEMBERS))
    reviewed = reached.in_(constants(sorted(_REVIEWS)))

    before = earlier.c.export_id == _events.export_id, earlier.c.seq < _events.seq

    def find(found: Any, *conditions: Any) -> Any:
        of_status = earlier.c.type.in_(constants(_STATUS_EVENTS))
        return select(found).where(*before, of_status, *conditions).scalar_subquery()

    def count_earlier(milestone: Milestone) -> Any:
        if milestone is Milestone.OVERDUE:
            overdue = earlier.c.type == EventType.HANDOFF_OVERDUE.value
            return select(func.count()).where(*before, overdue).scalar_subquery()
        statuses = [status.value for status, each in MILESTONES.items() if each is milestone]
        return find(func.count(), reached.in_(constants(sorted(statuses))), earlier.c.data["moved"].as_boolean())

    has_status = _events.type.in_(constants((*_STATUS_EVENTS, EventType.HANDOFF_OVERDUE)))
    rows = session.execute(
        select(
            _events.type,
            _events.at,
            _events.data,
            _exports.account_id,
            _exports.broker_id,
            _exports.accepted_at,
            case((has_status, find(func.max(earlier.c.at)))).label("previous_at"),
            case((has_status, find(func.min(earlier.c.at)))).label("handed_off_at"),
            case((has_status, find(func.count(), reviewed))).label("reviews"),
            *(case((has_status, count_earlier(each))).label(each) for each in Milestone),
        )
        .join(table(Export), _exports.id == _events.export_id)
        .where(_events.at > since, _events.at <= until, _events.type.in_(constants(_COUNTED)))
    )
    for row in rows:
        yield from _facts_of(row)


def _facts_of(row: Row[Any]) -> Iterator[Fact]:
    if row.data.get("repeated"):
        return  # the same status was overdue before its goods arrived
    if outcome := _outcome_of(row):
        yield Fact(row.account_id, OUTCOME, "", outcome, row.at)
    since_accepted = (row.at - row.accepted_at).total_seconds()
    if row.type == EventType.HANDED_OFF:
        yield Fact(row.account_id, HANDOFF, "", "", row.at, since_accepted)
    if status := _status_of(row):
        since = since_accepted if row.previous_at is None else (row.at - row.previous_at).total_seconds()
        yield Fact(row.account_id, STATUS, row.broker_id, status, row.at, since)
        if status in _REVIEWS and not row.reviews:
            since = since_accepted if row.handed_off_at is None else (row.at - row.handed_off_at).total_seconds()
            yield Fact(row.account_id, REVIEW, row.broker_id, status, row.at, since)
        milestone = Milestone.OVERDUE if status == OVERDUE else MILESTONES.get(SubmissionState(status))
        if milestone is not None and not getattr(row, milestone):
            yield Fact(row.account_id, REACHED, row.broker_id, milestone.value, row.at)
    for field in row.data.get("fields", ()):
        pointer = _INDEX_IN_POINTER.sub("/*", field.get("pointer", ""))[:_MAX_LABEL]
        yield Fact(row.account_id, CORRECTION, row.broker_id, pointer, row.at)


def _outcome_of(row: Row[Any]) -> str | None:
    if row.type in _OUTCOMES:
        return _OUTCOMES[row.type].value
    if row.type == EventType.EXPORT_WITHDRAWAL_REQUESTED:
        return _reached_status(row.data)
    if row.type == EventType.EXPORT_AMENDED:
        return Outcome.SUPERSEDED.value if "supersededBy" in row.data else None
    if row.type == EventType.DELIVERY_DEAD:
        return None if row.data.get("audience") in {OPERATOR, UPSTREAM} else Outcome.UNDELIVERABLE.value
    status = _reached_status(row.data)
    return status if row.data.get("moved") and status in {each.value for each in Outcome} else None


def _status_of(row: Row[Any]) -> str | None:
    if row.type == EventType.HANDED_OFF:
        return SubmissionState.SENT.value
    if row.type == EventType.BROKER_NOTIFIED:
        return str(row.data.get("submissionStatus", SubmissionState.DELIVERED.value))
    if row.type == EventType.HANDOFF_OVERDUE:
        return OVERDUE
    return _reached_status(row.data) if row.type in _STATUS_EVENTS and row.data.get("moved") else None


def _reached_status(data: Mapping[str, Any]) -> str | None:
    return next((data[name] for name in _STATUS_MEMBERS if name in data), None)


def _read_steps(session: Session, since: datetime, until: datetime) -> Iterator[Fact]:
    rows = session.execute(
        select(_exports.account_id, _steps.name, _steps.started_at, _steps.finished_at)
        .join(table(Export), _exports.id == _steps.export_id)
        .where(_steps.finished_at > since, _steps.finished_at <= until, _steps.started_at.is_not(None))
    )
    for row in rows:
        seconds = (row.finished_at - row.started_at).total_seconds()
        yield Fact(row.account_id, STEP, "", row.name, row.finished_at, seconds)


def _sample_queues(session: Session, now: datetime) -> Mapping[tuple[Any, ...], int]:
    """Return the due work of each queue, and how many seconds the oldest of it is late."""
    return {
        (ALL, name, seconds, period_start(now, seconds), "", queue, 0): value
        for queue, sample in sample_queues(session, now).items()
        for name, value in ((QUEUE_DEPTH, sample.depth), (QUEUE_DELAY, sample.seconds_late))
        for seconds in PERIODS
    }


def _keys(fact: Fact) -> Iterator[tuple[Any, ...]]:
    number = 0 if fact.seconds is None else bin_of(fact.seconds)
    for seconds in PERIODS:
        start = period_start(fact.at, seconds)
        yield fact.account_id, fact.name, seconds, start, fact.partner_id, fact.label, number


def _write(session: Session, counts: Mapping[tuple[Any, ...], int], *, adds: bool) -> None:
    """Add to the numbers of these keys, or raise them to these values."""
    if not counts:
        return
    names = [column.name for column in _stats]
    rows = [dict(zip(names, (*key, value), strict=True)) for key, value in sorted(counts.items())]
    session.execute(_UPSERTS[session.get_bind().dialect.name, adds], rows)


def _build_upsert(new: Any, *, adds: bool) -> Any:
    higher = case((new.excluded.value > _stats.value, new.excluded.value), else_=_stats.value)
    value = _stats.value + new.excluded.value if adds else higher
    return new.on_conflict_do_update(index_elements=[*table(Stat).primary_key], set_={"value": value})


_UPSERTS: Final = {
    (dialect, adds): _build_upsert(new, adds=adds)
    for dialect, new in (("postgresql", postgresql.insert(table(Stat))), ("sqlite", sqlite.insert(table(Stat))))
    for adds in (True, False)
}


def _delete_old(session: Session, now: datetime) -> None:
    for seconds, kept in PERIODS.items():
        session.execute(delete(Stat).where(col(Stat.seconds) == seconds, col(Stat.starts_at) < now - kept))
