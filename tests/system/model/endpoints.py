"""The partners' endpoints in the model: each gives the answers that a test sets, and checks its senders."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sqlmodel import col, select

from pipeline.accounts.recipients import Target
from pipeline.core.errors import ChannelRefused, ChannelUnavailable
from pipeline.core.leases import Lease
from pipeline.core.runtime import Runtime
from pipeline.deliveries.channels.protocol import DeliveryReceipt, OutgoingMessage, Stage
from pipeline.deliveries.models import Delivery
from pipeline.exports.states import DeliveryState


@dataclass
class Endpoints:
    """All partners' endpoints: their answers, the messages that they took, and in `broken` the senders' violations.

    A violation is only recorded here, because a sender treats an exception as an error of the channel.
    """

    runtime: Runtime
    answers: dict[str, str] = field(default_factory=dict)
    taken: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    _sent: set[tuple[str, str, int]] = field(default_factory=set)  # per claim

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        """Take the messages, or refuse them."""
        for place, message in enumerate(messages):
            target.check_lease()
            self._check_sender(target.partner_id, message.id)
            match self.answers.get(target.partner_id, "takes"):
                case "down":
                    raise ChannelUnavailable("nobody answers", status="503")
                case "refuses":
                    raise ChannelRefused("not this one", status="400")
                case "stumbles" if place == 1:
                    raise ChannelUnavailable("the connection broke", status="500")
            self.taken[target.partner_id, message.id] += 1
            yield DeliveryReceipt(status="200")

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Any]:
        """Pass the connection test."""
        yield Stage("test event", passed=True, duration_ms=0, found="it was taken", remedy=None)

    def _check_sender(self, partner_id: str, message_id: str) -> None:
        """I6: a message is sent once for each claim, by the claim's holder; I8: with no transaction open."""
        pool: Any = self.runtime.db.engine.pool
        if pool.checkedout():
            self.broken.append(f"a transaction is open while sending {message_id}")
        with self.runtime.db.read() as session:
            ((state, fence),) = session.execute(
                select(col(Delivery.state), col(Delivery.fence)).where(
                    col(Delivery.partner_id) == partner_id, col(Delivery.notification_id) == message_id
                )
            ).all()
        if state != DeliveryState.PENDING.value:
            self.broken.append(f"{message_id} is sent although it is not pending any more")
        if (partner_id, message_id, fence) in self._sent:
            self.broken.append(f"{message_id} is sent twice under one claim")
        self._sent.add((partner_id, message_id, fence))


@dataclass(eq=False)
class ModelLease(Lease):
    """A lease on the model's clock; it is not renewed."""

    now: Callable[[], float] = field(kw_only=True)

    def is_valid(self) -> bool:
        """Return whether no other worker can have taken the lease."""
        return self.now() < self.since + self.seconds


@dataclass
class ModelLeaseRenewer:
    """Stands in for the thread that renews leases."""

    now: Callable[[], float]

    @contextmanager
    def hold(
        self, seconds: float, renew: Callable[[], bool], *, since: float | None = None, **log_fields: str
    ) -> Iterator[Lease]:
        """Yield the lease that was taken at `since`, or now."""
        yield ModelLease(renew, seconds, self.now() if since is None else since, inf, log_fields, now=self.now)

    def monotonic(self) -> float:
        """Return the time on the model's clock."""
        return self.now()
