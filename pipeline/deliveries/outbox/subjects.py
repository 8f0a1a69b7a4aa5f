"""What a message is about: an export, or a registered plan without one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, bindparam, false, null, select, true
from sqlmodel import Session, col

from pipeline.accounts import recipients
from pipeline.accounts.schemas import name_subject
from pipeline.core.db import table
from pipeline.core.errors import ASK_FOR_LIVE, InsufficientRole, Purged
from pipeline.core.trace_context import TraceContext
from pipeline.documents.repository import PURGED
from pipeline.exports import events
from pipeline.exports.models import Export, PlanSnapshot


@dataclass(frozen=True)
class MessageSubject:
    """The export or the plan that a message is about. A plan has no revision, which is 0 then, and no trace."""

    id: str
    plan_id: str | None  # its id, if it is a plan
    batch_id: str
    revision: int
    test: bool
    is_purged: bool
    trace: TraceContext | None

    @property
    def name(self) -> str:
        """The subject as an error names it."""
        return name_subject(self.id, self.plan_id)

    def check_kept(self, consequence: str) -> None:
        """Raise Purged if the subject was purged; `consequence` ends the error's message."""
        if self.is_purged:
            raise Purged.for_subject(self.name, consequence)

    def check_test(self, delivery_id: str, *, test_only: bool) -> None:
        """Raise InsufficientRole if `test_only` and the subject of the delivery is live."""
        if test_only and not self.test:
            kind = "export" if self.plan_id is None else "plan"
            raise InsufficientRole(f"delivery {delivery_id} belongs to a live {kind}; {ASK_FOR_LIVE}")


def read_subject(session: Session, subject_id: str) -> MessageSubject:
    """Return the subject of a message by its id."""
    export = session.get(Export, subject_id)
    if export is not None:
        return MessageSubject(
            id=export.id,
            plan_id=None,
            batch_id=export.batch_id,
            revision=export.revision,
            test=export.test,
            is_purged=export.purged_at is not None,
            trace=TraceContext.from_row(export),
        )
    # The document itself may have megabytes.
    is_purged = (col(PlanSnapshot.document) == PURGED).label("is_purged")
    plan = session.execute(
        select(col(PlanSnapshot.batch_id), col(PlanSnapshot.test), is_purged).where(col(PlanSnapshot.id) == subject_id)
    ).one()
    return MessageSubject(
        id=subject_id,
        plan_id=subject_id,
        batch_id=plan.batch_id,
        revision=0,
        test=plan.test,
        is_purged=plan.is_purged,
        trace=None,
    )


def lock_subject(session: Session, subject_id: str) -> MessageSubject:
    """Lock the row of the export or the plan, and return the subject as it is then."""
    if session.scalar(select(col(Export.id)).where(col(Export.id) == subject_id)) is None:
        lock_plan(session, subject_id)
    else:
        events.lock_export(session, subject_id)
    return read_subject(session, subject_id)


def lock_plan(session: Session, plan_id: str) -> None:
    """Lock the plan's row: messages about it are written and recorded one after the other."""
    session.execute(select(col(PlanSnapshot.id)).where(col(PlanSnapshot.id) == plan_id).with_for_update())


_exports, _plans = table(Export).c, table(PlanSnapshot).c
_FIND_EXPORT: Final = (
    select(
        _exports.account_id,
        _exports.test,
        _exports.purged_at,
        _exports.trace_parent,
        _exports.trace_state,
        false().label("about_plan"),
        *recipients.TARGET_COLUMNS,
    )
    .select_from(recipients.join_target(table(Export), _exports.account_id))
    .where(_exports.id == bindparam("of_subject"))
)
_FIND_PLAN: Final = (
    select(
        _plans.account_id,
        _plans.test,
        null().label("trace_parent"),
        null().label("trace_state"),
        true().label("about_plan"),
        *recipients.TARGET_COLUMNS,
    )
    .select_from(recipients.join_target(table(PlanSnapshot), _plans.account_id))
    .where(_plans.id == bindparam("of_subject"), _plans.document != PURGED)
)


def find_sendable(session: Session, stream: Mapping[str, str]) -> Row[Any] | None:
    """Return the account of the stream's subject, its trace and its recipient; None if it is purged or does not exist."""
    export = session.execute(_FIND_EXPORT, stream).first()
    if export is None:
        return session.execute(_FIND_PLAN, stream).first()
    return export if export.purged_at is None else None
