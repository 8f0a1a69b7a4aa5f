"""Counts of open work by account, which the sweeper keeps so that no request has to count."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    ScalarSelect,
    SQLColumnExpression,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, col

from pipeline.accounts.models import Partner, PartnerChannel
from pipeline.accounts.states import PartnerState
from pipeline.core import heartbeats, tenancy
from pipeline.core.db import Database, database_now, index_constant, table
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.customs import certifications
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outcomes import IS_UNDELIVERED, OVERDUE, QUARANTINED, REACHED_AT, delivery_is, outcome_search
from pipeline.deliveries.streams import circuit_breaker
from pipeline.exports.models import Account, Export, Step
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, ExportState, Milestone, Outcome, StepState
from pipeline.workflow.inbox import open_items
from pipeline.workflow.waiting_commands import WaitingCommand

#: How often the sweeper counts, if that is quick; else it pauses longer.
KEEP_SECONDS: Final = 10.0
_PAUSE_FACTOR: Final = 20
_MAX_PAUSE: Final = 50.0
#: Older counts are not used: no sweeper runs, or the database is too busy for one.
STALE_SECONDS: Final = 60.0

EXPORTS, OUTCOMES, DELIVERIES, QUARANTINED_EXPORTS, OVERDUE_HANDOFFS = (
    "exports",
    "outcomes",
    "deliveries",
    "quarantined",
    "overdue",
)
INBOX: Final = "inbox"
STEPS, RETRYING_STEPS, OPEN_BREAKERS, WAITING_COMMANDS = "steps", "retrying", "breakers", "waiting commands"
#: By account: products whose USMCA certification in use ends soon.
EXPIRING_CERTIFICATIONS: Final = "certifications"
#: By queue: the work that waits or is running, and for how many seconds the oldest of it has been due.
QUEUE_DEPTH, QUEUE_DELAY = "queue depth", "queue delay"
#: By kind of partner: for how many seconds the oldest pending delivery to an endpoint that fails has waited.
FAILING_ENDPOINT: Final = "failing endpoint"

EXPORT_STATES: Final = (*ACTIVE_STATES, ExportState.FAILED.value)
DELIVERY_STATES: Final = (DeliveryState.WAITING.value, DeliveryState.PENDING.value, DeliveryState.DEAD.value)

#: The outcomes of executed exports that are not final. Of each, so many exports of an account are counted.
OPEN_OUTCOMES: Final = (
    Outcome.WITH_BROKER,
    Outcome.REJECTED,
    Outcome.QUERY,
    Outcome.HELD,
    Outcome.OVERDUE,
    Outcome.UNDELIVERABLE,
)
MOST_OUTCOMES: Final = 1_000
#: So many open items of the inbox are counted.
MOST_INBOX: Final = 1_000

#: The account of counts over all accounts: steps have none, and no index finds the others by account.
ALL: Final = ""

_KEPT_AT: Final = "work counts"
_READY: Final = col(Step.state) == index_constant(StepState.READY)


class WorkCount(SQLModel, table=True):
    """How many items of an account have a property; an empty account stands for all."""

    __tablename__ = "work_counts"

    account_id: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    state: str = Field(primary_key=True)
    value: int = Field(sa_type=BigInteger)


class CountKey(NamedTuple):
    """What is counted; `state` is also a queue or a customs broker, and empty for a count without states."""

    account_id: str
    name: str
    state: str = ""


_counts = table(WorkCount).c
_endpoints, _deliveries = table(PartnerChannel).c, table(Delivery).c
# The ids of exports and deliveries rise with time.
_oldest_pending = (
    select(_deliveries.created_at)
    .where(
        _deliveries.account_id == _endpoints.account_id,
        _deliveries.partner_id == _endpoints.partner_id,
        _deliveries.channel == _endpoints.channel,
        delivery_is(DeliveryState.PENDING),
        IS_UNDELIVERED,
    )
    .order_by(_deliveries.subject_id, _deliveries.id)
    .limit(1)
    .scalar_subquery()
)
_failing = (
    select(table(Partner).c.kind, _oldest_pending.label("since"))
    .join_from(
        table(Partner),
        table(PartnerChannel),
        and_(table(Partner).c.account_id == _endpoints.account_id, table(Partner).c.id == _endpoints.partner_id),
    )
    .where(_endpoints.failures > 0, table(Partner).c.state != PartnerState.PAUSED.value)
    .subquery()
    .c
)
_FAILING_SINCE: Final = (
    select(_failing.kind, func.min(_failing.since)).where(_failing.since.is_not(None)).group_by(_failing.kind)
)
_not_before: Final[WeakKeyDictionary[Database, float]] = WeakKeyDictionary()


def read_counts(session: Session) -> Mapping[CountKey, int]:
    """Return the counts that the sweeper keeps, or count now if they are stale. Zeros are left out.

    A transaction of one account reads the counts of that account.
    """
    if heartbeats.is_recent(session, _KEPT_AT, STALE_SECONDS):
        return _read_kept(session)
    return dict(_count(session))


def keep_counts(runtime: Runtime) -> bool:
    """Count and write what has changed, unless that was done recently; return whether it counted.

    Raises DatabaseBusy.
    """
    began = time.monotonic()
    if began < _not_before.get(runtime.db, began):
        return False
    with tenancy.account_scope(ALL_ACCOUNTS):
        with runtime.db.read() as session:
            if heartbeats.is_recent(session, _KEPT_AT, KEEP_SECONDS):
                return False
            kept, found = _read_kept(session), dict(_count(session))
        ended = time.monotonic()
        pause = min(_PAUSE_FACTOR * (ended - began), _MAX_PAUSE)
        if pause > KEEP_SECONDS:
            _not_before[runtime.db] = ended + pause
        new = [(*key, value) for key, value in found.items() if key not in kept]
        # If two sweepers write the same new count, one of them is enough.
        with suppress(IntegrityError), runtime.db.write() as session:
            for key in kept.keys() - found.keys():
                session.execute(delete(WorkCount).where(*_is(key)))
            for key in kept.keys() & found.keys():
                if kept[key] != found[key]:
                    session.execute(update(WorkCount).where(*_is(key)).values(value=found[key]))
            if new:
                session.execute(insert(table(WorkCount)), [dict(zip(_counts.keys(), row, strict=True)) for row in new])
            heartbeats.write(session, _KEPT_AT)
    return True


def read_inbox_count(session: Session, account_id: str) -> int | None:
    """Return how many items are in the account's inbox, at most MOST_INBOX; None if that was not counted recently."""
    if not heartbeats.is_recent(session, _KEPT_AT, STALE_SECONDS):
        return None
    kept = select(_counts.value).where(*_is(CountKey(account_id, INBOX)))
    return min(session.scalar(kept) or 0, MOST_INBOX)


