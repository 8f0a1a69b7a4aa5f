"""The pages of keys, people, portal links, waivers and legal holds: each row once, by an index, and of one account only."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import insert
from sqlmodel import SQLModel

from pipeline.accounts import lists
from pipeline.accounts.models import ApiKey, Membership, Partner, Person, PortalLink
from pipeline.core.clock import utc_now
from pipeline.core.errors import ValidationFailed
from pipeline.core.pages import Page
from pipeline.core.runtime import Runtime
from pipeline.customs import waivers
from pipeline.customs.models import Waiver
from pipeline.exports.models import LegalHold
from pipeline.ops import legal_holds
from tests.support import factories
from tests.support.people import OTHER
from tests.support.query_counter import record_plans, searches

ROWS: Final = 7
NOW: Final = utc_now()
PARTNER: Final = "wh_list"
#: Other accounts have many rows between those of the account.
CROWD: Final = 300

Read = Callable[..., Page[Any]]


def read_in_session(list_page: Callable[..., Page[Any]], **fixed: Any) -> Read:
    def read(runtime: Runtime, account: str, **cursor: Any) -> Page[Any]:
        with runtime.db.read() as session:
            return list_page(session, account, **fixed, **cursor)

    return read


def read_runtime(list_page: Callable[..., Page[Any]], **fixed: Any) -> Read:
    return lambda runtime, account, **cursor: list_page(runtime, account, **fixed, **cursor)


#: How each list is read, its index, and the last column of its border.
LISTS: Final[Mapping[str, tuple[Read, str, str]]] = {
    "key": (read_in_session(lists.list_key_page, ended=False, now=NOW), "api_keys_account_id", "account_id ="),
    "per": (read_in_session(lists.list_member_page), "memberships_account_id", "account_id ="),
    "lnk": (read_in_session(lists.list_link_page, partner_id=PARTNER), "portal_links_account_id_partner_id", "id <"),
    "wvr": (read_runtime(waivers.list_waiver_page, ended=False, on=NOW.date()), "waivers_account_id", "id <"),
    "hld": (read_runtime(legal_holds.list_hold_page, released=False), "legal_holds_account_id", "id <"),
}


def id_of(prefix: str, account: str, number: int) -> str:
    return f"{prefix}_{account}_{number:04}"


def build_rows(account: str, number: int) -> Mapping[type[SQLModel], Mapping[str, Any]]:
    """Return a row of each list. Two neighbours have the same instant."""
    at = NOW - timedelta(hours=1) + timedelta(seconds=number // 2)
    of_account = {"account_id": account}
    person, later = id_of("per", account, number), NOW + timedelta(days=1)
    key = {"id": id_of("key", account, number), "name": "key", "mode": "live", "roles": ["read"], "secret_hash": "x"}
    member = {"person_id": person, "mode": "live", "roles": ["read"], "invited_by": "cli", "invited_at": at}
    link = {"id": id_of("lnk", account, number), "partner_id": PARTNER, "token_hash": "x", "created_by": "cli"}
    waiver = {"id": id_of("wvr", account, number), "rule": "V17", "reason": "known", "waived_by": "cli"}
    hold = {"id": id_of("hld", account, number), "reason": "audit", "placed_by": "cli"}
    return {
        ApiKey: of_account | key | {"created_at": at},
        Person: {"id": person, "email": f"{person}@maple.example".lower(), "name": ""},
        Membership: of_account | member,
        PortalLink: of_account | link | {"expires_at": later},
        Waiver: of_account | waiver,
        LegalHold: of_account | hold,
    }


def fill(runtime: Runtime, account: str, count: int) -> None:
    partner = {"account_id": account, "id": PARTNER, "kind": "warehouse", "name": "Warehouse", "state": "live"}
    partner["routing_name"] = f"{account}-{PARTNER}"
    rows = [build_rows(account, number) for number in range(count)]
    with runtime.db.write() as session:
        session.execute(insert(Partner), [partner | {"endpoints_changed_at": NOW}])
        for model in rows[0]:
            session.execute(insert(model), [dict(row[model]) for row in rows])


def read_id(item: Any) -> str:
    return str(getattr(item, "person_id", None) or item.id)


@pytest.fixture
def filled(two_accounts: Runtime) -> Runtime:
    """A runtime with an account among the many rows of another."""
    fill(two_accounts, OTHER, CROWD)
    fill(two_accounts, factories.ACCOUNT, ROWS)
    return two_accounts


@pytest.mark.parametrize("prefix", LISTS)
@pytest.mark.parametrize("limit", [1, 3, ROWS - 1, ROWS, ROWS + 1])
def test_pages_have_each_row_once_newest_first(filled: Runtime, prefix: str, limit: int) -> None:
    read = LISTS[prefix][0]
    found: list[str] = []
    sizes: list[int] = []
    cursor = None
    while not sizes or cursor is not None:
        page = read(filled, factories.ACCOUNT, after=cursor, limit=limit)
        found += [read_id(each) for each in page.items]
        sizes.append(len(page.items))
        cursor = page.next_cursor
    assert found == [id_of(prefix, factories.ACCOUNT, number) for number in reversed(range(ROWS))]
    assert sizes == [min(limit, ROWS - start) for start in range(0, ROWS, limit)]


@pytest.mark.parametrize("prefix", LISTS)
def test_page_is_read_by_its_index(filled: Runtime, prefix: str) -> None:
    read, index, border = LISTS[prefix]
    cursor = id_of(prefix, OTHER, CROWD - 10)
    with record_plans(filled.db) as plans:
        page = read(filled, OTHER, after=cursor, limit=3)
    assert len(page.items) == 3
    assert searches(plans, f"ix_{index}", border), plans
    assert not any("TEMP B-TREE" in line or "Sort Key" in line for line in plans), plans


@pytest.mark.parametrize("prefix", LISTS)
@pytest.mark.parametrize("hostile", ["none", "", "' OR 1=1 --", "\x00", "%", "é" * 128])
def test_cursor_of_no_row_is_refused(filled: Runtime, prefix: str, hostile: str) -> None:
    read = LISTS[prefix][0]
    with pytest.raises(ValidationFailed, match="is not a cursor of this list"):
        read(filled, factories.ACCOUNT, after=hostile, limit=3)


@pytest.mark.parametrize("prefix", LISTS)
def test_cursor_of_another_account_is_refused(filled: Runtime, prefix: str) -> None:
    with pytest.raises(ValidationFailed, match="is not a cursor of this list"):
        LISTS[prefix][0](filled, factories.ACCOUNT, after=id_of(prefix, OTHER, 5), limit=3)


def test_key_that_ended_since_is_still_a_border(filled: Runtime) -> None:
    read, ended = LISTS["key"][0], read_in_session(lists.list_key_page, ended=True, now=NOW)
    border, account = id_of("key", factories.ACCOUNT, 4), factories.ACCOUNT
    with filled.db.write() as session:
        session.get_one(ApiKey, border).revoked_at = NOW
        session.get_one(ApiKey, id_of("key", account, 0)).expires_at = NOW
    following = read(filled, account, after=border, limit=10).items
    assert [each.id for each in following] == [id_of("key", account, number) for number in (3, 2, 1)]
    over = ended(filled, account, after=None, limit=10).items
    assert [each.id for each in over] == [border, id_of("key", account, 0)]


def test_link_of_another_partner_is_refused(filled: Runtime) -> None:
    of_nobody = read_in_session(lists.list_link_page, partner_id="wh_none")
    assert of_nobody(filled, factories.ACCOUNT, after=None, limit=3) == Page([], None)
    with pytest.raises(ValidationFailed):
        of_nobody(filled, factories.ACCOUNT, after=id_of("lnk", factories.ACCOUNT, 5), limit=3)
