"""Checks the database's clock: after it was set back, times that were written before would hold work for as long."""

from typing import Final

import structlog
from sqlalchemy import case, update
from sqlmodel import Session, col

from config.settings import Settings
from pipeline.accounts.models import PartnerChannel
from pipeline.core import heartbeats
from pipeline.core.db import database_now, index_constant
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.exports.models import Step
from pipeline.exports.states import DeliveryState, StepState

log = structlog.get_logger(__name__)

#: The name under which the time of the last look is kept, and how old that may be.
_CLOCK: Final = "clock"
_LOOK_SECONDS: Final = 60


def follow_clock(runtime: Runtime) -> bool:
    """Return whether the database's clock was set back by more than a lease; then all work that waits is due now.

    A smaller step, by up to a minute more because the last look is as old, only delays work by as much.
    """
    settings = runtime.settings
    with runtime.db.read() as session:
        age = heartbeats.read_age(session, _CLOCK)
    if age is None or age >= _LOOK_SECONDS:
        heartbeats.record(runtime, _CLOCK)
    if age is None or age >= -settings.lease_seconds:
        return False
    with runtime.db.write() as session:
        # Locked and read again: of several sweepers, the first makes the work due.
        if (heartbeats.read_age(session, _CLOCK, lock=True) or 0) >= -settings.lease_seconds:
            return False
        _make_all_due(session, settings)
    log.warning("database_clock_was_set_back", seconds=int(-age))
    return True


def _make_all_due(session: Session, settings: Settings) -> None:
    """Make due now what waits for longer than a lease. What is retried too early, is only tried once more."""
    for model, state in ((Step, StepState.READY), (Delivery, DeliveryState.PENDING)):
        waits = (col(model.state) == index_constant(state), col(model.due_at) > database_now(settings.lease_seconds))
        # An ended lease, not none: its worker may be lost.
        ended = case((col(model.lease_until).is_not(None), database_now()))
        session.execute(update(model).where(*waits).values(due_at=database_now(), lease_until=ended))
    is_open = col(PartnerChannel.open_until) > database_now(max(settings.lease_seconds, settings.breaker_open_seconds))
    session.execute(update(PartnerChannel).where(is_open).values(open_until=None))
    for polled in (PartnerChannel, BrokerSubmission):
        later = col(polled.polled_at) > database_now()
        session.execute(update(polled).where(later).values(polled_at=database_now()))
    heartbeats.forget_future(session)