def count_outcomes(session: Session, account_id: str) -> Mapping[Outcome, int]:
    """Return how many exports of the account have each outcome that is not final now, each at most MOST_OUTCOMES."""
    outcomes = (Outcome.IN_PROGRESS, Outcome.NEEDS_ATTENTION, *OPEN_OUTCOMES)
    counts = [_count_some(account_id, outcome) for outcome in outcomes]
    return dict(zip(outcomes, session.execute(select(*counts)).one(), strict=True))


def count_inbox(session: Session, account_id: str) -> int:
    """Return how many items are in the account's inbox now, at most MOST_INBOX."""
    counts = [
        select(func.count()).select_from(items.limit(MOST_INBOX).subquery()).scalar_subquery()
        for items in open_items(literal(account_id))
    ]
    found: Sequence[int] = session.execute(select(*counts)).one()
    return min(sum(found), MOST_INBOX)


def count_reached(session: Session, account_id: str, milestone: Milestone, since: datetime) -> int:
    """Return how many handoffs of the account reached the milestone since then, at most MOST_OUTCOMES."""
    of_account, reached_at = col(BrokerSubmission.account_id) == account_id, REACHED_AT[milestone]
    some = select(col(BrokerSubmission.export_id)).where(of_account, reached_at >= since).limit(MOST_OUTCOMES)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def _count_some(account_id: str | SQLColumnExpression[str], outcome: Outcome) -> ScalarSelect[int]:
    some = (
        select(col(Export.id))
        .where(col(Export.account_id) == account_id, outcome_search(outcome).where())
        .limit(MOST_OUTCOMES)
    )
    return select(func.count()).select_from(some.correlate(Account).subquery()).scalar_subquery()


