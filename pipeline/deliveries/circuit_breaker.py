"""The circuit breaker of an endpoint of a partner: an endpoint that fails is asked by one sender at a time, then rested.

The numbers are Convoy's (circuit_breaker_manager.go): ten failures in a row, or seven tries in ten within five minutes,
and half a minute of rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Update, and_, bindparam, case, or_, select, update
from sqlalchemy.orm import Mapped
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts.models import PartnerChannel
from pipeline.accounts.recipients import QUEUE
from pipeline.core.db import database_now, row_count, table


@dataclass(frozen=True)
class Health:
    """How well the endpoint goes: failures in a row, tries and failures of the running window, and until when it rests."""

    failures: int = 0
    window_began_at: datetime | None = None
    window_tries: int = 0
    window_failures: int = 0
    open_until: datetime | None = None


@dataclass(frozen=True)
class Limits:
    """When an endpoint is rested, and for how long."""

    failures_in_a_row: int
    failure_rate: float
    least_tries: int
    window: timedelta
    rest: timedelta


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings name."""
    return Limits(
        failures_in_a_row=settings.breaker_failures,
        failure_rate=settings.breaker_failure_rate,
        least_tries=settings.breaker_failures,
        window=timedelta(seconds=settings.breaker_window_seconds),
        rest=timedelta(seconds=settings.breaker_open_seconds),
    )


def after(health: Health, *, taken: int, failed: bool, now: datetime, limits: Limits) -> Health:
    """Return the health after `taken` messages went through and then perhaps one failed.

    One that goes through ends the rest and the row of failures; the window goes on, for an endpoint that fails most of
    the time also takes a message now and then.
    """
    began = health.window_began_at
    running = began is not None and now - began < limits.window
    if not failed:
        counted = replace(health, window_tries=health.window_tries + taken) if running else Health()
        return replace(counted, failures=0, open_until=None)
    fresh = health if running else Health(failures=health.failures, window_began_at=now)
    counted = replace(
        fresh,
        failures=1 if taken else fresh.failures + 1,
        window_tries=fresh.window_tries + taken + 1,
        window_failures=fresh.window_failures + 1,
    )
    in_a_row = counted.failures >= limits.failures_in_a_row
    too_often = (
        counted.window_tries >= limits.least_tries
        and counted.window_failures >= limits.failure_rate * counted.window_tries
    )
    return replace(counted, open_until=now + limits.rest if in_a_row or too_often else None)


_channels = table(PartnerChannel).c
_THIS_ENDPOINT: Final = and_(
    _channels.account_id == bindparam("of_account"),
    _channels.partner_id == bindparam("of_partner"),
    _channels.channel == bindparam("of_channel"),
)
_STATE: Final = select(
    _channels.failures,
    _channels.window_began_at,
    _channels.window_tries,
    _channels.window_failures,
    _channels.open_until,
).where(_THIS_ENDPOINT)
_CHANGE: Final = update(table(PartnerChannel)).where(_THIS_ENDPOINT)
_TAKE: Final[Update] = _CHANGE.where(
    or_(_channels.open_until.is_(None), _channels.open_until <= database_now())
).values(open_until=database_now(bindparam("seconds")))


@dataclass(frozen=True)
class EndpointKey:
    """One endpoint of one partner, by the names of its row."""

    account_id: str
    partner_id: str
    channel: str

    @property
    def row(self) -> dict[str, str]:
        """The parameters that find its row."""
        return {"of_account": self.account_id, "of_partner": self.partner_id, "of_channel": self.channel}


@dataclass(frozen=True)
class Turn:
    """Leave to try an endpoint now; where it is `watched` what comes of it must be recorded, and where `alone` nobody else tries."""

    watched: bool = False
    alone: bool = False


def turn(session: Session, endpoint: EndpointKey, seconds: float) -> Turn | None:
    """Return leave to try the endpoint, or None while it rests or while another sender tries it.

    After a failure one sender has it to itself, for at most `seconds`. Our own queues are no endpoint of a partner's:
    they are always free.
    """
    if endpoint.channel == QUEUE:
        return Turn()
    found = session.execute(_STATE, endpoint.row).first()
    if found is None or not found.failures:
        return Turn(watched=found is not None and found.window_began_at is not None)
    taken = row_count(session.execute(_TAKE, endpoint.row | {"seconds": seconds}))
    return Turn(watched=True, alone=True) if taken else None


def give_back(session: Session, endpoint: EndpointKey) -> None:
    """Let others have the turn, where there was nothing to send after all."""
    session.execute(_CHANGE.values(open_until=None), endpoint.row)


def record(session: Session, endpoint: EndpointKey, settings: Settings, *, taken: int, failed: bool) -> Health | None:
    """Write what a try of the endpoint came to, in the transaction that records it; None where nothing is kept of the endpoint."""
    if endpoint.channel == QUEUE:
        return None
    statement = _STATE.add_columns(database_now().label("now")).with_for_update()
    found = session.execute(statement, endpoint.row).first()
    if found is None:
        return None
    *state, now = found
    health = after(Health(*state), taken=taken, failed=failed, now=now, limits=limits_of(settings))
    session.execute(
        _CHANGE.values(
            failures=health.failures,
            window_began_at=health.window_began_at,
            window_tries=health.window_tries,
            window_failures=health.window_failures,
            open_until=health.open_until,
        ),
        endpoint.row,
    )
    return health


def health_of(session: Session, account_id: str, partner_id: str) -> dict[str, Health]:
    """Return how well each endpoint of a partner goes, by channel; `open_until` only where it rests now."""
    found = session.execute(
        select(
            _channels.channel,
            _channels.failures,
            _channels.window_began_at,
            _channels.window_tries,
            _channels.window_failures,
            case((_channels.open_until > database_now(), _channels.open_until)),
        ).where(_channels.account_id == account_id, _channels.partner_id == partner_id)
    )
    return {channel: Health(*state) for channel, *state in found}


def row_of(account_id: Mapped[str], partner_id: Mapped[str] | str, channel: Mapped[str] | str) -> ColumnElement[bool]:
    """Return the condition that a row of `partner_channels` is of this endpoint."""
    return and_(
        col(PartnerChannel.account_id) == account_id,
        col(PartnerChannel.partner_id) == partner_id,
        col(PartnerChannel.channel) == channel,
    )


def resting() -> ColumnElement[bool]:
    """Return the condition, on a row of `partner_channels`, that the endpoint is not to be tried now."""
    return col(PartnerChannel.open_until) > database_now()
