"""Every form of the console and the portal is pressed by every role, and changes the database only for those who may."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import ModuleType
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import select, update
from sqlmodel import SQLModel, col

from pipeline.accounts import partners, people, portal_links
from pipeline.accounts.models import Partner
from pipeline.accounts.schemas import NewPartner
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.tenancy import ALL_ACCOUNTS
from pipeline.customs import waivers
from pipeline.customs.schemas import NewWaiver
from pipeline.exports.event_models import Act
from pipeline.ops import legal_holds
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open
from tests.interfaces.console.exports import test_amendments, test_conversation, test_sandbox, test_stops
from tests.interfaces.console.partners import test_broker_profile
from tests.interfaces.console.partners.test_partners import HOOKED, make_dead_letter, register
from tests.interfaces.console.people import test_people, test_print_settings, test_provider, test_sign_in
from tests.interfaces.console.people.test_sign_in import read_csrf_token
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.console.test_console_layout import build_pages
from tests.interfaces.console.work import test_filed_entries_page, test_inbox
from tests.interfaces.portal import test_deliveries, test_endpoint, test_handoffs, test_session
from tests.interfaces.portal.test_portal_layout import build_addresses
from tests.support import factories
from tests.support.forms import FormReader, find_forms, list_routes
from tests.support.people import add_person

ROLES: Final = ("read", "execute", "operate", "admin")
ADMIN: Final = ("admin",)
OPERATE: Final = ("admin", "operate")

#: The pages that only administrators open.
OF_ADMINISTRATORS: Final = (
    *(f"/console/{each}" for each in ("keys", "keys/new", "waivers", "waivers/new", "holds", "holds/new")),
    *(f"/console/{each}" for each in ("people", "audit", "partners/new", "partners/wh_new/settings")),
    *(f"/console/partners/wh_new/{each}" for each in ("secret", "portal-links")),
)
#: The forms that a person of test mode may send: they concern filters and people, or do nothing to live messages.
IN_TEST_MODE: Final = (
    "/console/exports/filters",
    "/console/people",
    "/console/people/sessions/{id}/end",
    "/console/partners/{id}/replay",
    "/console/test-clock",
)

IN_A_MONTH: Final = f"{utc_now() + timedelta(days=30):%Y-%m-%dT%H:%M}"

#: Columns that a request changes although its form did nothing.
NOISE: Final = frozenset({"last_used_at", "used_at"})


class Press:
    """A form: the page that has it, its address, who may send it, and the table and the act that it then writes."""

    def __init__(
        self, page: str, action: str, roles: Sequence[str], table: str, act: str | None, fields: Any = None
    ) -> None:
        self.page, self.action, self.roles, self.table, self.act = page, action or page, roles, table, act
        self.fields: Mapping[str, str] = fields or {}


PAPER: Final = test_print_settings.PAGE
#: The forms; names in braces are ids of the world that `build_world` makes. In order: a press may need the last.
_PRESSES: Final = (
    Press(
        "/console/exports?outcome=rejected",
        "/console/exports/filters?outcome=rejected",
        OPERATE,
        "saved_filters",
        None,
        {"name": "Mine"},
    ),
    Press(
        "/console/deliveries/{letter}", "/console/deliveries/{letter}/resend", OPERATE, "deliveries", "delivery_resent"
    ),
    Press("/console/partners/wh_new", "/console/partners/wh_new/activate", ADMIN, "partners", "partner_activated"),
    Press("/console/partners/wh_new", "/console/partners/wh_new/pause", ADMIN, "partners", "partner_paused"),
    Press("/console/partners/wh_new", "/console/partners/wh_new/resume", ADMIN, "partners", "partner_resumed"),
    Press(
        "/console/partners/wh_hook/setup", "/console/partners/wh_hook/test", ADMIN, "connection_tests", "partner_tested"
    ),
    Press(
        "/console/partners/{broker}",
        "/console/partners/{broker}/replay",
        OPERATE,
        "deliveries",
        "deliveries_replayed",
        {"since": "2026-01-01T00:00"},
    ),
    Press(
        "/console/partners/new?kind=operator&channel=queue",
        "/console/partners/new",
        ADMIN,
        "partners",
        "partner_created",
        {"id": "op_new", "name": "Desk"},
    ),
    Press("/console/partners/wh_hook/settings", "", ADMIN, "partners", "partner_changed", {"name": "Another name"}),
    Press("/console/partners/wh_hook/secret", "", ADMIN, "partner_secrets", "signing_secret_rotated"),
    Press("/console/partners/wh_hook/portal-links", "", ADMIN, "portal_links", "portal_link_created"),
    Press(
        "/console/partners/wh_hook/portal-links",
        "/console/partners/wh_hook/portal-links/revoke",
        ADMIN,
        "portal_links",
        "portal_link_revoked",
    ),
    Press(
        "/console/keys/new",
        "/console/keys",
        ADMIN,
        "api_keys",
        "key_created",
        {"name": "A key", "mode": "live", "role": "read"},
    ),
    Press("/console/keys/{key}/rotate", "", ADMIN, "api_keys", "key_rotated"),
    Press("/console/keys/{key}/revoke", "", ADMIN, "api_keys", "key_revoked"),
    Press(
        "/console/waivers/new",
        "/console/waivers",
        ADMIN,
        "waivers",
        "waiver_granted",
        {"rule": "V17", "reason": "On the bill"},
    ),
    Press("/console/waivers/{waiver}", "/console/waivers/{waiver}/revoke", ADMIN, "waivers", "waiver_revoked"),
    Press(PAPER, "", ADMIN, "accounts", "languages_changed", {"french": "yes"}),
    Press("/console/deadline-leads", "", ADMIN, "accounts", "deadline_leads_changed", {"mode": "air", "filed": "90"}),
    Press("/console/test-clock", "", OPERATE, "accounts", "test_clock_moved", {"at": IN_A_MONTH}),
    Press(
        "/console/holds/new",
        "/console/holds",
        ADMIN,
        "legal_holds",
        "hold_placed",
        {"scope": "account", "reason": "An audit"},
    ),
    Press("/console/holds/{hold}/release", "", ADMIN, "legal_holds", "hold_released"),
    Press(
        "/console/people",
        "",
        ADMIN,
        "people",
        "person_invited",
        {"email": "new@maple.example", "name": "New", "role": "read"},
    ),
    Press(
        "/console/people/{person}",
        "/console/people/{person}/roles",
        ADMIN,
        "memberships",
        "roles_changed",
        {"role": "operate"},
    ),
    Press("/console/people/{person}", "/console/people/{person}/link", ADMIN, "one_time_links", "link_created"),
    Press("/console/people", "/console/people/sessions/{session}/end", ADMIN, "sessions", "session_ended"),
    Press("/console/people/{person}", "/console/people/{person}/remove", ADMIN, "memberships", "person_removed"),
)
#: route -> its form
PRESSES: Final = {re.sub(r"\{\w+\}|wh_new|wh_hook", "{id}", each.action.split("?")[0]): each for each in _PRESSES}

Test = Callable[..., object]
OF_LOGO: Final[Sequence[Test]] = [
    test_print_settings.test_logo_and_languages_are_changed_and_shown,
    test_print_settings.test_others_see_the_settings_and_change_nothing,
]
#: route -> the tests that press its form and look at the effect, and at who may not, because it needs more than one press.
ELSEWHERE: Final[Mapping[str, Sequence[Test]]] = {
    "/console/sign-in": [test_sign_in.test_right_password_and_code_start_a_session],
    "/console/sign-out": [test_sign_in.test_signed_out_session_is_ended_in_the_database],
    "/console/links/{token}": [test_sign_in.test_invited_person_sets_up_and_gets_recovery_codes],
    "/console/provider/connect": [
        test_provider.test_signed_in_person_connects_the_provider,
        test_provider.test_connecting_needs_the_form_the_password_and_a_code,
    ],
    "/console/me/account": [test_sign_in.test_page_of_another_account_cannot_act_after_a_switch],
    "/console/me/sessions/{id}/end": [test_people.test_own_sessions_are_listed_and_ended],
    "/console/me/password": [test_people.test_own_password_is_changed_with_the_old_one_only],
    "/console/me/recovery-codes": [test_people.test_own_recovery_codes_are_made_with_the_password_only],
    "/console/exports/{id}/amend": [
        test_amendments.test_another_place_is_added_by_its_pointer,
        test_amendments.test_only_the_right_role_and_account_may_amend,
    ],
    "/console/exports/{id}/amend/check": [
        test_amendments.test_correction_is_checked_shown_and_sent,
        test_amendments.test_only_the_right_role_and_account_may_amend,
    ],
    "/console/exports/{id}/amend/proforma": [
        test_amendments.test_corrected_plan_has_pro_forma_invoice,
        test_amendments.test_only_the_right_role_and_account_may_amend,
    ],
    "/console/exports/{id}/amend/send": [
        test_amendments.test_correction_is_checked_shown_and_sent,
        test_amendments.test_only_the_right_role_and_account_may_amend,
    ],
    "/console/exports/{id}/stop": [test_stops.test_form_stops_the_export],
    "/console/exports/{id}/conversation": [
        test_conversation.test_question_is_asked_in_the_portal_and_answered_on_the_console,
        test_conversation.test_refused_message_stays_in_the_form_and_readers_have_none,
    ],
    "/console/exports/{id}/sandbox": [test_sandbox.test_buttons_answer_a_test_export],
    "/console/inbox/review": [
        test_inbox.test_failed_exports_are_grouped_by_reason_and_retried_in_bulk,
        test_inbox.test_reader_sees_no_button_and_may_apply_nothing,
    ],
    "/console/inbox/apply": [
        test_inbox.test_failed_exports_are_grouped_by_reason_and_retried_in_bulk,
        test_inbox.test_reader_sees_no_button_and_may_apply_nothing,
    ],
    "/console/filed-entries": [test_filed_entries_page.test_report_is_compared_then_recorded_and_shown],
    "/console/inbox/test": [test_inbox.test_connection_is_tested_from_a_group_and_its_messages_resent],
    f"{PAPER}/logo": OF_LOGO,
    f"{PAPER}/logo/remove": OF_LOGO,
    "/console/partners/{id}/profile/edit": [
        test_broker_profile.test_first_profile_is_set_up_previewed_and_removed,
        test_broker_profile.test_profiles_belong_to_brokers_and_administrators,
    ],
    "/portal/open": [
        test_session.test_link_opens_the_portal_of_its_partner,
        test_session.test_wrong_links_open_nothing,
    ],
    "/portal/leave": [test_session.test_leaving_ends_the_session_and_keeps_the_link],
    "/portal/deliveries/resend-dead": [test_deliveries.test_dead_letters_since_an_instant_are_resent],
    "/portal/deliveries/{id}/resend": [
        test_deliveries.test_dead_letter_has_a_remedy_for_the_partner_and_is_resent,
        test_deliveries.test_deliveries_of_other_partners_cannot_be_seen_or_resent,
    ],
    "/portal/handoffs/{id}/answer": [
        test_handoffs.test_broker_answers_from_received_to_released,
        test_handoffs.test_handoffs_of_other_brokers_are_not_found,
    ],
    "/portal/endpoint/test": [test_endpoint.test_endpoint_is_tested_in_stages],
    "/portal/secret/rotate": [test_endpoint.test_both_secrets_are_shown_once],
    "/portal/verify": [test_endpoint.test_pasted_message_is_judged],
}

#: The forms of pages that no link leads to: they come after another form, or for another state or setting.
AFTER_A_PRESS: Final = frozenset(
    {
        "/console/exports/{id}/amend/proforma",
        "/console/exports/{id}/amend/send",
        "/console/exports/{id}/sandbox",
        "/console/holds/{id}/release",
        "/console/inbox/apply",
        "/console/me/account",
        "/console/me/sessions/{id}/end",
        "/console/partners/{id}/activate",
        "/console/partners/{id}/portal-links/revoke",
        "/console/partners/{id}/resume",
        "/console/people/sessions/{id}/end",
        f"{PAPER}/logo/remove",
        "/console/provider/connect",
        "/console/waivers/{id}/revoke",
    }
)


@pytest.mark.system
def test_every_form_of_the_console_has_a_test_of_its_effect(harness: ApiHarness) -> None:
    client, addresses = build_pages(harness)
    found = find_forms(client, [*addresses.values(), "/console/sign-in"])
    assert found - {*PRESSES, *ELSEWHERE} == set()
    assert {each for each in {*PRESSES, *ELSEWHERE} if each.startswith("/console")} - found - AFTER_A_PRESS == set()


@pytest.mark.system
def test_every_form_of_the_portal_has_a_test_of_its_effect(harness: ApiHarness) -> None:
    client, _, addresses = build_addresses(harness)
    found = find_forms(client, [*addresses.values(), "/portal/secret", "/portal/verify"])
    assert found - {*ELSEWHERE} == set()
    assert len(found) > 5


def test_every_route_that_takes_a_form_is_in_a_table() -> None:
    routes = {each for each in list_routes("POST") if each.startswith(("/console", "/portal"))}
    of_partner = re.compile(r"(/console/partners/\{id\})/(activate|pause|resume|replay)")
    tested = {of_partner.sub(r"\1/{action}", each) for each in {*PRESSES, *ELSEWHERE}}
    assert (routes - tested, tested - routes) == (set(), set())


@pytest.mark.parametrize("route", ELSEWHERE)
def test_named_test_sends_the_form(route: str) -> None:
    word = re.sub(r"/?\{\w+\}", "", route).rsplit("/", 1)[1]
    for test in ELSEWHERE[route]:
        module = inspect.getmodule(test)
        assert isinstance(module, ModuleType)
        assert word in inspect.getsource(module), f"{test.__name__} does not send {route}"


def build_world(harness: ApiHarness) -> dict[str, str]:
    """Return the ids of what the forms are pressed on, by the names of the table of presses."""
    runtime, account = harness.runtime, factories.ACCOUNT
    register(harness, "http://127.0.0.1:9/hook")
    letter = make_dead_letter(harness)
    new = NewPartner.model_validate({"id": "wh_new", "kind": "warehouse", "name": "New warehouse"})
    partners.create_partner(runtime, account, new)
    with runtime.db.write() as session:
        session.execute(update(Partner).where(col(Partner.id) == "wh_new").values(state="verified"))
    portal_links.create_portal_link(runtime, account, HOOKED, 7, created_by="a test")
    given = NewWaiver.model_validate({"rule": "V17", "reason": "On the bill"})
    waiver = waivers.grant_waiver(runtime, account, given, waived_by="a test")
    hold = legal_holds.place_hold(runtime, account, export_id=None, reason="An audit", placed_by="a test")
    other = add_person(runtime, "admin", email="zoe@maple.example")
    with tenancy.account_scope(ALL_ACCOUNTS):
        invited = people.invite_person(runtime, account, "cli", email="anna@maple.example", roles=["read"], mode="live")
    client = sign_in_browser(harness, "admin")
    page = client.get(f"/console/people/{other.id}").text + client.get("/console/people").text
    return {
        "letter": letter,
        "broker": factories.BROKER,
        "key": harness.key("read", "operate").id,
        "waiver": waiver.id,
        "hold": hold.id,
        "person": invited.person_id,
        "session": re.findall(r"/console/people/sessions/(ses_[^/\"]+)/end", page)[0],
    }


def read_tables(harness: ApiHarness) -> dict[str, list[str]]:
    """Return the rows of every table, without what each request changes."""
    found = {}
    with tenancy.account_scope(ALL_ACCOUNTS), harness.runtime.db.read() as session:
        for each in SQLModel.metadata.sorted_tables:
            columns = [column for column in each.c if column.name not in NOISE]
            found[each.name] = sorted(map(str, session.execute(select(*columns)).all()))
    return found


def read_last_act(harness: ApiHarness) -> str:
    with harness.runtime.db.read() as session:
        query = select(col(Act.action)).where(col(Act.account_id) == factories.ACCOUNT).order_by(col(Act.seq).desc())
        return str(session.scalars(query.limit(1)).one())


def press(client: httpx.Client, action: str, form: Mapping[str, Any], token: str) -> httpx.Response:
    return client.post(action, data={**form, "csrf_token": token})


def find_token(client: httpx.Client) -> str:
    return read_csrf_token(client.get("/console/me").text)


@pytest.mark.system
def test_forms_change_the_database_only_for_the_roles_that_may(open_harness: Open) -> None:
    harness = open_harness(allow_private_destinations=True, delivery_schedule_seconds=(0.001,))
    world = build_world(harness)
    clients = {role: sign_in_browser(harness, "read", role) for role in ROLES}
    clients |= {"stranger": sign_in_browser(harness, *ROLES, account=OTHER)}
    clients |= {"tester": sign_in_browser(harness, *ROLES, mode="test")}
    tokens = {name: find_token(client) for name, client in clients.items()}
    hidden = {role: {each.action.format(**world) for each in _PRESSES if role not in each.roles} for role in ROLES}
    reader, anonymous = sign_in_browser(harness, *ROLES), harness.client_with_key(None)
    for page in (*OF_ADMINISTRATORS, *{each.page for each in _PRESSES}):
        assert anonymous.get(page.format(**world)).headers["location"] == "/console/sign-in", page
    for page in OF_ADMINISTRATORS:
        assert [clients[role].get(page).status_code for role in ROLES] == [403, 403, 403, 200], page
    for route, each in PRESSES.items():
        page, action = each.page.format(**world), each.action.format(**world)
        forms = FormReader(reader.get(page).text, page).forms
        assert action in forms, f"{page} has no form for {action}: {[*forms]}"
        form = {**forms[action], **each.fields}
        before = read_tables(harness)
        for role in [role for role in ROLES if role not in each.roles]:
            assert press(clients[role], action, form, tokens[role]).status_code == 403, (route, role)
            offered = FormReader(clients[role].get(page).text, page).forms
            assert offered.keys().isdisjoint(hidden[role]), (route, role)
        assert press(anonymous, action, form, tokens["admin"]).status_code == 303, route
        allowed = each.roles[-1]
        for token in ("", "0" * 64, "é", find_token(reader)):
            forged = press(clients[allowed], action, form, token)
            assert (forged.status_code, "does not belong to your session" in forged.text) == (403, True), route
        if "{" in route:
            assert press(clients["stranger"], action, form, tokens["stranger"]).status_code == 404, route
            assert clients["stranger"].get(page).status_code == (200 if page == "/console/people" else 404), route
        if route not in IN_TEST_MODE:
            tested = press(clients["tester"], action, form, tokens["tester"])
            named = re.search("ask an? (person|administrator) who may", tested.text)
            assert (tested.status_code, bool(named)) == (403, True), route
        assert read_tables(harness) == before, f"a refused form of {route} changed something"
        done = press(clients[allowed], action, form, tokens[allowed])
        assert done.status_code in {200, 303}, (route, done.status_code, done.text)
        after = read_tables(harness)
        changed = {name for name, rows in after.items() if rows != before[name]}
        assert each.table in changed, (route, changed)
        assert ("acts" in changed) == (each.act is not None), (route, changed)
        if each.act is not None:
            assert read_last_act(harness) == each.act, route
