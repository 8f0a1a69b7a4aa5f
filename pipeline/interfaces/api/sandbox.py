"""The built-in sandbox broker's two endpoints, the borderbuddy contract and webhooks, and answers that a person asks for."""

import hmac
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.accounts import secrets
from pipeline.core import tenancy
from pipeline.core.errors import InvalidApiKey
from pipeline.core.json_input import Parsed
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.deliveries import sandbox_answers, sandbox_broker
from pipeline.deliveries.channels.borderbuddy import SANDBOX_TOKEN
from pipeline.deliveries.schemas.answers import AcknowledgementBody, HandoffAnswer, HandoffStatus
from pipeline.deliveries.schemas.cloudevent import SIGNATURE_HEADERS
from pipeline.deliveries.schemas.views import AcknowledgementReceipt, SandboxPage
from pipeline.deliveries.submissions.signature import check_signature, invalid_signature
from pipeline.deliveries.submissions.submissions import Signer
from pipeline.interfaces.api.dependencies import Cursor, Operator, Reader, RuntimeDep
from pipeline.interfaces.api.errors import build_busy
from pipeline.interfaces.api.openapi import BY_SANDBOX_TOKEN, LIST_REFUSALS, SIGNED, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.workflow.interventions import find_for_change

router = APIRouter(prefix="/sandbox", tags=["sandbox"])
answers_router = APIRouter(prefix="/api/exports", tags=["sandbox"])


class _UnverifiedBodies:
    """Limits the bodies that are read before their signature is checked: together at most `max_body_bytes`.

    Callers without a key can send them, and all callers share the memory for bodies.
    """

    def __init__(self) -> None:
        self._held_bytes = 0

    async def read(self, request: Request, max_bytes: int) -> bytes:
        """Return the body; raises Busy if too many others are being read."""
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                self._held_bytes += len(part)
                if self._held_bytes > max_bytes:
                    raise build_busy("the sandbox broker reads its maximum of bytes", Connection="close")
        finally:
            self._held_bytes -= len(body)
        return bytes(body)


_UNVERIFIED_BODIES: Final = _UnverifiedBodies()


@router.post(
    "/borderbuddy/handoffs",
    response_model=HandoffAnswer,
    responses={202: {"description": "Accepted; an answer may follow"}, **refusal_responses(400, 404)},
    openapi_extra=BY_SANDBOX_TOKEN,
)
async def take_sandbox_handoff(request: Request, runtime: RuntimeDep) -> Response:
    """Accept a handoff as the borderbuddy contract describes; each invoice number selects its entry's answer."""
    _check_sandbox_token(request, runtime)
    # The sandbox broker is a party of its own and serves every account.
    tenancy.set_account(ALL_ACCOUNTS)
    answer = await run_in_threadpool(sandbox_broker.take_message, runtime, await request.body(), "borderbuddy")
    if answer is None:
        return Response(status_code=202)
    return Response(answer.model_dump_json(by_alias=True), media_type="application/json")


@router.get("/borderbuddy/handoffs/{handoff_id}", responses=refusal_responses(404), openapi_extra=BY_SANDBOX_TOKEN)
async def list_sandbox_answers(handoff_id: str, request: Request, runtime: RuntimeDep) -> HandoffStatus:
    """Return the answers to a handoff so far, as the borderbuddy contract describes."""
    _check_sandbox_token(request, runtime)
    tenancy.set_account(ALL_ACCOUNTS)
    return await run_in_threadpool(sandbox_broker.list_answers, runtime, handoff_id)


@router.post(
    "/webhooks/{account_id}/{partner_id}",
    status_code=204,
    response_class=Response,
    responses=refusal_responses(400, 404),
    openapi_extra=SIGNED,
)
async def take_sandbox_webhook(account_id: str, partner_id: str, request: Request, runtime: RuntimeDep) -> Response:
    """Accept a webhook signed with the partner's secret; answers to a handoff follow as acknowledgements."""
    secrets = await run_in_threadpool(_find_secrets, runtime, account_id, partner_id)
    headers = dict(request.headers.items())
    if not (secrets and headers.keys() >= {*SIGNATURE_HEADERS}):
        raise invalid_signature()
    body = await _UNVERIFIED_BODIES.read(request, runtime.settings.max_body_bytes)
    await run_in_threadpool(_deliver_webhook, runtime, account_id, partner_id, secrets, body, headers)
    return Response(status_code=204)


@router.get("/handoffs", responses=LIST_REFUSALS)
def list_sandbox_handoffs(
    runtime: RuntimeDep,
    caller: Reader,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many items a page has")] = 50,
) -> SandboxPage:
    """List what the sandbox broker received from the account, newest first."""
    return sandbox_broker.list_handoffs(runtime, caller.account_id, after=cursor, limit=limit)


@answers_router.post(
    "/{id}/sandbox-answers",
    responses=refusal_responses(400, 404, 409, 413, 422),
    openapi_extra=describe_body(AcknowledgementBody),
)
async def answer_as_sandbox(
    id: str,
    runtime: RuntimeDep,
    caller: Operator,
    body: Annotated[Parsed[AcknowledgementBody], json_body(AcknowledgementBody)],
) -> AcknowledgementReceipt:
    """Let the sandbox broker answer the handoff of a test export now, as a real one would; a repeat with the same `id` changes nothing.

    It adds what the answer lacks: a message, the fields of a question or rejection, and the number and the estimated
    amounts of one entry that is filed. Live keys are refused.
    """

    def answer() -> AcknowledgementReceipt:
        export_id = find_for_change(runtime, caller, id)
        return sandbox_answers.answer_handoff(runtime, caller, export_id, body.model)

    return await run_in_threadpool(answer)


def _check_sandbox_token(request: Request, runtime: Runtime) -> None:
    given = request.headers.get("authorization", "").encode()
    # A process that has not loaded a new secret key yet sends the token of the previous one.
    tokens = secrets.build_secret_box(runtime.settings).tokens(SANDBOX_TOKEN)
    if not any(hmac.compare_digest(given, f"Bearer {token}".encode()) for token in tokens):
        raise InvalidApiKey("the sandbox broker only takes handoffs of this installation")


def _find_secrets(runtime: Runtime, account_id: str, partner_id: str) -> list[str]:
    with tenancy.account_scope(ALL_ACCOUNTS), runtime.db.read() as session:
        return secrets.load_valid_secrets(session, runtime.settings, account_id, partner_id)


def _deliver_webhook(
    runtime: Runtime, account_id: str, partner_id: str, secrets: list[str], body: bytes, headers: dict[str, str]
) -> None:
    check_signature(body, headers, secrets)
    with tenancy.account_scope(account_id):
        sandbox_broker.take_message(runtime, body, "webhook", signer=Signer(account_id, partner_id))
