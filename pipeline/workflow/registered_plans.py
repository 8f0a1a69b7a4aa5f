"""The registered plans of an account: read one, or list them."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, Select, or_, select
from sqlmodel import Session, col

from pipeline.core.errors import NotFound
from pipeline.documents.repository import PURGED
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.schemas.registered_plans import (
    PlanState,
    RegisteredPlanPage,
    RegisteredPlanSummary,
    RegisteredPlanView,
)


def read_registered_plan(session: Session, account_id: str, plan_or_batch_id: str, *, test: bool) -> RegisteredPlanView:
    """Return a plan by its id, or the newest one of a batch, those with this `test` first. Raises NotFound."""
    is_wanted = or_(col(PlanSnapshot.id) == plan_or_batch_id, col(PlanSnapshot.batch_id) == plan_or_batch_id)
    found = session.execute(
        _select_plans(account_id)
        .add_columns(col(PlanSnapshot.document))
        .where(is_wanted)
        .order_by((col(PlanSnapshot.test) == test).desc(), col(PlanSnapshot.id).desc())
        .limit(1)
    ).first()
    if found is None:
        raise NotFound(f"no plan is registered with the id or batch {plan_or_batch_id}; `GET /api/plans` lists them")
    plan = None if found.is_purged else json.loads(found.document)
    return RegisteredPlanView(**_name_facts(found), plan=plan)


def list_registered_plans(session: Session, account_id: str, *, cursor: str | None, limit: int) -> RegisteredPlanPage:
    """Return a page of the account's plans, the newest first, after the plan `cursor`."""
    statement = _select_plans(account_id).order_by(col(PlanSnapshot.id).desc()).limit(limit + 1)
    if cursor is not None:
        statement = statement.where(col(PlanSnapshot.id) < cursor)
    rows = session.execute(statement).all()
    items = [RegisteredPlanSummary(**_name_facts(row)) for row in rows[:limit]]
    return RegisteredPlanPage(items=items, next_cursor=items[-1].plan_id if len(rows) > limit else None)


def _select_plans(account_id: str) -> Select[Any]:
    # By the unique key of exports, which has a few revisions of each batch.
    executing = (
        select(col(Export.id))
        .where(
            col(Export.account_id) == col(PlanSnapshot.account_id),
            col(Export.batch_id) == col(PlanSnapshot.batch_id),
            col(Export.test) == col(PlanSnapshot.test),
            col(Export.plan_id) == col(PlanSnapshot.id),
        )
        .order_by(col(Export.revision).desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(
        col(PlanSnapshot.id),
        col(PlanSnapshot.batch_id),
        col(PlanSnapshot.plan_hash),
        col(PlanSnapshot.test),
        col(PlanSnapshot.registered_at),
        (col(PlanSnapshot.document) == PURGED).label("is_purged"),
        executing.label("export_id"),
    ).where(col(PlanSnapshot.account_id) == account_id)


def _name_facts(row: Row[Any]) -> Mapping[str, Any]:
    state: PlanState = "executed" if row.export_id else "purged" if row.is_purged else "planned"
    return {
        "plan_id": row.id,
        "batch_id": row.batch_id,
        "plan_hash": row.plan_hash,
        "test": row.test,
        "state": state,
        "export_id": row.export_id,
        "registered_at": row.registered_at,
    }
