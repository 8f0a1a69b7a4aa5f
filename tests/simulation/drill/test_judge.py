"""The judge finds each single fault in a history, and nothing else."""

from __future__ import annotations

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
    StoredDelivery,
    StoredDocument,
    StoredEvent,
    StoredExport,
    StoredState,
    SubmittedPlan,
)
from pipeline.simulation.drill.judge import ONCE_ONLY_EVENTS, judge_history

MESSAGES = {"m1": HANDOFF_READY, "m2": PACKAGE_RECORDED, "m3": PACKAGE_RECORDED, "m4": EXPORT_EXECUTED}


def build_sound_history() -> DrillHistory:
    """Return a history of two exports with two packages each and one kill, without any fault."""
    submissions, receipts, exports, events, documents, deliveries = [], [], [], [], [], []
    for number, export_id in enumerate(("ex_1", "ex_2"), start=1):
        submissions.append(
            SubmittedPlan(f"batch-{number}", 2, 0.5, requests=3, export_ids=[export_id, export_id], answered_at=1.0)
        )
        exports.append(StoredExport(export_id, f"batch-{number}", "executed"))
        events += [StoredEvent(export_id, seq, kind, "1") for seq, kind in enumerate(sorted(ONCE_ONLY_EVENTS), start=1)]
        documents += [
            StoredDocument(export_id, name, is_intact=True) for name in ("cci_pdf of unit 1", "manifest of unit 1")
        ]
        for seconds, (message, kind) in enumerate(MESSAGES.items(), start=2):
            receipts.append(PartnerMessage(seconds, f"{export_id}-{message}", kind, export_id))
            deliveries.append(StoredDelivery(export_id, f"{export_id}-{message}", "delivered"))
    return DrillHistory(
        submissions,
        receipts,
        [Kill(1.5, "service", 1.9)],
        StoredState(exports, events, documents, deliveries),
        {"ex_1": "executed", "ex_2": "executed"},
        6.0,
    )


def change_stored(**changes: Callable[[list[Any]], list[Any]]) -> DrillHistory:
    """Return the sound history with changed rows of the database."""
    history = build_sound_history()
    rows: dict[str, Any] = {name: change([*getattr(history.stored, name)]) for name, change in changes.items()}
    return replace(history, stored=replace(history.stored, **rows))


def test_judge_history_without_fault_is_sound() -> None:
    found = judge_history(build_sound_history())
    assert (found.lost, found.duplicated, found.sound, found.redelivered) == ([], [], True, 0)


def never_answered() -> DrillHistory:
    history = build_sound_history()
    return replace(history, submissions=[*history.submissions, SubmittedPlan("batch-3", 1, 2.0, requests=7)])


def end_without_messages() -> DrillHistory:
    history = build_sound_history()
    return replace(history, received=[each for each in history.received if each.message_id != "ex_1-m4"])


def miss_a_package() -> DrillHistory:
    history = build_sound_history()
    gone = replace(history, received=[each for each in history.received if each.message_id != "ex_1-m3"])
    deliveries = [each for each in history.stored.deliveries if each.message_id != "ex_1-m3"]
    return replace(gone, stored=replace(history.stored, deliveries=deliveries))


