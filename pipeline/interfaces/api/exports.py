"""Execute, preflight, inspect, list, amend, cancel, retry and hold exports."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Literal

import anyio
from fastapi import APIRouter, Header, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pipeline.accounts.api_keys import Caller
from pipeline.core import deadline, tracing
from pipeline.core.errors import Refused
from pipeline.core.json_input import Parsed
from pipeline.core.runtime import Runtime
from pipeline.exports import plans as export_plans
from pipeline.exports import queries
from pipeline.exports.schemas.export import (
    ExecuteRequest,
    ExportPage,
    ExportView,
    PlanReceipt,
    PreflightReport,
    ReasonRequest,
)
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.states import ACTIVE_STATES
from pipeline.interfaces.api.dependencies import (
    Amender,
    Cursor,
    Executor,
    Operator,
    PublisherDep,
    Reader,
    RuntimeDep,
    TaskPublisher,
    publish_acceptance,
)
from pipeline.interfaces.api.headers import (
    IdempotencyKey,
    check_idempotency_key,
    check_if_match,
    compute_etag,
    conditional_response,
    parse_preferred_wait,
    read_trace_context,
)
from pipeline.interfaces.api.limits import REQUEST_WAIT_SECONDS, UnaskedWaits
from pipeline.interfaces.api.openapi import (
    AMEND_REFUSALS,
    CHANGE_REFUSALS,
    EXECUTE_REFUSALS,
    LIST_REFUSALS,
    READ_REFUSALS,
    refusal_responses,
)
from pipeline.interfaces.api.request_body import describe_body, json_body
from pipeline.workflow import acceptance, amendments, interventions, read_model, withdrawals
from pipeline.workflow import preflight as workflow_preflight
from pipeline.workflow import queries as workflow_queries
from pipeline.workflow.idempotency import Acceptance

router = APIRouter(prefix="/api/exports", tags=["exports"])

JSON: Final = "application/json"


@router.post(
    "/execute",
    status_code=202,
    response_model=ExportView,
    responses={200: {"model": ExportView, "description": "The export ended within the wait"}, **EXECUTE_REFUSALS},
    openapi_extra=describe_body(ExecuteRequest),
)
async def execute_export(
    request: Request,
    runtime: RuntimeDep,
    publisher: PublisherDep,
    caller: Executor,
    body: Annotated[Parsed[ExecuteRequest], json_body(ExecuteRequest)],
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[
        str | None,
        Header(alias="Prefer", description="`wait=N`: answer when the export has ended, after at most N seconds"),
    ] = None,
) -> Response:
    """Execute an approved plan, exactly once for each account and batch.

    The answer is the export as it is now: 202 while it runs, 200 if it ended within the wait. `Prefer: wait` asks for a
    wait. Without it, the execution of a registered plan waits a few seconds, and that of a plan in the body does not wait.
    """
    requested = body.model
    accepted = await run_in_threadpool(
        acceptance.accept_plan,
        runtime,
        caller,
        requested,
        raw_plan=body.raw.get("plan"),
        idempotency_key=check_idempotency_key(idempotency_key) or requested.idempotency_key,
        trace=read_trace_context(request),
    )
    default_wait = runtime.settings.execute_wait_seconds if requested.plan is None else 0
    return await _accepted_response(request, runtime, publisher, caller, accepted, default_wait)


@router.post(
    "/{id}/amend",
    status_code=202,
    response_model=ExportView,
    responses={200: {"model": ExportView, "description": "The export ended within the wait"}, **AMEND_REFUSALS},
    openapi_extra=describe_body(ExecuteRequest),
)
async def amend_export(
    id: str,
    request: Request,
    runtime: RuntimeDep,
    publisher: PublisherDep,
    caller: Amender,
    body: Annotated[Parsed[ExecuteRequest], json_body(ExecuteRequest)],
    after_filing: Annotated[
        Literal["correction"] | None,
        Query(alias="afterFiling", description="Needed if an entry of the batch is filed: the plan corrects it"),
    ] = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Annotated[
        str | None,
        Header(alias="Prefer", description="`wait=N`: answer when the export has ended, after at most N seconds"),
    ] = None,
) -> Response:
    """Replace an executed or failed export with a changed plan of the same batch: a new revision.

    The old export is superseded, and its recipients are notified. The answer is the new export. If the plan is the one
    of the newest revision, the answer is that revision. A running export cannot be amended: wait for its end, or
    cancel it. A cancelled export cannot be amended either. If an entry is filed, only a correction is accepted.
    """
    requested = body.model
    accepted = await run_in_threadpool(
        amendments.amend_export,
        runtime,
        caller,
        id,
        requested,
        raw_plan=body.raw.get("plan"),
        idempotency_key=check_idempotency_key(idempotency_key) or requested.idempotency_key,
        precondition=read_precondition(request),
        correct=after_filing == "correction",
        trace=read_trace_context(request),
    )
    return await _accepted_response(request, runtime, publisher, caller, accepted)


async def _accepted_response(
    request: Request,
    runtime: Runtime,
    publisher: TaskPublisher,
    caller: Caller,
    accepted: Acceptance,
    default_wait: float = 0,
) -> Response:
    publish_acceptance(publisher, accepted)
    outcome = "accepted" if accepted.created else "repeated"
    tracing.annotate(export_id=accepted.export_id, account_id=caller.account_id, outcome=outcome)
    headers = {"Location": f"/api/exports/{accepted.export_id}", "Cache-Control": "no-store"}
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    wait = parse_preferred_wait(request, runtime.settings.max_wait_seconds)
    try:
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait:.0f}"
            ended = await _wait_until_ended(runtime, accepted.export_id, wait)
        else:
            unasked: UnaskedWaits = request.app.state.unasked_waits
            if not default_wait or not unasked.begin():
                return Response(accepted.body, accepted.status, headers, JSON)
            try:
                ended = await _wait_until_ended(runtime, accepted.export_id, default_wait)
            finally:
                unasked.end()
        content = await run_in_threadpool(_read_export_body, runtime, caller, accepted.export_id)
    except deadline.ServiceBusy:
        # The export is accepted: its caller gets the answer of that moment, not a refusal.
        return Response(accepted.body, accepted.status, headers, JSON)
    return Response(content, 200 if ended else 202, headers, JSON)


@router.post(
    "/plans",
    status_code=201,
    responses={200: {"model": PlanReceipt, "description": "The plan was already registered"}, **EXECUTE_REFUSALS},
    openapi_extra=describe_body(Plan),
)
async def register_plan(
    response: Response, runtime: RuntimeDep, caller: Executor, body: Annotated[Parsed[Plan], json_body(Plan)]
) -> PlanReceipt:
    """Store an approved plan for a later execution; it never changes, and registering it again has no effect."""

    def register() -> export_plans.RegisteredPlan:
        with point_into_plan():
            return workflow_preflight.register_plan(runtime, caller, export_plans.hash_plan(body.model, body.raw))

    registered = await run_in_threadpool(register)
    response.status_code = 201 if registered.created else 200
    return PlanReceipt(
        plan_id=registered.plan_id,
        account_id=caller.account_id,
        batch_id=registered.batch_id,
        plan_hash=registered.plan_hash,
    )


@router.post("/preflight", responses=EXECUTE_REFUSALS, openapi_extra=describe_body(Plan))
async def preflight_plan(
    runtime: RuntimeDep, caller: Reader, body: Annotated[Parsed[Plan], json_body(Plan)]
) -> PreflightReport:
    """Check a plan exactly as `execute` would, without executing it."""

    def check() -> PreflightReport:
        with point_into_plan():
            read = export_plans.hash_plan(body.model, body.raw)
            return workflow_preflight.preflight_report(runtime, caller, read)

    return await run_in_threadpool(check)


class ExportListQuery(ExportFilter):
    """The filter and the page of a list of exports."""

    cursor: Cursor = None
    limit: int = Field(50, ge=1, le=200, description="How many items a page has")


@router.get("", responses=LIST_REFUSALS)
def list_exports(runtime: RuntimeDep, caller: Reader, query: Annotated[ExportListQuery, Query()]) -> ExportPage:
    """List the account's exports, newest first."""
    with runtime.db.read() as session:
        return workflow_queries.list_exports(session, caller.account_id, query, cursor=query.cursor, limit=query.limit)


