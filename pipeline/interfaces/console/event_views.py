"""Views of events: each as a sentence, its data folded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.exports.schemas.export import EventView
from pipeline.interfaces.console.instants import format_instant
from pipeline.interfaces.event_text import ATTENTION, BAD, GOOD, describe_event

_MARKS: Final = {GOOD: "good", BAD: "bad", ATTENTION: "busy"}


@dataclass(frozen=True)
class ShownEvent:
    """An event as a sentence, with the class of its colour, and its data as JSON."""

    seq: int
    type: str
    mark: str
    text: str
    at: str
    actor: str
    data: str


def show_event(event: EventView, names: Mapping[str, str]) -> ShownEvent:
    """Return an event for a page; `names` are those of people by id."""
    mark, text = describe_event(event)
    return ShownEvent(
        event.seq,
        event.type,
        _MARKS.get(mark, "over"),
        f"{text[:1].upper()}{text[1:]}.",
        format_instant(event.at),
        names.get(event.actor, event.actor),
        json.dumps(event.data, ensure_ascii=False, indent=1),
    )
