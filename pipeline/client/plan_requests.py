"""The calls of the API about plans: register, read, check and preview them."""

from dataclasses import replace
from typing import Final, Literal

from pipeline.client.export_requests import Plan
from pipeline.client.request import Call, ResultPage, RetryWhen, drop_none, encode_segment, get, parse_as
from pipeline.exports.schemas.export import PlanReceipt, PreflightReport
from pipeline.exports.schemas.registered_plans import RegisteredPlanPage, RegisteredPlanSummary, RegisteredPlanView

ProformaFormat = Literal["pdf", "html"]


#: A page of two thousand lines takes several seconds, and others may be rendered before it.
_RENDERING_SECONDS: Final = 30


def register_plan(plan: Plan) -> Call[PlanReceipt]:
    """Store an approved plan for a later execution; it never changes."""
    return Call("POST", "api/exports/plans", parse_as(PlanReceipt), json=plan, retry_when=RetryWhen.ALWAYS)


def plan(plan_id: str) -> Call[RegisteredPlanView]:
    """Return a registered plan, by its id or its batch's id."""
    return get(f"api/plans/{encode_segment(plan_id)}", parse_as(RegisteredPlanView))


def plans(*, page_size: int = 200) -> ResultPage[RegisteredPlanSummary]:
    """Yield the account's registered plans, newest first, from all pages."""

    def page_call(cursor: str | None) -> Call[ResultPage[RegisteredPlanSummary]]:
        call = get("api/plans", parse_as(RegisteredPlanPage), cursor=cursor, limit=page_size)
        return call.map(
            lambda found: ResultPage(found.items, page_call(found.next_cursor) if found.next_cursor else None)
        )

    return ResultPage(next_call=page_call(None))


def preflight(plan: Plan) -> Call[PreflightReport]:
    """Check a plan as execution would, without executing it."""
    return Call("POST", "api/exports/preflight", parse_as(PreflightReport), json=plan, retry_when=RetryWhen.ALWAYS)


def proforma(plan: Plan, *, unit: str | None = None, file_format: ProformaFormat = "pdf") -> Call[bytes]:
    """Return the pro forma invoice of a plan's unit, approved or not; a plan of one unit needs no `unit`."""
    return Call(
        "POST",
        "api/exports/proforma",
        lambda response: response.content,
        params=drop_none(unit=unit, format=file_format),
        json=plan,
        retry_when=RetryWhen.ALWAYS,
        extra_seconds=_RENDERING_SECONDS,
    )


def registered_proforma(plan_id: str, *, unit: str | None = None, file_format: ProformaFormat = "pdf") -> Call[bytes]:
    """Return the pro forma invoice of a registered plan's unit; a plan of one unit needs no `unit`."""
    path = f"api/exports/plans/{encode_segment(plan_id)}/proforma"
    call = get(path, lambda response: response.content, unit=unit, format=file_format)
    return replace(call, extra_seconds=_RENDERING_SECONDS)
