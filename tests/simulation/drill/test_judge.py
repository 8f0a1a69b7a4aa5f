"""The judge of a drill finds each single fault in a history, and nothing else; `test_history.py` forges the faults of any run."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.simulation.drill.history import (
    EXPORT_EXECUTED,
    HANDOFF_READY,
    PACKAGE_RECORDED,
    DrillHistory,
    Kill,
    PartnerMessage,
    SubmittedPlan,
)
from pipeline.simulation.drill.judge import judge_history
from tests.system.faults.forged import BODY, CHANNEL, PARTNER, Rows, rows

KINDS = (HANDOFF_READY, PACKAGE_RECORDED, PACKAGE_RECORDED, EXPORT_EXECUTED)


def receive(message_id: str, export_id: str, kind: str, at: float = 6.0) -> PartnerMessage:
    return PartnerMessage(message_id, export_id, PARTNER, CHANNEL, event_type=kind, received_at=at)


def build_sound_history() -> DrillHistory:
    """Return a history of two exports with two packages each and one kill, without any fault."""
    submissions, receipts = [], []
    tables: Rows = {}
    for number, export_id in enumerate(("ex_1", "ex_2"), start=1):
        batch, messages = f"batch-{number}", [f"msg_{export_id}-m{n}" for n in range(1, 5)]
        submissions.append(SubmittedPlan(batch, 2, 0.5, requests=3, export_ids=[export_id] * 2, answered_at=1.0))
        receipts += [receive(messages[n], export_id, kind, n + 2) for n, kind in enumerate(KINDS)]
        for name, found in rows(export_id, batch, messages).items():
            tables.setdefault(name, []).extend(found)
    inspected = dict.fromkeys(("ex_1", "ex_2"), "executed")
    return DrillHistory(submissions, receipts, [Kill(1.5, "service", 1.9)], tables, {BODY}, 2, inspected, 6.0)


def change_row(table: str, **values: Any) -> DrillHistory:
    """Return the sound history with another first row of a table."""
    history = build_sound_history()
    first, *others = history.tables[table]
    return replace(history, tables={**history.tables, table: [{**first, **values}, *others]})


def never_answered() -> DrillHistory:
    history = build_sound_history()
    return replace(history, submissions=[*history.submissions, SubmittedPlan("batch-3", 1, 2.0, requests=7)])


def end_without_messages() -> DrillHistory:
    history = build_sound_history()
    return replace(history, received=[each for each in history.received if each.message_id != "msg_ex_1-m4"])


def enqueue_too_few() -> DrillHistory:
    history = build_sound_history()
    tables = {
        **history.tables,
        "deliveries": [row for row in history.tables["deliveries"] if row["id"] != "del_ex_1-m3"],
    }
    received = [each for each in history.received if each.message_id != "msg_ex_1-m3"]
    return replace(history, received=received, tables=tables)


def refuse_messages() -> DrillHistory:
    history = change_row("deliveries", state="dead", delivered_at=None)
    refused = {**history.tables["attempts"][0], "outcome": "refused"}
    return replace(history, tables={**history.tables, "attempts": [refused, *history.tables["attempts"][1:]]})


LOST: dict[str, tuple[Callable[[], DrillHistory], list[str]]] = {
    "not executed": (
        lambda: change_row("exports", state="failed", failure="no store"),
        ["I2: ex_1 is failed: no store"],
    ),
    "never accepted": (never_answered, ["I1: batch-3 was never accepted, in 7 requests"]),
    "other state in the API": (
        lambda: replace(build_sound_history(), inspected={"ex_1": "executing", "ex_2": "executed"}),
        ["I7: ex_1 is executed but the API says executing"],
    ),
    "document gone": (
        lambda: change_row("artifacts", sha256="0" * 64),
        ["I4: ('ex_1', 1, 'cci_json') is not in the store as recorded"],
    ),
    "message gone": (
        end_without_messages,
        [
            "I5: ('msg_ex_1-m4', 'wh_1', 'webhook') is delivered but was not received",
            f"I5: ex_1 sent 0 of 1 {EXPORT_EXECUTED}",
        ],
    ),
    "message not enqueued": (enqueue_too_few, [f"I5: ex_1 sent 1 of 2 {PACKAGE_RECORDED}"]),
    "dead letter": (refuse_messages, ["I5: message msg_ex_1-m1 is dead"]),
}


def notify_twice() -> DrillHistory:
    history = build_sound_history()
    again = {**history.tables["deliveries"][4], "id": "del_5", "notification_id": "msg_ex_2-m5"}
    tables = {**history.tables, "deliveries": [*history.tables["deliveries"], again]}
    return replace(history, received=[*history.received, receive("msg_ex_2-m5", "ex_2", HANDOFF_READY)], tables=tables)


def send_unknown() -> DrillHistory:
    history = build_sound_history()
    unknown = receive("m9", "ex_2", "exports.handoff.overdue.v1")
    return replace(history, received=[*history.received, unknown])


def answer_twice() -> DrillHistory:
    history = build_sound_history()
    history.submissions[1].export_ids.append("ex_1")
    return history


DUPLICATED: dict[str, tuple[Callable[[], DrillHistory], list[str]]] = {
    "two rows of a batch": (lambda: change_row("exports", batch_id="batch-2"), ["I1: batch-2 has revision 1 2 times"]),
    "two exports for a batch": (answer_twice, ["I1: batch batch-2 got the answers ['ex_1', 'ex_2']"]),
    "message under two ids": (notify_twice, [f"I5: ex_2 sent 2 of 1 {HANDOFF_READY}"]),
    "message not in the database": (send_unknown, ["I5: ('m9', 'wh_1', 'webhook') was received but has no delivery"]),
}


def test_history_without_a_fault_is_sound() -> None:
    found = judge_history(build_sound_history())
    assert (found.lost, found.duplicated, found.sound, found.redelivered) == ([], [], True, 0)


@pytest.mark.parametrize("name", LOST)
def test_judge_finds_what_is_lost(name: str) -> None:
    make, sentences = LOST[name]
    found = judge_history(make())
    assert ([str(each) for each in found.lost], [*found.duplicated]) == (sentences, [])
    assert (found.exports_lost, found.exports_duplicated, found.sound) == (1, 0, False)


@pytest.mark.parametrize("name", DUPLICATED)
def test_judge_finds_what_is_duplicated(name: str) -> None:
    make, sentences = DUPLICATED[name]
    found = judge_history(make())
    assert ([*found.lost], [str(each) for each in found.duplicated]) == ([], sentences)
    assert (found.exports_lost, found.exports_duplicated, found.sound) == (0, 1, False)


def test_repeated_message_is_counted_without_a_fault() -> None:
    history = build_sound_history()
    found = judge_history(replace(history, received=[*history.received, history.received[0]]))
    assert (found.sound, found.redelivered) == (True, 1)
