"""Tests of the plan hash: both encoders write the canonical form of RFC 8785."""

from collections.abc import Iterator
from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exports.plans import canonical_json, hash_json, hash_plan
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
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
