"""The judge is awake: a history without a fault breaks nothing, and each lie about it breaks the invariant that it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.exports.events import EventType, NewEvent
from tests.system.faults.bounds import Recovery
from tests.system.faults.forged import (
    ATTACHED,
    BODY,
    CANCELLED,
    CHANNEL,
    CLOSED,
    EXPORT,
    FAILED,
    HAPPENED,
    MESSAGE,
    NOW,
    PARTNER,
    PATH,
    RECEIPT,
    RECORDED,
    RENDERED,
    RESUMED,
    SUPERSEDED,
    SUPERSEDES,
    Rows,
    history,
    put_off,
    rechained,
    stopped,
    with_more,
    with_rows,
)
from tests.system.faults.history import INVARIANTS, Violation, violations
from tests.system.faults.records import Call, History

EXECUTE, INSPECT = "/api/exports/execute", f"/api/exports/{EXPORT}"


def setting(table: str, **values: object) -> History:
    def change(tables: Rows) -> None:
        tables[table][0].update(values)

    return with_rows(change)


def dead_after(*outcomes: str, forgiven: int = 0, cut_off: int = 0) -> History:
    """Return the history with a message that was given up after these tries, and so many claims that left none."""

    def change(tables: Rows) -> None:
        tables["deliveries"][0].update(
            state="dead",
            delivered_at=None,
            fence=len(outcomes) + cut_off,
            attempts=len(outcomes),
            attempts_not_counted=forgiven,
        )
        tables["attempts"] = [
            {"delivery_id": "del_1", "number": number, "outcome": outcome}
            for number, outcome in enumerate(outcomes, start=1)
        ]

    return replace(with_rows(change), receipts=[])


def dead_with_its_sender(*, cut_off: int) -> History:
    """Return the history with a message that ended its sender so many times before it was given up."""
    told = dead_after("failed", forgiven=-cut_off, cut_off=cut_off)
    tables = {name: [dict(row) for row in rows] for name, rows in told.snapshot.tables.items()}
    tables["attempts"][0]["error_class"] = "WorkerLost"
    return replace(told, snapshot=replace(told.snapshot, tables=tables))


def dead_beside(*outcomes: str) -> History:
    """Return the history of a message that was given up after one try, in a stream in which another had these."""
    told = dead_after("failed", forgiven=-1)
    tables = {name: [*rows] for name, rows in told.snapshot.tables.items()}
    tables["notifications"].append({"id": "msg_2", "export_id": EXPORT})
    tables["deliveries"].append(
        {
            **tables["deliveries"][0],
            "id": "del_2",
            "notification_id": "msg_2",
            "fence": len(outcomes),
            "attempts": len(outcomes),
            "attempts_not_counted": 0,
        }
    )
    tables["attempts"] += [
        {"delivery_id": "del_2", "number": number, "outcome": outcome}
        for number, outcome in enumerate(outcomes, start=1)
    ]
    return replace(told, snapshot=replace(told.snapshot, tables=tables))


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
        ("a step that is still ready", setting("steps", state="ready")),
        ("a unit that is not closed", setting("exports", units_closed=0)),
        ("failed for no reason", setting("exports", state="failed")),
        ("at rest too late", with_more(recoveries=[Recovery("F9", 30.1, 30.0)])),
    ],
    "I3": [
        ("a number left out", with_rows(lambda tables: tables["events"].pop(3))),
        ("a number promised", setting("exports", next_seq=len(HAPPENED) + 2)),
        ("an event changed", with_rows(lambda tables: tables["events"][1]["data"].update(unitNo=2))),
        ("a hash changed", setting("events", hash="v1:0")),
        ("executed twice", with_rows(lambda tables: rechained(tables, *HAPPENED, HAPPENED[-1]))),
        ("a document made twice", with_rows(lambda tables: rechained(tables, HAPPENED[3], *HAPPENED))),
        ("a step left out", with_rows(lambda tables: rechained(tables, *HAPPENED[:2], *HAPPENED[3:]))),
        ("a step of what was cancelled", stopped(HAPPENED[1], CANCELLED, HAPPENED[2], state="cancelled")),
        ("a try of what was cancelled", stopped(CANCELLED, put_off("record_packages", 1), state="cancelled")),
        ("failed after it was cancelled", stopped(CANCELLED, FAILED, state="cancelled")),
        ("a step of what was superseded", stopped(FAILED, SUPERSEDED, RECORDED, state="superseded")),
        ("the step that had failed", stopped(FAILED, HAPPENED[3])),
        ("another try of it", stopped(FAILED, put_off("render_documents", 1))),
        ("failed twice", stopped(FAILED, FAILED)),
        ("executed though it failed", stopped(FAILED, HAPPENED[-1])),
        ("handed off though it failed", stopped(FAILED, HAPPENED[5])),
        ("a step of another unit that was begun afterwards", stopped(FAILED, RECORDED, ATTACHED, RENDERED)),
        ("one that was begun again afterwards", stopped(FAILED, put_off("record_packages", 2), RECORDED)),
        ("failed again and gone on", stopped(FAILED, RESUMED, HAPPENED[1], FAILED, HAPPENED[2])),
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
        ("dead though it was taken", dead_after("failed", "delivered")),
        ("given up before its tries were spent", dead_after("failed")),
        ("given up before they were since it was resent", dead_after("failed", "failed", "failed", forgiven=2)),
        ("given up behind one that was not", dead_beside("failed")),
        ("said to have been cut off, and was not", dead_after("failed", forgiven=-1)),
        ("given up at the first end of its sender", dead_with_its_sender(cut_off=1)),
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
    "I8": [
        ("a transaction open", with_more(receipts=[replace(RECEIPT, open_transactions=1)])),
        ("nobody looked", with_more(receipts=[replace(RECEIPT, open_transactions=None)])),
    ],
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


@pytest.mark.parametrize(
    "given_up",
    [
        pytest.param(dead_after("failed", "failed"), id="its tries are spent"),
        pytest.param(dead_after("refused"), id="it was refused for good"),
        pytest.param(dead_after("delivered", "failed", "failed", forgiven=1), id="they are spent since it was resent"),
        pytest.param(dead_after("failed", forgiven=-1, cut_off=1), id="they are, with one that was cut off"),
        pytest.param(dead_beside("failed", "failed"), id="those of one before it in its stream are"),
        pytest.param(dead_with_its_sender(cut_off=3), id="it ended its sender as often as it may"),
    ],
)
def test_dead_letter_is_an_end(given_up: History) -> None:
    assert [each for each in violations(given_up) if each.invariant == "I5"] == []


@pytest.mark.parametrize(
    "happened",
    [
        pytest.param([FAILED, RECORDED, ATTACHED], id="two under the first claim"),
        pytest.param([RECORDED, FAILED, ATTACHED], id="one of them"),
        pytest.param([RECORDED, ATTACHED, FAILED, RENDERED, CLOSED], id="two under the second"),
        pytest.param([RECORDED, FAILED, put_off("attach_customs", 2)], id="a try that came to nothing"),
        pytest.param([FAILED, RESUMED, *HAPPENED[3:]], id="all after somebody let it go on"),
        pytest.param([SUPERSEDES, *HAPPENED[1:]], id="all of what took the place of another"),
    ],
)
def test_steps_that_a_claim_led_to_are_no_late_ones(happened: list[NewEvent]) -> None:
    assert [each for each in violations(stopped(*happened)) if each.invariant == "I3"] == []


def test_messages_that_are_sent_side_by_side_may_each_be_put_off_after_one_failed() -> None:
    failed = NewEvent(EventType.EXPORT_FAILED, {"step": "notify_broker", "unitNo": 0})
    held = [put_off(step, 0) for step in ("notify_warehouse", "notify_operator")]
    assert [each for each in violations(stopped(failed, *held)) if each.invariant == "I3"] == []
    assert {each.invariant for each in violations(stopped(failed, held[0], held[0]))} >= {"I3"}


def test_violation_says_what_and_of_whom() -> None:
    found = violations(replace(history(), receipts=[]))
    assert found == [Violation("I5", f"{(MESSAGE, PARTNER, CHANNEL)} is delivered and nobody has it")]
    assert str(found[0]).startswith("I5: ('msg_1', 'wh_1', 'webhook') is delivered")


def test_text_of_a_canary_is_not_repeated() -> None:
    (found,) = violations(LIES["I10"][0][1])
    assert str(found) == "I10: the log of worker holds canary 0"
