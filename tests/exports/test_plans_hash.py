"""Tests of plans: the hash of RFC 8785, the schema that is published, and the approval."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core.errors import PlanExpired, PlanNotApproved, Refused
from pipeline.exports.plans import canonical_json, check_approval, hash_json, hash_plan
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan, as_json
from tests.support import factories

#: Of any characters, and of those that sort or are escaped differently, without the rare ones that take another branch.
TEXTS = st.text() | st.text('aB \x00\x1f"\\/\x7fé\u2028\ud7ff\ue000\uffee', max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_canonical_json_equals_rfc_8785(value: dict[str, Any]) -> None:
    assert canonical_json(value).encode() == rfc8785.dumps(value)


def test_keys_beyond_the_basic_plane_are_sorted_by_utf_16() -> None:
    value = {"\uffee": "after", "\U0001f600": "before"}
    assert list(value) == sorted(value)
    assert canonical_json(value) == '{"\U0001f600":"before","\uffee":"after"}'


def test_plan_hash_equals_the_contracts() -> None:
    plan = factories.plan()
    assert hash_json(
        {key: value for key, value in plan.items() if key not in ("approval", "planHash")}
    ) == factories.plan_hash(plan)


def test_plan_and_units_have_the_canonical_text() -> None:
    plan = factories.plan(units=2)
    plan["units"][1]["lines"][0]["description"] = "Lamp 😀"
    hashed = hash_plan(Plan.model_validate(plan), plan)
    assert hashed.document.encode() == rfc8785.dumps(plan)
    assert [unit.encode() for unit in hashed.units] == [rfc8785.dumps(unit) for unit in plan["units"]]
    assert hashed.plan_hash == factories.plan_hash(plan)


def test_request_schema_has_no_numbers() -> None:
    types = set(_types(ExecuteRequest.model_json_schema()))
    assert {"string", "boolean", "object", "array", "null"} <= types
    assert not {"number", "integer"} & types


def _types(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema["type"]
        for value in schema.values():
            yield from _types(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _types(value)


@pytest.mark.parametrize(
    ("approved", "expires", "refusal", "field"),
    [
        (timedelta(), None, None, None),
        (timedelta(minutes=5), timedelta(minutes=6), None, None),
        (timedelta(minutes=5, seconds=1), None, PlanNotApproved, "/plan/approval/approvedAt"),
        (timedelta(days=-1), timedelta(), PlanExpired, "/plan/approval/expiresAt"),
    ],
)
def test_approval_counts_up_to_its_limits(
    approved: timedelta, expires: timedelta | None, refusal: type[Refused] | None, field: str | None
) -> None:
    def write(offset: timedelta) -> str:
        return (factories.NOW + offset).isoformat()

    ends = None if expires is None else write(expires)
    approval = {"approvedBy": "ops@maple.example", "approvedAt": write(approved), "expiresAt": ends}
    plan = Plan.model_validate(factories.plan(approval=approval))
    if refusal is None:
        check_approval(plan, factories.NOW)
        return
    with pytest.raises(refusal) as refused:
        check_approval(plan, factories.NOW)
    assert refused.value.field == field


def test_valid_plan_round_trips_unchanged() -> None:
    sent = factories.plan(units=2)
    sent["units"][0]["invoice"]["exchangeRate"] = "0.00000012"
    assert as_json(Plan.model_validate(sent)) == sent


def test_newer_fields_are_serialised_only_if_sent() -> None:
    sent = factories.plan()
    assert not {"valuationBasis", "usmcaStatement", "rebates", "assistItems"} & {*sent["units"][0]["invoice"]}
    sent["units"][0]["invoice"] |= {
        "valuationBasis": "Price of a like sale",
        "usmcaStatement": "The goods originate under USMCA.",
        "rebates": [{"name": "Excise refunded on export", "amount": "3.20"}],
        "assists": "declared",
        "assistItems": [{"name": "Die lent by the buyer", "amount": None}],
    }
    assert as_json(Plan.model_validate(sent)) == sent


@pytest.mark.parametrize(
    ("pointer", "value", "message"),
    [
        ("/approval/approvedAt", "1700000000", "ISO 8601"),
        ("/approval/approvedAt", "2026-11-24T15:04:05", "timezone"),
        ("/units/0/invoice/date", "20261124", "ISO 8601"),
        ("/units/0/invoice/date", "2026-13-01", "month"),
        ("/units/0/lines/0/unitPrice", 12.5, "decimal in a string"),
        ("/units/0/lines/0/unitPrice", "1e3", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "NaN", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "007.50", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "-0.00", "plain decimal"),
        ("/units/0/lines/0/unitPrice", ".5", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "5.", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "5\n", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "\uff11\uff12", "plain decimal"),
        ("/units/0/lines/0/unitPrice", "-1", "greater than or equal"),
        ("/units/0/lines/0/quantity", "0", "greater than 0"),
        ("/units/0/lines/0/unitPrice", "1" * 25, "24 characters"),
        ("/units/0/invoice/currency", "XXX", "ISO 4217"),
        ("/units/0/parties/buyer/name", "Line\nbreak", "control character"),
        ("/units/0/parties/buyer/name", " Spaced", "space"),
        ("/units/0/lines/0/htsCode", "7323.93.0045", "pattern"),
        ("/units/0/lines/0/surprise", "x", "Extra inputs"),
        ("/units/0/packages/0/sscc", "12345", "pattern"),
    ],
)
def test_invalid_field_is_refused(pointer: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        Plan.model_validate(factories.change_plan(factories.plan(), pointer, value))
    (error,) = refused.value.errors()
    assert "/" + "/".join(str(part) for part in error["loc"]) == pointer
