"""What an answer changes in the entries of a handoff."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.deliveries.entries.facets import EntryFacets


@dataclass(frozen=True)
class EntriesChange:
    """The entries of a handoff before and after an answer, by the numbers of their customs packages."""

    before: Mapping[str, EntryFacets]
    after: Mapping[str, EntryFacets]

    @cached_property
    def progressed(self) -> list[str]:
        """The entries with another headline or entry number, and those that are open again."""
        return [number for number, each in self.after.items() if _has_progressed(self.before[number], each)]

    @property
    def settles(self) -> bool:
        """Whether the answer closes the last open entry."""
        return _any_open(self.before) and not _any_open(self.after)

    @property
    def reopens(self) -> bool:
        """Whether all entries were closed before the answer, and one is open after it."""
        return not _any_open(self.before) and _any_open(self.after)


def _has_progressed(before: EntryFacets, after: EntryFacets) -> bool:
    is_same = (before.headline, before.entry_number) == (after.headline, after.entry_number)
    return not is_same or (after.is_open and not before.is_open)


def _any_open(entries: Mapping[str, EntryFacets]) -> bool:
    return any(each.is_open for each in entries.values())
