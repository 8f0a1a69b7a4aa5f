"""The customs broker's answers to a handoff, authenticated by a key or by the partner's signature."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from pipeline.accounts.api_keys import OPERATE, Caller
from pipeline.core import tenancy
from pipeline.core.errors import InsufficientRole, InvalidApiKey, PayloadTooLarge
from pipeline.core.json_input import parse_json
from pipeline.core.runtime import Runtime
from pipeline.deliveries.schemas.answers import AcknowledgementBody
from pipeline.deliveries.schemas.views import AcknowledgementReceipt
from pipeline.deliveries.submissions import broker_answers, submissions
from pipeline.deliveries.submissions.submissions import Signer, SubmissionOwner
from pipeline.exports.models import Export
from pipeline.interfaces.api.dependencies import PARTNER, RuntimeDep, get_caller, roles_allowing
from pipeline.interfaces.api.errors import ForeignObject
from pipeline.interfaces.api.openapi import SIGNED_OR_BY_KEY, refusal_responses
from pipeline.interfaces.api.request_body import describe_body, read_body_up_to

router = APIRouter(prefix="/api/broker-submissions", tags=["broker submissions"])

MAX_BYTES: Final = 64 * 1024


@router.post(
    "/{id}/acknowledgements",
    responses=refusal_responses(400, 404, 409, 413, 422),
    openapi_extra=describe_body(AcknowledgementBody)
    | SIGNED_OR_BY_KEY
    | {"x-roles": list(roles_allowing(OPERATE, PARTNER))},
)
async def acknowledge_handoff(id: str, request: Request, runtime: RuntimeDep) -> AcknowledgementReceipt:
    """Record the customs broker's answer, once by its `id`, and advance the submission's status; repeats have no effect.

    The call carries a key with the role `partner:<id>` or `operate`, or the three Standard Webhooks headers made with
    the partner's secret.
    """
    caller = await get_caller_unless_signed(request)
    body = await read_body_up_to(request, MAX_BYTES)
    if body is None:
        # The rest of the body is not read, so the connection cannot be used again.
        raise PayloadTooLarge(
            f"an answer must have at most {MAX_BYTES} bytes; send fewer fields", headers={"Connection": "close"}
        )
    headers = dict(request.headers.items())
    return await run_in_threadpool(_record_answer, runtime, id, caller, body, headers)


def _record_answer(
    runtime: Runtime, submission_id: str, caller: Caller | None, body: bytes, headers: dict[str, str]
) -> AcknowledgementReceipt:
    if caller is not None:
        actor = authorize_answer(runtime, submission_id, caller)
    else:
        actor = authenticate_signature(runtime, submission_id, body, headers).actor
    answer = parse_json(body, AcknowledgementBody, max_depth=runtime.settings.max_json_depth).model
    return broker_answers.receive_answer(runtime, submission_id, answer, actor)


def authorize_answer(runtime: Runtime, submission_id: str, caller: Caller) -> str:
    """Return the actor of an answer by this key. Raises NotFound and InsufficientRole."""
    submission = find_submission(runtime, submission_id)
    if submission.account_id != caller.account_id:
        raise ForeignObject(f"there is no broker submission {submission_id}")
    if submission.partner_id not in caller.partner_ids and not caller.has_role(OPERATE):
        role = f"partner:{submission.partner_id}"
        raise InsufficientRole(
            f"this answer needs a key with the role {role} or operate. {caller.describe_key_creation(role)}"
        )
    if caller.test and not _is_test(runtime, submission.export_id):
        raise InsufficientRole("the submission belongs to a live export; answer it with a live key")
    return caller.actor


def _is_test(runtime: Runtime, export_id: str) -> bool:
    with runtime.db.read() as session:
        return session.get_one(Export, export_id).test


async def get_caller_unless_signed(request: Request) -> Caller | None:
    """Return the caller of a call; None if it has no key but a signature, which the body must still prove.

    Raises InvalidApiKey, before the body is read.
    """
    if "authorization" in request.headers:
        return await get_caller(request)
    if "webhook-signature" in request.headers:
        return None
    raise InvalidApiKey(
        "send your API key as `Authorization: Bearer <key>`, or sign the body with the partner's secret",
        headers={"WWW-Authenticate": 'Bearer realm="exports"'},
    )


def authenticate_signature(runtime: Runtime, submission_id: str, body: bytes, headers: dict[str, str]) -> Signer:
    """Return the partner that signed the body, and act for its account from now on; raises InvalidApiKey."""
    signer = submissions.verify_signer(runtime, submission_id, body, headers)
    tenancy.set_account(signer.account_id)
    return signer


def find_submission(runtime: Runtime, submission_id: str) -> SubmissionOwner:
    """Return the submission's owner; raises NotFound."""
    with runtime.db.read() as session:
        return submissions.find_submission(session, submission_id)