def _read_kept(session: Session) -> dict[CountKey, int]:
    return {CountKey(*key): value for *key, value in session.execute(select(*_counts))}


def _is(key: CountKey) -> list[ColumnElement[bool]]:
    return [_counts[name] == value for name, value in key._asdict().items()]


def _count(session: Session) -> Iterator[tuple[CountKey, int]]:
    from pipeline.ops.queue_samples import sample_queues  # noqa: PLC0415 - it loads kombu, and the tables must not

    whole = {
        CountKey(ALL, STEPS, StepState.READY.value): _READY,
        CountKey(ALL, RETRYING_STEPS): and_(_READY, col(Step.error).is_not(None)),
        CountKey(ALL, OPEN_BREAKERS): circuit_breaker.is_open(),
        CountKey(ALL, WAITING_COMMANDS): col(WaitingCommand.id).is_not(None),
        CountKey(ALL, DELIVERIES, DeliveryState.PENDING.value): delivery_is(DeliveryState.PENDING),
    }
    for key, condition in whole.items():
        if value := session.scalar(select(func.count()).where(condition)):
            yield key, value
    by_state = [
        *((EXPORTS, state, Export.account_id, col(Export.state) == state) for state in EXPORT_STATES),
        *(
            (DELIVERIES, state.value, Delivery.account_id, delivery_is(state))
            for state in (DeliveryState.WAITING, DeliveryState.DEAD)
        ),
    ]
    for name, state, account_column, condition in by_state:
        # Accounts first, because the indexes of states begin with them.
        of_account = select(func.count()).where(col(account_column) == col(Account.id), condition)
        counted = select(col(Account.id), of_account.correlate(Account).scalar_subquery())
        yield from (
            (CountKey(account_id, name, state), value) for account_id, value in session.execute(counted) if value
        )
    for outcome in OPEN_OUTCOMES:
        counted = select(col(Account.id), _count_some(col(Account.id), outcome))
        yield from (
            (CountKey(account_id, OUTCOMES, outcome.value), value)
            for account_id, value in session.execute(counted)
            if value
        )
    yield from _count_inbox(session)
    now = session.execute(select(database_now())).scalar_one()
    for queue, sample in sample_queues(session, now).items():
        for name, value in ((QUEUE_DEPTH, sample.depth), (QUEUE_DELAY, sample.seconds_late)):
            if value:
                yield CountKey(ALL, name, queue), value
    for kind, since in session.execute(_FAILING_SINCE):
        yield CountKey(ALL, FAILING_ENDPOINT, kind), max(1, (now - since) // timedelta(seconds=1))
    owner = col(Export.account_id)
    yield from (
        (CountKey(account_id, EXPIRING_CERTIFICATIONS), value)
        for account_id, value in certifications.count_expiring(session, now.date())
    )
    quarantined = select(owner, func.count()).where(QUARANTINED).group_by(owner)
    yield from (
        (CountKey(account_id, QUARANTINED_EXPORTS), value) for account_id, value in session.execute(quarantined)
    )
    of_broker = col(BrokerSubmission.account_id), col(BrokerSubmission.partner_id)
    overdue = select(*of_broker, func.count()).where(OVERDUE).group_by(*of_broker)
    yield from (
        (CountKey(account_id, OVERDUE_HANDOFFS, broker_id), value)
        for account_id, broker_id, value in session.execute(overdue)
    )


def _count_inbox(session: Session) -> Iterator[tuple[CountKey, int]]:
    found: Counter[str] = Counter()
    for items in open_items(col(Account.id)):
        of_account = select(func.count()).select_from(items.limit(MOST_INBOX).correlate(Account).subquery())
        counted = select(col(Account.id), of_account.scalar_subquery())
        found.update({account_id: value for account_id, value in session.execute(counted)})  # noqa: C416 - mypy does not accept a row as a pair
    yield from ((CountKey(account_id, INBOX), value) for account_id, value in found.items() if value)
