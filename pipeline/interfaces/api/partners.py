"""Partners: create, list, read, change, test, activate, rotate the secret, pause and resume."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from pipeline.accounts import partners
from pipeline.accounts.schemas import (
    CreatedPartner,
    NewPartner,
    PartnerChanges,
    PartnerList,
    PartnerTested,
    PartnerView,
    RotatedSecret,
    SecretRotation,
)
from pipeline.core.json_input import Parsed
from pipeline.deliveries import connection_tests
from pipeline.deliveries.streams import recovery
from pipeline.exports.schemas.plan import PartnerId
from pipeline.interfaces.api.dependencies import Admin, Reader, RuntimeDep
from pipeline.interfaces.api.openapi import LIST_REFUSALS, READ_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body

router = APIRouter(prefix="/api/partners", tags=["partners"])


@router.post("", status_code=201, responses=refusal_responses(400, 413), openapi_extra=describe_body(NewPartner))
async def create_partner(
    response: Response, runtime: RuntimeDep, caller: Admin, body: Annotated[Parsed[NewPartner], json_body(NewPartner)]
) -> CreatedPartner:
    """Register a customs broker, warehouse, operator or upstream service; only this answer shows its signing secret."""
    created = await run_in_threadpool(
        partners.create_partner, runtime, caller.account_id, body.model, test_only=caller.test, actor=caller.actor
    )
    response.headers["Location"] = f"/api/partners/{created.id}"
    response.headers["Cache-Control"] = "no-store"
    return created


@router.get("", responses=LIST_REFUSALS)
def list_partners(
    runtime: RuntimeDep,
    caller: Reader,
    cursor: Annotated[PartnerId | None, Query(description="`nextCursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many items a page has")] = 200,
) -> PartnerList:
    """List the account's partners, by id."""
    found = partners.list_partners(runtime, caller.account_id, after=cursor or "", limit=limit + 1)
    return PartnerList(items=found[:limit], next_cursor=found[limit - 1].id if len(found) > limit else None)


@router.get("/{id}", responses=READ_REFUSALS)
def read_partner(id: str, runtime: RuntimeDep, caller: Reader) -> PartnerView:
    """Return one partner."""
    return partners.get_partner(runtime, caller.account_id, id)


@router.patch("/{id}", responses=refusal_responses(400, 404, 413), openapi_extra=describe_body(PartnerChanges))
async def change_partner(
    id: str, runtime: RuntimeDep, caller: Admin, body: Annotated[Parsed[PartnerChanges], json_body(PartnerChanges)]
) -> PartnerView:
    """Change the fields that the body names; all others, and the signing secret, stay."""
    return await run_in_threadpool(
        recovery.update_partner, runtime, caller.account_id, id, body.model, test_only=caller.test, actor=caller.actor
    )


@router.post("/{id}/test", responses=READ_REFUSALS)
def test_partner(id: str, runtime: RuntimeDep, caller: Admin) -> PartnerTested:
    """Test every endpoint of the partner in stages; the status is always 200, and `passed` says whether all passed.

    If all pass, the partner is verified and can be activated.
    """
    return connection_tests.run_connection_test(
        runtime, caller.account_id, id, tested_by=caller.actor, test_key=caller.test
    )


@router.post("/{id}/activate", responses=refusal_responses(404, 409))
def activate_partner(id: str, runtime: RuntimeDep, caller: Admin) -> PartnerView:
    """Let live exports reach a verified partner."""
    return partners.activate_partner(runtime, caller.account_id, id, test_only=caller.test, actor=caller.actor)


@router.post(
    "/{id}/rotate-secret", responses=refusal_responses(400, 404, 413), openapi_extra=describe_body(SecretRotation)
)
async def rotate_partner_secret(
    id: str,
    response: Response,
    runtime: RuntimeDep,
    caller: Admin,
    body: Annotated[Parsed[SecretRotation], json_body(SecretRotation)],
) -> RotatedSecret:
    """Give the partner a new signing secret; only this answer shows it. The older ones stay valid during the overlap."""
    response.headers["Cache-Control"] = "no-store"
    rotation = await run_in_threadpool(
        partners.rotate_secret,
        runtime,
        caller.account_id,
        id,
        body.model.overlap_hours,
        test_only=caller.test,
        actor=caller.actor,
    )
    return rotation.to_view()


@router.post("/{id}/pause", responses=refusal_responses(404, 409))
def pause_partner(id: str, runtime: RuntimeDep, caller: Admin) -> PartnerView:
    """Stop sending to the partner until it is resumed. Pending messages are kept."""
    return partners.pause_partner(runtime, caller.account_id, id, test_only=caller.test, actor=caller.actor)


@router.post("/{id}/resume", responses=refusal_responses(404, 409))
def resume_partner(id: str, runtime: RuntimeDep, caller: Admin) -> PartnerView:
    """Send the partner its pending and new messages again."""
    return recovery.resume_partner(runtime, caller.account_id, id, test_only=caller.test, actor=caller.actor)
