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
    EVENTS,
    EXPORT,
    FAILED,
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
    build_stopped_history,
    history,
    put_off,
    rebuild_chain,
    with_more,
    with_rows,
)
from tests.system.faults.history import INVARIANTS, Violation, violations
from tests.system.faults.records import Call, History

EXECUTE, INSPECT = "/api/exports/execute", f"/api/exports/{EXPORT}"


def change_rows(table: str, **values: object) -> History:
    def change(tables: Rows) -> None:
        tables[table][0].update(values)

    return with_rows(change)


def build_dead_letter(*outcomes: str, forgiven: int = 0, cut_off: int = 0) -> History:
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


def build_dead_with_sender(*, cut_off: int) -> History:
    """Return the history with a message that ended its sender so many times before it was given up."""
    with_dead_letter = build_dead_letter("failed", forgiven=-cut_off, cut_off=cut_off)
    tables = {name: [dict(row) for row in rows] for name, rows in with_dead_letter.snapshot.tables.items()}
    tables["attempts"][0]["error_class"] = "WorkerLost"
    return replace(with_dead_letter, snapshot=replace(with_dead_letter.snapshot, tables=tables))


def build_dead_in_stream(*outcomes: str) -> History:
    """Return the history of a message that was given up after one try, in a stream in which another had these."""
    with_dead_letter = build_dead_letter("failed", forgiven=-1)
    tables = {name: [*rows] for name, rows in with_dead_letter.snapshot.tables.items()}
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
    return replace(with_dead_letter, snapshot=replace(with_dead_letter.snapshot, tables=tables))


def duplicate_row(tables: Rows, table: str) -> None:
    tables[table].append(tables[table][0])


def remove_attempts(tables: Rows) -> None:
    tables["attempts"].clear()
    tables["deliveries"][0].update(state="dead", attempts=0, delivered_at=None)


def deliver_again(tables: Rows) -> None:
    tables["attempts"].append({"delivery_id": "del_1", "number": 2, "outcome": "delivered"})
    tables["deliveries"][0].update(attempts=2, fence=3)


def resend_message(tables: Rows) -> None:
    rebuild_chain(tables, *EVENTS, NewEvent(EventType.DELIVERY_RESENT, {"deliveryId": "del_1"}))
    deliver_again(tables)


