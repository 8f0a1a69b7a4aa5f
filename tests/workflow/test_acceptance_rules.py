"""New rules reach every process without a restart, and no export is ever judged or rendered by two rulesets."""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from pipeline.core.db import Database
from pipeline.core.errors import NotFound, RulesInvalid, RulesUnreadable
from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.customs import rules_reader, rulesets
from pipeline.customs.models import RulesetActivation, StoredRuleset
from pipeline.customs.reference.archive import create_private_key, derive_public_key, pack_rules, read_rules, sign_rules
from pipeline.customs.reference.content import RULES, read_folder
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.customs.rules_reader import SETTLE_SECONDS, find_problem, watch_rules
from pipeline.exports.models import Export, ExportUnit
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.exports.schemas.plan import Plan
from pipeline.exports.step_context import load_context
from pipeline.ops.rebuild.compare import compare_export
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.amendments import amend_export
from pipeline.workflow.preflight import preflight
from pipeline.workflow.render_documents import load_invoice
from pipeline.workflow.steps import STEPS
from tests.support import factories, stored
from tests.support.rule_folders import PACKAGED_HASH, PACKAGED_ID, replace_text, write_rules
from tests.workflow.conftest import WorkflowHarness

pytestmark = pytest.mark.usefixtures("database_url")

NEW = "us-ca-2027-01-01"


@dataclass
class Process:
    """A process of the service with its own connections, and a clock for its looks at the rules."""

    runtime: Runtime
    now: float = 0.0

    def look(self, seconds: float = SETTLE_SECONDS) -> None:
        """Look at the place of the rules, let time pass, and look again."""
        # Whole seconds: fractions would be rounded, and two of them be less than two seconds apart.
        self.now = max(self.now, math.ceil(time.monotonic()))
        for pause in (rules_reader.LOOK_SECONDS, seconds):
            self.now += pause
            watch_rules(self.runtime, now=self.now)

    def accept(self, workflow: WorkflowHarness, plan: dict[str, Any]) -> Export:
        """Accept a plan in this process, and return its row."""
        request = ExecuteRequest.model_validate(
            {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}
        )
        accepted = accept_plan(self.runtime, workflow.caller, request, raw_plan=plan, idempotency_key=None)
        return read_export(self.runtime, accepted.export_id)


@pytest.fixture
def start_process(workflow: WorkflowHarness) -> Iterator[Callable[..., Process]]:
    """Return a function that starts a process with these settings on the harness's database."""
    started: list[Process] = []

    def start(rules: Path | None = None, *keys: str) -> Process:
        base = workflow.runtime
        settings = base.settings.model_copy(update={"rules": rules, "rules_keys": keys})
        database = Database(settings.database_url, clock=base.clock)
        started.append(Process(replace(base, settings=settings, db=database)))
        return started[-1]

    yield start
    for each in started:
        each.runtime.db.dispose()


def read_export(runtime: Runtime, export_id: str) -> Export:
    return stored.get(runtime, Export, export_id)


def find_active(runtime: Runtime) -> str:
    with runtime.db.read() as session:
        return rulesets.read_active(session).content_hash


#: Words of the rules on documents: the file, the words of this version's rules, and others.
WORDS = (
    ("pga_records.yaml", record_rules().source, "Layouts of tomorrow"),
    ("ports.yaml", "Buffalo-Niagara Falls NY", "Tomorrow NY"),
    ("ruleset.yaml", "Section 232, metals", "Metals of tomorrow"),
    ("entry.yaml", "consumption, formal", "formal tomorrow"),
    ("filing.yaml", "single transaction", "bond of tomorrow"),
    ("filing.yaml", "individual payment", "payment of tomorrow"),
    ("pga.yaml", "Reason without an EPA registration number", "Reason of tomorrow"),
)


