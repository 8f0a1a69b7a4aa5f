"""The judge is awake: a history without a fault breaks nothing, and each lie about it breaks the invariant that it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.events import EventType, NewEvent
from tests.faults.forged import (
    BODY,
    CHANNEL,
    EXPORT,
    HAPPENED,
    MESSAGE,
    NOW,
    PARTNER,
    PATH,
    RECEIPT,
    Rows,
    history,
    rechained,
    with_more,
    with_rows,
)
from tests.faults.history import INVARIANTS, Violation, violations
from tests.faults.records import Call, History

EXECUTE, INSPECT = "/api/exports/execute", f"/api/exports/{EXPORT}"


def setting(table: str, **values: object) -> History:
    def change(tables: Rows) -> None:
        tables[table][0].update(values)

    return with_rows(change)


def dead_but(**attempt: object) -> History:
    def change(tables: Rows) -> None:
        tables["deliveries"][0].update(state="dead", delivered_at=None)
        tables["attempts"][0].update(attempt)

    return with_rows(change)


def twice(tables: Rows, table: str) -> None:
    tables[table].append(tables[table][0])


def never_tried(tables: Rows) -> None:
    tables["attempts"].clear()
    tables["deliveries"][0].update(state="dead", attempts=0, delivered_at=None)


def delivered_again(tables: Rows) -> None:
    tables["attempts"].append({"delivery_id": "del_1", "number": 2, "outcome": "delivered"})
    tables["deliveries"][0].update(attempts=2, fence=3)


def resent(tables: Rows) -> None:
    rechained(tables, *HAPPENED, NewEvent(EventType.DELIVERY_RESENT, {"deliveryId": "del_1"}))
    delivered_again(tables)


LIES: dict[str, list[tuple[str, History]]] = {
    "I1": [
        ("accepted and gone", with_more(calls=[Call("POST", EXECUTE, 202, batch="batch_2", export_id="exp_2")])),
        (
            "one batch, two exports",
            with_more(calls=[Call("POST", EXECUTE, 202, batch="batch_1", export_id="exp_2")]),
        ),
        ("one revision twice", with_rows(lambda tables: twice(tables, "exports"))),
    ],
    "I2": [
        ("never ended", setting("exports", state="executing")),
        ("a step that is still owed", setting("steps", state="owed")),
        ("a unit that is not closed", setting("exports", units_closed=0)),
        ("failed for no reason", setting("exports", state="failed")),
    ],
    "I3": [
        ("a number left out", with_rows(lambda tables: tables["events"].pop(3))),
        ("a number promised", setting("exports", next_seq=len(HAPPENED) + 2)),
        ("an event changed", with_rows(lambda tables: tables["events"][1]["data"].update(unitNo=2))),
        ("a hash changed", setting("events", hash="v1:0")),
        ("executed twice", with_rows(lambda tables: rechained(tables, *HAPPENED, HAPPENED[-1]))),
        ("a document made twice", with_rows(lambda tables: rechained(tables, HAPPENED[3], *HAPPENED))),
        ("a step left out", with_rows(lambda tables: rechained(tables, *HAPPENED[:2], *HAPPENED[3:]))),
        ("no handoff", with_rows(lambda tables: rechained(tables, *HAPPENED[:5], *HAPPENED[6:]))),
    ],
    "I4": [
        ("lost", with_more(files={})),
        ("torn", with_more(files={PATH: "0" * 64})),
        ("other bytes than without a fault", with_more(reference={(EXPORT, 1, "cci_json"): "0" * 64})),
        ("one never made", with_more(reference={(EXPORT, 1, "cci_json"): BODY, (EXPORT, 1, "manifest"): BODY})),
        ("two rows", with_rows(lambda tables: twice(tables, "artifacts"))),
    ],
    "I5": [
        ("owed for ever", setting("deliveries", state="pending", delivered_at=None)),
        ("said to be delivered", replace(history(), receipts=[])),
        ("delivered to one who refused it", replace(history(), receipts=[replace(RECEIPT, taken=False)])),
        ("under an id that nobody owes", with_more(receipts=[replace(RECEIPT, message_id="msg_2")])),
        ("to one who is owed nothing", with_more(receipts=[replace(RECEIPT, partner_id="wh_2")])),
        (
            "dead without a try",
            with_rows(never_tried),
        ),
        ("dead though it was taken", dead_but(outcome="delivered")),
    ],
    "I6": [
        ("more often than it was claimed", with_more(receipts=[RECEIPT, RECEIPT])),
        ("after it was delivered", with_more(receipts=[replace(RECEIPT, at=NOW + timedelta(seconds=3))])),
        ("a try that is not recorded", setting("deliveries", attempts=2)),
        ("a try twice", with_rows(lambda tables: twice(tables, "attempts"))),
        (
            "delivered twice",
            with_rows(delivered_again),
        ),
        ("a step without a claim", setting("steps", fence=0)),
    ],
    "I7": [
        ("an error of ours", with_more(calls=[Call("GET", INSPECT, 500)])),
        ("busy and no word of when", with_more(calls=[Call("POST", EXECUTE, 503)])),
        ("fewer events", with_more(calls=[Call("GET", INSPECT, 200, export_id=EXPORT, state="executed", seq=7)])),
        ("an earlier state", with_more(calls=[Call("GET", INSPECT, 200, export_id=EXPORT, state="executing", seq=8)])),
    ],
    "I8": [("a transaction open", with_more(receipts=[replace(RECEIPT, open_transactions=1)]))],
    "I9": [
        ("a step held", setting("steps", lease_until=NOW)),
        ("a delivery held", setting("deliveries", lease_until=NOW)),
        ("half a file", with_more(files={PATH: BODY, f"{PATH}#1": "0" * 64})),
        ("a file under another name", with_more(files={PATH: BODY, f"sha256/00/00/{BODY}": BODY})),
        ("a process", with_more(processes_left=("4711",))),
    ],
    "I10": [("a secret", with_more(logs={"worker": "Authorization: Bearer exp_live_secret"}))],
}


def test_history_without_a_fault_breaks_nothing() -> None:
    assert violations(history()) == []


def test_each_invariant_is_lied_about() -> None:
    assert list(LIES) == list(INVARIANTS) == [f"I{number}" for number in range(1, 11)]


@pytest.mark.parametrize(
    ("invariant", "lie"),
    [pytest.param(name, lie, id=f"{name} {said}") for name, lies in LIES.items() for said, lie in lies],
)
def test_lie_breaks_its_invariant(invariant: str, lie: History) -> None:
    """Some lies break others too, as a missing event does the chain; none goes unnoticed where it belongs."""
    assert invariant in {violation.invariant for violation in violations(lie)}


def test_what_a_person_resent_may_come_again_after_it_was_delivered() -> None:
    again = with_rows(resent)
    assert violations(replace(again, receipts=[*again.receipts, replace(RECEIPT, at=NOW + timedelta(seconds=9))])) == []


def test_dead_letter_is_an_end() -> None:
    assert violations(replace(dead_but(outcome="failed"), receipts=[])) == []


def test_violation_says_what_and_of_whom() -> None:
    found = violations(replace(history(), receipts=[]))
    assert found == [Violation("I5", f"{(MESSAGE, PARTNER, CHANNEL)} is delivered and nobody has it")]
    assert str(found[0]).startswith("I5: ('msg_1', 'wh_1', 'webhook') is delivered")


def test_text_of_a_canary_is_not_repeated() -> None:
    (found,) = violations(LIES["I10"][0][1])
    assert str(found) == "I10: the log of worker holds canary 0"
