"""Views of a customs broker's handoffs in the portal: statuses, answers, documents, and the form of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.deliveries.portal import HandoffUnits, PartnerHandoff
from pipeline.deliveries.schemas.to_broker import ArtifactLink
from pipeline.exports.schemas.submissions import EntryView
from pipeline.exports.states import SubmissionState
from pipeline.interfaces.handoff_units import ShownHandedUnit, show_handed_unit
from pipeline.interfaces.pages.list_views import FilterLink

#: The statuses of a handoff in their order, for the ladder on its page.
_LADDER: Final = ("sent", "delivered", "received", "accepted", "filed", "released")
#: The units on a page of a handoff; each has up to twenty documents.
UNITS_ON_A_PAGE: Final = 10


@dataclass(frozen=True)
class HandoffPage:
    """A handoff on its page, with some of its units; `counted` says which ones, and is empty if they are all."""

    link: str
    notice: str
    ladder: Sequence[tuple[str, str]]
    names: Mapping[str, str]
    units: Sequence[ShownHandedUnit]
    documents: Sequence[tuple[ArtifactLink, str]]
    entries: Sequence[EntryView]  # empty if the handoff has one customs package
    after: int
    counted: str
    previous_link: str
    next_link: str


def build_due_links(*, due: bool) -> list[FilterLink]:
    """Return the links that filter the list of handoffs."""
    return [FilterLink("answer due", "/portal/handoffs", due), FilterLink("all", "/portal/handoffs?all=true", not due)]


def show_handoff(handoff: PartnerHandoff, some: HandoffUnits, after: int) -> HandoffPage:
    """Return a handoff for its page, with `some` of its units, those after the first `after`."""
    link = f"/portal/handoffs/{handoff.submission.id}"
    units, total = some.units, handoff.units_total
    previous, following = max(after - UNITS_ON_A_PAGE, 0), after + len(units)
    packages = {each.id: unit.package_number for unit in units for each in (unit.invoice_data, *unit.artifacts) if each}
    notice = {
        "superseded": "A newer revision has replaced this handoff: an answer is not needed any more.",
        "cancelled": "This export was cancelled: an answer is not needed any more.",
    }.get(handoff.replaced or "", "")
    if handoff.message is None:
        notice = "This export was purged when its retention ended. It cannot be answered any more."
    return HandoffPage(
        link=link,
        notice=notice,
        ladder=_build_ladder(handoff.submission.submission_status),
        names={pointer: place for place, pointer in some.fields.items()},
        units=[show_handed_unit(unit) for unit in units],
        documents=[(each, packages[each.id]) for each in some.documents],
        entries=handoff.fold_entries([unit.package_number for unit in units]) if total > 1 else [],
        after=after,
        counted=_describe_part(after + 1, following, total) if 0 < len(units) < total else "",
        previous_link=f"{link}?after={previous}" if after > 0 else "",
        next_link=f"{link}?after={following}" if units and following < total else "",
    )


def _build_ladder(status: SubmissionState) -> list[tuple[str, str]]:
    """Return the statuses in order, each with the mark done, here or none.

    One that is not on the ladder, such as rejected, stands at its place.
    """
    places = {"pending": -1, "failed": -1, "rejected": 3, "query": 3, "held": 5}
    place = places.get(status.value, _LADDER.index(status.value) if status.value in _LADDER else -1)
    names = [status.value if at == place else name for at, name in enumerate(_LADDER)]
    return [(name, "here" if at == place else "done" if at < place else "") for at, name in enumerate(names)]


def _describe_part(first: int, last: int, total: int) -> str:
    return f"{first:,} of {total:,}" if first == last else f"{first:,} to {last:,} of {total:,}"
