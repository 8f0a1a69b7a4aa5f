"""Instants as the pages show them: in UTC, until a script of the browser shows the local time."""

import re
from datetime import UTC, datetime
from typing import Final

from markupsafe import escape

_IN_TEXT: Final = re.compile(r"\b(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC\b")


class InstantText(str):
    """An instant in UTC as text; in a page, a `time` element that also has the instant for programs."""

    __slots__ = ("html",)

    html: str

    def __html__(self) -> str:
        """Return the element; Jinja calls this instead of escaping the text."""
        return self.html


def mark_instants(text: str) -> InstantText:
    """Return a text as pages show it: each instant in it, such as `2026-11-24 15:04:05 UTC`, is a `time` element."""
    shown = InstantText(text)
    shown.html = _IN_TEXT.sub(r'<time datetime="\1T\2Z">\g<0></time>', str(escape(text)))
    return shown


def format_instant(at: datetime, before: str = "", after: str = "") -> InstantText:
    """Return an instant as the pages show it, between the words `before` and `after`."""
    utc = at.astimezone(UTC)
    words, moment = f"{utc:%Y-%m-%d %H:%M:%S} UTC", utc.isoformat(timespec="seconds").replace("+00:00", "Z")
    shown = InstantText(f"{before}{words}{after}")
    shown.html = f'{escape(before)}<time datetime="{moment}">{words}</time>{escape(after)}'
    return shown
