"""A recheck finds each plan that an imported or removed edition changes, once, and names the editions."""

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.core.findings import Finding
from pipeline.customs.tariff.editions import remove_edition
from pipeline.deliveries.models import Notification
from pipeline.deliveries.schemas.messages import MessageType
from pipeline.deliveries.schemas.to_operator import ExportRechecked, PlanRechecked
from pipeline.exports.event_models import Event
from pipeline.exports.models import PlanSnapshot
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow.preflight import register_plan
from pipeline.workflow.recheck import RecheckedPlan, recheck_plans
from tests.support import factories
from tests.support.query_counter import record_statements
from tests.support.rule_folders import PACKAGED_ID
from tests.support.tariff import AGENCY_FLAGS, REVISION_6, REVISION_7, import_revision, import_table, plan_german_shirt
from tests.workflow.conftest import WorkflowHarness

#: The plans enter on 2026-11-26.
OLD, NEW = date(2026, 10, 1), date(2026, 11, 20)
PAN, SHIRT = "7323.93.00.45", "6105.10.00"


@pytest.fixture
def harness(make_workflow: Callable[[str], WorkflowHarness], database_url: str) -> WorkflowHarness:
    return make_workflow(database_url)


def write_edition(folder: Path, name: str, *, without: str = "", **rates: str) -> Path:
    """Write the rows of an edition with other general rates, and without one number."""
    rows = json.loads(REVISION_6.read_text(encoding="utf-8"))
    kept = [row for row in rows if row["htsno"] != without]
    for row in kept:
        row["general"] = rates.get(row["htsno"].replace(".", "_"), row["general"])
    path = folder / f"{name}.json"
    path.write_text(json.dumps(kept), encoding="utf-8")
    return path


def register(harness: WorkflowHarness, raw: factories.Json) -> None:
    register_plan(harness.runtime, harness.caller, hash_plan(Plan.model_validate(raw), raw))


def recheck(harness: WorkflowHarness) -> dict[str, RecheckedPlan]:
    return {each.batch_id: each for each in recheck_plans(harness.runtime)}


def list_rules(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(each.rule, each.severity) for each in findings]


def read_messages(harness: WorkflowHarness) -> list[ExportRechecked | PlanRechecked]:
    models: dict[str, type[ExportRechecked | PlanRechecked]] = {
        MessageType.EXPORT_RECHECKED: ExportRechecked,
        MessageType.PLAN_RECHECKED: PlanRechecked,
    }
    rows = harness.rows(select(Notification).where(col(Notification.event_type).in_(models)))
    return [models[row.event_type].model_validate_json(row.data) for row in rows]


def test_edition_that_ends_a_number_is_found_once(harness: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(harness.runtime, REVISION_6, OLD)
    export = harness.accept(factories.plan(batch="accepted"))
    register(harness, factories.plan(batch="registered"))
    assert recheck(harness) == {}
    import_revision(harness.runtime, write_edition(tmp_path, "ended", without=PAN), NEW)
    found = recheck(harness)
    assert {name: (list_rules(each.appeared), list_rules(each.gone)) for name, each in found.items()} == {
        name: ([("H01", "block")], [("H03", "warn")]) for name in ("accepted", "registered")
    }
    assert {(each.ruleset, *each.editions) for each in found.values()} == {(PACKAGED_ID, "ended")}
    messages = read_messages(harness)
    assert len(messages) == 2
    for message in messages:
        assert (message.ruleset, message.ruleset_before) == (PACKAGED_ID, PACKAGED_ID)
        assert (message.editions, message.editions_before) == (["ended"], [REVISION_6.stem])
        assert "does not in edition ended of the tariff" in message.appeared[0].message
    event = harness.one(select(Event).where(col(Event.type) == "EXPORT_RECHECKED"))
    assert (event.export_id, event.data["editions"]) == (export.export_id, ["ended"])
    assert recheck(harness) == {}
    assert len(read_messages(harness)) == 2


def test_removed_edition_takes_its_findings_along(harness: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(harness.runtime, REVISION_6, OLD)
    import_revision(harness.runtime, write_edition(tmp_path, "ended", without=PAN), NEW)
    register(harness, factories.plan(batch="registered"))
    remove_edition(harness.runtime, "ended")
    found = recheck(harness)["registered"]
    # What the removed edition found is not known any more, so all findings of the older one count as new.
    assert {each.rule for each in found.appeared} == {"H03"}
    (message,) = read_messages(harness)
    assert (message.editions, message.editions_before) == ([REVISION_6.stem], None)
    assert recheck(harness) == {}


def test_edition_that_finds_the_same_changes_nothing(harness: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(harness.runtime, write_edition(tmp_path, "first", without=PAN), OLD)
    register(harness, factories.plan(batch="registered"))
    import_revision(harness.runtime, write_edition(tmp_path, "second", without=PAN, **{"0101_30_00_00": "7%"}), NEW)
    found = recheck(harness)["registered"]
    assert (found.changed, found.editions) == (False, ["second"])
    assert read_messages(harness) == []
    assert recheck(harness) == {}


def test_table_of_agency_flags_is_checked_too(harness: WorkflowHarness) -> None:
    harness.accept(factories.plan(batch="accepted"))
    import_table(harness.runtime, AGENCY_FLAGS, OLD, date(2026, 12, 31))
    found = recheck(harness)["accepted"]
    assert ("H20", "block") in list_rules(found.appeared)
    assert (found.editions, read_messages(harness)[0].editions_before) == ([AGENCY_FLAGS.stem], [])


def test_only_plans_of_an_older_version_and_of_changed_days_are_checked(harness: WorkflowHarness) -> None:
    import_revision(harness.runtime, REVISION_6, OLD)
    import_revision(harness.runtime, REVISION_7, date(2026, 11, 27))  # the day after the entry
    for batch in ("older", "newer"):
        register(harness, factories.plan(batch=batch))
    harness.change(update(PlanSnapshot).where(col(PlanSnapshot.batch_id) == "older").values(editions=None))
    found = recheck(harness)
    assert list(found) == ["older"]
    assert read_messages(harness)[0].editions_before is None


def test_new_rate_of_the_goods_decides_their_heading_again(harness: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(harness.runtime, REVISION_6, OLD)
    harness.accept(plan_german_shirt("accepted", "9903.05.38"))
    register(harness, plan_german_shirt("registered", "9903.05.38"))
    import_revision(harness.runtime, write_edition(tmp_path, "lower", **{SHIRT.replace(".", "_"): "5%"}), NEW)
    found = recheck(harness)
    assert {name: list_rules(each.appeared) for name, each in found.items()} == {
        "accepted": [("V11", "warn")],
        "registered": [("V11", "warn")],
    }
    remove_edition(harness.runtime, "lower")
    back = recheck(harness)
    assert "V11" not in {each.rule for each in back["accepted"].appeared}


def test_recheck_reads_few_rows_for_each_plan(harness: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(harness.runtime, REVISION_6, OLD)
    for number in range(3):
        register(harness, factories.plan(batch=f"b{number}"))
    import_revision(harness.runtime, write_edition(tmp_path, "same"), NEW)
    with record_statements(harness.runtime.db) as few:
        assert len(recheck(harness)) == 3
    for number in range(3, 6):
        register(harness, factories.plan(batch=f"b{number}"))
    import_revision(harness.runtime, write_edition(tmp_path, "again"), date(2026, 11, 21))
    with record_statements(harness.runtime.db) as many:
        assert len(recheck(harness)) == 6
    assert len(many) - len(few) <= 5 * 3
