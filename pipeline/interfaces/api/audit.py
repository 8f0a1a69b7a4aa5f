"""The audit trail of an account: what people and keys did."""

from typing import Annotated

from fastapi import APIRouter, Query

from pipeline.core.field_types import BoundedDay
from pipeline.exports.audit_trail import MAX_SUBJECT, ActFilter, Action, list_acts
from pipeline.exports.schemas.export import ActPage
from pipeline.interfaces.api.dependencies import Admin, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS

router = APIRouter(prefix="/api/audit", tags=["system"])


@router.get("", responses=LIST_REFUSALS)
def list_audit_trail(
    runtime: RuntimeDep,
    caller: Admin,
    actor: Annotated[str | None, Query(max_length=64, description="The id of a person or a key")] = None,
    action: Annotated[Action | None, Query(description="Only acts of this kind")] = None,
    subject: Annotated[str | None, Query(max_length=MAX_SUBJECT, description="The id of what was acted on")] = None,
    first_day: Annotated[BoundedDay | None, Query(alias="from", description="Since this day of UTC")] = None,
    last_day: Annotated[BoundedDay | None, Query(alias="to", description="Until the end of this day of UTC")] = None,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="`nextBefore` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many items a page has")] = 50,
) -> ActPage:
    """List what people and keys did on the account, newest first.

    Each act has the hash of the act before it; `exports audit verify` checks the chain.
    """
    filters = ActFilter(actor, action, subject, first_day, last_day)
    with runtime.db.read() as session:
        return list_acts(session, caller.account_id, filters, before=before, limit=limit)
