"""The console's page of the customs rules that judge new work: which they are, how old, and what to do when they are old."""

from dataclasses import dataclass

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.customs import rules_reader, rulesets
from pipeline.customs.reference.content import use_rules
from pipeline.customs.reference.ruleset import ruleset
from pipeline.interfaces.event_text import count_noun
from pipeline.interfaces.pages.pages import ConsoleRoute, Visit, Visitor

router = APIRouter(prefix="/console/rules", include_in_schema=False, route_class=ConsoleRoute)


@dataclass(frozen=True)
class ShownRules:
    """The active ruleset. `overdue` says by how much it is too old, and `problem` why newer rules were refused, if so."""

    id: str
    as_of: str
    age: str
    review: str
    overdue: str
    content_hash: str
    problem: str


@router.get("")
def show_rules(visit: Visitor) -> Response:
    """Show the active rules with their age."""
    return visit.page("console/work/rules.html", rules=read_rules(visit))


def read_rules(visit: Visit) -> ShownRules:
    """Return the active rules for a page. Raises RulesUnreadable."""
    today = visit.runtime.clock().date()
    with visit.runtime.db.read() as session:
        content = rulesets.read_active(session)
    with use_rules(content):
        active = ruleset()
    late = active.days_too_old(today)
    return ShownRules(
        id=active.id,
        as_of=str(active.as_of),
        age=f"{count_noun(active.days_old(today), 'day')} old",
        review=count_noun(active.review.within_days, "day"),
        overdue=count_noun(late, "day") if late else "",
        content_hash=content.content_hash,
        problem=rules_reader.find_problem(visit.runtime) or "",
    )
