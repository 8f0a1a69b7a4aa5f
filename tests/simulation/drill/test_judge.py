"""The drill's judge, against histories in which one thing is wrong: each is found, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.simulation.drill.history import (
    ENDED,
    HANDOFF,
    PACKAGE,
    History,
    Kill,
    Owed,
    Receipt,
    Stored,
    StoredDocument,
    StoredEvent,
    StoredExport,
    Submission,
)
from pipeline.simulation.drill.judge import ONCE, judge

MESSAGES = {"m1": HANDOFF, "m2": PACKAGE, "m3": PACKAGE, "m4": ENDED}


def sound() -> History:
    """Two exports of two packages each, struck once, of which everything is there once."""
    submissions, receipts, exports, events, documents, owed = [], [], [], [], [], []
    for number, export_id in enumerate(("ex_1", "ex_2"), start=1):
        submissions.append(Submission(f"batch-{number}", 2, 0.5, tries=3, answers=[export_id, export_id], answered=1.0))
        exports.append(StoredExport(export_id, f"batch-{number}", "executed"))
        events += [StoredEvent(export_id, seq, kind, "1") for seq, kind in enumerate(sorted(ONCE), start=1)]
        documents += [
            StoredDocument(export_id, name, kept=True) for name in ("cci_pdf of unit 1", "manifest of unit 1")
        ]
        for seconds, (message, kind) in enumerate(MESSAGES.items(), start=2):
            receipts.append(Receipt(seconds, f"{export_id}-{message}", kind, export_id))
            owed.append(Owed(export_id, f"{export_id}-{message}", "delivered"))
    return History(
        submissions,
        receipts,
        [Kill(1.5, "service", 1.9)],
        Stored(exports, events, documents, owed),
        {"ex_1": "executed", "ex_2": "executed"},
        6.0,
    )


def stored(**changes: Callable[[list[Any]], list[Any]]) -> History:
    """The sound history with rows of the database changed."""
    history = sound()
    rows: dict[str, Any] = {name: change([*getattr(history.stored, name)]) for name, change in changes.items()}
    return replace(history, stored=replace(history.stored, **rows))


def test_history_in_which_all_is_there_once_is_sound() -> None:
    found = judge(sound())
    assert (found.lost, found.doubled, found.sound, found.told_again) == ([], [], True, 0)


def never_answered() -> History:
    history = sound()
    return replace(history, submissions=[*history.submissions, Submission("batch-3", 1, 2.0, tries=7)])


def ended_without_word() -> History:
    history = sound()
    return replace(history, receipts=[each for each in history.receipts if each.message_id != "ex_1-m4"])


def owes_less_than_its_plan() -> History:
    history = sound()
    gone = replace(history, receipts=[each for each in history.receipts if each.message_id != "ex_1-m3"])
    owed = [each for each in history.stored.owed if each.message_id != "ex_1-m3"]
    return replace(gone, stored=replace(history.stored, owed=owed))


LOST: dict[str, tuple[Callable[[], History], list[str]]] = {
    "not stored": (
        lambda: stored(exports=lambda rows: rows[1:]),
        ["ex_1: was accepted and is not in the database"],
    ),
    "not executed": (
        lambda: stored(exports=lambda rows: [StoredExport("ex_1", "batch-1", "failed", "no store"), rows[1]]),
        ["ex_1: was accepted and is failed: no store"],
    ),
    "never accepted": (never_answered, ["batch-3: was never accepted, asked 7 times"]),
    "says otherwise": (
        lambda: replace(sound(), inspected={"ex_1": "executing", "ex_2": "executed"}),
        ["ex_1: is executed and the API says executing"],
    ),
    "event gone": (
        lambda: stored(events=lambda rows: [row for row in rows if row.seq != 2 or row.export_id != "ex_1"]),
        ["ex_1: has a log with gaps", f"ex_1: was executed without {sorted(ONCE)[1]}"],
    ),
    "document gone": (
        lambda: stored(documents=lambda rows: [StoredDocument("ex_1", "cci_pdf of unit 1", kept=False), *rows[1:]]),
        ["ex_1: has lost its document cci_pdf of unit 1"],
    ),
    "message gone": (
        ended_without_word,
        [f"ex_1: has told 0 of 1 {ENDED}", "ex_1: message ex_1-m4 is delivered and reached nobody"],
    ),
    "message never owed": (owes_less_than_its_plan, [f"ex_1: has told 1 of 2 {PACKAGE}"]),
    "message not recorded": (
        lambda: stored(owed=lambda rows: [Owed("ex_1", "ex_1-m1", "dead"), *rows[1:]]),
        ["ex_1: message ex_1-m1 has arrived and is dead"],
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_is_found(name: str) -> None:
    make, sentences = LOST[name]
    found = judge(make())
    assert ([str(each) for each in found.lost], [*found.doubled]) == (sentences, [])
    assert (found.exports_lost, found.exports_doubled, found.sound) == (1, 0, False)


def said_twice() -> History:
    history = sound()
    twice = [*history.receipts, Receipt(6, "ex_2-m5", HANDOFF, "ex_2")]
    owed = [*history.stored.owed, Owed("ex_2", "ex_2-m5", "delivered")]
    return replace(history, receipts=twice, stored=replace(history.stored, owed=owed))


def answered_twice() -> History:
    history = sound()
    history.submissions[1].answers.append("ex_1")
    return history


DOUBLED: dict[str, tuple[Callable[[], History], list[str]]] = {
    "two rows of a batch": (
        lambda: stored(exports=lambda rows: [*rows, StoredExport("ex_3", "batch-2", "failed")]),
        ["batch-2: is 2 exports in the database"],
    ),
    "event twice": (
        lambda: stored(events=lambda rows: [*rows, StoredEvent("ex_2", len(ONCE) + 1, "HANDED_OFF", "1")]),
        ["ex_2: has HANDED_OFF 1 2 times"],
    ),
    "document twice": (
        lambda: stored(documents=lambda rows: [*rows, rows[-1]]),
        ["ex_2: has manifest of unit 1 2 times"],
    ),
    "said under two ids": (said_twice, [f"ex_2: has told 2 {HANDOFF} where 1 were due"]),
    "message of nobody": (
        lambda: replace(sound(), receipts=[*sound().receipts, Receipt(6, "m9", "exports.handoff.overdue.v1", "ex_2")]),
        ["ex_2: sent message m9, which it did not owe"],
    ),
}


@pytest.mark.parametrize("name", DOUBLED)
def test_what_is_doubled_is_found(name: str) -> None:
    make, sentences = DOUBLED[name]
    found = judge(make())
    assert ([*found.lost], [str(each) for each in found.doubled]) == ([], sentences)
    assert (found.exports_lost, found.exports_doubled, found.sound) == (0, 1, False)


def test_batch_that_is_two_exports_is_doubled() -> None:
    assert [str(each) for each in judge(answered_twice()).doubled if each.about == "batch-2"] == [
        "batch-2: was answered with 2 exports"
    ]


def test_message_that_came_again_under_its_id_is_counted_and_no_fault() -> None:
    history = sound()
    found = judge(replace(history, receipts=[*history.receipts, history.receipts[0]]))
    assert (found.sound, found.told_again) == (True, 1)
