"""Characters that make people read something else than systems do: they turn the writing, are not seen, or pile up."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: They turn the direction of what follows (Unicode property Bidi_Control).
BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

#: Nothing is drawn for them (Unicode property Default_Ignorable_Code_Point, without BIDI_CONTROLS), or only room: BRAILLE PATTERN
#: BLANK, the line and paragraph separators, C1 controls and interlinear annotation.
_INVISIBLE: Final = re.compile(
    "[\u0080-\u009f\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2028\u2029\u2060-\u2065\u206a-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
#: Words of some scripts, and emoji, are spelt with these between two letters.
_JOINERS: Final = frozenset("\u200c\u200d")
#: They choose a shape of the character before them: of Mongolian letters, of emoji, of ideographs as names have them.
_SHAPES: Final = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_ZWJ: Final = "\u200d"
#: Of an emoji, whether it is drawn as a picture or as text.
_EMOJI_SHAPES: Final = frozenset("\ufe0e\ufe0f")
#: Signs that are emoji, too, and stand among punctuation, letters and signs of Latin-1.
_OLD_EMOJI: Final = frozenset("\u00a9\u00ae\u203c\u2049\u2139\u3030")
_KEYS: Final = frozenset("0123456789#*")
_KEYCAP: Final = "\u20e3"
#: Below it signs are no pictures: degrees, daggers, dashes. Below _FIRST_JOINED no emoji is joined to another.
_FIRST_PICTURE: Final = "\u2100"
_FIRST_JOINED: Final = "\u2600"
#: The combining class of the marks that take a letter's vowel away.
_VIRAMA: Final = 9
#: Letters of these have one shape, and no joiner between them has a meaning.
_PLAIN: Final = ("LATIN ", "GREEK ", "CYRILLIC ", "COMBINING ")
_NEVER_JOINED: Final = (*_PLAIN, "CJK ", "HANGUL ", "HIRAGANA ", "KATAKANA ", "FULLWIDTH ")

#: Unicode Technical Standard #39, 5.4: more than four nonspacing marks in a row are no spelling.
_MOST_MARKS: Final = 4
#: Scripts whose letters stack, such as Burmese and Tibetan, write them with marks of combining class 0.
_MOST_OF_CLASS_0: Final = 8
_MAX_NAMED: Final = 4


def bidi_controls(text: str) -> list[str]:
    """Return the characters of `text` that turn the direction of writing, each once, sorted."""
    return [] if text.isascii() else sorted(BIDI_CONTROLS.intersection(text))


def invisible_characters(text: str) -> list[str]:
    """Return the characters of `text` that nobody sees and that no script needs there, each once, sorted."""
    if text.isascii():
        return []
    return sorted({found[0] for found in _INVISIBLE.finditer(text) if not _is_spelling(text, found.start())})


def stacked_marks(text: str) -> list[str]:
    """Return the marks of `text` that stand in a pile which no script writes, each once, sorted."""
    if text.isascii():
        return []
    found: set[str] = set()
    run: list[str] = []
    # A letter and its accent are one character where Unicode has it.
    for character in f"{unicodedata.normalize('NFC', text)} ":
        if unicodedata.category(character) in ("Mn", "Me"):
            run.append(character)
            continue
        if len(run) > _MOST_OF_CLASS_0 or sum(1 for mark in run if unicodedata.combining(mark)) > _MOST_MARKS:
            found.update(run)
        run = []
    return sorted(found)


def describe_characters(characters: list[str]) -> str:
    """Return the characters by code point and Unicode name, the first four of many."""
    shown = [f"U+{ord(c):04X} ({unicodedata.name(c, 'unnamed').lower()})" for c in characters[:_MAX_NAMED]]
    return ", ".join(shown) + (f" and {len(characters) - _MAX_NAMED} more" if len(characters) > _MAX_NAMED else "")


def check_readable(value: str) -> str:
    """Return text in which people read what systems read; raises ValueError that names the character."""
    for characters, why in (
        (bidi_controls(value), "which turns the direction of writing"),
        (invisible_characters(value), "which nobody sees"),
        (stacked_marks(value), "marks piled on one letter"),
    ):
        if characters:
            raise ValueError(f"holds {describe_characters(characters)}, {why}; type the text again without")
    return value


def make_legible(text: str) -> str:
    """Return text from outside as people may be shown it: what deceives them, and each control character, is a space.

    Lines end in one way. The text gets no longer, and is not empty where it was not.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if marks := frozenset(stacked_marks(lines)):
        lines = "".join(" " if unicodedata.normalize("NFD", each)[0] in marks else each for each in lines)
    return "".join(each if _is_legible(lines, index) else " " for index, each in enumerate(lines))


def _is_legible(text: str, index: int) -> bool:
    if _INVISIBLE.match(text[index]):
        return _is_spelling(text, index)
    return text[index] == "\n" or text[index].isprintable()


def _is_spelling(text: str, index: int) -> bool:
    """Tell whether an unseen character belongs to how its word is spelt."""
    character, before, after = text[index], text[index - 1 : index], text[index + 1 : index + 2]
    if not before or unicodedata.category(before)[0] not in "LMNPS":
        return False
    if character in _JOINERS:
        if _INVISIBLE.match(before) and not _is_spelling(text, index - 1):
            return False
        return _joins(character, _SHAPES.sub("", text[max(index - 2, 0) : index])[-1:], after)
    if not _SHAPES.match(character) or _INVISIBLE.match(before):
        return False
    if before.isascii():
        return before in _KEYS and character == "\ufe0f" and after == _KEYCAP
    if character in _EMOJI_SHAPES:
        return before in _OLD_EMOJI or _is_picture(before)
    return _takes_shapes(before) or (before >= _FIRST_PICTURE and unicodedata.category(before)[0] in "PS")


def _joins(joiner: str, before: str, after: str) -> bool:
    """Tell whether a joiner has a meaning between the two characters; `after` is empty at the end of the text."""
    if _is_picture(before):
        return joiner == _ZWJ and before >= _FIRST_JOINED and after != "" and _is_picture(after)
    if not before or before.isascii() or unicodedata.name(before, "").startswith(_NEVER_JOINED):
        return False
    kind = unicodedata.category(before)
    if after and unicodedata.category(after)[0] in "LM" and not _INVISIBLE.match(after):
        return (kind[0] in "LM" or kind == "Nd") and not unicodedata.name(after, "").startswith(_NEVER_JOINED)
    # A word may end in a letter as it is within a word, or in a visible virama.
    ends = not after or unicodedata.category(after)[0] in "PZ"
    return ends and kind[0] in "LM" and (joiner == _ZWJ or unicodedata.combining(before) == _VIRAMA)


def _takes_shapes(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN" and not unicodedata.name(letter, "").startswith(_PLAIN)


def _is_picture(character: str) -> bool:
    return character >= _FIRST_PICTURE and unicodedata.category(character) in ("So", "Sm", "Sk")
