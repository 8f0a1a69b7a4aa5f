"""The links by which a partner opens its portal: create, list, revoke one or all."""

from typing import Annotated

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from pipeline.accounts import portal_links
from pipeline.accounts.schemas import CreatedPortalLink, NewPortalLink, PortalLinkList, PortalLinkView
from pipeline.core.json_input import Parsed
from pipeline.interfaces.api.dependencies import Admin, RuntimeDep
from pipeline.interfaces.api.openapi import READ_REFUSALS, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body

router = APIRouter(prefix="/api/partners/{id}/portal-links", tags=["partners"])


@router.post(
    "", status_code=201, responses=refusal_responses(400, 404, 409, 413), openapi_extra=describe_body(NewPortalLink)
)
async def create_portal_link(
    id: str,
    response: Response,
    runtime: RuntimeDep,
    caller: Admin,
    body: Annotated[Parsed[NewPortalLink], json_body(NewPortalLink)],
) -> CreatedPortalLink:
    """Create a link that opens the partner's portal for some days; only this answer shows its URL."""

    def create() -> CreatedPortalLink:
        return portal_links.create_portal_link(
            runtime, caller.account_id, id, body.model.days, created_by=caller.actor, test_only=caller.test
        )

    created = await run_in_threadpool(create)
    response.headers["Location"] = f"/api/partners/{id}/portal-links"
    response.headers["Cache-Control"] = "no-store"
    return created


@router.get("", responses=READ_REFUSALS)
def list_portal_links(id: str, runtime: RuntimeDep, caller: Admin) -> PortalLinkList:
    """List the partner's portal links, newest first, with their last use; ended ones stay on record."""
    return PortalLinkList(items=portal_links.list_portal_links(runtime, caller.account_id, id))


@router.delete("", responses=READ_REFUSALS)
def revoke_portal_links(id: str, runtime: RuntimeDep, caller: Admin) -> PortalLinkList:
    """Revoke all portal links of the partner, their sessions, and the reply links in its e-mails; the answer lists the portal links that were valid."""
    return PortalLinkList(
        items=portal_links.revoke_portal_links(
            runtime, caller.account_id, id, revoked_by=caller.actor, test_only=caller.test
        )
    )


@router.delete("/{link}", responses=READ_REFUSALS)
def revoke_portal_link(id: str, link: str, runtime: RuntimeDep, caller: Admin) -> PortalLinkView:
    """Revoke one portal link and end its sessions now; repeats have no effect."""
    return portal_links.revoke_portal_link(
        runtime, caller.account_id, id, link, revoked_by=caller.actor, test_only=caller.test
    )
