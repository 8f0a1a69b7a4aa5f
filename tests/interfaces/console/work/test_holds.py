"""The pages of legal holds: placing, releasing, what is refused, and what the audit trail keeps."""

import re

from pipeline.exports.audit_trail import list_acts
from pipeline.ops import legal_holds
from tests.interfaces.api.conftest import ApiHarness
from tests.interfaces.console.partners.test_partner_settings import find_error
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.work.test_waivers import read_filled
from tests.support import factories
from tests.support.tables import table

NEW = {"scope": "account", "reason": "A dispute with\r\nthe carrier."}


def test_hold_is_placed_and_released(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    client = sign_in_browser(harness, "admin")
    assert "place the first one" in client.get("/console/holds").text
    form = read_form(client, "/console/holds/new") | NEW
    assert client.post("/console/holds", data=form).headers["location"] == "/console/holds"
    of_export = form | {"scope": "export", "export": export_id, "reason": "<b>Audit</b>"}
    assert client.post("/console/holds", data=of_export).status_code == 303
    whole, one = legal_holds.list_holds(harness.runtime, factories.ACCOUNT)
    assert (whole.export_id, whole.reason, one.export_id) == (None, "A dispute with the carrier.", export_id)
    shown = client.get("/console/holds").text
    assert "the whole account" in shown
    assert f'href="/console/exports/{export_id}"' in shown
    assert "<b>Audit</b>" not in shown
    page = f"/console/holds/{one.id}/release"
    assert "removed by the next purge" in client.get(page).text
    assert client.post(page, data=form).headers["location"] == "/console/holds"
    assert client.post(page, data=form).status_code == 409
    assert export_id not in client.get("/console/holds").text
    assert export_id in client.get("/console/holds?released=true").text
    with harness.runtime.db.read() as session:
        acts = list_acts(session, factories.ACCOUNT).items
    assert [(each.action, each.subject) for each in acts][:3] == [
        ("hold_released", one.id),
        ("hold_placed", one.id),
        ("hold_placed", whole.id),
    ]


def test_link_from_an_export_places_a_hold_on_it(harness: ApiHarness) -> None:
    export_id = harness.execute(factories.plan())
    client, page = sign_in_browser(harness, "read", "admin"), f"/console/exports/{export_id}"
    (link,) = re.findall(r'href="(/console/holds/new[^"]*)"', client.get(page).text)
    form = read_filled(client, link) | {"scope": "export", "reason": "An audit"}
    assert client.post("/console/holds", data=form).status_code == 303
    (hold,) = legal_holds.list_holds(harness.runtime, factories.ACCOUNT)
    assert hold.export_id == export_id
    for other in (sign_in_browser(harness, "read", "operate"), sign_in_browser(harness, "read", "admin", mode="test")):
        assert "/console/holds/new" not in other.get(page).text


@table(
    ("typed", "place", "message"),
    [
        ({"reason": ""}, "reason", "must have 1 to 1000 characters"),
        ({"reason": "x" * 1001}, "reason", "must have 1 to 1000 characters"),
        ({"reason": "a\u202eb"}, "reason", "change the direction of writing"),
        ({"scope": ""}, "scope", "Choose what is kept"),
        ({"scope": "export"}, "export", "Give the id of the export"),
        ({"scope": "export", "export": "exp_none"}, "export", "There is no export exp_none"),
    ],
)
def test_invalid_hold_is_explained_at_its_place(
    harness: ApiHarness, typed: dict[str, str], place: str, message: str
) -> None:
    client = sign_in_browser(harness, "admin")
    refused = client.post("/console/holds", data=read_form(client, "/console/holds/new") | NEW | typed)
    assert refused.status_code in (400, 404)
    assert message in find_error(refused.text, place)
    assert legal_holds.list_holds(harness.runtime) == []
