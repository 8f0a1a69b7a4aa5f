"""Two acts on one handoff, one of them inside or between the transactions of the other: the result is that of one order."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

import pytest
from sqlmodel import Session, col, select

from pipeline.core.errors import Refused
from pipeline.exports.models import Export
from pipeline.ops import retention
from pipeline.workflow.interventions import cancel_export
from tests.deliveries.entries.test_revisions import amend
from tests.support import factories
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment
from tests.workflow.test_conversation import answer, write
from tests.workflow.test_conversation_files import attach
from tests.workflow.test_interventions_hold import differences, view
from tests.workflow.test_withdrawals import withdraw

#: SQLite has one writer: there, acts that meet are always one after the other.
pytestmark = [pytest.mark.system, pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)]

#: An act that waits for no lock ends in far less time.
WAITS_SECONDS: Final = 0.3
#: A purge has a transaction for each document; those after the first two are alike.
MOST_PLACES: Final = 4
NUMBER: Final = "ABC-1234567-8"

Act = Callable[[WorkflowHarness, str], object]


def make_plan(batch: str, *, changed: bool = False) -> factories.Json:
    """Return a plan of two units; with `changed`, the second one has another order."""
    plan = factories.plan(units=2, batch=batch)
    if changed:
        plan["units"][1]["invoice"]["purchaseOrder"] = "PO-2"
    return plan


def say(status: str, unit: int, **more: Any) -> Act:
    """Return the act of a customs broker that answers about one entry."""

    def act(workflow: WorkflowHarness, export_id: str) -> None:
        number = view(workflow, export_id).customs_packages[unit].package_number
        answer(workflow, export_id, f"a-{status}-{unit}", status, customsPackageNumbers=[number], **more)

    return act


def change(*, correct: bool) -> Act:
    """Return the act of a merchant who amends the second unit."""

    def act(workflow: WorkflowHarness, export_id: str) -> None:
        batch = workflow.get(Export, export_id).batch_id
        make_amendment(workflow, export_id, make_plan(batch, changed=True), correct=correct)

    return act


def hand_off_amended(workflow: WorkflowHarness, export_id: str) -> None:
    """Hand off the newest revision of the export's batch."""
    newest = list_revisions(workflow, workflow.get(Export, export_id).batch_id)[-1]
    workflow.step(newest, 0, "hand_off")


def cancel(workflow: WorkflowHarness, export_id: str) -> None:
    cancel_export(workflow.runtime, factories.ACCOUNT, export_id, "key_test")


def purge(workflow: WorkflowHarness, _: str) -> None:
    retention.purge_expired(workflow.runtime, date(2040, 1, 1))


def execute(workflow: WorkflowHarness, batch: str) -> str:
    return execute_export(workflow, make_plan(batch))


def execute_filed(workflow: WorkflowHarness, batch: str) -> str:
    export_id = execute(workflow, batch)
    say("filed", 1, entryNumber=NUMBER)(workflow, export_id)
    return export_id


def execute_amended(workflow: WorkflowHarness, batch: str) -> str:
    """Execute an export and its amendment, up to the handoff of the latter."""
    export_id = execute(workflow, batch)
    amend(workflow, export_id, make_plan(batch, changed=True))
    return export_id


ANSWERS: Final[dict[str, Act]] = {
    "files": say("filed", 1, entryNumber=NUMBER),
    "holds": say("held", 1, hold={"holder": "cbp"}),
    "withdraws": say("withdrawn", 1),
    "accepts the other": say("accepted", 0),
}
CHANGES: Final[dict[str, Act]] = {"amend": change(correct=False), "correct": change(correct=True), "withdraw": withdraw}
#: What is there before, the answer of the customs broker, and the act that meets it.
CASES: Final[dict[str, tuple[Callable[[WorkflowHarness, str], str], Act, Act]]] = {
    **{f"{said} - {changed}": (execute, ANSWERS[said], CHANGES[changed]) for said in ANSWERS for changed in CHANGES},
    "files - cancel": (execute, ANSWERS["files"], cancel),
    "files - purge": (execute, ANSWERS["files"], purge),
    "filed, holds - correct": (execute_filed, ANSWERS["holds"], CHANGES["correct"]),
    "filed, holds - withdraw": (execute_filed, ANSWERS["holds"], CHANGES["withdraw"]),
    "amended, files - hand off": (execute_amended, ANSWERS["files"], hand_off_amended),
    "amended, accepts the other - hand off": (execute_amended, ANSWERS["accepts the other"], hand_off_amended),
    "sends a file - purge": (execute, attach, purge),
    "sends a file - withdraw": (execute, attach, withdraw),
    "files - write": (execute, ANSWERS["files"], write),
    "write - purge": (execute, write, purge),
}