@router.get("/{id}", response_model=ExportView, responses={304: {"description": "Not changed"}, **READ_REFUSALS})
def read_export(id: str, request: Request, runtime: RuntimeDep, caller: Reader) -> Response:
    """Return an export, by its id or as the newest revision of a batch."""
    return conditional_response(request, _read_export_body(runtime, caller, id), JSON)


@router.post("/{id}/cancel", response_model=ExportView, responses=CHANGE_REFUSALS)
def cancel_export(
    id: str, request: Request, runtime: RuntimeDep, publisher: PublisherDep, caller: Operator
) -> Response:
    """Cancel an export that was not handed off yet, and notify its recipients; a repeat gets the same answer."""
    export_id = interventions.find_for_change(runtime, caller, id)
    publisher.publish(
        interventions.cancel_export(
            runtime, caller.account_id, export_id, caller.actor, precondition=read_precondition(request)
        )
    )
    return export_response(runtime, caller, export_id)


@router.post("/{id}/retry", status_code=202, response_model=ExportView, responses=CHANGE_REFUSALS)
def retry_export(id: str, request: Request, runtime: RuntimeDep, publisher: PublisherDep, caller: Operator) -> Response:
    """Continue a failed export from the step that failed."""
    export_id = interventions.find_for_change(runtime, caller, id)
    publisher.publish(
        interventions.retry_export(
            runtime, caller.account_id, export_id, caller.actor, precondition=read_precondition(request)
        )
    )
    return export_response(runtime, caller, export_id, 202)


