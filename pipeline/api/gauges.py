"""What the database knows of the work, counted when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func
from sqlmodel import col, select

from pipeline.errors import DatabaseBusy
from pipeline.models import Delivery, Export, Step
from pipeline.runtime import Runtime

log = structlog.get_logger(__name__)


class Work(Collector):
    """Exports, steps and deliveries by state."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing, so that registering asks no database."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the counts; without a database, none."""
        counted = (
            ("exports", "Exports", Export.state),
            ("exports_steps", "Steps", Step.state),
            ("exports_deliveries", "Deliveries", Delivery.state),
        )
        families = []
        try:
            with self._runtime.db.read() as session:
                for name, noun, state in counted:
                    family = GaugeMetricFamily(name, f"{noun} by state", labels=["state"])
                    for value, count in session.execute(select(state, func.count()).group_by(col(state))).all():
                        family.add_metric([value], count)
                    families.append(family)
        except DatabaseBusy:
            log.warning("work_not_counted")
        return families