def list_revisions(workflow: WorkflowHarness, batch: str) -> list[str]:
    return list(
        workflow.rows(select(col(Export.id)).where(col(Export.batch_id) == batch).order_by(col(Export.revision)))
    )


def run(act: Act, workflow: WorkflowHarness, export_id: str) -> str:
    """Run the act; return the code of its refusal, or `done`."""
    try:
        act(workflow, export_id)
    except Refused as refused:
        return refused.code
    return "done"


def describe(workflow: WorkflowHarness, batch: str) -> list[object]:
    """Return what a person sees of each revision. The tables must be as the log says."""
    seen: list[object] = []
    for export_id in list_revisions(workflow, batch):
        assert differences(workflow, export_id) == []
        shown = view(workflow, export_id)
        entries = [
            (each.headline, each.entry_number) for handoff in shown.broker_submissions for each in handoff.entries
        ]
        seen.append((shown.state, shown.outcome, entries, [each.status for each in shown.earlier_entries]))
        seen.append((Counter(workflow.events(export_id)), len(shown.conversation)))
    return seen


@contextmanager
def disturb(
    workflow: WorkflowHarness, place: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[int]]:
    """Run `act` before the transaction number `place // 2` of this thread, or if `place` is odd, before its commit.

    Yield the list of the places that were reached.
    """
    first, write_session = threading.current_thread(), workflow.runtime.db.write
    reached: list[int] = []
    thread = threading.Thread(target=act)

    def reach() -> None:
        reached.append(len(reached))
        if reached[-1] == place:
            thread.start()
            # Before a transaction it ends; in one it may have to wait for its end.
            thread.join(20 if place % 2 == 0 else WAITS_SECONDS)

    @contextmanager
    def write() -> Iterator[Session]:
        if threading.current_thread() is not first:
            with write_session() as session:
                yield session
            return
        reach()
        with write_session() as session:
            yield session
            session.flush()
            reach()

    with monkeypatch.context() as patch:
        patch.setattr(workflow.runtime.db, "write", write)
        yield reached
    if thread.ident is not None:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("name", CASES)
def test_acts_that_meet_end_as_if_one_was_first(
    workflow: WorkflowHarness, database_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, *acts = CASES[name]

    def run_in_order(batch: str, *order: int) -> list[object]:
        export_id = prepare(workflow, batch)
        codes = {each: run(acts[each], workflow, export_id) for each in order}
        return [codes[0], codes[1], *describe(workflow, batch)]

    allowed = [run_in_order("one_two", 0, 1), run_in_order("two_one", 1, 0)]
    for first, second in ((0, 1), (1, 0)):
        place, places = 0, 1
        while place < min(places, MOST_PLACES):
            batch = f"in_{first}_{place}"
            export_id = prepare(workflow, batch)
            codes: dict[int, str] = {}

            def meet(second: int = second, export_id: str = export_id, codes: dict[int, str] = codes) -> None:
                codes[second] = run(acts[second], workflow, export_id)

            with disturb(workflow, place, meet, monkeypatch) as reached:
                codes[first] = run(acts[first], workflow, export_id)
            place, places = place + 1, len(reached)
            if second not in codes:
                continue  # the first act wrote nothing
            assert [codes[0], codes[1], *describe(workflow, batch)] in allowed, (first, place, codes)
        assert places >= 1
