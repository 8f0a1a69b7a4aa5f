"""Each pattern of the published bodies has words, and the examples of the words fit it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.core.field_text import describe_pattern
from pipeline.interfaces.contracts.json_schemas import PUBLISHED, build_json_schema


def find_patterns(schema: Any) -> Iterator[str]:
    for name, inner in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if name == "pattern" and isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict | list):
            yield from find_patterns(inner)


def test_patterns_are_said_in_words() -> None:
    bodies = [build_json_schema(name) for name, each in PUBLISHED.items() if not each.outbound]
    patterns = {*find_patterns(bodies)}
    said = {pattern: describe_pattern(pattern) for pattern in patterns}
    assert [pattern for pattern, words in said.items() if words == f"must match the pattern {pattern}"] == []
    assert len({*said.values()}) == len(patterns), "two patterns have the same words"
    examples = {pattern: re.search(r"such as ([^,]+)", words) for pattern, words in said.items()}
    assert [pattern for pattern, found in examples.items() if found and not re.search(pattern, found[1])] == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("^[0-9]{10}$", "must be 10 digits"),
        ("^[A-Z]{2}$", "must be two letters, such as CA"),
        ("^[0-9]$", "must be 1 digit"),
        ("^[A-Z0-9-]{1,35}$", "must be 1 to 35 capital letters, digits or hyphens"),
        ("^[x]{2}$", "must match the pattern ^[x]{2}$"),
    ],
)
def test_words_of_patterns(pattern: str, words: str) -> None:
    assert describe_pattern(pattern) == words
