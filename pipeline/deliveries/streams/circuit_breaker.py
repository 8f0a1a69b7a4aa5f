"""The circuit breaker of a partner's endpoint: a failing endpoint gets one sender at a time, then a pause.

The defaults are those of Convoy (circuit_breaker_manager.go). It opens after ten failures in a row, or if seven of ten
attempts fail within five minutes, and stays open for half a minute.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Update, and_, bindparam, case, or_, select, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts.models import PartnerChannel
from pipeline.accounts.recipients import QUEUE
from pipeline.core.db import database_now, row_count, table


@dataclass(frozen=True)
class BreakerState:
    """State of the breaker: consecutive failures, attempts and failures of the current window, and when it closes."""

    failures: int = 0
    window_began_at: datetime | None = None
    window_attempts: int = 0
    window_failures: int = 0
    open_until: datetime | None = None


@dataclass(frozen=True)
class BreakerSettings:
    """When the breaker opens, and for how long."""

    failures_in_a_row: int
    failure_rate: float
    least_attempts: int
    window: timedelta
    open_time: timedelta


def breaker_settings(settings: Settings) -> BreakerSettings:
    """Return the limits from the settings."""
    return BreakerSettings(
        failures_in_a_row=settings.breaker_failures,
        failure_rate=settings.breaker_failure_rate,
        least_attempts=settings.breaker_failures,
        window=timedelta(seconds=settings.breaker_window_seconds),
        open_time=timedelta(seconds=settings.breaker_open_seconds),
    )


def next_state(
    state: BreakerState, *, taken: int, failed: bool, now: datetime, limits: BreakerSettings
) -> BreakerState:
    """Return the state after `taken` messages were taken and then, if `failed`, one failed.

    A success closes the breaker and resets the consecutive failures. The window continues, because an endpoint that
    mostly fails also takes a message sometimes.
    """
    began = state.window_began_at
    running = began is not None and now - began < limits.window
    if not failed:
        counted = replace(state, window_attempts=state.window_attempts + taken) if running else BreakerState()
        return replace(counted, failures=0, open_until=None)
    fresh = state if running else BreakerState(failures=state.failures, window_began_at=now)
    counted = replace(
        fresh,
        failures=1 if taken else fresh.failures + 1,
        window_attempts=fresh.window_attempts + taken + 1,
        window_failures=fresh.window_failures + 1,
    )
    in_a_row = counted.failures >= limits.failures_in_a_row
    too_often = (
        counted.window_attempts >= limits.least_attempts
        and counted.window_failures >= limits.failure_rate * counted.window_attempts
    )
    return replace(counted, open_until=now + limits.open_time if in_a_row or too_often else None)


_channels = table(PartnerChannel).c
_THIS_ENDPOINT: Final = and_(
    _channels.account_id == bindparam("of_account"),
    _channels.partner_id == bindparam("of_partner"),
    _channels.channel == bindparam("of_channel"),
)
_STATE: Final = select(
    _channels.failures,
    _channels.window_began_at,
    _channels.window_attempts,
    _channels.window_failures,
    _channels.open_until,
).where(_THIS_ENDPOINT)
_CHANGE: Final = update(table(PartnerChannel)).where(_THIS_ENDPOINT)
_ACQUIRE: Final[Update] = _CHANGE.where(
    or_(_channels.open_until.is_(None), _channels.open_until <= database_now())
).values(open_until=database_now(bindparam("seconds")))


@dataclass(frozen=True)
class EndpointKey:
    """The key of an endpoint's row."""

    account_id: str
    partner_id: str
    channel: str

    @property
    def params(self) -> dict[str, str]:
        """The parameters that select its row."""
        return {"of_account": self.account_id, "of_partner": self.partner_id, "of_channel": self.channel}


@dataclass(frozen=True)
class Permit:
    """Permission to try an endpoint now. If `must_record`, record the result. If `exclusive`, no other sender tries."""

    must_record: bool = False
    exclusive: bool = False


def has_breaker(channel: str) -> bool:
    """Return whether the channel's failures stop its attempts: not those of the service's own queues."""
    return channel != QUEUE


def try_acquire(session: Session, endpoint: EndpointKey, seconds: float) -> Permit | None:
    """Return permission to try the endpoint, or None if the breaker is open or another sender tries it.

    After a failure, only one sender may try, for at most `seconds`. The service's own queues do not have a breaker: see
    `has_breaker`.
    """
    found = session.execute(_STATE, endpoint.params).first()
    if found is None or not found.failures:
        return Permit(must_record=found is not None and found.window_began_at is not None)
    taken = row_count(session.execute(_ACQUIRE, endpoint.params | {"seconds": seconds}))
    return Permit(must_record=True, exclusive=True) if taken else None


def release(session: Session, endpoint: EndpointKey) -> None:
    """Release an exclusive permit if there was nothing to send."""
    session.execute(_CHANGE.values(open_until=None), endpoint.params)


def record_result(
    session: Session, endpoint: EndpointKey, settings: Settings, *, taken: int, failed: bool
) -> tuple[BreakerState, BreakerState] | None:
    """Record the result of an attempt, in the caller's transaction.

    Return the states before and after it, or None if the endpoint has no row. The failures of a queue are counted, too.
    """
    statement = _STATE.add_columns(database_now().label("now")).with_for_update()
    found = session.execute(statement, endpoint.params).first()
    if found is None:
        return None
    *values, now = found
    before = BreakerState(*values)
    state = next_state(before, taken=taken, failed=failed, now=now, limits=breaker_settings(settings))
    if not has_breaker(endpoint.channel):
        state = BreakerState(failures=state.failures)
    session.execute(
        _CHANGE.values(
            failures=state.failures,
            window_began_at=state.window_began_at,
            window_attempts=state.window_attempts,
            window_failures=state.window_failures,
            open_until=state.open_until,
        ),
        endpoint.params,
    )
    return before, state


def load_breaker_states(session: Session, account_id: str, partner_id: str) -> dict[str, BreakerState]:
    """Return the breaker state of each endpoint of a partner, by channel. `open_until` is set only if it is open."""
    found = session.execute(
        select(
            _channels.channel,
            _channels.failures,
            _channels.window_began_at,
            _channels.window_attempts,
            _channels.window_failures,
            case((_channels.open_until > database_now(), _channels.open_until)),
        ).where(_channels.account_id == account_id, _channels.partner_id == partner_id)
    )
    return {channel: BreakerState(*values) for channel, *values in found}


def is_open() -> ColumnElement[bool]:
    """Return the condition, on a row of `partner_channels`, that the breaker is open."""
    return col(PartnerChannel.open_until) > database_now()
