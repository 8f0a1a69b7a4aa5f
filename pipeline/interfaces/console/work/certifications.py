"""The console's page of the USMCA certifications in use: for which product, until when, and whether the next one is there."""

from collections.abc import Mapping
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response

from pipeline.customs import certifications
from pipeline.customs.schemas import OriginCertificationView
from pipeline.interfaces.event_text import count_noun
from pipeline.interfaces.pages.pages import ConsoleRoute, Visit, Visitor

router = APIRouter(prefix="/console/certifications", include_in_schema=False, route_class=ConsoleRoute)


@router.get("")
def show_certifications(visit: Visitor) -> Response:
    """Show the account's certifications, the next to end first."""
    with visit.runtime.db.read() as session:
        found = certifications.list_certifications(session, visit.account_id, visit.runtime.clock().date())
    return visit.page(
        "console/work/certifications.html",
        certifications=[_show_certification(each) for each in found],
        notice=certifications.NOTICE_DAYS,
        most=certifications.MOST_LISTED if len(found) == certifications.MOST_LISTED else None,
    )


def count_ending(visit: Visit) -> str:
    """Return how many products of the account have a last certification that ends soon; an empty text for none."""
    with visit.runtime.db.read() as session:
        count = certifications.count_expiring_of(session, visit.account_id, visit.runtime.clock().date())
    return count_noun(count, "product") if count else ""


def _show_certification(view: OriginCertificationView) -> Mapping[str, object]:
    return {
        "sku": view.sku,
        "code": f"{view.hs_code[:4]}.{view.hs_code[4:]}",
        "certifier": view.certifier_name,
        "role": view.certifier_role,
        "criterion": view.criterion,
        "begins": view.blanket_from,
        "ends": view.blanket_to,
        "left": count_noun(view.days_left, "day"),
        "next": "yes" if view.has_next else "no",
        "ends_soon": not view.has_next and view.days_left <= certifications.NOTICE_DAYS,
        "link": f"/console/exports/{quote(view.export_id)}",
    }
