"""Rendering of the templates in templates/; the only file that uses Jinja.

They are read when this module loads: an upgrade may change the files while the process runs the code of before.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import escape

from pipeline.core.money import format_plain

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"

#: Folders without templates. The names of vendored files have their versions, so such a file never changes.
_OTHER_FOLDERS: Final = frozenset({"fonts", "plans", "vendor"})


def _read_sources() -> Iterator[tuple[str, bytes]]:
    for path in sorted(TEMPLATES.rglob("*.*")):
        name = path.relative_to(TEMPLATES)
        if path.is_file() and _OTHER_FOLDERS.isdisjoint(name.parts):
            yield name.as_posix(), path.read_bytes()


#: path below templates/ -> the content of the file when this process started
SOURCES: Final[Mapping[str, bytes]] = dict(_read_sources())

_IN_BACKTICKS: Final = re.compile(r"`([^`]+)`")
#: A plain word, not an id, a path or an address.
_FIRST_WORD: Final = re.compile(r"\A[a-z]+(?=[ ,;:]|$)")
#: A full stop after an address would be taken as a part of it.
_ENDED: Final = re.compile(r"([.!?:]|://\S+)$")
_BREAKS: Final = re.compile(r"([_.](?=.))")


def _autoescape(name: str | None) -> bool:
    # Jinja's select_autoescape looks only at the last suffix; here every template is markup unless it ends in .txt.
    return name is None or not name.endswith(".txt")


def _exact_digits(value: object) -> Any:
    """Return a value with its original digits, for documents that machines read."""
    exact = getattr(value, "exact", value)  # `exact` is a member of Printed
    return format_plain(exact) if isinstance(exact, Decimal) else exact


class PageText(str):
    """A part of a page: markup, with all texts in it escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return the text; Jinja calls this instead of escaping it."""
        return self


def _mark_code(text: object) -> PageText:
    """Return a text for a page; what stands in backticks is code."""
    return PageText(_IN_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))


def _format_sentence(text: object) -> PageText:
    """Return a message for a page as a sentence: with a capital letter and a full stop; what stands in backticks is code."""
    marked = _FIRST_WORD.sub(lambda found: found[0].capitalize(), str(_mark_code(text)).strip())
    return PageText(f"{marked}." if marked and not _ENDED.search(marked) else marked)


def _allow_breaks(name: object) -> PageText:
    """Return a file name for a page, which may break after `_` and before its suffix."""
    return PageText(_BREAKS.sub(r"\1<wbr>", str(escape(name))))


#: Filters by their names; packages that know more words add theirs.
_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "exact": _exact_digits,
    "code": _mark_code,
    "sentence": _format_sentence,
    "breakable": _allow_breaks,
}


def add_filters(filters: Mapping[str, Callable[..., Any]]) -> None:
    """Let every template use these filters. A filter returns text, and PageText if it contains markup."""
    _FILTERS.update(filters)
    environment.cache_clear()


@cache
def environment() -> Environment:
    """Return the environment: a missing value is an error, and every value is escaped except in `.txt` files."""
    env = Environment(
        loader=DictLoader({name: source.decode() for name, source in SOURCES.items()}),
        auto_reload=False,
        undefined=StrictUndefined,
        autoescape=_autoescape,  # noqa: S701 - on for all but .txt
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= _FILTERS
    return env


def render(template: str, **facts: object) -> str:
    """Return the text of `template` (a path below templates/) with `facts` as its values."""
    return environment().get_template(template).render(facts)


def render_pieces(template: str, **facts: object) -> Iterator[str]:
    """Yield the text of `template` in pieces; it waits where a loop over an iterator of `facts` waits."""
    return environment().get_template(template).generate(facts)
