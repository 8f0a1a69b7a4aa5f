"""The French words that stand beside the English ones of a page, from the catalogue `templates/documents/french.json`."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from markupsafe import escape

from pipeline.core.templating import SOURCES, PageText

_NONE: Final[Mapping[str, str]] = {}


@cache
def read_catalogue() -> Mapping[str, str]:
    """Return the French words by the English ones; a word in braces, such as {count}, stands for a value."""
    catalogue: dict[str, str] = json.loads(SOURCES["documents/french.json"])
    return catalogue


def choose_words(*, french: bool) -> Callable[..., str]:
    """Return the function that gives the words of a page for HTML: English ones, or with `french` both.

    English always stays, because 19 CFR 141.86(d) asks for it. A word that is equal in both languages is given once.
    """
    catalogue = read_catalogue() if french else _NONE

    def say(word: str, **values: object) -> str:
        english = _fill_in(word, values)
        other = catalogue.get(word, word)
        if other == word:
            return english
        return PageText(f'{escape(english)} <span lang="fr"><span>/</span> {escape(_fill_in(other, values))}</span>')

    return say


def _fill_in(word: str, values: Mapping[str, object]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", str(value))
    return word
