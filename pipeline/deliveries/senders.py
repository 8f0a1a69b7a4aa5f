"""The threads of this process that send, and which destinations have to share them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func
from sqlmodel import col

from config.settings import Settings
from pipeline.accounts.models import PartnerChannel
from pipeline.core.bulkhead import Bulkhead
from pipeline.deliveries.channels import open_channels
from pipeline.deliveries.circuit_breaker import Way
from pipeline.deliveries.outbox import Lane

#: Destinations that do not answer hold up no more than some of the senders, one by one and together.
SENDERS: Final[Bulkhead[Way, Lane]] = Bulkhead()

#: Failures of a way in a row; what an older version owes to an account itself has none.
FAILURES: Final = func.coalesce(col(PartnerChannel.failures), 0)


def destination(settings: Settings, account_id: str, lane: Lane) -> Way:
    """Return the server that the lane leads to, as far as senders have to keep off each other there."""
    if open_channels(settings)[lane.channel].shared:
        return Way("", "", lane.channel)
    return Way(account_id, lane.partner_id, lane.channel)


def ails(settings: Settings, channel: str, failures: int) -> bool:
    """Tell whether the destination of a way with so many failures in a row is known to ail.

    Whether one partner's mailbox takes its mail says nothing of the server that all mail goes by.
    """
    return failures > 0 and not open_channels(settings)[channel].shared
