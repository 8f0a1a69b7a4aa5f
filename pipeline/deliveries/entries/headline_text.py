"""What the headlines of a handoff's entries say, in words."""

from collections.abc import Collection, Mapping
from typing import Final

from pipeline.deliveries.entries.facets import SEVERITY, Headline

#: What the status `held` of a submission means, by the worst headline of its entries.
_HELD_TEXTS: Final = {
    Headline.REFUSED: "customs refused or seized the goods",
    Headline.HELD: "customs holds the goods",
    Headline.CANCELLED: "the entry is cancelled",
}


def describe_held(headlines: Collection[str]) -> str:
    """Return what stands against the goods of a submission that is `held`, by the headlines of its entries."""
    return next((text for each, text in _HELD_TEXTS.items() if each in headlines), _HELD_TEXTS[Headline.HELD])


def describe_headlines(counted: Mapping[str, int]) -> str | None:
    """Return such as "1 of 3 released, 2 held", the most advanced first. None if all entries have the same headline."""
    if len(counted) < 2:
        return None
    best, *others = sorted(counted, key=SEVERITY.__getitem__, reverse=True)
    first = f"{counted[best]} of {sum(counted.values())} {best.replace('_', ' ')}"
    return ", ".join([first, *(f"{counted[each]} {each.replace('_', ' ')}" for each in others)])
