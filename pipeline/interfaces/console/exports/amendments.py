"""The console's page that corrects a plan and amends its export: the named places, the JSON, preflight and the changes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Final
from urllib.parse import quote
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends
from starlette.responses import Response

from pipeline.core import deadline
from pipeline.core.errors import Refused
from pipeline.core.findings import Finding
from pipeline.deliveries.account_clock import read_now
from pipeline.deliveries.entries.revisions import EarlierEntry
from pipeline.exports.plan_values import read_value
from pipeline.exports.queries import find_export
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.interfaces.api.dependencies import get_publisher, publish_acceptance
from pipeline.interfaces.api.headers import download_headers, read_trace_context
from pipeline.interfaces.api.limits import REQUEST_WAIT_SECONDS
from pipeline.interfaces.console.exports import amendment_views
from pipeline.interfaces.pages.pages import HEADERS, ConsoleRoute, Form, Visit, Visitor, limit_form, redirect_to
from pipeline.workflow.amendments import (
    AMENDING_ROLES,
    amend_export,
    find_amendable,
    find_corrected,
    preflight_amendment,
)
from pipeline.workflow.plan_input import (
    MAX_PLACES,
    AmendablePlan,
    TypedPlan,
    TypedValue,
    correct_plan,
    format_value,
    load_amendable_plan,
)
from pipeline.workflow.pro_forma import render_proforma

router = APIRouter(prefix="/console/exports/{id}/amend", include_in_schema=False, route_class=ConsoleRoute)

#: A longer plan is not shown as a text to edit: only its named places are.
MAX_TEXT: Final = 300_000
#: The text and the inputs, each byte of them as three.
PlanForm = Annotated[Form, Depends(limit_form(3 * MAX_TEXT + 512 * 1024, *AMENDING_ROLES))]

#: An approval is given by sending what was checked; a check is good for a day.
_CHECK_LASTS: Final = timedelta(days=1)


def open_amendment(id: str, visit: Visitor) -> Visit:
    """Return the visit in the mode of the export."""
    with visit.runtime.db.read() as session:
        export = find_export(session, visit.account_id, id, test=visit.caller.test)
    return replace(visit, caller=visit.caller.in_mode(test=export.test))


Amending = Annotated[Visit, Depends(open_amendment)]

_NO_ERRORS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True)
class _Typed:
    """What a person typed; `text` is None if the page has no text to edit."""

    values: Sequence[TypedValue]
    text: str | None
    key: str
    checked_hash: str = ""
    approved_at: str = ""


@router.get("")
def show_amendment(id: str, visit: Amending) -> Response:
    """Show the plan at the places that the customs broker named."""
    visit.caller.require(*AMENDING_ROLES)
    find_amendable(visit.runtime, visit.caller, id)
    plan = load_amendable_plan(visit.runtime, visit.caller, id, longest=MAX_TEXT)
    shown = [format_value(read_value(plan.raw, each.pointer)) for each in plan.places]
    values = [TypedValue(each.pointer, was, was) for each, was in zip(plan.places, shown, strict=True)]
    text = "" if plan.long else json.dumps(plan.raw, ensure_ascii=False, indent=1)
    typed = _Typed(values, None if plan.long or len(text) > MAX_TEXT else text, uuid4().hex)
    return _page(visit, plan, typed)


@router.get("/plan.json")
def download_plan(id: str, visit: Amending) -> Response:
    """Return the plan as a file, to edit it elsewhere."""
    plan = load_amendable_plan(visit.runtime, visit.caller, id)
    headers = HEADERS | {"Content-Disposition": 'attachment; filename="plan.json"'}
    body = json.dumps(plan.raw, ensure_ascii=False, indent=1).encode()
    return Response(body, headers=headers, media_type="application/json")


@router.post("")
def add_place(id: str, form: PlanForm, visit: Amending) -> Response:
    """Show the form again as it was typed, with an input for one more place of the plan."""
    plan = load_amendable_plan(visit.runtime, visit.caller, id)
    typed, pointer = _read_typed(form), form.get("add")
    if not pointer.startswith("/") or len(pointer) > 256:
        refusal = f"The place must be a JSON Pointer, such as /units/0/lines/2/htsCode, not {pointer or 'empty'}."
        return _page(visit, plan, typed, refusal=refusal, status=400, added=pointer)
    if pointer not in {each.pointer for each in typed.values} and len(typed.values) < MAX_PLACES:
        was = format_value(read_value(plan.raw, pointer))
        typed = replace(typed, values=[*typed.values, TypedValue(pointer, was, was)])
    return _page(visit, plan, typed)


@router.post("/check")
def check_plan(id: str, form: PlanForm, visit: Amending) -> Response:
    """Show the findings of the corrected plan and what changes; nothing is written."""
    plan = load_amendable_plan(visit.runtime, visit.caller, id)
    return _check(visit, plan, _read_typed(form))


@router.post("/proforma")
def show_proforma(id: str, form: PlanForm, visit: Amending) -> Response:
    """Return the pro forma invoice of the corrected plan as a PDF; nothing is written."""
    plan = load_amendable_plan(visit.runtime, visit.caller, id)
    typed = _read_typed(form)
    corrected = _correct(visit, plan, typed, _read_now(visit))
    if corrected.hashed is None:
        return _check(visit, plan, typed, refusal="A plan that cannot be read has no pro forma invoice.", status=400)
    deadline.set_deadline(REQUEST_WAIT_SECONDS)  # reading a long plan takes a second
    try:
        document = render_proforma(
            visit.runtime, visit.caller, corrected.hashed, unit_ref=form.get("unit") or None, may_replace=True
        )
    except Refused as refused:
        return _check(visit, plan, typed, refusal=f"No pro forma invoice: {refused.message}", status=refused.status)
    headers = HEADERS | download_headers(document.filename)
    return Response(document.body, headers=headers, media_type=document.media_type)


@router.post("/send")
def send_amendment(id: str, form: PlanForm, visit: Amending) -> Response:
    """Amend the export with the plan that was checked, which approves it; then show the new revision."""
    plan = load_amendable_plan(visit.runtime, visit.caller, id)
    typed = _read_typed(form)
    approved_at = _read_approved_at(visit, typed)
    corrected = _correct(visit, plan, typed, approved_at or _read_now(visit))
    if approved_at is None or corrected.hashed is None or corrected.hashed.plan_hash != typed.checked_hash:
        refusal = "The plan is not the one that was checked. Look at the changes, then send it."
        return _check(visit, plan, typed, refusal=refusal)
    if amendment_views.list_unchanged(plan, corrected) and not form.get("unchanged"):
        refusal = "Not sent yet: a field that the customs broker named is unchanged. Correct it, or send it anyway."
        return _check(visit, plan, typed, refusal=refusal)
    hashed = corrected.hashed
    request = ExecuteRequest(account_id=visit.account_id, batch_id=plan.batch_id, plan=hashed.plan)
    deadline.set_deadline(REQUEST_WAIT_SECONDS)  # reading a long plan takes a second
    try:
        accepted = amend_export(
            visit.runtime,
            visit.caller,
            plan.export_id,
            request,
            raw_plan=hashed.raw,
            correct=form.get("correction") == "yes",
            idempotency_key=f"console-{typed.key}-{typed.checked_hash.removeprefix('sha256:')[:16]}",
            trace=read_trace_context(visit.request),
        )
    except Refused as refused:
        return _check(visit, plan, typed, refusal=f"Not sent: {refused.message}", status=refused.status)
    publish_acceptance(get_publisher(visit.request), accepted)
    return redirect_to(f"/console/exports/{quote(accepted.export_id, safe='')}")


def _check(
    visit: Visit, plan: AmendablePlan, typed: _Typed, *, refusal: str | None = None, status: int = 200
) -> Response:
    now = _read_now(visit)
    corrected = _correct(visit, plan, typed, now)
    findings: Sequence[Finding] = ()
    if corrected.hashed is not None:
        deadline.set_deadline(REQUEST_WAIT_SECONDS)
        try:
            findings = preflight_amendment(visit.runtime, visit.caller, plan.export_id, corrected.hashed)
        except Refused as refused:
            refusal, status = refusal or refused.message, refused.status
            corrected = TypedPlan(corrected.raw)
    check = amendment_views.show_check(plan, corrected, findings, now, visit.caller)
    filed: Sequence[EarlierEntry] = ()
    if check.sendable and corrected.hashed is not None:
        filed = find_corrected(visit.runtime, visit.caller, plan.export_id, corrected.hashed.plan)
    return _page(visit, plan, typed, check=check, refusal=refusal, status=status, errors=corrected.errors, filed=filed)


def _correct(visit: Visit, plan: AmendablePlan, typed: _Typed, approved_at: datetime) -> TypedPlan:
    approval = {"approvedBy": _name_approver(visit), "approvedAt": approved_at.isoformat()}
    return correct_plan(visit.runtime, plan.raw, typed.text, typed.values, approval)


def _read_now(visit: Visit) -> datetime:
    """Return the time by which the plan is approved and checked: in test mode, what the account's test clock shows."""
    with visit.runtime.db.read() as session:
        return read_now(session, visit.runtime, visit.caller)


