"""Views of a customs broker's handoffs in the portal: statuses, answers, documents, and the form of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pipeline.core.json_input import iterate_entries
from pipeline.core.money import format_amount
from pipeline.customs.reference.ports import port_rules
from pipeline.deliveries.portal import HandoffUnits, PartnerHandoff
from pipeline.deliveries.schemas.to_broker import ArtifactLink, CorrectedEntry, HandedUnit
from pipeline.exports.schemas.assessment import Assessment
from pipeline.exports.schemas.submissions import EntryView
from pipeline.exports.states import ExportState, SubmissionState
from pipeline.interfaces.pages.list_views import FilterLink

#: The statuses of a handoff in their order, for the ladder on its page.
_LADDER: Final = ("sent", "delivered", "received", "accepted", "filed", "released")
#: The units on a page of a handoff; each has up to twenty documents.
UNITS_ON_A_PAGE: Final = 10
#: The most corrected entries that a page shows.
_MAX_CORRECTED: Final = 50


@dataclass(frozen=True)
class ShownHandedUnit:
    """A customs package of a handoff, as a person knows it."""

    package: str
    invoice: str
    total: str
    lines: int
    packages: int
    importer: str
    importer_number: str
    port: str


@dataclass(frozen=True)
class HandoffLinks:
    """The addresses of one handoff. Without `documents`, its page does not offer them."""

    page: str
    answer: str
    documents: str = ""
    bundle: str = ""


@dataclass(frozen=True)
class HandoffPage:
    """A handoff on its page, with some of its units; `counted` says which ones, and is empty if they are all."""

    links: HandoffLinks
    notice: str
    ladder: Sequence[tuple[str, str]]
    names: Mapping[str, str]
    units: Sequence[ShownHandedUnit]
    documents: Sequence[tuple[ArtifactLink, str]]
    kept: Sequence[str]  # what is said of shown units whose entry goes on
    corrected: Sequence[tuple[str, CorrectedEntry]]  # each with what is said of it
    entries: Sequence[EntryView]  # empty if the handoff has one customs package
    assessments: Sequence[Assessment]
    after: int
    counted: str
    previous_link: str
    next_link: str


def build_due_links(*, due: bool) -> list[FilterLink]:
    """Return the links that filter the list of handoffs."""
    return [FilterLink("answer due", "/portal/handoffs", due), FilterLink("all", "/portal/handoffs?all=true", not due)]


def show_handoff(handoff: PartnerHandoff, some: HandoffUnits, after: int, links: HandoffLinks) -> HandoffPage:
    """Return a handoff for its page, with `some` of its units, those after the first `after`."""
    units, total = some.units, handoff.units_total
    previous, following = max(after - UNITS_ON_A_PAGE, 0), after + len(units)
    packages = {each.id: unit.package_number for unit in units for each in (unit.invoice_data, *unit.artifacts) if each}
    entries = handoff.fold_entries([unit.package_number for unit in units])
    return HandoffPage(
        links=links,
        notice=_describe_end(handoff),
        ladder=_build_ladder(handoff.submission.submission_status),
        names={pointer: place for place, pointer in some.fields.items()},
        units=[_show_unit(unit) for unit in units],
        documents=[(each, packages[each.id]) for each in some.documents],
        kept=[*filter(None, (unit.describe_kept() for unit in units))],
        corrected=[
            (each.describe(), each)
            for each in map(
                CorrectedEntry.model_validate,
                islice(iterate_entries(handoff.message or "{}", "corrects"), _MAX_CORRECTED),
            )
        ],
        entries=entries if total > 1 else [],
        assessments=[each.assessment for each in entries if each.assessment is not None],
        after=after,
        counted=_describe_part(after + 1, following, total) if 0 < len(units) < total else "",
        previous_link=f"{links.page}?after={previous}" if after > 0 else "",
        next_link=f"{links.page}?after={following}" if units and following < total else "",
    )


def _describe_end(handoff: PartnerHandoff) -> str:
    """Return why the handoff is not to be filed any more, and which answers still count; empty if it is to be filed."""
    if handoff.message is None:
        return "This export was purged when its retention ended. It cannot be answered any more."
    if handoff.state is ExportState.CANCELLED:
        return "This export was cancelled: an answer is not needed any more."
    filed = "Answers about an entry that you filed for this one still count."
    if handoff.is_reassigned:
        return (
            f"A newer revision has replaced this handoff, and another customs broker files it. {filed}"
            " If you filed none, answer “withdrawn”."
        )
    if handoff.state is ExportState.SUPERSEDED:
        return f"A newer revision has replaced this handoff. {filed}"
    if handoff.withdrawal is not None:
        return f"Withdrawal requested: {handoff.withdrawal} File no entry, and answer “withdrawn”."
    return ""


def _show_unit(unit: HandedUnit) -> ShownHandedUnit:
    """Return a customs package as a row of a table."""
    importer = unit.parties.importer_of_record
    return ShownHandedUnit(
        package=unit.package_number,
        invoice=unit.invoice.number,
        total=f"{format_amount(unit.totals.invoice_total, unit.invoice.currency)} {unit.invoice.currency}",
        lines=unit.totals.line_count,
        packages=unit.totals.package_count,
        importer=importer.name or unit.parties.buyer.name,
        importer_number=importer.masked_number,
        port=port_rules().ports.describe(unit.entry.port_of_entry),
    )


def _build_ladder(status: SubmissionState) -> list[tuple[str, str]]:
    """Return the statuses in order, each with the mark done, here or none.

    One that is not on the ladder, such as rejected, stands at its place.
    """
    places = {
        "pending": -1,
        "failed": -1,
        "rejected": 3,
        "query": 3,
        "withdrawing": 3,
        "withdrawn": 3,
        "not_withdrawn": 4,
        "held": 5,
    }
    place = places.get(status.value, _LADDER.index(status.value) if status.value in _LADDER else -1)
    names = [status.value if at == place else name for at, name in enumerate(_LADDER)]
    return [(name, "here" if at == place else "done" if at < place else "") for at, name in enumerate(names)]


def _describe_part(first: int, last: int, total: int) -> str:
    return f"{first:,} of {total:,}" if first == last else f"{first:,} to {last:,} of {total:,}"
