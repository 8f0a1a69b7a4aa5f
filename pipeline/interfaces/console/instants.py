"""Instants as the pages show them: in UTC, until a script of the browser shows the local time."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import escape


class InstantText(str):
    """An instant in UTC as text; in a page, a `time` element that also has the instant for programs."""

    __slots__ = ("at", "before")

    at: datetime
    before: str

    def __html__(self) -> str:
        """Return the element; Jinja calls this instead of escaping the text."""
        moment = self.at.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f'{escape(self.before)}<time datetime="{moment}">{escape(self.removeprefix(self.before))}</time>'


def format_instant(at: datetime, before: str = "") -> InstantText:
    """Return an instant as the pages show it, after the words `before`."""
    utc = at.astimezone(UTC)
    shown = InstantText(f"{before}{utc:%Y-%m-%d %H:%M:%S} UTC")
    shown.at, shown.before = utc, before
    return shown
