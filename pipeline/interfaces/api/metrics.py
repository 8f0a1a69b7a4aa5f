"""Metrics of the work in the database, counted when Prometheus asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlmodel import Session, col

from pipeline.core import tenancy
from pipeline.core.db import database_now, index_constant
from pipeline.core.errors import DatabaseBusy
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries import circuit_breaker
from pipeline.deliveries.outcomes import OVERDUE, QUARANTINED, delivery_is
from pipeline.exports.models import Account, Export, Step
from pipeline.exports.states import ACTIVE_STATES, DeliveryState, ExportState, StepState
from pipeline.interfaces.api.single_flight import SingleFlight
from pipeline.workflow.steps import STEPS

log = structlog.get_logger(__name__)

#: A step that finished longer ago is committed, so that no reading misses it.
_UNCOMMITTED_SECONDS: Final = 30.0

_EXPORT_STATES: Final = (*ACTIVE_STATES, ExportState.FAILED.value)
_DELIVERY_STATES: Final = (DeliveryState.WAITING, DeliveryState.PENDING, DeliveryState.DEAD)
_READY: Final = col(Step.state) == index_constant(StepState.READY)


class WorkCollector(Collector):
    """Counts open work by state, finished steps, open circuit breakers and overdue handoffs.

    What is done is counted only since this process started: it grows for years. Each count reads an index.
    """

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._finished_steps = _FinishedSteps()
        # Counting reads all open work, and every caller that reaches the port can ask for it.
        self._counts = SingleFlight(self._count_rows, clock=clock)

    def describe(self) -> Sequence[Metric]:
        """Return nothing, so that registering the collector reads no database."""
        return ()

    def collect(self) -> Sequence[Metric]:
        """Return the counts; none if the database does not respond."""
        try:
            return self._counts.get()
        except DatabaseBusy:
            log.warning("metrics_unavailable")
            return ()

    def _count_rows(self) -> list[Metric]:
        by_state: tuple[tuple[str, str, Mapping[str, Select[int]]], ...] = (
            ("exports", "Active and failed exports", {state: _count_exports(state) for state in _EXPORT_STATES}),
            ("exports_steps", "Steps that a worker may start", {StepState.READY.value: _count(_READY)}),
            (
                "exports_deliveries",
                "Deliveries that are not delivered",
                {state.value: _count(delivery_is(state)) for state in _DELIVERY_STATES},
            ),
        )
        families: list[Metric] = []
        with tenancy.account_scope(ALL_ACCOUNTS), self._runtime.db.read() as session:
            for name, noun, counts in by_state:
                family = GaugeMetricFamily(name, f"{noun} by state", labels=["state"])
                for state, count in counts.items():
                    family.add_metric([state], session.scalar(count) or 0)
                families.append(family)
            families.append(self._finished_steps.count(session))
            families += [
                GaugeMetricFamily(name, help_text, session.scalar(_count(condition)))
                for name, help_text, condition in (
                    ("exports_quarantined", "Exports that are quarantined now", QUARANTINED),
                    (
                        "exports_steps_retrying",
                        "Steps that failed and will be retried",
                        and_(_READY, col(Step.error).is_not(None)),
                    ),
                    ("exports_breakers_open", "Circuit breakers that are open", circuit_breaker.is_open()),
                    ("exports_handoffs_overdue", "Handoffs whose next status is overdue", OVERDUE),
                )
            ]
        return families


class _FinishedSteps:
    """Counts the finished steps since the first reading, and reads each of them once, from the index of their ends."""

    def __init__(self) -> None:
        self._counted = Counter({spec.name: 0 for spec in STEPS})
        self._until: datetime | None = None

    def count(self, session: Session) -> CounterMetricFamily:
        """Return the number of finished steps by name; the newest count at a later reading."""
        until = session.scalar(select(database_now(-_UNCOMMITTED_SECONDS)))
        if self._until is not None:
            finished = and_(col(Step.finished_at) > self._until, col(Step.finished_at) <= until)
            by_name = select(col(Step.name), func.count()).where(finished).group_by(col(Step.name))
            self._counted.update({name: count for name, count in session.execute(by_name)})  # noqa: C416 - mypy does not accept a row as a pair
        self._until = until
        family = CounterMetricFamily(
            "exports_steps_finished", "Steps that finished since this process started", labels=["step"]
        )
        for name, count in self._counted.items():
            family.add_metric([name], count)
        return family


def _count(condition: ColumnElement[bool]) -> Select[int]:
    return select(func.count()).where(condition)


def _count_exports(state: str) -> Select[int]:
    # For each account, because the index of states begins with it.
    of_account = _count(and_(col(Export.account_id) == col(Account.id), col(Export.state) == state))
    return select(func.sum(of_account.correlate(Account).scalar_subquery())).select_from(Account)