def name_every_code(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the plan with a code for each of WORDS."""
    plan["units"][0]["entry"]["filing"] = {"bond": {"type": "9"}, "payment": {"type": "1"}}
    plan["units"][0]["lines"][0]["treatment"]["pga"][0]["data"] = {"unregisteredReason": "none"}
    return plan


def read_words(of: WorkflowHarness | Process, export_id: str) -> list[str]:
    """Build the invoice of the export again in this process, and return its texts that have words of the rules."""
    with of.runtime.db.read() as session:
        context = load_context(session, export_id, unit_no=1, step="render_documents", fence=1, attempt=1)
    invoice = load_invoice(of.runtime, context)
    transport, filing = invoice.transport, invoice.filing
    assert invoice.worksheet is not None
    assert filing is not None
    assert filing.bond_type is not None
    assert filing.payment_type is not None
    texts = [invoice.worksheet.rules_source, transport.port_shown, transport.entry_type.shown, filing.bond_type.shown]
    return [*texts, filing.payment_type.shown, *(mark.text for mark in invoice.lines[0].marks)]


def batch(name: str) -> dict[str, Any]:
    return factories.plan(batch=name, invoice=name)


def test_rules_of_this_version_are_stored_and_active_after_the_first_acceptance(workflow: WorkflowHarness) -> None:
    accepted = workflow.accept()
    assert read_export(workflow.runtime, accepted.export_id).rules_hash == PACKAGED_HASH
    with workflow.runtime.db.read() as session:
        (listed,) = rulesets.list_stored(session)
    assert (listed.ruleset_id, listed.active, listed.content_hash) == (PACKAGED_ID, True, PACKAGED_HASH)
    workflow.accept(batch("second"))
    assert (workflow.count(StoredRuleset), workflow.count(RulesetActivation)) == (1, 1)


def test_new_rules_are_seen_by_two_processes_without_a_restart(
    workflow: WorkflowHarness, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(RULES, tmp_path / "rules"))
    first, second = start_process(folder), start_process(folder)
    before = [first.accept(workflow, batch("b1")), second.accept(workflow, batch("b2"))]
    assert {each.rules_hash for each in before} == {PACKAGED_HASH}
    new = read_folder(write_rules(folder, NEW)).content_hash
    first.look()
    # The second process has not looked at the folder: the database says which rules are active.
    after = [first.accept(workflow, batch("b3")), second.accept(workflow, batch("b4"))]
    assert {each.rules_hash for each in after} == {new}
    assert all(any(found["rule"] == "R01" for found in each.findings) for each in after)
    assert not any(found["rule"] == "R01" for each in before for found in each.findings)
    second.look()
    assert workflow.count(RulesetActivation) == 2


def test_half_written_folder_is_not_read_until_it_rests_and_is_whole(
    start_process: Callable[..., Process], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(RULES, tmp_path / "rules"))
    process = start_process(folder)
    process.look()
    whole = write_rules(tmp_path / "whole", NEW, ("ruleset.yaml", "within_days: 60", "within_days: 90"))
    for count, file in enumerate(sorted(path for path in whole.rglob("*") if path.is_file())):
        shutil.copy(file, folder / file.relative_to(whole))
        (folder / "headings/section301.yaml").touch()
        process.look(seconds=SETTLE_SECONDS / 2)  # the folder changes before it has rested
        assert find_active(process.runtime) == PACKAGED_HASH, count
    assert find_problem(process.runtime) is None
    (folder / "mid.yaml").unlink()
    process.look()
    assert find_active(process.runtime) == PACKAGED_HASH
    assert "mid.yaml" in (find_problem(process.runtime) or "")
    shutil.copy(whole / "mid.yaml", folder)
    process.look()
    assert find_active(process.runtime) == read_folder(whole).content_hash
    assert find_problem(process.runtime) is None


def test_changed_rules_under_a_used_id_are_refused(start_process: Callable[..., Process], tmp_path: Path) -> None:
    folder = write_rules(tmp_path / "rules", NEW)
    process = start_process(folder)
    process.look()
    used = find_active(process.runtime)
    replace_text(folder, "ruleset.yaml", "within_days: 60", "within_days: 61")
    process.look()
    assert find_active(process.runtime) == used
    assert "Give the changed rules a new id" in (find_problem(process.runtime) or "")


def test_folder_needs_a_signature_if_a_key_is_trusted(start_process: Callable[..., Process], tmp_path: Path) -> None:
    folder, key = Path(shutil.copytree(RULES, tmp_path / "rules")), create_private_key()
    process = start_process(folder, derive_public_key(key))
    with pytest.raises(RulesUnreadable, match="not signed"):
        process.look()
    (folder / "rules.sig").write_text(sign_rules(read_folder(folder), key))
    process.look()
    assert find_active(process.runtime) == PACKAGED_HASH
    write_rules(folder, NEW)
    (folder / "rules.sig").write_text(sign_rules(read_folder(RULES), key))  # of the rules before
    process.look()
    assert "the signature does not fit" in (find_problem(process.runtime) or "")
    assert find_active(process.runtime) == PACKAGED_HASH


def test_bad_bundle_is_refused_and_the_old_rules_stay(
    workflow: WorkflowHarness, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    key, other, bundle = create_private_key(), create_private_key(), tmp_path / "rules.zip"
    rules = read_folder(write_rules(tmp_path / "new", NEW))
    bundle.write_bytes(pack_rules(read_folder(RULES), sign_rules(read_folder(RULES), key)))
    process = start_process(bundle, derive_public_key(key))
    process.look()
    assert find_active(process.runtime) == PACKAGED_HASH
    for number, (packed, problem) in enumerate(
        (
            (pack_rules(rules, sign_rules(rules, other)), "EXPORTS_RULES_KEYS does not have it"),
            (pack_rules(rules, sign_rules(read_folder(RULES), key)), "the signature does not fit"),
            (pack_rules(rules, "signed"), "is not a signature"),
            (b"PK not a zip", "not a bundle"),
        )
    ):
        bundle.write_bytes(packed)
        process.look()
        assert problem in (find_problem(process.runtime) or ""), problem
        assert process.accept(workflow, batch(f"bad{number}")).rules_hash == PACKAGED_HASH
    bundle.write_bytes(pack_rules(rules, sign_rules(rules, key)))
    process.look()
    assert (find_active(process.runtime), find_problem(process.runtime)) == (rules.content_hash, None)


def test_rules_go_back_by_the_files_and_by_the_command(start_process: Callable[..., Process], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(RULES, tmp_path / "rules"))
    process, late = start_process(folder), start_process(folder)
    process.look()
    late.look()
    new = read_folder(write_rules(folder, NEW)).content_hash
    process.look()
    assert find_active(process.runtime) == new
    shutil.rmtree(folder)
    shutil.copytree(RULES, folder)
    process.look()
    assert find_active(process.runtime) == PACKAGED_HASH
    assert rulesets.switch_rules(process.runtime, NEW, "me@maple.example") == (new, True)
    assert rulesets.switch_rules(process.runtime, new, "me@maple.example") == (new, False)
    process.look()
    late.look()  # neither process undoes what the operator did: their files did not change since
    start_process(folder).look()
    assert find_active(process.runtime) == new
    with pytest.raises(NotFound, match="no ruleset us-ca-9 is stored"):
        rulesets.switch_rules(process.runtime, "us-ca-9", "me@maple.example")


def test_process_that_sees_a_change_late_does_not_undo_a_rollback(
    start_process: Callable[..., Process], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(RULES, tmp_path / "rules"))
    first, idle = start_process(folder), start_process(folder)
    first.look()
    idle.look()
    write_rules(folder, NEW)
    first.look()
    rulesets.switch_rules(first.runtime, PACKAGED_ID, "me@maple.example")
    idle.look()
    assert find_active(idle.runtime) == PACKAGED_HASH


def test_export_in_flight_keeps_its_rules_and_an_amendment_takes_the_active_ones(
    workflow: WorkflowHarness, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(RULES, tmp_path / "rules"))
    process = start_process(folder)
    accepted = process.accept(workflow, name_every_code(factories.plan()))
    workflow.step(accepted.id, 1, "record_packages")
    new = read_folder(write_rules(folder, NEW, *WORDS)).content_hash
    process.look()
    later = process.accept(workflow, name_every_code(batch("later")))
    for export_id in (accepted.id, later.id):
        for spec in STEPS:
            workflow.step(export_id, int(spec.per_unit), spec.name)
        assert workflow.state(export_id) == "executed"
    # Other processes, and a retry, render each of them by its own rules.
    words = [read_words(workflow, each.id) for each in (accepted, later)]
    assert [read_words(process, each.id) for each in (accepted, later)] == words
    for number, texts in enumerate(words, start=1):
        lacking = [row for row in WORDS if row[number] not in " ".join(texts) or row[3 - number] in " ".join(texts)]
        assert lacking == []
    assert read_export(workflow.runtime, accepted.id).rules_hash == PACKAGED_HASH
    changed = factories.plan(lines=2)
    request = ExecuteRequest.model_validate(
        {"accountId": changed["accountId"], "batchId": changed["batchId"], "plan": changed}
    )
    amended = amend_export(
        workflow.runtime, workflow.caller, accepted.id, request, raw_plan=changed, idempotency_key=None
    )
    assert read_export(workflow.runtime, amended.export_id).rules_hash == new
    assert read_export(workflow.runtime, accepted.id).rules_hash == PACKAGED_HASH


def test_rows_of_an_export_and_their_rebuild_follow_its_rules(
    workflow: WorkflowHarness, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    zones = ("zone: America/New_York", "zone: Pacific/Kiritimati")
    process = start_process(write_rules(tmp_path / "rules", NEW, ("entry.yaml", *zones)))
    process.look()
    plan = batch("informal")
    plan["units"][0]["entry"] |= {"type": "11", "estimatedArrivalAt": "2026-11-26T18:00:00Z"}
    export = process.accept(workflow, plan)
    with workflow.runtime.db.read() as session:
        key = session.scalars(select(ExportUnit.informal_key)).one()
        assert compare_export(session, export.id).intact
    assert key is not None
    assert key.startswith("2026-11-27 ")  # the day of entry there


def test_preflight_and_repeated_findings_follow_the_active_rules(
    workflow: WorkflowHarness, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    raw = factories.plan()
    hashed = hash_plan(Plan.model_validate(raw), raw)

    def list_rules() -> list[str]:
        found: list[Finding] = preflight(workflow.runtime, workflow.caller, hashed)
        return [each.rule for each in found]

    assert "R01" not in list_rules()
    start_process(write_rules(tmp_path / "rules", NEW)).look()
    assert "R01" in list_rules()  # what this process remembers of the plan is of the other rules
    rulesets.switch_rules(workflow.runtime, PACKAGED_ID, "me@maple.example")
    assert "R01" not in list_rules()


def test_rules_that_this_version_cannot_read_are_an_outage(
    workflow: WorkflowHarness, start_process: Callable[..., Process], tmp_path: Path
) -> None:
    workflow.accept()
    rules = read_folder(write_rules(tmp_path / "rules", NEW))
    start_process(tmp_path / "rules").look()
    with workflow.runtime.db.write() as session:
        session.get_one(StoredRuleset, rules.content_hash).files = "AAAA"
        session.add(
            StoredRuleset(content_hash="sha256:other", ruleset_id="x", as_of=factories.TODAY, files="AAAA", place="x")
        )
        session.flush()
        session.add(RulesetActivation(number=9, content_hash="sha256:other", activated_by="me@maple.example"))
    with pytest.raises(RulesUnreadable, match="not a bundle"):
        workflow.accept(batch("second"))


def test_first_start_with_bad_rules_stops(start_process: Callable[..., Process], tmp_path: Path) -> None:
    folder = write_rules(tmp_path / "rules", NEW)
    (folder / "mid.yaml").unlink()
    with pytest.raises(RulesUnreadable, match=r"there are no customs rules: .*mid\.yaml"):
        start_process(folder).look()
    with pytest.raises(RulesUnreadable, match="Name a folder of rules or a signed bundle"):
        start_process(tmp_path / "missing").look()


def test_bundle_without_a_trusted_key_is_refused(tmp_path: Path) -> None:
    key, bundle = create_private_key(), tmp_path / "rules.zip"
    rules = read_folder(RULES)
    bundle.write_bytes(pack_rules(rules, sign_rules(rules, key)))
    with pytest.raises(RulesInvalid, match="Set EXPORTS_RULES_KEYS"):
        read_rules(bundle, ())
    found = read_rules(bundle, (derive_public_key(key),))
    assert (found.content.content_hash, found.signed_by) == (PACKAGED_HASH, derive_public_key(key))
