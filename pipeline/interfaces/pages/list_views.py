"""The list of exports for its page: its filters as links, and its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import Query
from pydantic import BeforeValidator

from pipeline.accounts.lists import PartnerName
from pipeline.core.clock import format_utc, midnight
from pipeline.core.field_types import BoundedDay, BoundedInstant
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.exports.states import NEEDS_PERSON, ExportState, Milestone, Outcome
from pipeline.interfaces.pages.instants import format_instant
from pipeline.workflow.saved_filters import SavedFilterView

_LIST: Final = "/console/exports"

#: The filters by a milestone, as the page names them.
_MILESTONES: Final = {
    Milestone.ACCEPTED: "accepted by customs brokers",
    Milestone.SENT_BACK: "sent back",
    Milestone.OVERDUE: "overdue once",
}

#: A browser sends an empty field of a form, too.
OptionalDay = Annotated[BoundedDay | None, BeforeValidator(lambda given: given or None)]


@dataclass(frozen=True)
class FilterLink:
    """A filter that one click applies."""

    name: str
    link: str
    chosen: bool


@dataclass(frozen=True)
class ListFilter:
    """The filters of the list, as its address has them. Days are days of UTC, and both are included."""

    state: ExportState | None = None
    outcomes: frozenset[Outcome] = frozenset()
    quarantined: bool = False
    broker: str = ""
    warehouse: str = ""
    first_day: date | None = None
    last_day: date | None = None
    reached: Milestone | None = None
    reached_since: datetime | None = None

    def to_export_filter(self) -> ExportFilter:
        """Return the conditions for the query."""
        return ExportFilter(
            state=self.state,
            broker=self.broker or None,
            warehouse=self.warehouse or None,
            # The query leaves out the instants that bound it.
            accepted_after=None if self.first_day is None else midnight(self.first_day) - timedelta(microseconds=1),
            accepted_before=None if self.last_day is None else midnight(self.last_day) + timedelta(days=1),
            quarantined=self.quarantined or None,
            outcome=sorted(self.outcomes),
            reached=self.reached,
            reached_after=None if self.reached_since is None else self.reached_since - timedelta(microseconds=1),
        )

    def encode(self) -> str:
        """Return the query string of the list's address; empty if nothing is filtered."""
        days = {"from": self.first_day, "to": self.last_day}
        fields = [("outcome", each.value) for each in sorted(self.outcomes)]
        fields += [("state", self.state.value)] if self.state else []
        fields += [("quarantined", "true")] if self.quarantined else []
        fields += [(name, given) for name, given in (("broker", self.broker), ("warehouse", self.warehouse)) if given]
        fields += [(name, day.isoformat()) for name, day in days.items() if day is not None]
        fields += [("reached", self.reached.value)] if self.reached else []
        fields += [("since", format_utc(self.reached_since))] if self.reached_since else []
        return urlencode(fields)

    def link(self, cursor: str | None = None) -> str:
        """Return the address of the list, at its beginning or after `cursor`."""
        parts = [self.encode(), "" if cursor is None else urlencode({"cursor": cursor})]
        query = "&".join(part for part in parts if part)
        return f"{_LIST}?{query}" if query else _LIST


def read_filter(
    state: Annotated[ExportState | None, Query()] = None,
    outcome: Annotated[list[Outcome], Query(max_length=len(Outcome))] = [],  # noqa: B006 - never changed
    quarantined: Annotated[bool, Query()] = False,  # noqa: FBT002 - a filter that is on or off
    broker: Annotated[str, Query(max_length=64)] = "",
    warehouse: Annotated[str, Query(max_length=64)] = "",
    first_day: Annotated[OptionalDay, Query(alias="from")] = None,
    last_day: Annotated[OptionalDay, Query(alias="to")] = None,
    reached: Annotated[Milestone | None, Query()] = None,
    since: Annotated[BoundedInstant | None, Query()] = None,
) -> ListFilter:
    """Return the filters that the address has."""
    return ListFilter(state, frozenset(outcome), quarantined, broker, warehouse, first_day, last_day, reached, since)


def build_outcome_links(chosen: ListFilter) -> list[FilterLink]:
    """Return the links that filter the list by outcome; the other filters stay."""
    groups = {"all": frozenset[Outcome](), "needs a person": NEEDS_PERSON}
    groups |= {each.words: frozenset({each}) for each in Outcome}
    return [
        FilterLink(name, replace(chosen, outcomes=outcomes).link(), chosen.outcomes == outcomes)
        for name, outcomes in groups.items()
    ]


def build_state_links(chosen: ListFilter) -> list[FilterLink]:
    """Return the links that filter the list by state; the other filters stay."""
    every = [
        FilterLink(
            "all", replace(chosen, state=None, quarantined=False).link(), not (chosen.state or chosen.quarantined)
        )
    ]
    every += [
        FilterLink(state.value, replace(chosen, state=state).link(), state is chosen.state) for state in ExportState
    ]
    return [*every, FilterLink("quarantined", replace(chosen, quarantined=True).link(), chosen.quarantined)]


def build_milestone_links(chosen: ListFilter) -> list[FilterLink]:
    """Return the links that filter the list by milestone; the other filters stay, also the time of the milestone."""
    every = FilterLink("any", replace(chosen, reached=None, reached_since=None).link(), chosen.reached is None)
    links = [
        FilterLink(name, replace(chosen, reached=each).link(), each is chosen.reached)
        for each, name in _MILESTONES.items()
    ]
    return [every, *links]


@dataclass(frozen=True)
class ChosenMilestone:
    """The milestone that the list is filtered by: its name as a heading, and since when; `any_time` leaves that out."""

    name: str
    since: str | None
    any_time: str


def show_chosen_milestone(chosen: ListFilter) -> ChosenMilestone | None:
    """Return the milestone that the list is filtered by, or None without that filter."""
    if chosen.reached is None:
        return None
    since = None if chosen.reached_since is None else format_instant(chosen.reached_since, before="since ")
    name = _MILESTONES[chosen.reached]
    return ChosenMilestone(name[0].upper() + name[1:], since, replace(chosen, reached_since=None).link())


def build_partner_choices(partners: Sequence[PartnerName], kind: str, chosen: str) -> list[tuple[str, str]]:
    """Return the ids and names of the partners of one kind; one that does not exist any more stays an option while it is chosen."""
    names = {each.id: f"{each.name} ({each.id})" for each in partners if each.kind == kind}
    if chosen:
        names.setdefault(chosen, chosen)
    return [("", "any"), *names.items()]


def build_saved_links(saved: Sequence[SavedFilterView], chosen: ListFilter) -> list[FilterLink]:
    """Return the account's saved filters as links."""
    query = chosen.encode()
    return [FilterLink(each.name, f"{_LIST}?{each.query}", each.query == query) for each in saved]