ReasonBody = Annotated[Parsed[ReasonRequest], json_body(ReasonRequest)]


@router.post(
    "/{id}/hold",
    response_model=ExportView,
    responses={**CHANGE_REFUSALS, **refusal_responses(400, 413)},
    openapi_extra=describe_body(ReasonRequest),
)
def hold_export(id: str, body: ReasonBody, request: Request, runtime: RuntimeDep, caller: Operator) -> Response:
    """Hold the handoff of an export: its other steps are done, and nothing is sent; a repeat changes nothing."""
    export_id = interventions.find_for_change(runtime, caller, id)
    interventions.hold_export(
        runtime, caller.account_id, export_id, caller.actor, body.model.reason, precondition=read_precondition(request)
    )
    return export_response(runtime, caller, export_id)


@router.post("/{id}/release", response_model=ExportView, responses=CHANGE_REFUSALS)
def release_export(
    id: str, request: Request, runtime: RuntimeDep, publisher: PublisherDep, caller: Operator
) -> Response:
    """Release the hold of an export's handoff, and hand it off; a repeat changes nothing."""
    export_id = interventions.find_for_change(runtime, caller, id)
    publisher.publish(
        interventions.release_export(
            runtime, caller.account_id, export_id, caller.actor, precondition=read_precondition(request)
        )
    )
    return export_response(runtime, caller, export_id)


@router.post(
    "/{id}/withdraw",
    response_model=ExportView,
    responses={**CHANGE_REFUSALS, **refusal_responses(400, 413)},
    openapi_extra=describe_body(ReasonRequest),
)
def withdraw_export(
    id: str, body: ReasonBody, request: Request, runtime: RuntimeDep, publisher: PublisherDep, caller: Operator
) -> Response:
    """Withdraw an export after its handoff, until an entry is filed, and notify its recipients; a repeat changes nothing.

    It is withdrawn when the customs broker confirms that it files no entry, or at once if it never had the handoff.
    """
    export_id = interventions.find_for_change(runtime, caller, id)
    publisher.publish(
        withdrawals.withdraw_export(
            runtime,
            caller.account_id,
            export_id,
            caller.actor,
            body.model.reason,
            precondition=read_precondition(request),
        )
    )
    return export_response(runtime, caller, export_id)


def read_precondition(request: Request) -> Callable[[ExportView], None]:
    """Return a check, run in the transaction itself, that rejects an export whose version `If-Match` does not name."""
    return lambda view: check_if_match(request, compute_etag(view.model_dump_json(by_alias=True).encode()))


def export_response(runtime: Runtime, caller: Caller, export_id: str, status: int = 200) -> Response:
    """Return the export as it is now, with its entity tag."""
    content = _read_export_body(runtime, caller, export_id)
    return Response(content, status, {"ETag": compute_etag(content), "Cache-Control": "no-store"}, JSON)


def _read_export_body(runtime: Runtime, caller: Caller, export_or_batch_id: str) -> bytes:
    with runtime.db.read() as session:
        view = read_model.read_export(session, caller.account_id, export_or_batch_id, test=caller.test)
    return view.model_dump_json(by_alias=True).encode()


async def _wait_until_ended(runtime: Runtime, export_id: str, seconds: float) -> bool:
    """Wait until the export has ended and return True, or False after `seconds`.

    Between reads it holds neither a thread nor a connection.
    """

    def has_ended() -> bool:
        with runtime.db.read() as session:
            return queries.read_state(session, export_id) not in ACTIVE_STATES

    until = time.monotonic() + seconds
    pause = 0.02
    while not await run_in_threadpool(has_ended):
        left = until - time.monotonic()
        if left <= 0:
            return False
        await anyio.sleep(min(pause, left))
        deadline.set_deadline(REQUEST_WAIT_SECONDS)
        pause = min(pause * 1.5, 0.25)
    return True


@contextmanager
def point_into_plan() -> Iterator[None]:
    """Make the pointers of refusals relative to the plan, because the body is the plan itself."""
    try:
        yield
    except Refused as refused:
        if refused.field is not None:
            refused.field = refused.field.removeprefix("/plan")
        raise
