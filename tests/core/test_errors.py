"""The errors that a caller sees."""

from __future__ import annotations

import pytest

from pipeline.core.errors import Refused


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("there is no export x; load the list again", "There is no export x; load the list again."),
        ("br_demo has 20 valid links; revoke one first", "br_demo has 20 valid links; revoke one first."),
        ("Is it right?", "Is it right?"),
    ],
)
def test_message_is_a_sentence_on_a_page(message: str, sentence: str) -> None:
    assert Refused(message).sentence == sentence
