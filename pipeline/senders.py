"""The threads of this process that send, and which destinations have to share them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func
from sqlmodel import col

from pipeline.breaker import Way
from pipeline.bulkhead import Bulkhead
from pipeline.channels.channel import ChannelName
from pipeline.models import PartnerChannel
from pipeline.notifications import Lane

#: Destinations that do not answer hold up no more than some of the senders, one by one and together.
SENDERS: Final[Bulkhead[Way, Lane]] = Bulkhead()

#: Failures of a way in a row; the account's own operator, which is no partner, has none.
FAILURES: Final = func.coalesce(col(PartnerChannel.failures), 0)

#: Their server is the installation's, one for all partners.
_SHARED: Final = frozenset({ChannelName.EMAIL.value, ChannelName.BORDERBUDDY.value})


def destination(account_id: str, lane: Lane) -> Way:
    """Return the server that the lane leads to, as far as senders have to keep off each other there."""
    if lane.channel in _SHARED:
        return Way("", "", lane.channel)
    return Way(account_id, lane.partner_id, lane.channel)


def ails(channel: str, failures: int) -> bool:
    """Tell whether the destination of a way with so many failures in a row is known to ail.

    Whether one partner's mailbox takes its mail says nothing of the server that all mail goes by.
    """
    return failures > 0 and channel not in _SHARED
