"""The console's pages of exports: the list, one export, and its units, lines, deliveries and events."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import RedirectResponse, Response

from pipeline.accounts import lists
from pipeline.accounts.api_keys import ADMIN, OPERATE
from pipeline.accounts.people import name_actors
from pipeline.accounts.schemas import DeliveryView
from pipeline.core.clock import utc_now
from pipeline.core.errors import Refused, RulesUnreadable
from pipeline.core.findings import Finding
from pipeline.customs import rulesets
from pipeline.customs.queries import find_line, list_treatments
from pipeline.customs.reference.content import packaged_rules, use_rules
from pipeline.deliveries import queries
from pipeline.deliveries.account_clock import read_ahead
from pipeline.deliveries.history import load_past_deliveries
from pipeline.deliveries.schemas.messages import HELD_UNTIL_SUPERSEDED
from pipeline.deliveries.submissions.conversation import merge_answers
from pipeline.exports.models import Export
from pipeline.exports.queries import find_export, list_events_before, list_revisions, list_unit_groups
from pipeline.exports.schemas.export import ExportView
from pipeline.exports.states import DeliveryState, ExportState
from pipeline.interfaces.console.exports.conversation import may_write
from pipeline.interfaces.console.exports.event_views import show_event
from pipeline.interfaces.console.exports.finding_views import fold_findings, show_findings
from pipeline.interfaces.console.exports.gantt_views import MAX_UNIT_ROWS, build_gantt
from pipeline.interfaces.console.exports.line_views import is_below, show_decision, show_lines
from pipeline.interfaces.console.exports.sandbox import find_answer_link
from pipeline.interfaces.console.exports.status_views import show_status
from pipeline.interfaces.console.exports.stops import find_stop
from pipeline.interfaces.console.exports.unit_views import UNITS_ON_A_PAGE, show_units
from pipeline.interfaces.pages import list_views
from pipeline.interfaces.pages.list_views import FilterLink, ListFilter
from pipeline.interfaces.pages.live import build_export_live_address, build_live_address
from pipeline.interfaces.pages.pages import HEADERS, PAGE_SIZE, ConsoleRoute, Fields, Visit, Visitor, redirect_to
from pipeline.workflow import queries as workflow_queries
from pipeline.workflow import saved_filters
from pipeline.workflow.amendments import can_amend
from pipeline.workflow.inbox import MOST_ITEMS
from pipeline.workflow.read_model import build_view, load_export_rows

#: What an export's page shows of each; other pages have the rest.
_UNITS: Final = 4
_LINES: Final = 15
_DELIVERIES: Final = 20
_EVENTS: Final = 20

ChosenFilter = Annotated[ListFilter, Depends(list_views.read_filter)]

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ConsoleRoute)


@router.get("/")
def show_start() -> Response:
    """Redirect to the first page; relative, because the caller may use another host name."""
    return RedirectResponse("/console", 308, HEADERS)


@router.get("/exports")
def show_exports(
    visit: Visitor, chosen: ChosenFilter, cursor: Annotated[str | None, Query(max_length=128)] = None
) -> Response:
    """Show the account's exports, newest first."""
    return _list_page(visit, chosen, cursor)


@router.post("/exports/filters")
def save_filter(visit: Visitor, chosen: ChosenFilter, form: Fields) -> Response:
    """Save the filter of the address under the form's name, or delete the one with that name; show the list again."""
    visit.caller.require(OPERATE)
    if form.get("delete"):
        saved_filters.delete_filter(visit.runtime, visit.account_id, form.get("delete"))
        return redirect_to(chosen.link())
    try:
        saved_filters.save_filter(
            visit.runtime, visit.account_id, form.get("name"), chosen.encode(), visit.caller.actor
        )
    except Refused as refused:
        return _list_page(visit, chosen, None, refusal=refused)
    return redirect_to(chosen.link())


def _list_page(visit: Visit, chosen: ListFilter, cursor: str | None, *, refusal: Refused | None = None) -> Response:
    live_address = build_live_address(visit)
    with visit.runtime.db.read() as session:
        found = workflow_queries.list_exports(
            session, visit.account_id, chosen.to_export_filter(), cursor=cursor, limit=PAGE_SIZE
        )
    known = lists.list_partner_names(visit.runtime, visit.account_id)
    return visit.page(
        "console/exports/exports.html",
        refused=refusal,
        chosen=chosen,
        query=chosen.encode(),
        outcomes=list_views.build_outcome_links(chosen),
        states=list_views.build_state_links(chosen),
        milestones=list_views.build_milestone_links(chosen),
        milestone=list_views.show_chosen_milestone(chosen),
        brokers=list_views.build_partner_choices(known, "customs_broker", chosen.broker),
        warehouses=list_views.build_partner_choices(known, "warehouse", chosen.warehouse),
        operates=visit.caller.has_role(OPERATE),
        saved=list_views.build_saved_links(saved_filters.list_filters(visit.runtime, visit.account_id), chosen),
        exports=found.items,
        next_link=None if found.next_cursor is None else chosen.link(found.next_cursor),
        live=live_address,
    )


