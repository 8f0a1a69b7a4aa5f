"""Metrics of the work in the database, counted when Prometheus asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func
from sqlmodel import col, select

from pipeline.accounts.models import PartnerChannel
from pipeline.core import tenancy
from pipeline.core.errors import DatabaseBusy
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries import circuit_breaker
from pipeline.deliveries.models import BrokerSubmission, Delivery
from pipeline.deliveries.outcomes import OVERDUE, QUARANTINED
from pipeline.exports.models import Export, Step
from pipeline.exports.states import StepState
from pipeline.interfaces.api.single_flight import SingleFlight

log = structlog.get_logger(__name__)


class WorkCollector(Collector):
    """Counts exports, steps and deliveries by state, open circuit breakers, and overdue handoffs."""

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        # Counting reads all rows, and every caller that reaches the port can ask for it.
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
        by_state = (
            ("exports", "Exports", Export.state),
            ("exports_steps", "Steps", Step.state),
            ("exports_deliveries", "Deliveries", Delivery.state),
        )
        families: list[GaugeMetricFamily] = []
        with tenancy.account_scope(ALL_ACCOUNTS), self._runtime.db.read() as session:
            for name, noun, state in by_state:
                family = GaugeMetricFamily(name, f"{noun} by state", labels=["state"])
                for value, count in session.execute(select(state, func.count()).group_by(col(state))).all():
                    family.add_metric([value], count)
                families.append(family)
            quarantined = session.scalar(select(func.count()).select_from(Export).where(QUARANTINED))
            families.append(GaugeMetricFamily("exports_quarantined", "Exports that are quarantined now", quarantined))
            retrying = select(func.count()).select_from(Step)
            retrying = retrying.where(col(Step.state) == StepState.READY.value, col(Step.error).is_not(None))
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
