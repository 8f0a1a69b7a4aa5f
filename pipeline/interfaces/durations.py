"""Durations as text, for pages and terminals."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def format_duration(seconds: float | None) -> str:
    """Return a duration with its unit and two or three digits; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    length, unit = next((length, unit) for length, unit in _UNITS if seconds >= length)
    value = seconds / length
    return f"{value:.0f} {unit}" if value >= 10 or value == round(value) else f"{value:.1f} {unit}"
