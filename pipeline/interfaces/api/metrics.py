"""Metrics of the work in the database, counted when Prometheus asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, Select, and_, func, literal_column, select
from sqlmodel import col

from pipeline.accounts.models import PartnerChannel
from pipeline.core import tenancy
from pipeline.core.errors import DatabaseBusy
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries import circuit_breaker
from pipeline.deliveries.models import BrokerSubmission
from pipeline.deliveries.outcomes import OVERDUE, QUARANTINED, delivery_is
from pipeline.exports.models import Account, Export, Step
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, ExportState, StepState
from pipeline.interfaces.api.single_flight import SingleFlight

log = structlog.get_logger(__name__)

_EXPORT_STATES: Final = (*ACTIVE_STATES, ExportState.FAILED.value)
_DELIVERY_STATES: Final = (DeliveryState.WAITING, DeliveryState.PENDING, DeliveryState.DEAD)
#: A literal, so that both databases use their indexes of such steps.
_READY: Final = col(Step.state) == literal_column("'ready'")


class WorkCollector(Collector):
    """Counts open work by state, open circuit breakers and overdue handoffs.

    What is done is not counted: it grows for years, and each count reads an index of what is open.
    """

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        # Counting reads all open work, and every caller that reaches the port can ask for it.
        self._counts = SingleFlight(self._count_rows, clock=clock)

    def describe(self) -> Sequence[GaugeMetricFamily]:
        """Return nothing, so that registering the collector reads no database."""
        return ()

    def collect(self) -> Sequence[GaugeMetricFamily]:
        """Return the counts; none if the database does not respond."""
        try:
            return self._counts.get()
        except DatabaseBusy:
            log.warning("metrics_unavailable")
            return ()

    def _count_rows(self) -> list[GaugeMetricFamily]:
        by_state: tuple[tuple[str, str, Mapping[str, Select[int]]], ...] = (
            ("exports", "Active and failed exports", {state: _count_exports(state) for state in _EXPORT_STATES}),
            ("exports_steps", "Steps that a worker may start", {StepState.READY.value: _count(_READY)}),
            (
                "exports_deliveries",
                "Deliveries that are not delivered",
                {state.value: _count(delivery_is(state)) for state in _DELIVERY_STATES},
            ),
        )
        families: list[GaugeMetricFamily] = []
        with tenancy.account_scope(ALL_ACCOUNTS), self._runtime.db.read() as session:
            for name, noun, counts in by_state:
                family = GaugeMetricFamily(name, f"{noun} by state", labels=["state"])
                for state, count in counts.items():
                    family.add_metric([state], session.scalar(count) or 0)
                families.append(family)
            quarantined = session.scalar(select(func.count()).select_from(Export).where(QUARANTINED))
            families.append(GaugeMetricFamily("exports_quarantined", "Exports that are quarantined now", quarantined))
            retrying = select(func.count()).select_from(Step)
            retrying = retrying.where(_READY, col(Step.error).is_not(None))
            families.append(
                GaugeMetricFamily(
                    "exports_steps_retrying", "Steps that failed and will be retried", session.scalar(retrying)
                )
            )
            breakers_open = session.scalar(
                select(func.count()).select_from(PartnerChannel).where(circuit_breaker.is_open())
            )
            families.append(GaugeMetricFamily("exports_breakers_open", "Circuit breakers that are open", breakers_open))
            overdue = select(func.count()).select_from(BrokerSubmission).where(OVERDUE)
            families.append(
                GaugeMetricFamily(
                    "exports_handoffs_overdue", "Handoffs whose next status is overdue", session.scalar(overdue)
                )
            )
        return families


def _count(condition: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).where(condition)


def _count_exports(state: str) -> Select[int]:
    # For each account, because the index of states begins with it.
    of_account = _count(and_(col(Export.account_id) == col(Account.id), col(Export.state) == state))
    return select(func.sum(of_account.correlate(Account).scalar_subquery())).select_from(Account)
