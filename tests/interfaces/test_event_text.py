"""Tests of the sentences of events."""

from datetime import UTC, datetime

import pytest

from pipeline.exports.events import EventType
from pipeline.exports.schemas.export import EventView
from pipeline.interfaces import event_text
from pipeline.interfaces.event_text import ATTENTION, BAD, GOOD, NEUTRAL, describe_event


def describe(kind: str, **data: object) -> tuple[str, str]:
    return describe_event(
        EventView.model_validate(
            {
                "id": "evt_1",
                "seq": 1,
                "type": kind,
                "at": datetime(2026, 11, 24, tzinfo=UTC),
                "actor": "x",
                "data": data,
            }
        )
    )


@pytest.mark.parametrize("kind", EventType)
def test_each_type_has_a_sentence_of_its_own(kind: EventType) -> None:
    mark, text = describe(kind.value, status="accepted", revision=2)
    assert mark in {GOOD, BAD, NEUTRAL, ATTENTION}
    assert text
    assert kind.value in event_text._DESCRIPTIONS


def test_sentence_says_what_the_data_hold() -> None:
    assert describe("BROKER_REJECTED", status="rejected", message="Wrong code") == (
        ATTENTION,
        "customs broker answered: rejected (Wrong code)",
    )
    assert describe("EXPORT_FAILED", reason="no room", quarantined=True) == (BAD, "quarantined: no room")
    assert describe("CUSTOMS_ARTIFACT_GENERATED", filename="invoice.pdf") == (GOOD, "document invoice.pdf rendered")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_499, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (16_777_216, "16.8 MB"),
    ],
)
def test_size_has_the_unit_that_fits(size: int, shown: str) -> None:
    assert event_text.format_size(size) == shown
