"""Tests of text safety: deceptive characters are named, and the spelling of every language is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.text_safety import (
    bidi_controls,
    check_readable,
    describe_characters,
    invisible_characters,
    make_legible,
    stacked_marks,
)
from tests.support.hostile_inputs import BREAKING, DECEIVING, ODD
from tests.support.tables import table

#: Texts with joiners, marks or shapes that their language needs.
SPELLINGS = {
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi half letter": "\u0915\u094d\u200d\u0937 \u0930\u094d\u200d\u092f",
    "Malayalam chillu": "\u0d28\u0d4d\u200d",
    "Sinhala": "\u0dc1\u0dca\u200d\u0dbb\u0dd3",
    "Bengali": "\u09b0\u200d\u09cd\u09af\u09be\u09ac",
    "Vietnamese": "Vi\u1ec7t Nam, \u0110\u00e0 N\u1eb5ng",
    "Vietnamese written apart": "Vie\u0323\u0302t Nam \u0110a\u0300 Na\u0306\u0303ng",
    "Hebrew with points": "\u05e9\u05c1\u05b8\u05bc\u05dc\u05d5\u05b9\u05dd",
    "Arabic with marks": "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f\u064c",
    "Thai": "\u0e17\u0e35\u0e48\u0e19\u0e31\u0e49\u0e19 \u0e19\u0e49\u0e33",
    "Burmese": "\u1009\u103d\u103e\u102d\u102f\u1037",
    "Tibetan": "\u0f66\u0f92\u0fb2\u0f74\u0f56",
    "Khmer": "\u1780\u17d2\u1793\u17bb\u17c6",
    "Mongolian": "\u1820\u180b\u1821",
    "a Japanese name": "\u845b\U000e0100\u57ce",
    "French": "Caf\u00e9 \u00ab\u00a0\u00c9rable\u00a0\u00bb",
    "French written apart": "Cafe\u0301 E\u0301rable",
    "Yoruba": "e\u0323\u0301 o\u0323\u0300",
    "Persian abbreviated": "\u0647\u200d. 1403 \u0647\u200d",
    "Persian with a number": "\u06f4\u06f0\u200c\u0633\u0627\u0644\u0647",
    "Persian with marks": "\u0645\u0650\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "Hindi with a virama": "\u0915\u094d\u200c \u0915\u094d\u200c\u0937",
    "Malayalam chillu in a list": "\u0d28\u0d4d\u200d, \u0d28\u0d4d\u200d)",
    "Japanese vertical": "\u3002\ufe01",
    "old emoji": "\u00a9\ufe0f \u203c\ufe0f \u2139\ufe0f \u2122\ufe0f #\ufe0f\u20e3 \u2603\ufe0e",
    "emoji with skin": "\U0001f468\U0001f3fd\u200d\U0001f373 \U0001f937\U0001f3fb\u200d\u2642\ufe0f \U0001f642\u200d\u2194\ufe0f",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f 1\ufe0f\u20e3 \U0001f3f3\ufe0f\u200d\U0001f308",
}


@table("language", SPELLINGS)
def test_spelling_of_every_language_is_readable(language: str) -> None:
    assert check_readable(SPELLINGS[language]) == SPELLINGS[language]


@pytest.mark.parametrize("text", [*ODD.values(), *BREAKING.values()])
def test_odd_but_intended_text_is_readable(text: str) -> None:
    assert check_readable(text) == text


@pytest.mark.parametrize("trick", DECEIVING)
def test_deceptive_text_is_refused(trick: str) -> None:
    with pytest.raises(ValueError, match=r"^must not hold [a-z ]+: U\+[0-9A-F]{4,5} \("):
        check_readable(DECEIVING[trick])


@table(
    ("text", "why"),
    [
        ("a\u202eb", "must not hold characters that change the direction of writing: U+202E (right-to-left override)"),
        ("\u200ba", "must not hold invisible characters: U+200B (zero width space)"),
        ("stain\u200cless", "must not hold invisible characters: U+200C (zero width non-joiner)"),
        ("e\u0301\u200ds", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("\u200d\u0915", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("\u4e0d\u200d\u9508", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("a\ufe0fb", "must not hold invisible characters: U+FE0F (variation selector-16)"),
        ("\u845b\U000e0100\U000e0101", "must not hold invisible characters: U+E0101 (variation selector-18)"),
        ("24\ufe0f-PAN", "must not hold invisible characters: U+FE0F (variation selector-16)"),
        ("24\ufe0e\u20e3", "must not hold invisible characters: U+FE0E (variation selector-15)"),
        ("A \u2013\u200c B", "must not hold invisible characters: U+200C (zero width non-joiner)"),
        ("A \u2013\ufe0f B", "must not hold invisible characters: U+FE0F (variation selector-16)"),
        ("A \u2013\ufe00 B", "must not hold invisible characters: U+FE00 (variation selector-1)"),
        ("100\u00b0\u200d", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("100\u00b0\ufe0f", "must not hold invisible characters: U+FE0F (variation selector-16)"),
        ("100\u00b0\u200d\u2600", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("\u2116\u200d\u2116", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("\U0001f468\u200d", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("\U0001f468\u200dX", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("\U0001f468\u200c\U0001f469", "must not hold invisible characters: U+200C (zero width non-joiner)"),
        ("\u0645\u200c", "must not hold invisible characters: U+200C (zero width non-joiner)"),
        ("\u0645\u200cX", "must not hold invisible characters: U+200C (zero width non-joiner)"),
        ("\u0645\u200d1", "must not hold invisible characters: U+200D (zero width joiner)"),
        ("\u00bd\u200c\u0645", "must not hold invisible characters: U+200C (zero width non-joiner)"),
        (
            "\u0645\ufe0f\u200c\u0645",
            "must not hold invisible characters: U+200C (zero width non-joiner), U+FE0F (variation selector-16)",
        ),
        (
            "\u0645\u200c\ufe0f",
            "must not hold invisible characters: U+200C (zero width non-joiner), U+FE0F (variation selector-16)",
        ),
        ("a\u3164", "must not hold invisible characters: U+3164 (hangul filler)"),
        ("a\u2800", "must not hold invisible characters: U+2800 (braille pattern blank)"),
        ("a\u0085b", "must not hold invisible characters: U+0085 (unnamed)"),
        ("pan\U000e0041", "must not hold invisible characters: U+E0041 (tag latin capital letter a)"),
        ("a" + "\u0301" * 6, "must not hold marks stacked on one letter: U+0301 (combining acute accent)"),
        ("\u0e2a" + "\u0e47" * 9, "must not hold marks stacked on one letter: U+0E47 (thai character maitaikhu)"),
    ],
)
def test_refusal_names_characters_and_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="type the text again without") as refused:
        check_readable(text)
    assert str(refused.value).startswith(why)


def test_describe_characters_names_the_first_four() -> None:
    assert describe_characters(invisible_characters("".join(map(chr, range(0xE0041, 0xE004B))))).endswith(
        "tag latin capital letter d) and 6 more"
    )


@given(text=st.text(max_size=60))
def test_found_characters_are_in_the_text(text: str) -> None:
    for found in (bidi_controls(text), invisible_characters(text)):
        assert set(found) <= set(text)
        assert found == sorted(set(found))
    assert stacked_marks(text) == [] or len(text) > 4


@given(
    text=st.text(max_size=60)
    | st.text("a\u0645\u0915\u094d\u00b0\U0001f468\u0301\u0344\u200c\u200d\ufe0f\u202e\u200b", max_size=30)
)
def test_make_legible_removes_deception_and_keeps_length(text: str) -> None:
    shown = make_legible(text)
    assert check_readable(shown) == shown
    assert all(each == "\n" or each.isprintable() or each in "\u200c\u200d" for each in shown)
    assert len(shown) == len(text.replace("\r\n", "\n"))


@table("language", SPELLINGS)
def test_make_legible_keeps_spelling_of_every_language(language: str) -> None:
    assert make_legible(SPELLINGS[language]).replace(" ", "") == SPELLINGS[language].replace(" ", "").replace(
        "\u00a0", ""
    )


@pytest.mark.parametrize("trick", DECEIVING)
def test_make_legible_replaces_deception_by_spaces(trick: str) -> None:
    assert " " in make_legible(DECEIVING[trick])