LIES: dict[str, list[tuple[str, History]]] = {
    "I1": [
        ("accepted and gone", with_more(calls=[Call("POST", EXECUTE, 202, batch="batch_2", export_id="exp_2")])),
        (
            "one batch, two exports",
            with_more(calls=[Call("POST", EXECUTE, 202, batch="batch_1", export_id="exp_2")]),
        ),
        ("one revision twice", with_rows(lambda tables: duplicate_row(tables, "exports"))),
    ],
    "I2": [
        ("never ended", change_rows("exports", state="executing")),
        ("a step that is still ready", change_rows("steps", state="ready")),
        ("a unit that is not closed", change_rows("exports", units_closed=0)),
        ("failed for no reason", change_rows("exports", state="failed")),
        ("at rest too late", with_more(recoveries=[Recovery("F9", 30.1, 30.0)])),
    ],
    "I3": [
        ("a number left out", with_rows(lambda tables: tables["events"].pop(3))),
        ("a number promised", change_rows("exports", next_seq=len(EVENTS) + 2)),
        ("an event changed", with_rows(lambda tables: tables["events"][1]["data"].update(unitNo=2))),
        ("a hash changed", change_rows("events", hash="v1:0")),
        ("executed twice", with_rows(lambda tables: rebuild_chain(tables, *EVENTS, EVENTS[-1]))),
        ("a document made twice", with_rows(lambda tables: rebuild_chain(tables, EVENTS[3], *EVENTS))),
        ("a step left out", with_rows(lambda tables: rebuild_chain(tables, *EVENTS[:2], *EVENTS[3:]))),
        ("a step of what was cancelled", build_stopped_history(EVENTS[1], CANCELLED, EVENTS[2], state="cancelled")),
        (
            "a try of what was cancelled",
            build_stopped_history(CANCELLED, put_off("record_packages", 1), state="cancelled"),
        ),
        ("failed after it was cancelled", build_stopped_history(CANCELLED, FAILED, state="cancelled")),
        ("a step of what was superseded", build_stopped_history(FAILED, SUPERSEDED, RECORDED, state="superseded")),
        ("the step that had failed", build_stopped_history(FAILED, EVENTS[3])),
        ("another try of it", build_stopped_history(FAILED, put_off("render_documents", 1))),
        ("failed twice", build_stopped_history(FAILED, FAILED)),
        ("executed though it failed", build_stopped_history(FAILED, EVENTS[-1])),
        ("handed off though it failed", build_stopped_history(FAILED, EVENTS[5])),
        (
            "a step of another unit that was begun afterwards",
            build_stopped_history(FAILED, RECORDED, ATTACHED, RENDERED),
        ),
        ("one that was begun again afterwards", build_stopped_history(FAILED, put_off("record_packages", 2), RECORDED)),
        ("failed again and gone on", build_stopped_history(FAILED, RESUMED, EVENTS[1], FAILED, EVENTS[2])),
        ("no handoff", with_rows(lambda tables: rebuild_chain(tables, *EVENTS[:5], *EVENTS[6:]))),
    ],
    "I4": [
        ("lost", with_more(files={})),
        ("torn", with_more(files={PATH: "0" * 64})),
        ("other bytes than without a fault", with_more(reference={(EXPORT, 1, "cci_json"): "0" * 64})),
        ("one never made", with_more(reference={(EXPORT, 1, "cci_json"): BODY, (EXPORT, 1, "manifest"): BODY})),
        ("two rows", with_rows(lambda tables: duplicate_row(tables, "artifacts"))),
    ],
    "I5": [
        ("owed for ever", change_rows("deliveries", state="pending", delivered_at=None)),
        ("said to be delivered", replace(history(), receipts=[])),
        ("delivered to one who refused it", replace(history(), receipts=[replace(RECEIPT, taken=False)])),
        ("under an id that nobody owes", with_more(receipts=[replace(RECEIPT, message_id="msg_2")])),
        ("to one who is owed nothing", with_more(receipts=[replace(RECEIPT, partner_id="wh_2")])),
        (
            "dead without a try",
            with_rows(remove_attempts),
        ),
        ("dead though it was taken", build_dead_letter("failed", "delivered")),
        ("given up before its tries were spent", build_dead_letter("failed")),
        ("given up before they were since it was resent", build_dead_letter("failed", "failed", "failed", forgiven=2)),
        ("given up behind one that was not", build_dead_in_stream("failed")),
        ("said to have been cut off, and was not", build_dead_letter("failed", forgiven=-1)),
        ("given up at the first end of its sender", build_dead_with_sender(cut_off=1)),
    ],
    "I6": [
        ("more often than it was claimed", with_more(receipts=[RECEIPT, RECEIPT])),
        ("after it was delivered", with_more(receipts=[replace(RECEIPT, at=NOW + timedelta(seconds=3))])),
        ("a try that is not recorded", change_rows("deliveries", attempts=2)),
        ("a try twice", with_rows(lambda tables: duplicate_row(tables, "attempts"))),
        (
            "delivered twice",
            with_rows(deliver_again),
        ),
        ("a step without a claim", change_rows("steps", fence=0)),
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
        ("a step held", change_rows("steps", lease_until=NOW)),
        ("a delivery held", change_rows("deliveries", lease_until=NOW)),
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
    [pytest.param(name, lie, id=f"{name} {lie_name}") for name, lies in LIES.items() for lie_name, lie in lies],
)
def test_lie_breaks_its_invariant(invariant: str, lie: History) -> None:
    """Some lies break others too, as a missing event does the chain; none goes unnoticed where it belongs."""
    assert invariant in {violation.invariant for violation in violations(lie)}


def test_what_a_person_resent_may_come_again_after_it_was_delivered() -> None:
    again = with_rows(resend_message)
    assert violations(replace(again, receipts=[*again.receipts, replace(RECEIPT, at=NOW + timedelta(seconds=9))])) == []


@pytest.mark.parametrize(
    "given_up",
    [
        pytest.param(build_dead_letter("failed", "failed"), id="its tries are spent"),
        pytest.param(build_dead_letter("refused"), id="it was refused for good"),
        pytest.param(
            build_dead_letter("delivered", "failed", "failed", forgiven=1), id="they are spent since it was resent"
        ),
        pytest.param(build_dead_letter("failed", forgiven=-1, cut_off=1), id="they are, with one that was cut off"),
        pytest.param(build_dead_in_stream("failed", "failed"), id="those of one before it in its stream are"),
        pytest.param(build_dead_with_sender(cut_off=3), id="it ended its sender as often as it may"),
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
        pytest.param([FAILED, RESUMED, *EVENTS[3:]], id="all after somebody let it go on"),
        pytest.param([SUPERSEDES, *EVENTS[1:]], id="all of what took the place of another"),
    ],
)
def test_steps_that_a_claim_led_to_are_no_late_ones(happened: list[NewEvent]) -> None:
    assert [each for each in violations(build_stopped_history(*happened)) if each.invariant == "I3"] == []


def test_messages_that_are_sent_side_by_side_may_each_be_put_off_after_one_failed() -> None:
    failed = NewEvent(EventType.EXPORT_FAILED, {"step": "notify_broker", "unitNo": 0})
    held = [put_off(step, 0) for step in ("notify_warehouse", "notify_operator")]
    assert [each for each in violations(build_stopped_history(failed, *held)) if each.invariant == "I3"] == []
    assert {each.invariant for each in violations(build_stopped_history(failed, held[0], held[0]))} >= {"I3"}


def test_violation_says_what_and_of_whom() -> None:
    found = violations(replace(history(), receipts=[]))
    assert found == [Violation("I5", f"{(MESSAGE, PARTNER, CHANNEL)} is delivered and nobody has it")]
    assert str(found[0]).startswith("I5: ('msg_1', 'wh_1', 'webhook') is delivered")


def test_text_of_a_canary_is_not_repeated() -> None:
    (found,) = violations(LIES["I10"][0][1])
    assert str(found) == "I10: the log of worker holds canary 0"
