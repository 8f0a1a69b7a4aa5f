"""Durations as text, for pages and terminals."""

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


def format_countdown(seconds: float) -> str:
    """Return a duration in its two largest units, such as `3 h 12 min`; below a minute in seconds."""
    whole = int(seconds)
    parts: list[str] = []
    for length, unit in _UNITS:
        count, whole = divmod(whole, length)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
