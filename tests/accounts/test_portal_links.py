"""Portal links: shown once, stored as a hash, bounded, and ended by their date, by hand, or with the partner."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import col, select

from pipeline.accounts import portal_links
from pipeline.accounts.models import Partner, PartnerChannel, PartnerSecret, PortalLink
from pipeline.accounts.portal_links import MAX_VALID_LINKS, find_visitor, open_portal
from pipeline.accounts.schemas import CreatedPortalLink
from pipeline.core.db import database_now
from pipeline.core.errors import InsufficientRole, InvalidState, NotFound
from pipeline.core.runtime import Runtime
from pipeline.exports.audit_trail import list_acts
from tests.deliveries.support import exports
from tests.support import factories, stored

PARTNER = "wh_portal"


@pytest.fixture
def registered(runtime: Runtime) -> Runtime:
    """A runtime with a warehouse that gets links."""
    exports.register(runtime, PARTNER, "warehouse")
    return runtime


def create(runtime: Runtime, partner_id: str = PARTNER, **options: Any) -> CreatedPortalLink:
    return portal_links.create_portal_link(runtime, factories.ACCOUNT, partner_id, 7, created_by="key_1", **options)


def token_of(created: CreatedPortalLink) -> str:
    return created.url.partition("#")[2]


def test_url_carries_the_token_in_its_fragment_and_only_the_hash_is_stored(registered: Runtime) -> None:
    created = create(registered)
    token = token_of(created)
    assert created.url == f"{registered.settings.public_url}/portal/open#{token}"
    row = stored.one(registered, select(PortalLink))
    assert token.partition(".")[2] not in str(row.model_dump())
    assert row.expires_at - row.created_at == timedelta(days=7)
    (listed,) = portal_links.list_portal_links(registered, factories.ACCOUNT, PARTNER)
    assert token not in listed.model_dump_json()
    assert (listed.created_by, listed.last_used_at, listed.revoked_at) == ("key_1", None, None)


def test_token_opens_the_portal_of_its_partner_and_its_use_is_recorded(registered: Runtime) -> None:
    created = create(registered)
    visitor = open_portal(registered, token_of(created))
    assert (visitor.account_id, visitor.partner_id, visitor.test) == (factories.ACCOUNT, PARTNER, False)
    assert visitor.actor == f"portal:{created.id}"
    assert find_visitor(registered, created.id) == visitor
    (listed,) = portal_links.list_portal_links(registered, factories.ACCOUNT, PARTNER)
    assert listed.last_used_at is not None


def test_every_act_on_a_link_is_in_the_audit_trail(registered: Runtime) -> None:
    created = create(registered)
    open_portal(registered, token_of(created))
    for _ in range(2):
        portal_links.revoke_portal_link(registered, factories.ACCOUNT, PARTNER, created.id, revoked_by="key_2")
    with registered.db.read() as session:
        acts = list_acts(session, factories.ACCOUNT).items
    assert [(act.action, act.actor, act.subject) for act in acts] == [
        ("portal_link_revoked", "key_2", PARTNER),
        ("portal_opened", f"portal:{created.id}", PARTNER),
        ("portal_link_created", "key_1", PARTNER),
    ]
    assert created.url.partition("#")[2] not in str(acts)


def test_wrong_tokens_are_all_answered_alike(registered: Runtime) -> None:
    first, second = token_of(create(registered)), token_of(create(registered))
    guesses = [
        "",
        "x",
        first[:-1],
        first + "A",
        f"{first.partition('.')[0]}.{second.partition('.')[2]}",
        f"lnk_{'0' * 26}.{'A' * 43}",
        first.upper(),
        f" {first}",
        f"{first}\n",
        "é" * 74,
    ]
    messages = set()
    for guess in guesses:
        with pytest.raises(NotFound) as refused:
            open_portal(registered, guess)
        messages.add(refused.value.message)
    assert messages == {"this link is not valid or has expired; ask the exporter for a new one"}


def test_expired_and_revoked_links_open_nothing(registered: Runtime) -> None:
    expired, revoked, valid = create(registered), create(registered), create(registered)
    with registered.db.write() as session:
        ended = update(PortalLink).where(col(PortalLink.id) == expired.id)
        session.execute(ended.values(expires_at=database_now(-1)))
    view = portal_links.revoke_portal_link(registered, factories.ACCOUNT, PARTNER, revoked.id, revoked_by="key_1")
    assert view.revoked_at is not None
    for each in (expired, revoked):
        with pytest.raises(NotFound):
            open_portal(registered, token_of(each))
        with pytest.raises(NotFound):
            find_visitor(registered, each.id)
    assert open_portal(registered, token_of(valid)).link_id == valid.id


def test_all_links_are_revoked_at_once(registered: Runtime) -> None:
    exports.register(registered, "wh_other", "warehouse")
    made = [create(registered) for _ in range(3)]
    kept = create(registered, "wh_other")
    ended = portal_links.revoke_portal_links(registered, factories.ACCOUNT, PARTNER, revoked_by="key_1")
    assert [each.id for each in ended] == [each.id for each in reversed(made)]
    assert portal_links.revoke_portal_links(registered, factories.ACCOUNT, PARTNER, revoked_by="key_1") == []
    assert open_portal(registered, token_of(kept)).partner_id == "wh_other"


def test_link_of_another_partner_is_not_found(registered: Runtime) -> None:
    exports.register(registered, "wh_other", "warehouse")
    created = create(registered)
    with pytest.raises(NotFound):
        portal_links.revoke_portal_link(registered, factories.ACCOUNT, "wh_other", created.id, revoked_by="key_1")
    with pytest.raises(NotFound):
        portal_links.revoke_portal_link(registered, "acc_none", PARTNER, created.id, revoked_by="key_1")
    for unknown in ("wh_none", ""):
        with pytest.raises(NotFound):
            create(registered, unknown)
        with pytest.raises(NotFound):
            portal_links.list_portal_links(registered, factories.ACCOUNT, unknown)
    assert open_portal(registered, token_of(created)).link_id == created.id


def test_partner_has_a_limited_number_of_valid_links(registered: Runtime) -> None:
    made = [create(registered) for _ in range(MAX_VALID_LINKS)]
    with pytest.raises(InvalidState, match="20 valid portal links"):
        create(registered)
    portal_links.revoke_portal_link(registered, factories.ACCOUNT, PARTNER, made[0].id, revoked_by="key_1")
    create(registered)


def test_test_key_makes_links_only_for_test_partners(registered: Runtime) -> None:
    exports.register(registered, "wh_test", "warehouse", test=True)
    assert open_portal(registered, token_of(create(registered, "wh_test", test_only=True))).test
    with pytest.raises(InsufficientRole):
        create(registered, test_only=True)


def test_link_ends_with_its_partner(registered: Runtime) -> None:
    created = create(registered)
    with registered.db.write() as session:
        for model in (PortalLink, PartnerSecret, PartnerChannel):
            session.execute(delete(model).where(col(model.partner_id) == PARTNER))
        session.execute(delete(Partner).where(col(Partner.id) == PARTNER))
    with pytest.raises(NotFound):
        open_portal(registered, token_of(created))
