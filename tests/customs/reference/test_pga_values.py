"""The values of agencies' data mean what a second text says: forms, regulations, brokers' lists and a second program."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pipeline.customs.reference.pga import pga_rules
from tests.customs.reference.test_pga_texts import WITHOUT_TEXT, assert_same_meanings, meanings, stems

TEXTS: Final[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("agency_value_texts.yaml").read_text("utf-8"))
#: Intended uses without a second text: their codes are those of the sources of their rows.
USES_WITHOUT_TEXT: Final = {"082.000", "130.005", "130.006", "150.000", "150.013", "180.003"}

#: Words of intended uses that only the source of the row has.
WORDS_OF_ROWS: Final = {
    "100.000": "not commercial, under FDA's policy", "110.000": "not as food",
    "140.000": "such as relief in a natural disaster", "170.000": "reconditioning", "180.016": "processing by FDA",
}  # fmt: skip


def uses() -> dict[str, str]:
    return {each.code: each.text or "" for each in pga_rules().intended_uses}


@pytest.mark.parametrize("name", TEXTS["values"])
def test_values_have_the_codes_and_the_words_of_the_second_text(name: str) -> None:
    listed, ours = TEXTS["values"][name]["codes"], meanings(name)
    assert listed.keys() == ours.keys()
    for code, text in ours.items():
        assert stems(text) <= stems(listed[code]), (code, text, listed[code])
    if len(listed) > 1:
        assert_same_meanings(listed, ours)


def test_codes_that_are_initials_begin_the_words_of_the_text() -> None:
    lists = [each["codes"] for each in TEXTS["values"].values() if "initials" in each["text"]]
    assert len(lists) == 2
    for code, text in ((code, text) for codes in lists for code, text in codes.items()):
        words = re.split(r"[^a-z]+", text.lower())
        assert any(
            word.startswith(code.lower()) or word[0] + following[0] == code.lower()
            for word, following in pairwise(words)
            if word and following
        ), (code, text)


@pytest.mark.parametrize("name", TEXTS["meanings"])
def test_single_value_has_the_words_of_a_text_without_codes(name: str) -> None:
    ((code, text),) = meanings(name).items()
    assert stems(text) <= stems(TEXTS["meanings"][name]["words"]), (code, text)


def test_only_the_attestation_has_neither_a_code_nor_a_meaning_in_a_second_text() -> None:
    assert WITHOUT_TEXT - TEXTS["meanings"].keys() == {"attestations of a certificate"}
    assert TEXTS["meanings"].keys() <= WITHOUT_TEXT


def test_intended_uses_mean_what_the_second_texts_say() -> None:
    listed, ours = TEXTS["intended_uses"] | TEXTS["names_of_uses"], uses()
    assert_same_meanings(listed, ours)
    for code, text in listed.items():
        assert stems(ours[code]) <= stems(text) | stems(WORDS_OF_ROWS.get(code, "")), (code, text, ours[code])


def test_only_the_use_of_the_error_dictionary_needs_a_description() -> None:
    needing = {each.code for each in pga_rules().intended_uses if each.needs_text}
    assert needing == {code for code, text in TEXTS["intended_uses"].items() if text == "For Other Use"}


def test_every_intended_use_has_a_text_or_is_named() -> None:
    lists = (TEXTS["intended_uses"], TEXTS["names_of_uses"], dict.fromkeys(USES_WITHOUT_TEXT))
    assert sorted(code for some in lists for code in some) == sorted(uses())
