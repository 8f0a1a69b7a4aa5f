"""The judge works: a history without a fault has no violation, and each forgery breaks its invariant."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.exports.events import EventType, NewEvent
from pipeline.simulation.judge import Violation
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
    build_retry_event,
    build_stopped_history,
    history,
    rebuild_chain,
    with_more,
    with_rows,
)
from tests.system.faults.history import violations
from tests.system.faults.records import Call, History

EXECUTE, INSPECT = "/api/exports/execute", f"/api/exports/{EXPORT}"


def change_rows(table: str, **values: object) -> History:
    def change(tables: Rows) -> None:
        tables[table][0].update(values)

    return with_rows(change)


def build_dead_letter(*outcomes: str, not_counted: int = 0, workers_lost: int = 0) -> History:
    """Return the history with a message that was given up after these attempts, and claims without an attempt."""

    def change(tables: Rows) -> None:
        tables["deliveries"][0].update(
            state="dead",
            delivered_at=None,
            fence=len(outcomes) + workers_lost,
            attempts=len(outcomes),
            attempts_not_counted=not_counted,
        )
        tables["attempts"] = [
            {"delivery_id": "del_1", "number": number, "outcome": outcome}
            for number, outcome in enumerate(outcomes, start=1)
        ]

    return replace(with_rows(change), receipts=[])


def build_dead_with_sender(*, workers_lost: int) -> History:
    """Return the history with a message that killed its sender that many times before it was given up."""
    with_dead_letter = build_dead_letter("failed", not_counted=-workers_lost, workers_lost=workers_lost)
    tables = {name: [dict(row) for row in rows] for name, rows in with_dead_letter.snapshot.tables.items()}
    tables["attempts"][0]["error_class"] = "WorkerLost"
    return replace(with_dead_letter, snapshot=replace(with_dead_letter.snapshot, tables=tables))


def build_dead_in_stream(*outcomes: str) -> History:
    """Return the history of a message that was given up after one attempt; another in its stream had these attempts."""
    with_dead_letter = build_dead_letter("failed", not_counted=-1)
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


FORGERIES: dict[str, list[tuple[str, History]]] = {
    "I1": [
        ("accepted and not stored", with_more(calls=[Call("POST", EXECUTE, 202, batch="batch_2", export_id="exp_2")])),
        ("one batch, two exports", with_more(calls=[Call("POST", EXECUTE, 202, batch="batch_1", export_id="exp_2")])),
        ("one revision twice", with_rows(lambda tables: duplicate_row(tables, "exports"))),
    ],
    "I2": [
        ("never ended", change_rows("exports", state="executing")),
        ("a step is still ready", change_rows("steps", state="ready")),
        ("a unit is not closed", change_rows("exports", units_closed=0)),
        ("failed without a reason", change_rows("exports", state="failed")),
        ("recovered too late", with_more(recoveries=[Recovery("F9", 30.1, 30.0)])),
    ],
    "I3": [
        ("a number is missing", with_rows(lambda tables: tables["events"].pop(3))),
        ("a number too many", change_rows("exports", next_seq=len(EVENTS) + 2)),
        ("an event was changed", with_rows(lambda tables: tables["events"][1]["data"].update(unitNo=2))),
        ("a hash was changed", change_rows("events", hash="v1:0")),
        ("executed twice", with_rows(lambda tables: rebuild_chain(tables, *EVENTS, EVENTS[-1]))),
        ("a document was made twice", with_rows(lambda tables: rebuild_chain(tables, EVENTS[3], *EVENTS))),
        ("a step is missing", with_rows(lambda tables: rebuild_chain(tables, *EVENTS[:2], *EVENTS[3:]))),
        ("a step after the cancellation", build_stopped_history(EVENTS[1], CANCELLED, EVENTS[2], state="cancelled")),
        (
            "an attempt after the cancellation",
            build_stopped_history(CANCELLED, build_retry_event("record_packages", 1), state="cancelled"),
        ),
        ("failed after the cancellation", build_stopped_history(CANCELLED, FAILED, state="cancelled")),
        ("a step after a newer revision", build_stopped_history(FAILED, SUPERSEDED, RECORDED, state="superseded")),
        ("the failed step had an effect", build_stopped_history(FAILED, EVENTS[3])),
        ("another attempt of the failed step", build_stopped_history(FAILED, build_retry_event("render_documents", 1))),
        ("failed twice", build_stopped_history(FAILED, FAILED)),
        ("executed although failed", build_stopped_history(FAILED, EVENTS[-1])),
        ("handed off although failed", build_stopped_history(FAILED, EVENTS[5])),
        ("a step of another unit began afterwards", build_stopped_history(FAILED, RECORDED, ATTACHED, RENDERED)),
        (
            "a retry of another unit afterwards",
            build_stopped_history(FAILED, build_retry_event("record_packages", 2), RECORDED),
        ),
        ("continued after the second failure", build_stopped_history(FAILED, RESUMED, EVENTS[1], FAILED, EVENTS[2])),
        ("no handoff", with_rows(lambda tables: rebuild_chain(tables, *EVENTS[:5], *EVENTS[6:]))),
    ],
    "I4": [
        ("lost", with_more(files={})),
        ("torn", with_more(files={PATH: "0" * 64})),
        ("other bytes than without a fault", with_more(reference={(EXPORT, 1, "cci_json"): "0" * 64})),
        (
            "a document was never made",
            with_more(reference={(EXPORT, 1, "cci_json"): BODY, (EXPORT, 1, "manifest"): BODY}),
        ),
        ("two rows", with_rows(lambda tables: duplicate_row(tables, "artifacts"))),
    ],
    "I5": [
        ("pending for ever", change_rows("deliveries", state="pending", delivered_at=None)),
        ("delivered but not received", replace(history(), receipts=[])),
        ("delivered but refused", replace(history(), receipts=[replace(RECEIPT, taken=False)])),
        ("received under an unknown id", with_more(receipts=[replace(RECEIPT, message_id="msg_2")])),
        ("received by the wrong partner", with_more(receipts=[replace(RECEIPT, partner_id="wh_2")])),
        ("dead without an attempt", with_rows(remove_attempts)),
        ("dead although delivered", build_dead_letter("failed", "delivered")),
        ("given up too early", build_dead_letter("failed")),
        ("given up too early after a resend", build_dead_letter("failed", "failed", "failed", not_counted=2)),
        ("given up behind a message that was not", build_dead_in_stream("failed")),
        ("interrupted attempt without a claim", build_dead_letter("failed", not_counted=-1)),
        ("given up after the first killed sender", build_dead_with_sender(workers_lost=1)),
    ],
    "I6": [
        ("received more often than claimed", with_more(receipts=[RECEIPT, RECEIPT])),
        ("received after the delivery", with_more(receipts=[replace(RECEIPT, at=NOW + timedelta(seconds=3))])),
        ("an attempt is not recorded", change_rows("deliveries", attempts=2)),
        ("an attempt is recorded twice", with_rows(lambda tables: duplicate_row(tables, "attempts"))),
        ("delivered twice", with_rows(deliver_again)),
        ("a step without a claim", change_rows("steps", fence=0)),
    ],
    "I7": [
        ("a server error", with_more(calls=[Call("GET", INSPECT, 500)])),
        ("503 without Retry-After", with_more(calls=[Call("POST", EXECUTE, 503)])),
        ("fewer events", with_more(calls=[Call("GET", INSPECT, 200, export_id=EXPORT, state="executed", seq=7)])),
        ("an earlier state", with_more(calls=[Call("GET", INSPECT, 200, export_id=EXPORT, state="executing", seq=8)])),
    ],
    "I8": [
        ("an open transaction", with_more(receipts=[replace(RECEIPT, open_transactions=1)])),
        ("nobody looked", with_more(receipts=[replace(RECEIPT, open_transactions=None)])),
    ],
    "I9": [
        ("a step is leased", change_rows("steps", lease_until=NOW)),
        ("a delivery is leased", change_rows("deliveries", lease_until=NOW)),
        ("an incomplete file", with_more(files={PATH: BODY, f"{PATH}#1": "0" * 64})),
        ("a file with a wrong name", with_more(files={PATH: BODY, f"sha256/00/00/{BODY}": BODY})),
        ("a process", with_more(processes_left=("4711",))),
    ],
    "I10": [("a secret in a log", with_more(logs={"worker": "Authorization: Bearer exp_live_secret"}))],
}


def test_history_without_a_fault_has_no_violation() -> None:
    assert violations(history()) == []


def test_each_invariant_has_forgeries() -> None:
    assert list(FORGERIES) == [f"I{number}" for number in range(1, 11)]


@pytest.mark.parametrize(
    ("invariant", "forgery"),
    [
        pytest.param(name, forgery, id=f"{name} {forgery_name}")
        for name, forgeries in FORGERIES.items()
        for forgery_name, forgery in forgeries
    ],
)
def test_forgery_breaks_its_invariant(invariant: str, forgery: History) -> None:
    """Some forgeries break other invariants too, as a missing event breaks the hash chain."""
    assert invariant in {violation.promise for violation in violations(forgery)}


def test_resent_message_may_be_received_again() -> None:
    again = with_rows(resend_message)
    assert violations(replace(again, receipts=[*again.receipts, replace(RECEIPT, at=NOW + timedelta(seconds=9))])) == []


@pytest.mark.parametrize(
    "given_up",
    [
        pytest.param(build_dead_letter("failed", "failed"), id="all attempts were made"),
        pytest.param(build_dead_letter("refused"), id="it was refused for good"),
        pytest.param(
            build_dead_letter("delivered", "failed", "failed", not_counted=1), id="all attempts since the resend"
        ),
        pytest.param(
            build_dead_letter("failed", not_counted=-1, workers_lost=1), id="all attempts, one of them interrupted"
        ),
        pytest.param(build_dead_in_stream("failed", "failed"), id="all attempts of a message before it in its stream"),
        pytest.param(build_dead_with_sender(workers_lost=3), id="it killed its sender at every attempt"),
    ],
)
def test_dead_letter_after_all_attempts_is_not_a_violation(given_up: History) -> None:
    assert [each for each in violations(given_up) if each.promise == "I5"] == []


@pytest.mark.parametrize(
    "happened",
    [
        pytest.param([FAILED, RECORDED, ATTACHED], id="two events of the first claim"),
        pytest.param([RECORDED, FAILED, ATTACHED], id="one of the two events"),
        pytest.param([RECORDED, ATTACHED, FAILED, RENDERED, CLOSED], id="two events of the second claim"),
        pytest.param([RECORDED, FAILED, build_retry_event("attach_customs", 2)], id="a failed attempt"),
        pytest.param([FAILED, RESUMED, *EVENTS[3:]], id="all after a retry by a person"),
        pytest.param([SUPERSEDES, *EVENTS[1:]], id="all of a newer revision"),
    ],
)
def test_steps_of_a_claim_are_not_late(happened: list[NewEvent]) -> None:
    assert [each for each in violations(build_stopped_history(*happened)) if each.promise == "I3"] == []


def test_parallel_messages_may_each_be_retried_after_a_failure() -> None:
    failed = NewEvent(EventType.EXPORT_FAILED, {"step": "notify_broker", "unitNo": 0})
    held = [build_retry_event(step, 0) for step in ("notify_warehouse", "notify_operator")]
    assert [each for each in violations(build_stopped_history(failed, *held)) if each.promise == "I3"] == []
    assert {each.promise for each in violations(build_stopped_history(failed, held[0], held[0]))} >= {"I3"}


def test_violation_names_the_invariant_and_the_message() -> None:
    found = violations(replace(history(), receipts=[]))
    assert found == [Violation("I5", f"{(MESSAGE, PARTNER, CHANNEL)} is delivered but was not received", EXPORT)]
    assert str(found[0]).startswith("I5: ('msg_1', 'wh_1', 'webhook') is delivered")


def test_violation_does_not_repeat_the_canary() -> None:
    (found,) = violations(FORGERIES["I10"][0][1])
    assert str(found) == "I10: the log of worker holds canary 0"
