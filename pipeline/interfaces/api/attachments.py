"""Files of a conversation: the customs broker or the exporter sends one, then names it in an answer or a message."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from pipeline.accounts.api_keys import OPERATE, Caller
from pipeline.core.errors import PayloadTooLarge
from pipeline.core.runtime import Runtime
from pipeline.deliveries.submissions.attachments import MAX_BYTES, TOO_LARGE, FilePlaces, attach_files, check_file
from pipeline.exports.schemas.submissions import AttachmentView
from pipeline.interfaces.api.dependencies import PARTNER, Operator, RuntimeDep, roles_allowing
from pipeline.interfaces.api.openapi import FILE, SIGNED_OR_BY_KEY, refusal_responses
from pipeline.interfaces.api.request_body import read_body_up_to
from pipeline.interfaces.api.submissions import (
    authenticate_signature,
    authorize_answer,
    find_submission,
    get_caller_unless_signed,
)
from pipeline.workflow.interventions import find_for_change

router = APIRouter(prefix="/api", tags=["broker submissions"])

FileName = Annotated[str, Query(max_length=255, description="Its name; unsafe characters are replaced")]

_BODY: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {"application/octet-stream": FILE}}}
_REFUSALS: Final = refusal_responses(400, 404, 409, 413, 422)


@router.post(
    "/broker-submissions/{id}/attachments",
    responses=_REFUSALS,
    openapi_extra=_BODY | SIGNED_OR_BY_KEY | {"x-roles": list(roles_allowing(OPERATE, PARTNER))},
)
async def attach_to_handoff(
    id: str, request: Request, runtime: RuntimeDep, filename: FileName = "file"
) -> AttachmentView:
    """Keep a file of the customs broker; an answer then names its id in `attachments`. The body is the file.

    A repeat returns the same id. The call is authorized as an answer is.
    """
    caller = await get_caller_unless_signed(request)
    # A signature is checked after the body is read, so a stranger must at least know a submission.
    await run_in_threadpool(find_submission, runtime, id)
    body = await _read_file(request)
    return await run_in_threadpool(_attach_to_handoff, runtime, id, caller, filename, body, dict(request.headers))


@router.post("/exports/{id}/attachments", responses=_REFUSALS, openapi_extra=_BODY)
async def attach_to_export(
    id: str, request: Request, runtime: RuntimeDep, caller: Operator, filename: FileName = "file"
) -> AttachmentView:
    """Keep a file for the customs broker; a message then names its id in `attachments`. The body is the file.

    A repeat returns the same id.
    """
    body = await _read_file(request)
    declared = request.headers.get("content-type", "")

    def attach() -> AttachmentView:
        export_id = find_for_change(runtime, caller, id)
        return attach_files(runtime, [check_file(export_id, None, filename, body, declared=declared)], caller.actor)[0]

    return await run_in_threadpool(attach)


async def _read_file(request: Request) -> bytes:
    body = await read_body_up_to(request, MAX_BYTES)
    if body is None:
        # The rest of the body is not read, so the connection cannot be used again.
        raise PayloadTooLarge(TOO_LARGE, field=FilePlaces().content, headers={"Connection": "close"})
    return body


def _attach_to_handoff(
    runtime: Runtime, submission_id: str, caller: Caller | None, filename: str, body: bytes, headers: dict[str, str]
) -> AttachmentView:
    if caller is not None:
        actor = authorize_answer(runtime, submission_id, caller)
    else:
        actor = authenticate_signature(runtime, submission_id, body, headers).actor
    owner = find_submission(runtime, submission_id)
    file = check_file(owner.export_id, owner.partner_id, filename, body, declared=headers.get("content-type", ""))
    return attach_files(runtime, [file], actor)[0]
