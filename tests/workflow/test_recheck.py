"""A recheck finds each plan that new rules change, once, and notifies the operators."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from pipeline.customs import rulesets
from pipeline.customs.reference.archive import RulesFiles
from pipeline.customs.reference.content import read_folder
from pipeline.customs.tariff.editions import remove_edition
from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.schemas.to_operator import ExportRechecked, PlanRechecked
from pipeline.exports.models import Export, PlanSnapshot
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow import recheck
from pipeline.workflow.preflight import register_plan
from pipeline.workflow.recheck import RecheckedPlan, recheck_plans
from tests.support import factories
from tests.support.rule_folders import PACKAGED_HASH, PACKAGED_ID, write_rules
from tests.support.tariff import import_revision, plan_german_shirt
from tests.workflow.conftest import WorkflowHarness

pytestmark = pytest.mark.usefixtures("database_url")

NEW = "us-ca-2027-01-01"
#: The invoice numbers of plans may be shorter: a plan with a longer one changes.
SHORTER = ("entry.yaml", '"^[A-Za-z0-9-]{1,17}$"', '"^[A-Za-z0-9-]{1,7}$"')
EVENT = "exports.export.rechecked.v1"
OF_PLAN = "exports.plan.rechecked.v1"


@pytest.fixture
def activate(workflow: WorkflowHarness, tmp_path: Path) -> Callable[..., str]:
    """Return a function that activates changed rules and returns their hash."""

    def activate_rules(name: str, *changes: tuple[str, str, str]) -> str:
        rules = read_folder(write_rules(tmp_path / name, name, *changes))
        with workflow.runtime.db.write() as session:
            rulesets.store_rules(session, RulesFiles(rules, None), "a folder")
        rulesets.switch_rules(workflow.runtime, name, "me@maple.example")
        return rules.content_hash

    return activate_rules


def named(batch: str, invoice: str) -> dict[str, Any]:
    return factories.plan(batch=batch, invoice=invoice)


def list_messages(workflow: WorkflowHarness) -> list[ExportRechecked]:
    return [ExportRechecked.model_validate_json(row.data) for row in list_notifications(workflow, EVENT)]


def list_notifications(workflow: WorkflowHarness, event_type: str) -> list[Notification]:
    with workflow.runtime.db.read() as session:
        wanted = select(Notification).where(col(Notification.event_type) == event_type)
        return [*session.scalars(wanted.order_by(col(Notification.position)))]


def count_open(workflow: WorkflowHarness) -> int:
    """Return how many plans the active rules have not checked."""
    with workflow.runtime.db.read() as session:
        active = rulesets.read_active(session).content_hash
        hashes = session.scalars(select(col(PlanSnapshot.rules_hash))).all()
    return sum(each != active for each in hashes)


def test_only_a_plan_that_changed_notifies_the_operators_once(
    workflow: WorkflowHarness, activate: Callable[..., str]
) -> None:
    changed, same = workflow.accept(named("b1", "LONG")), workflow.accept(named("b2", "A"))
    assert list(recheck_plans(workflow.runtime)) == []  # these rules have checked all plans
    new = activate(NEW, SHORTER)
    found = {each.export_id: each for each in recheck_plans(workflow.runtime)}
    assert {export_id: each.changed for export_id, each in found.items()} == {
        changed.export_id: True,
        same.export_id: False,
    }
    (message,) = list_messages(workflow)
    assert (message.export_id, message.ruleset, message.ruleset_before) == (changed.export_id, NEW, PACKAGED_ID)
    assert {each.rule for each in message.appeared} == {"V21"}
    assert message.gone == []
    assert workflow.events(changed.export_id)[-1] == "EXPORT_RECHECKED"
    assert "EXPORT_RECHECKED" not in workflow.events(same.export_id)
    with workflow.runtime.db.read() as session:
        # The export itself keeps the rules with which it was accepted.
        assert session.get_one(Export, changed.export_id).rules_hash == PACKAGED_HASH
        assert set(session.scalars(select(col(PlanSnapshot.rules_hash)))) == {new}
    assert list(recheck_plans(workflow.runtime)) == []
    assert len(list_messages(workflow)) == 1


def test_going_back_to_the_old_rules_is_a_change_too(workflow: WorkflowHarness, activate: Callable[..., str]) -> None:
    workflow.accept(named("b1", "LONG"))
    activate(NEW, SHORTER)
    assert [each.changed for each in recheck_plans(workflow.runtime)] == [True]
    rulesets.switch_rules(workflow.runtime, PACKAGED_ID, "me@maple.example")
    (back,) = recheck_plans(workflow.runtime)
    assert ([each.rule for each in back.appeared], {each.rule for each in back.gone}) == ([], {"V21"})
    assert len(list_messages(workflow)) == 2


def test_registered_plan_that_changed_notifies_the_operators_once(
    workflow: WorkflowHarness, activate: Callable[..., str]
) -> None:
    for batch, invoice in (("b1", "LONG"), ("b2", "A")):
        raw = named(batch, invoice)
        registered = hash_plan(Plan.model_validate(raw), raw)
        register_plan(workflow.runtime, workflow.caller, registered)
    activate(NEW, SHORTER)
    found = {each.batch_id: each for each in recheck_plans(workflow.runtime)}
    changed = found["b1"]
    assert (changed.changed, changed.export_id, found["b2"].changed) == (True, None, False)
    (row,) = list_notifications(workflow, OF_PLAN)
    message = PlanRechecked.model_validate_json(row.data)
    assert (message.plan_id, message.batch_id, message.test) == (changed.plan_id, "b1", False)
    assert (message.ruleset, message.ruleset_before) == (NEW, PACKAGED_ID)
    assert ({each.rule for each in message.appeared}, message.gone) == ({"V21"}, [])
    assert (row.export_id, row.plan_id, list_messages(workflow)) == (None, changed.plan_id, [])
    deliveries = workflow.rows(select(Delivery))
    assert [(each.subject_id, each.partner_id, each.state) for each in deliveries] == [
        (changed.plan_id, factories.OPERATOR, "pending")
    ]
    assert list(recheck_plans(workflow.runtime)) == []
    assert len(list_notifications(workflow, OF_PLAN)) == 1
    rulesets.switch_rules(workflow.runtime, PACKAGED_ID, "me@maple.example")
    assert [each.changed for each in recheck_plans(workflow.runtime) if each.batch_id == "b1"] == [True]
    back = [PlanRechecked.model_validate_json(each.data) for each in list_notifications(workflow, OF_PLAN)]
    assert [(len(each.appeared), len(each.gone)) for each in back] == [(1, 0), (0, 1)]


def test_rules_that_are_only_tried_write_nothing(workflow: WorkflowHarness, tmp_path: Path) -> None:
    export = workflow.accept(named("b1", "LONG"))
    raw = named("b2", "LONG-2")
    register_plan(workflow.runtime, workflow.caller, hash_plan(Plan.model_validate(raw), raw))
    logged = workflow.events(export.export_id)
    tried = read_folder(write_rules(tmp_path / "rules", NEW, SHORTER))
    for _ in range(2):
        found = {each.batch_id: each for each in recheck_plans(workflow.runtime, tried=tried)}
        assert {name: {rule.rule for rule in each.appeared} for name, each in found.items()} == {
            "b1": {"V21"},
            "b2": {"V21"},
        }
    with workflow.runtime.db.read() as session:
        assert set(session.scalars(select(col(PlanSnapshot.rules_hash)))) == {PACKAGED_HASH}
        assert [each.ruleset_id for each in rulesets.list_stored(session)] == [PACKAGED_ID]
    assert workflow.events(export.export_id) == logged
    assert (list_messages(workflow), list_notifications(workflow, OF_PLAN)) == ([], [])


@pytest.mark.parametrize("outcome", ["cancelled", "superseded", "released"])
def test_export_that_is_over_is_not_checked(
    workflow: WorkflowHarness, activate: Callable[..., str], outcome: str
) -> None:
    workflow.accept(named("b1", "LONG"))
    workflow.change(update(Export).values(outcome=outcome))
    activate(NEW, SHORTER)
    assert list(recheck_plans(workflow.runtime)) == []


def test_export_whose_entry_has_passed_is_not_checked(workflow: WorkflowHarness, activate: Callable[..., str]) -> None:
    workflow.accept(named("b1", "LONG"))
    activate(NEW, SHORTER)
    workflow.clock.pass_seconds(30 * 86_400)
    assert list(recheck_plans(workflow.runtime)) == []
    assert count_open(workflow) == 1


def test_many_plans_are_checked_in_batches_and_resumed(
    workflow: WorkflowHarness, activate: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recheck, "BATCH", 10)
    workflow.accept(named("b0", "LONG"))
    copy_plan(workflow, 60)
    activate(NEW, SHORTER)
    first = take(recheck_plans(workflow.runtime), 15)  # the caller stops in the second batch
    left = count_open(workflow)
    assert 0 < left < 61
    second = list(recheck_plans(workflow.runtime))
    assert count_open(workflow) == 0
    seen = [each.plan_id for each in (*first, *second)]
    assert len(seen) == len(set(seen)) >= 56
    assert all(each.changed for each in (*first, *second))
    assert list(recheck_plans(workflow.runtime)) == []


def test_limit_bounds_a_recheck(workflow: WorkflowHarness, activate: Callable[..., str]) -> None:
    for number in range(3):
        workflow.accept(named(f"b{number}", f"LONG{number}"))
    activate(NEW, SHORTER)
    progress: list[tuple[int, int]] = []
    assert len(list(recheck_plans(workflow.runtime, lambda done, total: progress.append((done, total)), most=2))) == 2
    assert progress == [(0, 2), (1, 2), (2, 2)]
    assert count_open(workflow) == 1


def test_plan_that_cannot_be_read_does_not_stop_the_others(
    workflow: WorkflowHarness, activate: Callable[..., str]
) -> None:
    workflow.accept(named("b1", "LONG"))
    workflow.accept(named("b2", "LONG2"))
    workflow.change(update(PlanSnapshot).where(col(PlanSnapshot.batch_id) == "b1").values(document="{}x"))
    activate(NEW, SHORTER)
    found = {each.batch_id: each for each in recheck_plans(workflow.runtime)}
    assert (found["b1"].problem is not None, found["b2"].changed) == (True, True)


def test_new_limit_of_a_rate_is_checked_by_the_rate_of_the_acceptance(
    workflow: WorkflowHarness, activate: Callable[..., str]
) -> None:
    import_revision(workflow.runtime)
    raw = plan_german_shirt("accepted", "9903.05.38")
    export = workflow.accept(raw)
    registered = raw | {"batchId": "registered"}
    register_plan(workflow.runtime, workflow.caller, hash_plan(Plan.model_validate(registered), registered))
    europe = 'when: {origins: [EU], column_1_least: "10"}'
    activate(NEW, ("headings/section301.yaml", europe, europe.replace("10", "20")))
    remove_edition(workflow.runtime, "hts_2026_revision_6")
    found = {each.batch_id: each for each in recheck_plans(workflow.runtime)}
    assert [each.rule for each in found["accepted"].appeared] == ["V11"], "the export keeps its rate"
    assert found["accepted"].export_id == export.export_id
    assert "registered" not in found or not found["registered"].changed, "without an edition a person decides"


def take(found: Iterator[RecheckedPlan], number: int) -> list[RecheckedPlan]:
    return [each for each, _ in zip(found, range(number), strict=False)]


def copy_plan(workflow: WorkflowHarness, number: int) -> None:
    """Register copies of the only plan under other batches."""
    with workflow.runtime.db.write() as session:
        one = session.scalars(select(PlanSnapshot)).one()
        values = one.model_dump(exclude={"id", "batch_id"})
        session.add_all(
            PlanSnapshot(**values, id=f"pln_{each:05}", batch_id=f"copy_{each:05}") for each in range(number)
        )
