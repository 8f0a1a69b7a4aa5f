"""A plan to correct: the plan of an export, the places that its customs broker named, and what a person typed there."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from pipeline.accounts.api_keys import Caller
from pipeline.core.errors import Refused
from pipeline.core.json_input import check_shape, load_json, parse_json
from pipeline.core.runtime import Runtime
from pipeline.deliveries.models import Acknowledgement, BrokerSubmission
from pipeline.exports import queries
from pipeline.exports.models import Export, ExportUnit, PlanSnapshot
from pipeline.exports.plan_values import MISSING, NoSuchPlace, read_value, set_value
from pipeline.exports.plans import UNHASHED, HashedPlan, hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.states import SubmissionState
from pipeline.workflow.preflight import check_kept

#: Answers that name places of the plan.
_NAMING: Final = (SubmissionState.REJECTED.value, SubmissionState.QUERY.value)
#: The most places that a form has; a customs broker may name up to two hundred.
MAX_PLACES: Final = 200
_IN_A_UNIT: Final = re.compile(r"/units/([0-9]{1,9})(?:/|\Z)")


@dataclass(frozen=True)
class PointedPlace:
    """A place of the plan that the customs broker rejects or asks about, with its words."""

    pointer: str
    message: str
    status: str


@dataclass(frozen=True)
class AmendablePlan:
    """The plan of an export, and the places that its customs broker named, the newest answer first.

    Of a plan that is `long`, `raw` may have only the units of these places, by their index.
    """

    export_id: str
    batch_id: str
    revision: int
    test: bool
    plan_hash: str
    raw: Mapping[str, Any]
    places: Sequence[PointedPlace]
    long: bool


@dataclass(frozen=True)
class TypedValue:
    """What a form has for one place: the text that it showed first, and the text as it is now."""

    pointer: str
    was: str
    now: str


@dataclass(frozen=True)
class TypedPlan:
    """A corrected plan, or what is wrong with it: messages by JSON Pointer."""

    raw: Mapping[str, Any]
    hashed: HashedPlan | None = None
    errors: Mapping[str, str] = field(default_factory=dict)


def load_amendable_plan(
    runtime: Runtime, caller: Caller, export_or_batch_id: str, *, longest: int | None = None
) -> AmendablePlan:
    """Return the plan of an export, without its approval. Raises NotFound, and InvalidState if it was purged.

    A plan of more than `longest` characters is long: of it only the units are read in which the customs broker named a
    place.
    """
    with runtime.db.read() as session:
        export = queries.find_export(session, caller.account_id, export_or_batch_id, test=caller.test)
        places = load_places(session, export.id)
        size = session.scalars(select(func.length(PlanSnapshot.document)).where(col(PlanSnapshot.id) == export.plan_id))
        long = longest is not None and size.one() > longest
        units = [_IN_A_UNIT.match(each.pointer) for each in places]
        if long and all(units):
            raw = _load_units(session, export.id, {unit[1] for unit in units if unit})
        else:
            raw = _load_plan(session, export)
    return AmendablePlan(export.id, export.batch_id, export.revision, export.test, export.plan_hash, raw, places, long)


def _load_plan(session: Session, export: Export) -> dict[str, Any]:
    # It was checked when it was accepted; the corrected plan is checked as a new one.
    stored = session.get_one(PlanSnapshot, export.plan_id)
    check_kept(stored)
    return {name: value for name, value in json.loads(stored.document).items() if name not in UNHASHED}


def _load_units(session: Session, export_id: str, indexes: Collection[str]) -> dict[str, Any]:
    rows = session.execute(
        select(col(ExportUnit.unit_no), col(ExportUnit.document)).where(
            col(ExportUnit.export_id) == export_id, col(ExportUnit.unit_no).in_({int(index) + 1 for index in indexes})
        )
    )
    units = {unit_no: json.loads(document) for unit_no, document in rows}
    return {"units": {index: units[int(index) + 1] for index in indexes if int(index) + 1 in units}}


def load_places(session: Session, export_id: str) -> list[PointedPlace]:
    """Return the places of an export's plan that its customs broker rejected or asked about, the newest answer first."""
    answers = session.scalars(
        select(Acknowledgement)
        .join(BrokerSubmission, col(BrokerSubmission.id) == col(Acknowledgement.submission_id))
        .where(col(BrokerSubmission.export_id) == export_id, col(Acknowledgement.status).in_(_NAMING))
        .order_by(col(Acknowledgement.received_at).desc(), col(Acknowledgement.id))
        .limit(20)
    )
    places: dict[str, PointedPlace] = {}
    for answer in answers:
        for each in answer.fields:
            place = PointedPlace(each["pointer"], each["message"], answer.status)
            places.setdefault(place.pointer, place)
    return [*places.values()][:MAX_PLACES]


def format_value(value: Any) -> str:
    """Return a value of a plan as the text of an input: JSON for an object or a list, nothing for null."""
    if value is MISSING or value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def correct_plan(
    runtime: Runtime,
    base: Mapping[str, Any],
    text: str | None,
    typed: Sequence[TypedValue],
    approval: Mapping[str, str],
) -> TypedPlan:
    """Return the plan in `text`, or else `base`, with each typed value that was changed, and with the approval.

    A value that was changed in its own input wins over the one in the text.
    """
    raw, errors = _read_text(runtime, base, text)
    if errors:
        return TypedPlan(base, errors=errors)
    for each in typed:
        if each.now == each.was:
            continue
        try:
            set_value(raw, each.pointer, _read_value(runtime, read_value(base, each.pointer), each.now))
        except NoSuchPlace:
            errors[each.pointer] = "the plan has no such place; correct the plan's JSON instead"
        except Refused as refused:
            errors[each.pointer] = f"must be JSON, like the value before: {refused.message}"
    raw = {name: value for name, value in raw.items() if name not in UNHASHED}
    if errors:
        return TypedPlan(raw, errors=errors)
    return _validate(runtime, raw, approval)


def _read_text(runtime: Runtime, base: Mapping[str, Any], text: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        raw = _load_typed(runtime, json.dumps(base) if text is None else text)
    except Refused as refused:
        return {}, {"": refused.message.replace("the body", "the plan", 1)}
    if not isinstance(raw, dict):
        return {}, {"": "the plan must be a JSON object, such as {...}"}
    return raw, {}


def _load_typed(runtime: Runtime, text: str) -> Any:
    """Return the JSON value of a text. Raises Refused if it is not JSON, or is nested too deep."""
    given = text.encode(errors="replace")
    check_shape(given, runtime.settings.max_json_depth)
    return load_json(given)


def _read_value(runtime: Runtime, old: Any, text: str) -> Any:
    """Return the text as a value of the same kind as the old one; None for an empty text. Raises what `_load_typed` raises."""
    if not text:
        return None
    if isinstance(old, bool):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(old, dict | list):
        return _load_typed(runtime, text)
    return text


def _validate(runtime: Runtime, raw: dict[str, Any], approval: Mapping[str, str]) -> TypedPlan:
    approved = {**raw, "approval": dict(approval)}
    try:
        body = json.dumps(approved, ensure_ascii=False).encode(errors="surrogatepass")
        parsed = parse_json(body, Plan, max_depth=runtime.settings.max_json_depth)
        return TypedPlan(approved, hash_plan(parsed.model, parsed.raw))
    except Refused as refused:
        issues = (refused.details or {}).get("issues", ())
        found = {str(issue["path"]): str(issue["message"]) for issue in issues}
        return TypedPlan(raw, errors=found or {refused.field or "": refused.message})
