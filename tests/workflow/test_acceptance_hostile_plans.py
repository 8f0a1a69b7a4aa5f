"""Hostile texts in a plan are refused with the field's name, or the plan is executed completely; nothing crashes."""

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlmodel import col

from pipeline.core.errors import PlanNotExecutable, Refused, ValidationFailed
from pipeline.core.json_input import parse_json
from pipeline.customs.overview import plan_overview
from pipeline.exports import plans as export_plans
from pipeline.exports.event_models import Event
from pipeline.exports.models import Artifact, Export, PlanSnapshot, Step
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow import preflight
from tests.support.factories import TODAY, change_plan, read_pointer
from tests.support.hostile_inputs import (
    BREAKING,
    DECEIVING,
    EVERYTHING,
    FORBIDDEN,
    ODD,
    build_whole_plan,
    iterate_texts,
)
from tests.workflow.conftest import WorkflowHarness

PLACES = sorted(iterate_texts(build_whole_plan()))
ROWS = (Export, PlanSnapshot, Event, Step)

#: Free texts of the plan that is executed; schema or rules fix the form of all other texts.
FREE = re.compile(
    r"/(name|title|line1|line2|city|salePlace|incotermPlace|paymentTerms|purchaseOrder|sku|certifierName|material|volume"
    r"|BN|approvedBy|productName|manufacturer|shipper|fdaImporter|description)$"
)


def read_plan(plan_json: dict[str, Any]) -> Plan:
    return parse_json(json.dumps(plan_json).encode(), Plan, max_depth=32).model


def list_issues(refused: ValidationFailed) -> list[str]:
    assert refused.details is not None
    return [issue["path"] for issue in refused.details["issues"]]


def assert_refused_or_checked(plan_json: dict[str, Any], place: str) -> None:
    """Assert that the plan is refused at `place`, or that preflight reports on it."""
    try:
        plan = read_plan(plan_json)
    except ValidationFailed as error:
        refused = list_issues(error)
    except Refused:
        return  # not valid JSON: half a surrogate pair has no UTF-8
    else:
        found = preflight.check_plan_alone(plan, on=TODAY)
        assert all(len(finding.message) < 2_000 for finding in found)
        assert plan_overview(plan, found)
        report = preflight.build_report(export_plans.hash_plan(plan, plan_json), found)
        assert len(json.loads(report.model_dump_json(by_alias=True))["findings"]) == len(found)
        return
    assert all(path == place or path.startswith(f"{place}/") or place.startswith(path) for path in refused), refused


@pytest.mark.parametrize("trick", EVERYTHING)
def test_hostile_text_in_one_place_is_refused_there_or_checked(trick: str) -> None:
    plan_json = build_whole_plan()
    for place in PLACES[:: max(1, len(PLACES) // 40)]:
        assert_refused_or_checked(change_plan(plan_json, place, EVERYTHING[trick]), place)


@given(
    place=st.sampled_from(PLACES), text=st.one_of(st.sampled_from(sorted(EVERYTHING.values())), st.text(max_size=300))
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_random_text_in_one_place_is_refused_there_or_checked(place: str, text: str) -> None:
    assert_refused_or_checked(change_plan(build_whole_plan(), place, text), place)


@given(
    place=st.sampled_from(PLACES),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.lists(st.text(), max_size=2),
        st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    ),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_other_json_value_in_one_place_is_refused_there_or_checked(place: str, value: object) -> None:
    assert_refused_or_checked(change_plan(build_whole_plan(), place, value), place)


def test_places_include_all_texts_of_a_whole_plan() -> None:
    assert len(PLACES) > 150
    assert {place.rsplit("/", 1)[1] for place in PLACES} >= {"line1", "sku", "certifierName", "hsCode", "material"}


def fill_free_texts(text: str) -> dict[str, Any]:
    """Return the whole plan with `text` in every free text; descriptions still describe the goods."""
    plan_json = build_whole_plan()
    for place in PLACES:
        if FREE.search(place):
            value = (
                f"{read_pointer(plan_json, place)} {text}"[:250].strip()
                if place.endswith("/description")
                else text[:250].strip()
            )
            plan_json = change_plan(plan_json, place, value)
    return plan_json


def join_tricks(tricks: list[str], longest: int = 240) -> list[str]:
    """Return the tricks joined into few texts, because rendering a document takes time."""
    joined = [""]
    for trick in tricks:
        if len(joined[-1]) + len(trick) >= longest:
            joined.append("")
        joined[-1] = f"{joined[-1]} {trick}".strip()
    return joined


# A formula works only at the start of a text.
@pytest.mark.pdf_engine
@pytest.mark.parametrize(
    "text", [*join_tricks([*BREAKING.values()]), *join_tricks([*ODD.values()]), BREAKING["formula"]]
)
def test_plan_with_allowed_hostile_text_is_executed(workflow: WorkflowHarness, text: str) -> None:
    plan_json = fill_free_texts(text)
    export_id = workflow.accept(plan_json).export_id
    workflow.finish(export_id)
    with workflow.runtime.db.read() as session:
        export = session.get_one(Export, export_id)
        assert (export.state, export.failure) == ("executed", None)
        artifacts = session.scalars(select(Artifact).where(col(Artifact.export_id) == export_id)).all()
        carried = next(row for row in artifacts if row.artifact_type == "cci_json")
    assert {"cci_csv", "cci_xlsx", "cci_pdf", "cci_human_readable", "packing_list"} <= {
        row.artifact_type for row in artifacts
    }
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", row.filename) for row in artifacts)
    invoice = json.loads(workflow.store.get(carried.sha256))
    assert [line["sku"] for line in invoice["lines"]] == [line["sku"] for line in plan_json["units"][0]["lines"]]


@pytest.mark.parametrize("trick", DECEIVING)
def test_plan_with_deceiving_text_is_refused_and_nothing_is_written(workflow: WorkflowHarness, trick: str) -> None:
    with pytest.raises(PlanNotExecutable) as refused:
        workflow.accept(fill_free_texts(DECEIVING[trick]))
    assert refused.value.details is not None
    assert {each["rule"] for each in refused.value.details["rules"] if each["severity"] == "block"} == {"D02"}
    assert [workflow.count(table) for table in ROWS] == [0, 0, 0, 0]


@pytest.mark.parametrize("trick", FORBIDDEN)
def test_plan_with_forbidden_text_is_refused(trick: str) -> None:
    for place in PLACES:
        if FREE.search(place):
            with pytest.raises(Refused):
                read_plan(change_plan(build_whole_plan(), place, FORBIDDEN[trick]))
