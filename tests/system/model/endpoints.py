"""The partners' ends in the model: each answers as it is told to, and holds whoever sends to what a claim allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

from sqlmodel import col, select

from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.core.leases import Lease
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage
from pipeline.deliveries.models import Delivery
from pipeline.exports.states import DeliveryState


@dataclass
class Endpoints:
    """Every partner's end: what each answers, what each has taken, and in `broken` what no sender may do.

    That is only noted here: whoever sends takes any error for one of the channel's.
    """

    carries_documents: ClassVar[bool] = False
    read_by_people: ClassVar[bool] = False
    shared: ClassVar[bool] = False

    runtime: Runtime
    answers: dict[str, str] = field(default_factory=dict)
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    _sent: set[tuple[str, str, int]] = field(default_factory=set)  # by each claim

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Take the messages, or not."""
        for place, message in enumerate(messages):
            target.check_lease()
            self._check_sender(target.partner_id, message.id)
            match self.answers.get(target.partner_id, "takes"):
                case "down":
                    raise ChannelUnavailable("nobody answers", status="503")
                case "refuses":
                    raise ChannelRefused("not this one", status="400")
                case "stumbles" if place == 1:
                    raise ChannelUnavailable("it broke off", status="500")
            self.taken[target.partner_id, message.id] += 1
            yield DeliveryReceipt(status="200")

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Any]:
        """Nobody tests here."""
        raise AssertionError("nobody tests here")

    def _check_sender(self, partner_id: str, message_id: str) -> None:
        """I6: it is sent once for each claim, by whoever holds it; and I8: with no transaction open."""
        pool: Any = self.runtime.db.engine.pool
        if pool.checkedout():
            self.broken.append(f"a transaction is open while {message_id} is sent")
        with self.runtime.db.read() as session:
            ((state, fence),) = session.execute(
                select(col(Delivery.state), col(Delivery.fence)).where(
                    col(Delivery.partner_id) == partner_id, col(Delivery.notification_id) == message_id
                )
            ).all()
        if state != DeliveryState.PENDING.value:
            self.broken.append(f"{message_id} is sent though it is owed no more")
        if (partner_id, message_id, fence) in self._sent:
            self.broken.append(f"{message_id} is sent twice of one claim")
        self._sent.add((partner_id, message_id, fence))


@dataclass(eq=False)
class ModelLease(Lease):
    """A lease that runs out on the clock of the model, and that nobody renews."""

    now: Callable[[], float] = field(kw_only=True)

    def runs(self) -> bool:
        """Tell whether nobody else can have taken it."""
        return self.now() < self.since + self.seconds


@dataclass
class Keeper:
    """Keeps leases in the place of the thread that does so in earnest."""

    now: Callable[[], float]

    @contextmanager
    def kept(self, seconds: float, renew: Callable[[], bool], *, since: float, **about: str) -> Iterator[Lease]:
        """Give the lease that was taken at `since`."""
        yield ModelLease(renew, seconds, since, inf, about, now=self.now)

    def monotonic(self) -> float:
        """Return the time that leases go by."""
        return self.now()