LOST: dict[str, tuple[Callable[[], DrillHistory], list[str]]] = {
    "not stored": (
        lambda: change_stored(exports=lambda rows: rows[1:]),
        ["ex_1: was accepted but is not in the database"],
    ),
    "not executed": (
        lambda: change_stored(exports=lambda rows: [StoredExport("ex_1", "batch-1", "failed", "no store"), rows[1]]),
        ["ex_1: was accepted but is failed: no store"],
    ),
    "never accepted": (never_answered, ["batch-3: was never accepted, in 7 requests"]),
    "other state in the API": (
        lambda: replace(build_sound_history(), inspected={"ex_1": "executing", "ex_2": "executed"}),
        ["ex_1: is executed but the API says executing"],
    ),
    "event gone": (
        lambda: change_stored(events=lambda rows: [row for row in rows if row.seq != 2 or row.export_id != "ex_1"]),
        ["ex_1: has a log with gaps", f"ex_1: was executed without {sorted(ONCE_ONLY_EVENTS)[1]}"],
    ),
    "document gone": (
        lambda: change_stored(
            documents=lambda rows: [StoredDocument("ex_1", "cci_pdf of unit 1", is_intact=False), *rows[1:]]
        ),
        ["ex_1: lost its document cci_pdf of unit 1"],
    ),
    "message gone": (
        end_without_messages,
        ["ex_1: message ex_1-m4 is delivered and did not arrive", f"ex_1: sent 0 of 1 {EXPORT_EXECUTED}"],
    ),
    "message not enqueued": (miss_a_package, [f"ex_1: sent 1 of 2 {PACKAGE_RECORDED}"]),
    "message not recorded": (
        lambda: change_stored(deliveries=lambda rows: [StoredDelivery("ex_1", "ex_1-m1", "dead"), *rows[1:]]),
        ["ex_1: message ex_1-m1 arrived but is dead"],
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_judge_history_finds_what_is_lost(name: str) -> None:
    make, sentences = LOST[name]
    found = judge_history(make())
    assert ([str(each) for each in found.lost], [*found.duplicated]) == (sentences, [])
    assert (found.exports_lost, found.exports_duplicated, found.sound) == (1, 0, False)


def notify_twice() -> DrillHistory:
    history = build_sound_history()
    twice = [*history.received, PartnerMessage(6, "ex_2-m5", HANDOFF_READY, "ex_2")]
    deliveries = [*history.stored.deliveries, StoredDelivery("ex_2", "ex_2-m5", "delivered")]
    return replace(history, received=twice, stored=replace(history.stored, deliveries=deliveries))


def answer_twice() -> DrillHistory:
    history = build_sound_history()
    history.submissions[1].export_ids.append("ex_1")
    return history


DUPLICATED: dict[str, tuple[Callable[[], DrillHistory], list[str]]] = {
    "two rows of a batch": (
        lambda: change_stored(exports=lambda rows: [*rows, StoredExport("ex_3", "batch-2", "failed")]),
        ["batch-2: is 2 exports in the database"],
    ),
    "event twice": (
        lambda: change_stored(
            events=lambda rows: [*rows, StoredEvent("ex_2", len(ONCE_ONLY_EVENTS) + 1, "HANDED_OFF", "1")]
        ),
        ["ex_2: has HANDED_OFF 1 2 times"],
    ),
    "document twice": (
        lambda: change_stored(documents=lambda rows: [*rows, rows[-1]]),
        ["ex_2: has manifest of unit 1 2 times"],
    ),
    "message under two ids": (notify_twice, [f"ex_2: sent 2 {HANDOFF_READY}, but 1 were due"]),
    "message not in the database": (
        lambda: replace(
            build_sound_history(),
            received=[*build_sound_history().received, PartnerMessage(6, "m9", "exports.handoff.overdue.v1", "ex_2")],
        ),
        ["ex_2: sent message m9, which is not in the database"],
    ),
}


@pytest.mark.parametrize("name", DUPLICATED)
def test_judge_history_finds_what_is_duplicated(name: str) -> None:
    make, sentences = DUPLICATED[name]
    found = judge_history(make())
    assert ([*found.lost], [str(each) for each in found.duplicated]) == ([], sentences)
    assert (found.exports_lost, found.exports_duplicated, found.sound) == (0, 1, False)


def test_judge_history_with_two_exports_of_a_batch_finds_duplicate() -> None:
    assert [str(each) for each in judge_history(answer_twice()).duplicated if each.about == "batch-2"] == [
        "batch-2: was answered with 2 different exports"
    ]


def test_judge_history_counts_repeated_message_without_fault() -> None:
    history = build_sound_history()
    found = judge_history(replace(history, received=[*history.received, history.received[0]]))
    assert (found.sound, found.redelivered) == (True, 1)