def _list_dead_letters(visit: Visit, export: ExportView) -> list[DeliveryView]:
    """Return the dead letters that can be resent: a newer revision or a withdrawal makes some messages invalid."""
    if not any(each.dead for each in export.notifications):
        return []
    found = queries.list_deliveries(
        visit.runtime, visit.account_id, export_id=export.export_id, state=DeliveryState.DEAD, limit=MOST_ITEMS
    ).items
    invalid = export.state is ExportState.SUPERSEDED or export.withdrawal is not None
    replaced = HELD_UNTIL_SUPERSEDED if invalid else ()
    return [each for each in found if each.event_type not in replaced]


def _may_hold(visit: Visit, export: Export) -> bool:
    return visit.caller.has_role(ADMIN) and not visit.caller.test and export.purged_at is None


@router.get("/exports/{id}")
def show_export(id: str, visit: Visitor) -> Response:
    """Show one export: how it stands, what needs a person, and the beginning of everything else."""
    now = utc_now()
    with visit.runtime.db.read() as session:
        # One snapshot: the version is that of what the page shows, and a later change makes it load again.
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
        live_address = build_export_live_address(session, row.id)
        many = row.units_total > MAX_UNIT_ROWS
        shown_units = range(1, (_UNITS if many else row.units_total) + 1)
        rows = load_export_rows(session, row, max_events=_EVENTS, max_lines=0, units_of=shown_units)
        groups = list_unit_groups(session, row, most=MAX_UNIT_ROWS) if many else []
        lines = list_treatments(session, row.id, limit=_LINES)
        past = load_past_deliveries(session, row.id)
        revisions = list_revisions(session, row)
        export = build_view(rows)
        ahead = read_ahead(session, visit.account_id, test=row.test)
        known = {export.acknowledged.by} if export.acknowledged is not None else set()
        known |= {each.author for each in export.conversation if each.side == "exporter"}
        names = name_actors(session, known | {each.actor for each in export.events})
    deliveries = queries.list_deliveries(visit.runtime, visit.account_id, export_id=row.id, limit=_DELIVERIES)
    dead_letters = _list_dead_letters(visit, export)
    with _rules_of(visit, row):
        shown_lines = show_lines(row.id, lines, row.accepted_at.date())
    link = f"/console/exports/{quote(row.id)}"
    amend_link = f"{link}/amend" if can_amend(visit.caller, row) else ""
    return visit.page(
        "console/exports/export.html",
        export=export,
        names=names,
        conversations={each.id: merge_answers(each, export.conversation) for each in export.broker_submissions},
        sandbox_link=find_answer_link(visit, row),
        conversation_link=f"{link}/conversation" if export.broker_submissions else "",
        can_write=may_write(visit, row),
        now=now,
        ahead=ahead,
        shown=show_status(export, amend_link, deliveries.items, dead_letters),
        tests=visit.caller.has_role(ADMIN),
        hold_link=f"/console/holds/new?export={quote(row.id)}" if _may_hold(visit, row) else None,
        amend_link=amend_link,
        stop=find_stop(visit.caller, row),
        warnings=fold_findings(
            (each for each in export.findings if each.severity != "note"), visit.caller, f"{link}/findings"
        ),
        notes=fold_findings(
            (each for each in export.findings if each.severity == "note"), visit.caller, f"{link}/findings?notes=true"
        ),
        gantt=build_gantt(export, groups, past, now),
        units=show_units(export, _UNITS, opened=row.units_total == 1),
        units_total=row.units_total,
        bundle_link=f"{link}/bundle" if export.broker_submission is not None and row.purged_at is None else "",
        all_units=f"{link}/units" if row.units_total > _UNITS else None,
        steps=export.steps,
        lines=shown_lines,
        all_lines=f"{link}/lines" if export.treatment.line_count > len(lines) else None,
        deliveries=deliveries.items,
        all_deliveries=f"{link}/deliveries" if deliveries.next_cursor else None,
        revisions=revisions,
        events=[show_event(event, names) for event in reversed(export.events)],
        all_events=f"{link}/events" if row.next_seq - 1 > len(export.events) else None,
        operates=visit.caller.has_role(OPERATE),
        live=live_address,
    )


@router.get("/exports/{id}/units")
def show_all_units(id: str, visit: Visitor, after: Annotated[int, Query(ge=0, le=1_000_000)] = 0) -> Response:
    """Show the units after number `after`, with their steps and documents."""
    with visit.runtime.db.read() as session:
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
        shown = range(after + 1, after + UNITS_ON_A_PAGE + 1)
        export = build_view(load_export_rows(session, row, max_events=0, max_lines=0, units_of=shown))
    more = row.units_total > after + UNITS_ON_A_PAGE
    return visit.page(
        "console/exports/units.html",
        export=export,
        export_link=f"/console/exports/{quote(row.id)}",
        units=show_units(export, UNITS_ON_A_PAGE, opened=row.units_total == 1),
        next_link=f"/console/exports/{quote(row.id)}/units?after={after + UNITS_ON_A_PAGE}" if more else None,
    )


