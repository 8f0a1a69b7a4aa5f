"""The built-in sandbox broker at its two doors: the borderbuddy contract, and webhooks."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline import sandbox, signing, tenancy
from pipeline.api.dependencies import Reader, RuntimeDep
from pipeline.api.refusals import READING, refusals
from pipeline.channels.borderbuddy import SANDBOX_TOKEN
from pipeline.channels.webhook import check_signature
from pipeline.errors import InvalidApiKey
from pipeline.runtime import Runtime
from pipeline.schemas.messages import HandoffAnswer, HandoffStatus
from pipeline.schemas.sandbox import SandboxPage
from pipeline.tenancy import EVERYBODY

router = APIRouter(prefix="/sandbox", tags=["sandbox"])


@router.post(
    "/borderbuddy/handoffs",
    response_model=HandoffAnswer,
    responses={202: {"description": "Taken; an answer may follow"}, **refusals(400, 404)},
)
async def take_handoff(request: Request, runtime: RuntimeDep) -> Response:
    """Take a handoff as the borderbuddy contract describes; the invoice number's first letter picks the answer."""
    _own(request, runtime)
    # The sandbox broker is a party of its own, and serves every account.
    tenancy.act_for(EVERYBODY)
    answer = await run_in_threadpool(sandbox.take, runtime, await request.body(), "borderbuddy")
    if answer is None:
        return Response(status_code=202)
    return Response(answer.model_dump_json(by_alias=True), media_type="application/json")


@router.get(
    "/borderbuddy/handoffs/{handoff_id}",
    response_model=HandoffStatus,
    responses=refusals(404),
)
async def handoff_answers(handoff_id: str, request: Request, runtime: RuntimeDep) -> HandoffStatus:
    """Say what was answered to a handoff so far, as the borderbuddy contract describes."""
    _own(request, runtime)
    tenancy.act_for(EVERYBODY)
    return await run_in_threadpool(sandbox.answers, runtime, handoff_id)


@router.post(
    "/webhooks/{account_id}/{partner_id}",
    status_code=204,
    response_class=Response,
    responses=refusals(400, 404),
)
async def take_webhook(account_id: str, partner_id: str, request: Request, runtime: RuntimeDep) -> Response:
    """Take a webhook that the partner's secret signs; answers to a handoff follow as acknowledgements."""
    await run_in_threadpool(
        _webhook, runtime, account_id, partner_id, await request.body(), dict(request.headers.items())
    )
    return Response(status_code=204)


@router.get("/handoffs", response_model=SandboxPage, responses=READING)
def list_handoffs(
    runtime: RuntimeDep,
    caller: Reader,
    cursor: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> SandboxPage:
    """List what the sandbox broker received of the account, newest first."""
    return sandbox.received(runtime, caller.account_id, after=cursor, limit=limit)


def _own(request: Request, runtime: Runtime) -> None:
    given = request.headers.get("authorization", "").encode()
    # A process that has yet to hear of a new secret key sends the token of the one before.
    tokens = signing.box(runtime.settings).tokens(SANDBOX_TOKEN)
    if not any(hmac.compare_digest(given, f"Bearer {token}".encode()) for token in tokens):
        raise InvalidApiKey("the sandbox broker takes handoffs of this installation only")


def _webhook(runtime: Runtime, account_id: str, partner_id: str, body: bytes, headers: dict[str, str]) -> None:
    with tenancy.acting_for(EVERYBODY), runtime.db.read() as session:
        secrets = signing.counting(session, runtime.settings, account_id, partner_id)
    check_signature(body, headers, secrets)
    # The signature speaks for this account's handoffs and no other's.
    with tenancy.acting_for(account_id):
        sandbox.take(runtime, body, "webhook")
