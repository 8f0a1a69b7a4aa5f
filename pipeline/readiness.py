"""Whether work that is put here now gets done: the database, its tables, and the progress of the workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, SQLModel, col, select

from pipeline import migrations, tenancy
from pipeline.claims import of_unended
from pipeline.db import database_now, statement_now
from pipeline.errors import DatabaseBusy
from pipeline.lanes import claimable, lane_is_free
from pipeline.migrations import Standing
from pipeline.models import Attempt, Delivery, Step
from pipeline.runtime import Runtime
from pipeline.states import StepState
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
        stands = migrations.standing(runtime.db)
        if stands is Standing.BEHIND:
            return [Part("database", ok=False, message="its tables are not this version's; run `exports migrate`")]
        # Red would take every process of the older version away before one of the newer is there.
        whose = "this version's" if stands is Standing.CURRENT else "a newer version's; replace this process"
        watch = _Watch(patience_seconds, min(runtime.settings.stalled_seconds, patience_seconds / 2))
        with tenancy.acting_for(EVERYBODY), runtime.db.read() as session:
            return [
                Part("database", ok=True, message=f"answers, and its tables are {whose}"),
                watch.sweep(session),
                watch.steps(session),
                watch.deliveries(session),
            ]
    except DatabaseBusy as busy:
        return [Part("database", ok=False, message=f"{busy}; check DATABASE_URL and the server")]


@dataclass(frozen=True)
class _Watch:
    """Looks for what has lain for `patience` seconds; what sweeps find due they put off by `stalled` each time.

    A process that is alive is no evidence: only progress is, and only due work that lies shows its absence.
    """

    patience: float
    stalled: float

    def sweep(self, session: Session) -> Part:
        """Tell whether anybody looks for what has stalled."""
        found = ((Step, _owed_step()), (Delivery, self._owed_delivery()))
        forgotten = sum(_count(session, model, owed, self._forgotten(model)) for model, owed in found)
        if forgotten and not any(_any(session, model, owed, self._put_off(model)) for model, owed in found):
            lain = f"{forgotten} steps and deliveries have been due for {self.patience:.0f} s and no worker has looked"
            return Part("sweep", ok=False, message=f"{lain}; check that workers run and reach the database")
        return Part("sweep", ok=True, message="nothing that is due was overlooked")

    def steps(self, session: Session) -> Part:
        """Tell whether steps are made: launched, taken and finished."""
        waiting = _count(session, Step, _owed_step(), self._left_lying(Step))
        # A step that ended, and nothing else: any other fact about an export may be a sender's doing.
        if waiting and not _any(session, Step, col(Step.finished_at) > statement_now(-self.patience)):
            return self._stuck("steps", waiting, "a worker reads exports.steps and exports.documents")
        return Part("steps", ok=True, message="nothing is stuck")

    def deliveries(self, session: Session) -> Part:
        """Tell whether messages are sent, or at least tried."""
        waiting = _count(session, Delivery, self._owed_delivery(), self._left_lying(Delivery))
        if waiting and not _any(session, Attempt, col(Attempt.at) > statement_now(-self.patience)):
            return self._stuck("deliveries", waiting, "a worker reads exports.deliveries")
        return Part("deliveries", ok=True, message="nothing is stuck")

    def _stuck(self, name: str, waiting: int, remedy: str) -> Part:
        message = f"{waiting} have been due and nothing moved for {self.patience:.0f} s; check that {remedy}"
        return Part(name, ok=False, message=f"{message}, and that the message broker answers")

    def _owed_delivery(self) -> ColumnElement[bool]:
        # What waits behind a message that waits for its next try is late once nobody has come to that one for as long.
        return and_(claimable(), lane_is_free(self.patience))

    def _forgotten(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        # What waits for a message is due again when that has been under way for as long as it may be.
        return col(model.due_at) <= statement_now(self.stalled - self.patience)

    def _put_off(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        lately = col(model.due_at) > statement_now(self.stalled - self.patience)
        return and_(col(model.stalled_since).is_not(None), lately)

    def _left_lying(self, model: type[Step | Delivery]) -> ColumnElement[bool]:
        return or_(self._forgotten(model), col(model.stalled_since) <= database_now(self.stalled - self.patience))


def _owed_step() -> ColumnElement[bool]:
    return and_(
        col(Step.state) == StepState.OWED.value,
        or_(col(Step.lease_until).is_(None), col(Step.lease_until) <= database_now()),
        of_unended(col(Step.export_id)),
    )


def _count(session: Session, model: type[SQLModel], *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0


def _any(session: Session, model: type[SQLModel], *conditions: ColumnElement[bool]) -> bool:
    return session.scalar(select(1).select_from(model).where(*conditions).limit(1)) is not None
