"""A recheck finds each plan that an imported or removed edition changes, once, and names the editions."""

import json
from collections.abc import Sequence
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

pytestmark = pytest.mark.usefixtures("database_url")

#: The plans enter on 2026-11-26.
OLD, NEW = date(2026, 10, 1), date(2026, 11, 20)
PAN, SHIRT = "7323.93.00.45", "6105.10.00"


def write_edition(folder: Path, name: str, *, without: str = "", **rates: str) -> Path:
    """Write the rows of an edition with other general rates, and without one number."""
    rows = json.loads(REVISION_6.read_text(encoding="utf-8"))
    kept = [row for row in rows if row["htsno"] != without]
    for row in kept:
        row["general"] = rates.get(row["htsno"].replace(".", "_"), row["general"])
    path = folder / f"{name}.json"
    path.write_text(json.dumps(kept), encoding="utf-8")
    return path


def register(workflow: WorkflowHarness, raw: factories.Json) -> None:
    register_plan(workflow.runtime, workflow.caller, hash_plan(Plan.model_validate(raw), raw))


def recheck(workflow: WorkflowHarness) -> dict[str, RecheckedPlan]:
    return {each.batch_id: each for each in recheck_plans(workflow.runtime)}


def list_rules(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(each.rule, each.severity) for each in findings]


def read_messages(workflow: WorkflowHarness) -> list[ExportRechecked | PlanRechecked]:
    models: dict[str, type[ExportRechecked | PlanRechecked]] = {
        MessageType.EXPORT_RECHECKED: ExportRechecked,
        MessageType.PLAN_RECHECKED: PlanRechecked,
    }
    rows = workflow.rows(select(Notification).where(col(Notification.event_type).in_(models)))
    return [models[row.event_type].model_validate_json(row.data) for row in rows]


def test_edition_that_ends_a_number_is_found_once(workflow: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(workflow.runtime, REVISION_6, OLD)
    export = workflow.accept(factories.plan(batch="accepted"))
    register(workflow, factories.plan(batch="registered"))
    assert recheck(workflow) == {}
    import_revision(workflow.runtime, write_edition(tmp_path, "ended", without=PAN), NEW)
    found = recheck(workflow)
    assert {name: (list_rules(each.appeared), list_rules(each.gone)) for name, each in found.items()} == {
        name: ([("H01", "block")], [("H03", "warn")]) for name in ("accepted", "registered")
    }
    assert {(each.ruleset, *each.editions) for each in found.values()} == {(PACKAGED_ID, "ended")}
    messages = read_messages(workflow)
    assert len(messages) == 2
    for message in messages:
        assert (message.ruleset, message.ruleset_before) == (PACKAGED_ID, PACKAGED_ID)
        assert (message.editions, message.editions_before) == (["ended"], [REVISION_6.stem])
        assert "does not in edition ended of the tariff" in message.appeared[0].message
    event = workflow.one(select(Event).where(col(Event.type) == "EXPORT_RECHECKED"))
    assert (event.export_id, event.data["editions"]) == (export.export_id, ["ended"])
    assert recheck(workflow) == {}
    assert len(read_messages(workflow)) == 2


def test_removed_edition_takes_its_findings_along(workflow: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(workflow.runtime, REVISION_6, OLD)
    import_revision(workflow.runtime, write_edition(tmp_path, "ended", without=PAN), NEW)
    register(workflow, factories.plan(batch="registered"))
    remove_edition(workflow.runtime, "ended")
    found = recheck(workflow)["registered"]
    # What the removed edition found is not known any more, so all findings of the older one count as new.
    assert {each.rule for each in found.appeared} == {"H03"}
    (message,) = read_messages(workflow)
    assert (message.editions, message.editions_before) == ([REVISION_6.stem], None)
    assert recheck(workflow) == {}


def test_edition_that_finds_the_same_changes_nothing(workflow: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(workflow.runtime, write_edition(tmp_path, "first", without=PAN), OLD)
    register(workflow, factories.plan(batch="registered"))
    import_revision(workflow.runtime, write_edition(tmp_path, "second", without=PAN, **{"0101_30_00_00": "7%"}), NEW)
    found = recheck(workflow)["registered"]
    assert (found.changed, found.editions) == (False, ["second"])
    assert read_messages(workflow) == []
    assert recheck(workflow) == {}


def test_table_of_agency_flags_is_checked_too(workflow: WorkflowHarness) -> None:
    workflow.accept(factories.plan(batch="accepted"))
    import_table(workflow.runtime, AGENCY_FLAGS, OLD, date(2026, 12, 31))
    found = recheck(workflow)["accepted"]
    assert ("H20", "block") in list_rules(found.appeared)
    assert (found.editions, read_messages(workflow)[0].editions_before) == ([AGENCY_FLAGS.stem], [])


def test_only_plans_of_an_older_version_and_of_changed_days_are_checked(workflow: WorkflowHarness) -> None:
    import_revision(workflow.runtime, REVISION_6, OLD)
    import_revision(workflow.runtime, REVISION_7, date(2026, 11, 27))  # the day after the entry
    for batch in ("older", "newer"):
        register(workflow, factories.plan(batch=batch))
    workflow.change(update(PlanSnapshot).where(col(PlanSnapshot.batch_id) == "older").values(editions=None))
    found = recheck(workflow)
    assert list(found) == ["older"]
    assert read_messages(workflow)[0].editions_before is None


def test_new_rate_of_the_goods_decides_their_heading_again(workflow: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(workflow.runtime, REVISION_6, OLD)
    workflow.accept(plan_german_shirt("accepted", "9903.05.38"))
    register(workflow, plan_german_shirt("registered", "9903.05.38"))
    import_revision(workflow.runtime, write_edition(tmp_path, "lower", **{SHIRT.replace(".", "_"): "5%"}), NEW)
    found = recheck(workflow)
    assert {name: list_rules(each.appeared) for name, each in found.items()} == {
        "accepted": [("V11", "warn")],
        "registered": [("V11", "warn")],
    }
    remove_edition(workflow.runtime, "lower")
    back = recheck(workflow)
    assert "V11" not in {each.rule for each in back["accepted"].appeared}


def test_recheck_reads_few_rows_for_each_plan(workflow: WorkflowHarness, tmp_path: Path) -> None:
    import_revision(workflow.runtime, REVISION_6, OLD)
    for number in range(3):
        register(workflow, factories.plan(batch=f"b{number}"))
    import_revision(workflow.runtime, write_edition(tmp_path, "same"), NEW)
    with record_statements(workflow.runtime.db) as few:
        assert len(recheck(workflow)) == 3
    for number in range(3, 6):
        register(workflow, factories.plan(batch=f"b{number}"))
    import_revision(workflow.runtime, write_edition(tmp_path, "again"), date(2026, 11, 21))
    with record_statements(workflow.runtime.db) as many:
        assert len(recheck(workflow)) == 6
    assert len(many) - len(few) <= 5 * 3
