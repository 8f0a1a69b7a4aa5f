"""Views of events: each as a sentence, its data folded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.exports.schemas.export import EventView
from pipeline.interfaces.event_text import ATTENTION, BAD, GOOD, describe_event
from pipeline.workflow.steps import STEPS_BY_NAME

_MARKS: Final = {GOOD: "good", BAD: "bad", ATTENTION: "busy"}


@dataclass(frozen=True)
class ShownEvent:
    """An event as a sentence, with the class of its colour, and its data as JSON."""

    event: EventView
    mark: str
    text: str
    actor: str
    data: str


def describe_actor(actor: str, names: Mapping[str, str]) -> str:
    """Return who acted: a name of `names`, a step in words, or the id of another part of the service, such as `retention`."""
    if actor in STEPS_BY_NAME:
        return f"step {actor.replace('_', ' ')}"
    return names.get(actor, actor)


def show_event(event: EventView, names: Mapping[str, str]) -> ShownEvent:
    """Return an event for a page; `names` are those of people and keys by id."""
    mark, text = describe_event(event)
    return ShownEvent(
        event,
        _MARKS.get(mark, "over"),
        f"{text[:1].upper()}{text[1:]}.",
        describe_actor(event.actor, names),
        json.dumps(event.data, ensure_ascii=False, indent=1),
    )
