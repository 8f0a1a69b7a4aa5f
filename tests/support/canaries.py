"""Unique words ("canaries") for every text of a plan, to find the places that a text reaches."""

import json
import re
from typing import Final

from pipeline.core.errors import Refused
from pipeline.core.json_input import parse_json
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow import preflight
from tests.support import factories
from tests.support.hostile_inputs import iterate_texts

_CANARY: Final = re.compile(r"canary\d{3}x", re.IGNORECASE)

#: Pointers of names; other tests cover them.
_NAMES: Final = re.compile(r"^/(accountId|batchId|planHash|(broker|warehouse|ruleset)/id)$")


def find_canaries(text: str) -> set[str]:
    """Return the canaries in a text."""
    return {each.lower() for each in _CANARY.findall(text)}


def is_executable(made: factories.Json) -> bool:
    """Return whether the plan would be executed, as far as the plan itself shows."""
    try:
        plan = parse_json(json.dumps(made).encode(), Plan, max_depth=32).model
    except Refused:
        return False
    return not any(finding.severity == "block" for finding in preflight.check_plan_alone(plan, on=factories.TODAY))


def add_canaries(made: factories.Json) -> tuple[factories.Json, dict[str, str]]:
    """Return the plan with a canary in every text that accepts one, and canary -> pointer."""
    known: dict[str, str] = {}
    for number, place in enumerate(sorted(iterate_texts(made))):
        if _NAMES.search(place):
            continue
        word = f"canary{number:03d}x"
        old = factories.read_pointer(made, place)
        for text in (f"{word}@maple.example", f"{old} {word}", word) if "@" in old else (f"{old} {word}", word):
            changed = factories.change_plan(made, place, text)
            if is_executable(changed):
                made, known = changed, known | {word: place}
                break
    return made, known