@router.get("/exports/{id}/lines")
def show_all_lines(
    id: str, visit: Visitor, after: Annotated[str, Query(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}$")] = "0.0"
) -> Response:
    """Show the lines after unit and position `after`, such as 3.17, with the chips of their treatment."""
    unit_no, _, position = after.partition(".")
    with visit.runtime.db.read() as session:
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
        found = list_treatments(session, row.id, after=(int(unit_no), int(position)), limit=PAGE_SIZE + 1)
    lines, next_link = found[:PAGE_SIZE], None
    if len(found) > PAGE_SIZE:
        last = lines[-1].treatment
        next_link = f"/console/exports/{quote(row.id)}/lines?after={last.unit_no}.{last.position}"
    with _rules_of(visit, row):
        shown = show_lines(row.id, lines, row.accepted_at.date())
    return visit.page(
        "console/exports/lines.html",
        export=row,
        export_link=f"/console/exports/{quote(row.id)}",
        lines=shown,
        next_link=next_link,
    )


@router.get("/exports/{id}/findings")
def show_all_findings(
    id: str,
    visit: Visitor,
    notes: Annotated[bool, Query()] = False,  # noqa: FBT002 - a filter that is on or off
    after: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """Show the findings at acceptance after the first `after`: what the checks warned of, or their notes."""
    with visit.runtime.db.read() as session:
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
    found = [each for each in row.findings if (each["severity"] == "note") is notes]
    link, chosen = f"/console/exports/{quote(row.id)}", {"notes": "true"} if notes else {}
    shown = [Finding.model_validate(each) for each in found[after : after + PAGE_SIZE]]
    more = len(found) > after + PAGE_SIZE
    return visit.page(
        "console/exports/findings.html",
        export=row,
        export_link=link,
        filters=[
            FilterLink("warnings", f"{link}/findings", not notes),
            FilterLink("notes", f"{link}/findings?notes=true", notes),
        ],
        findings=show_findings(shown, visit.caller),
        next_link=f"{link}/findings?{urlencode(chosen | {'after': after + PAGE_SIZE})}" if more else None,
    )


@router.get("/exports/{id}/units/{unit_no}/lines/{position}")
def show_line(
    id: str,
    unit_no: Annotated[int, Path(ge=1, le=1_000_000)],
    position: Annotated[int, Path(ge=1, le=1_000_000)],
    visit: Visitor,
) -> Response:
    """Show the treatment of a line with the reasons for each heading."""
    with visit.runtime.db.read() as session:
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
        found = find_line(session, row, unit_no, position)
    prefix = f"/units/{unit_no - 1}/lines/{position - 1}"
    findings = [Finding.model_validate(each) for each in row.findings if is_below(each["pointer"], prefix)]
    with _rules_of(visit, row):
        decision = show_decision(row, found, show_findings(findings, visit.caller))
    return visit.page(
        "console/exports/line.html", export=row, export_link=f"/console/exports/{quote(row.id)}", decision=decision
    )


@contextmanager
def _rules_of(visit: Visitor, row: Export) -> Iterator[None]:
    """Explain in the block by the rules with which the export was accepted; by this version's if it cannot read them."""
    try:
        content = rulesets.load_stored(visit.runtime, row.rules_hash)
    except RulesUnreadable:
        content = packaged_rules()
    with use_rules(content):
        yield


@router.get("/exports/{id}/deliveries")
def show_all_deliveries(
    id: str, visit: Visitor, cursor: Annotated[str | None, Query(max_length=128)] = None
) -> Response:
    """Show the deliveries of the export, newest first."""
    with visit.runtime.db.read() as session:
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
    found = queries.list_deliveries(visit.runtime, visit.account_id, export_id=row.id, after=cursor, limit=PAGE_SIZE)
    following, link = found.next_cursor, f"/console/exports/{quote(row.id)}/deliveries"
    return visit.page(
        "console/exports/deliveries.html",
        export=row,
        export_link=f"/console/exports/{quote(row.id)}",
        partner=None,
        wanted="",
        states=[],
        deliveries=found.items,
        next_link=None if following is None else f"{link}?cursor={quote(following)}",
    )


@router.get("/exports/{id}/events")
def show_all_events(id: str, visit: Visitor, before: Annotated[int | None, Query(ge=1, le=2**62)] = None) -> Response:
    """Show the events before number `before`, newest first."""
    with visit.runtime.db.read() as session:
        row = find_export(session, visit.account_id, id, test=visit.caller.test)
        events = list_events_before(session, row.id, before or row.next_seq, limit=PAGE_SIZE)
        names = name_actors(session, {each.actor for each in events})
    more = events and events[-1].seq > 1
    return visit.page(
        "console/exports/events.html",
        export=row,
        export_link=f"/console/exports/{quote(row.id)}",
        events=[show_event(each, names) for each in events],
        next_link=f"/console/exports/{quote(row.id)}/events?before={events[-1].seq}" if more else None,
    )
