"""The console's search: exports by any of their numbers, and places by the name of a partner or by a day."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query
from starlette.responses import Response

from pipeline.accounts.lists import PartnerName, list_partner_names
from pipeline.core.templating import render
from pipeline.interfaces.pages.pages import ConsoleRoute, Visit, Visitor, page_response, redirect_to
from pipeline.workflow.search import SearchHit, search_exports

#: The most partners that a search shows.
_MOST_PARTNERS: Final = 5
#: The filter of the list of exports, by the kind of the partner.
_FILTERS: Final = {"customs_broker": "broker", "warehouse": "warehouse"}

_Wanted = Annotated[str, Query(max_length=128)]

router = APIRouter(prefix="/console/search", include_in_schema=False, route_class=ConsoleRoute)


@dataclass(frozen=True)
class FoundPlace:
    """A page that a search leads to, and the kind of text that found it."""

    text: str
    link: str
    kind: str


@router.get("")
def search(visit: Visitor, q: _Wanted = "") -> Response:
    """Show the exports and the places that were found, or go to the only one."""
    hits, places = _search(visit, q)
    if len(hits) + len(places) == 1:
        return redirect_to(f"/console/exports/{quote(hits[0].export_id)}" if hits else places[0].link)
    return visit.page("console/work/search.html", wanted=q, hits=hits, places=places)


@router.get("/hits")
def suggest(visit: Visitor, q: _Wanted = "") -> Response:
    """Return the exports and the places that were found, as a part of the page."""
    hits, places = _search(visit, q)
    return page_response(render("console/work/search_hits.html", wanted=q.strip(), hits=hits, places=places))


def _search(visit: Visit, wanted: str) -> tuple[list[SearchHit], list[FoundPlace]]:
    with visit.runtime.db.read() as session:
        hits = search_exports(session, visit.account_id, wanted)
    known = list_partner_names(visit.runtime, visit.account_id)
    return hits, [*_find_day(wanted.strip()), *_find_partners(known, wanted.strip().casefold())]


def _find_day(wanted: str) -> Iterator[FoundPlace]:
    try:
        day = date.fromisoformat(wanted).isoformat()
    except ValueError:
        return
    link = f"/console/exports?{urlencode({'from': day, 'to': day})}"
    yield FoundPlace(f"Exports accepted on {day} UTC", link, "date")


def _find_partners(known: Sequence[PartnerName], wanted: str) -> Iterator[FoundPlace]:
    """Yield the pages of the partners whose id or name has the text, and the exports of each."""
    found = [each for each in known if wanted and (wanted in each.id.casefold() or wanted in each.name.casefold())]
    for each in found[:_MOST_PARTNERS]:
        yield FoundPlace(f"{each.name} ({each.id})", f"/console/partners/{quote(each.id, safe='')}", "partner")
        if each.kind in _FILTERS:
            link = f"/console/exports?{urlencode({_FILTERS[each.kind]: each.id})}"
            yield FoundPlace(f"Exports of {each.id}", link, "partner")