def _name_approver(visit: Visit) -> str:
    person = visit.caller.person
    return visit.caller.actor if person is None else person.email


def _page(
    visit: Visit,
    plan: AmendablePlan,
    typed: _Typed,
    *,
    check: amendment_views.ShownCheck | None = None,
    refusal: str | None = None,
    status: int = 200,
    added: str = "",
    errors: Mapping[str, str] = _NO_ERRORS,
    filed: Sequence[EarlierEntry] = (),
) -> Response:
    return visit.page(
        "console/exports/amendment.html",
        status,
        plan=plan,
        link=f"/console/exports/{quote(plan.export_id, safe='')}",
        places=amendment_views.show_places(plan, typed.values, errors),
        text=typed.text,
        key=typed.key,
        approver=_name_approver(visit),
        check=check,
        filed=filed,
        refusal=refusal,
        added=added,
    )


def _read_typed(form: Form) -> _Typed:
    values = []
    for place in range(MAX_PLACES):
        pointer = form.get(f"pointer-{place}")
        if not pointer:
            break
        was, now = (form.get(f"{name}-{place}").replace("\r\n", "\n") for name in ("was", "now"))
        values.append(TypedValue(pointer, was, now))
    # Without a text the page had none, because the plan is too long.
    has_text = form.get("has_text") == "yes"
    text = form.get("text").replace("\r\n", "\n") if has_text else None
    return _Typed(values, text, _read_key(form), form.get("checked_hash"), form.get("approved_at"))


def _read_key(form: Form) -> str:
    try:
        return UUID(form.get("key")).hex
    except ValueError:
        return uuid4().hex


def _read_approved_at(visit: Visit, typed: _Typed) -> datetime | None:
    """Return the instant of the check; None if there was none, or not in the last day."""
    try:
        at = datetime.fromisoformat(typed.approved_at)
        age = _read_now(visit) - at
    except (ValueError, TypeError):
        return None
    return at if timedelta(0) <= age <= _CHECK_LASTS else None
