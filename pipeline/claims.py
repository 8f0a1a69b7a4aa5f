"""Who holds a step, and until when: leases on the database's clock, and a fence that tells one holder from the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlmodel import col

from pipeline.db import database_now
from pipeline.errors import DatabaseBusy
from pipeline.models import Export, Step
from pipeline.runtime import Runtime
from pipeline.states import ExportState, StepState
from pipeline.steps import StepContext, context_of

log = structlog.get_logger(__name__)

ACTIVE: Final = (ExportState.ACCEPTED.value, ExportState.EXECUTING.value)


def claim(runtime: Runtime, export_id: str, unit_no: int, name: str, *, begins: bool) -> StepContext | None:
    """Take the step's lease, on the database's clock; None where it is done, held, not due or its export has ended.

    `begins` says that this step is the first of its unit, so that the export is executing from now on.
    """
    active = exists().where(col(Export.id) == export_id, col(Export.state).in_(ACTIVE))
    with runtime.db.write() as session:
        if begins:
            session.execute(
                update(Export)
                .where(col(Export.id) == export_id, col(Export.state) == ExportState.ACCEPTED.value)
                .values(state=ExportState.EXECUTING.value, updated_at=database_now())
            )
        row = session.execute(
            update(Step)
            .where(
                *at(export_id, unit_no, name),
                col(Step.state) == StepState.OWED.value,
                or_(col(Step.lease_until).is_(None), col(Step.lease_until) <= database_now()),
                active,
            )
            .values(
                fence=col(Step.fence) + 1,
                attempts=col(Step.attempts) + 1,
                started_at=func.coalesce(col(Step.started_at), database_now()),
                lease_until=database_now(runtime.settings.lease_seconds),
                due_at=database_now(runtime.settings.lease_seconds),
            )
            .returning(col(Step.fence), col(Step.attempts))
        ).first()
        if row is None:
            return None
        export = session.get_one(Export, export_id)
        return context_of(export, unit_no=unit_no, step=name, fence=row.fence, attempt=row.attempts)


@contextmanager
def held(runtime: Runtime, context: StepContext) -> Iterator[None]:
    """Renew the lease while the block works, so that a long step is not taken for a dead one."""
    ended = threading.Event()
    lease = runtime.settings.lease_seconds

    def renew() -> None:
        while not ended.wait(lease / 3):
            try:
                with runtime.db.write() as session:
                    session.execute(
                        update(Step)
                        .where(*of(context), col(Step.fence) == context.fence)
                        .values(lease_until=database_now(lease), due_at=database_now(lease))
                    )
            except DatabaseBusy:
                log.warning("lease_not_renewed", export_id=context.export_id, step=context.step)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def still_holds(runtime: Runtime, context: StepContext) -> bool:
    """Tell whether the step is still the caller's to finish."""
    with runtime.db.read() as session:
        row = session.execute(select(col(Step.state), col(Step.fence)).where(*of(context))).one()
    return bool(row.state == StepState.OWED.value and row.fence == context.fence)


def at(export_id: str, unit_no: int, name: str) -> tuple[ColumnElement[bool], ...]:
    """Return the condition that picks one step."""
    return col(Step.export_id) == export_id, col(Step.unit_no) == unit_no, col(Step.name) == name


def of(context: StepContext) -> tuple[ColumnElement[bool], ...]:
    """Return the condition that picks the context's step."""
    return at(context.export_id, context.unit_no, context.step)
