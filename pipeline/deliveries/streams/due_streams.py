"""The sweeper's search for due deliveries, by their streams."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, and_, bindparam, case, exists, func, or_, select, tuple_, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts.models import Partner, PartnerChannel
from pipeline.accounts.states import PartnerState
from pipeline.core.db import database_now, index_constant, statement_now, table
from pipeline.core.lease_columns import LEASE_SECONDS, is_blocked, is_free
from pipeline.deliveries.models import Delivery
from pipeline.deliveries.outbox.outbox import DeliveryStream
from pipeline.deliveries.streams import circuit_breaker
from pipeline.deliveries.streams.streams import pending_in_stream
from pipeline.exports.states import DeliveryState

#: A sweep reads at most this many due deliveries for each stream that it may return, so that its cost has a limit.
_READ_FACTOR: Final = 10

#: How long a sweep leaves a paused partner's deliveries alone. Resuming the partner makes them due at once.
_PAUSED_SECONDS: Final = 3600

_deliveries, _other = table(Delivery).c, table(Delivery).alias().c
_IS_PENDING: Final = index_constant(DeliveryState.PENDING)


def _is_paused(delivery: Any) -> ColumnElement[bool]:
    return exists().where(
        col(Partner.account_id) == delivery.account_id,
        col(Partner.id) == delivery.partner_id,
        col(Partner.state) == PartnerState.PAUSED.value,
    )


def _of_endpoint(delivery: Any) -> ColumnElement[bool]:
    return and_(
        col(PartnerChannel.account_id) == delivery.account_id,
        col(PartnerChannel.partner_id) == delivery.partner_id,
        col(PartnerChannel.channel) == delivery.channel,
        circuit_breaker.is_open(),
    )


def is_claimable() -> ColumnElement[bool]:
    """Return the condition, on a row of `deliveries`, that a sender could send it if it is due."""
    is_open = exists().where(_of_endpoint(Delivery))
    return and_(col(Delivery.state) == _IS_PENDING, is_free(Delivery), ~_is_paused(Delivery), ~is_open)


def _key(columns: Any) -> tuple[Any, Any, Any]:
    return columns.subject_id, columns.partner_id, columns.channel


# Due by the index, oldest first, whatever keeps them from being sent: no number of others is read before the limit.
_is_due = (_deliveries.state == _IS_PENDING, _deliveries.due_at <= statement_now())
_found = (
    select(_deliveries.id, _deliveries.account_id, *_key(_deliveries), _deliveries.due_at)
    .where(*_is_due)
    .order_by(_deliveries.due_at)
    # In the text: for a bound limit, PostgreSQL may plan for a tenth of the table.
    .limit(bindparam("read", type_=Integer(), literal_execute=True))
    .cte("found")
)
_stream = (
    select(*_key(_found.c), func.min(_found.c.account_id).label("account_id"), func.min(_found.c.due_at).label("since"))
    .group_by(*_key(_found.c))
    .subquery()
    .c
)
# Asked for each stream and not each message, because the last one reads the whole stream.
_blocked_until = func.coalesce(
    case((_is_paused(_stream), database_now(_PAUSED_SECONDS))),
    select(col(PartnerChannel.open_until)).where(_of_endpoint(_stream)).scalar_subquery(),
    select(func.max(func.coalesce(_other.lease_until, _other.due_at)))
    .where(*pending_in_stream(_stream, _other), is_blocked(_other, LEASE_SECONDS))
    .scalar_subquery(),
)
_judged = select(*_key(_stream), _stream.since, _blocked_until.label("blocked_until")).cte("judged")
_is_sendable = _judged.c.blocked_until.is_(None)
_taken = select(*_key(_judged.c)).where(_is_sendable).order_by(_judged.c.since).limit(bindparam("most"))
_TAKE_DUE: Final = (
    update(table(Delivery))
    .where(
        _deliveries.id == _found.c.id,
        *(of_row == of_stream for of_row, of_stream in zip(_key(_found.c), _key(_judged.c), strict=True)),
        or_(~_is_sendable, tuple_(*_key(_judged.c)).in_(_taken)),
        *_is_due,
    )
    .values(
        due_at=func.coalesce(_judged.c.blocked_until, database_now(bindparam("stalled_seconds"))),
        stalled_since=case((_is_sendable, func.coalesce(_deliveries.stalled_since, database_now()))),
    )
    .returning(*_key(_deliveries), _deliveries.stalled_since)
)


def take_due_streams(session: Session, settings: Settings, limit: int) -> list[DeliveryStream]:
    """Return streams with due deliveries that could be sent, and delay those so that other sweeps leave them.

    Due deliveries that cannot be sent are due again when that may have changed: when the lease of their stream ends, at
    the retry time of the message before them, or when the circuit breaker closes.
    """
    taken = session.execute(
        _TAKE_DUE,
        {
            "most": limit,
            "read": _READ_FACTOR * settings.sweep_limit,
            "stalled_seconds": settings.stalled_seconds,
            "lease_seconds": settings.lease_seconds,
        },
    )
    found = [DeliveryStream(*key) for *key, stalled_since in taken if stalled_since is not None]
    return list(dict.fromkeys(found))
