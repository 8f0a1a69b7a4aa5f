"""Characters that make people read a text differently than programs do: bidi controls, invisible ones, stacked marks."""

import re
import unicodedata
from typing import Final

#: Characters that change the direction of the text after them (Unicode property Bidi_Control).
BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

#: Characters that are not drawn (Unicode property Default_Ignorable_Code_Point, without BIDI_CONTROLS) or leave only space:
#: BRAILLE PATTERN BLANK, the line and paragraph separators, C1 controls and interlinear annotation.
_INVISIBLE: Final = re.compile(
    "[\u0080-\u009f\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2028\u2029\u2060-\u2065\u206a-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
#: Words of some scripts, and emoji, have these between two characters.
_JOINERS: Final = frozenset("\u200c\u200d")
#: They select a shape of the character before them: a Mongolian letter, an emoji, or an ideograph of a name.
_SHAPES: Final = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_ZWJ: Final = "\u200d"
#: They select whether an emoji is drawn as a picture or as text.
_EMOJI_SHAPES: Final = frozenset("\ufe0e\ufe0f")
#: Signs that are also emoji, in the blocks of punctuation, letters and Latin-1.
_OLD_EMOJI: Final = frozenset("\u00a9\u00ae\u203c\u2049\u2139\u3030")
_KEYS: Final = frozenset("0123456789#*")
_KEYCAP: Final = "\u20e3"
#: Below _FIRST_PICTURE signs are not pictures: degrees, daggers, dashes. Below _FIRST_JOINED no emoji joins another.
_FIRST_PICTURE: Final = "\u2100"
_FIRST_JOINED: Final = "\u2600"
#: The combining class of the marks that remove a letter's vowel.
_VIRAMA: Final = 9
#: Scripts whose letters have one shape: a joiner between them has no meaning.
_PLAIN: Final = ("LATIN ", "GREEK ", "CYRILLIC ", "COMBINING ")
_NEVER_JOINED: Final = (*_PLAIN, "CJK ", "HANGUL ", "HIRAGANA ", "KATAKANA ", "FULLWIDTH ")

#: Unicode Technical Standard #39, 5.4: more than four nonspacing marks in a row are not a spelling.
_MOST_MARKS: Final = 4
#: The limit for marks of combining class 0: scripts whose letters stack, such as Burmese and Tibetan, use them.
_MOST_OF_CLASS_0: Final = 8
_MAX_NAMED: Final = 4


def bidi_controls(text: str) -> list[str]:
    """Return the characters of `text` that change the direction of writing, each once, sorted."""
    return [] if text.isascii() else sorted(BIDI_CONTROLS.intersection(text))


def invisible_characters(text: str) -> list[str]:
    """Return the invisible characters of `text` that no script needs at their place, each once, sorted."""
    if text.isascii():
        return []
    return sorted({found[0] for found in _INVISIBLE.finditer(text) if not _is_spelling(text, found.start())})


def stacked_marks(text: str) -> list[str]:
    """Return the marks of `text` in stacks that no script uses, each once, sorted."""
    if text.isascii():
        return []
    found: set[str] = set()
    run: list[str] = []
    # NFC makes a letter and its accent one character if Unicode has it.
    for character in f"{unicodedata.normalize('NFC', text)} ":
        if unicodedata.category(character) in ("Mn", "Me"):
            run.append(character)
            continue
        if len(run) > _MOST_OF_CLASS_0 or sum(1 for mark in run if unicodedata.combining(mark)) > _MOST_MARKS:
            found.update(run)
        run = []
    return sorted(found)


def describe_characters(characters: list[str]) -> str:
    """Return the code points and Unicode names of the first four characters, and the number of the rest."""
    shown = [f"U+{ord(c):04X} ({unicodedata.name(c, 'unnamed').lower()})" for c in characters[:_MAX_NAMED]]
    return ", ".join(shown) + (f" and {len(characters) - _MAX_NAMED} more" if len(characters) > _MAX_NAMED else "")


def check_readable(value: str) -> str:
    """Return the text if people and programs read the same. Raises ValueError, which names the characters."""
    for characters, kind in (
        (bidi_controls(value), "characters that change the direction of writing"),
        (invisible_characters(value), "invisible characters"),
        (stacked_marks(value), "marks stacked on one letter"),
    ):
        if characters:
            raise ValueError(
                f"must not hold {kind}: {describe_characters(characters)}; type the text again without them"
            )
    return value


def make_legible(text: str) -> str:
    """Return text from outside for display: deceptive characters and control characters become spaces.

    Every line ends with a newline character. The text does not get longer, and does not become empty.
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
    """Return whether an invisible character belongs to the spelling of its word."""
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
    """Return whether a joiner has a meaning between the two characters; `after` is empty at the end of the text."""
    if _is_picture(before):
        return joiner == _ZWJ and before >= _FIRST_JOINED and after != "" and _is_picture(after)
    if not before or before.isascii() or unicodedata.name(before, "").startswith(_NEVER_JOINED):
        return False
    kind = unicodedata.category(before)
    if after and unicodedata.category(after)[0] in "LM" and not _INVISIBLE.match(after):
        return (kind[0] in "LM" or kind == "Nd") and not unicodedata.name(after, "").startswith(_NEVER_JOINED)
    # A word may end with a letter in its inner form, or with a visible virama.
    ends = not after or unicodedata.category(after)[0] in "PZ"
    return ends and kind[0] in "LM" and (joiner == _ZWJ or unicodedata.combining(before) == _VIRAMA)


def _takes_shapes(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN" and not unicodedata.name(letter, "").startswith(_PLAIN)


def _is_picture(character: str) -> bool:
    return character >= _FIRST_PICTURE and unicodedata.category(character) in ("So", "Sm", "Sk")
