"""Whether work that is put here now gets done: the database, its tables, and the progress of the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func
from sqlmodel import Session, col, or_, select

from pipeline import migrations, tenancy
from pipeline.db import database_now
from pipeline.errors import DatabaseBusy
from pipeline.models import Delivery, Export, Step
from pipeline.runtime import Runtime
from pipeline.states import UNENDED, DeliveryState, ExportState, StepState
from pipeline.tenancy import EVERYBODY

#: How long due work may lie while nothing moves before somebody should be woken.
PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True)
class Part:
    """One part of the service and how it is, in words."""

    name: str
    ok: bool
    message: str


def parts(runtime: Runtime, *, patience_seconds: float = PATIENCE_SECONDS) -> list[Part]:
    """Return every part; where the database does not answer, nothing else is known."""
    try:
        if not migrations.is_current(runtime.db):
            return [Part("database", ok=False, message="its tables are not this version's; run `exports migrate`")]
        with tenancy.acting_for(EVERYBODY), runtime.db.read() as session:
            return [
                Part("database", ok=True, message="answers, and its tables are this version's"),
                _moving(session, "steps", _due_steps, patience_seconds),
                _moving(session, "deliveries", _due_deliveries, patience_seconds),
            ]
    except DatabaseBusy as busy:
        return [Part("database", ok=False, message=f"{busy}; check DATABASE_URL and the server")]


def _moving(session: Session, name: str, due: Callable[[Session, float], int], patience_seconds: float) -> Part:
    # A process that is alive is no evidence: only progress is, and only due work that lies shows its absence.
    waiting = due(session, patience_seconds)
    if waiting and not _progress(session, patience_seconds):
        message = f"{waiting} have been due and nothing moved for {patience_seconds:.0f} s; check that a worker runs"
        return Part(name, ok=False, message=message)
    return Part(name, ok=True, message="nothing is stuck")


def _progress(session: Session, patience_seconds: float) -> bool:
    # Each step and each attempt touches its export; so does acceptance, but that is no worker's doing.
    moved = select(Export.id).where(
        col(Export.updated_at) > database_now(-patience_seconds), col(Export.state) != ExportState.ACCEPTED.value
    )
    return session.scalar(moved.limit(1)) is not None


def _due_steps(session: Session, patience_seconds: float) -> int:
    # By when the export last moved, because each sweep puts off when a step is due.
    return (
        session.scalar(
            select(func.count())
            .select_from(Step)
            .join(Export, col(Export.id) == col(Step.export_id))
            .where(
                col(Step.state) == StepState.OWED.value,
                or_(col(Step.lease_until).is_(None), col(Step.lease_until) <= database_now()),
                col(Export.state).in_(UNENDED),
                col(Export.updated_at) <= database_now(-patience_seconds),
            )
        )
        or 0
    )


def _due_deliveries(session: Session, patience_seconds: float) -> int:
    return (
        session.scalar(
            select(func.count())
            .select_from(Delivery)
            .where(
                col(Delivery.state) == DeliveryState.PENDING.value,
                or_(col(Delivery.lease_until).is_(None), col(Delivery.lease_until) <= database_now()),
                col(Delivery.due_at) <= database_now(-patience_seconds),
            )
        )
        or 0
    )
