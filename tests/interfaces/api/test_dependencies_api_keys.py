"""API keys: what is stored, what they allow, and how they end."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import select

from pipeline.accounts import api_keys, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.models import ApiKey
from pipeline.core.errors import InvalidApiKey, InvalidState, NotFound, ValidationFailed
from pipeline.interfaces.api import dependencies
from pipeline.interfaces.api.dependencies import ApiKeyCache
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.support import factories
from tests.support.servers import poll


def test_stored_key_hash_does_not_authenticate(harness: ApiHarness) -> None:
    key = harness.key("read")
    with harness.runtime.db.read() as session:
        row = session.exec(select(ApiKey).where(ApiKey.id == key.id)).one()
    secret = key.bearer.rsplit("_", 1)[1]
    assert secret not in row.model_dump_json()
    assert harness.client_with_key(row.secret_hash).get("/api/exports").status_code == 401


def test_revoked_key_is_soon_rejected(harness: ApiHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "_CACHE_SECONDS", 0.2)
    key = harness.key("read")
    client = harness.client_with_key(key.bearer)
    assert client.get("/api/exports").status_code == 200
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, key.id)
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, key.id)
    poll(lambda: client.get("/api/exports").status_code == 401, 15, "a revoked key still works")


def test_rotated_key_and_its_successor_work_during_the_overlap(harness: ApiHarness) -> None:
    old = harness.key("execute", "partner:br_1", mode="test")
    before = api_keys.list_keys(harness.runtime, factories.ACCOUNT)[0]
    new = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, old.id, overlap=timedelta(hours=1))
    callers = [api_keys.find_caller(harness.runtime, each.bearer) for each in (old, new)]
    assert {(each.mode, each.roles) for each in callers} == {(before.mode, before.roles)}
    later = datetime.now(UTC) + timedelta(hours=1, seconds=1)
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, old.bearer, now=later)
    assert api_keys.find_caller(harness.runtime, new.bearer, now=later).actor == new.id
    with pytest.raises(NotFound):
        api_keys.rotate_key(harness.runtime, OTHER, new.id, overlap=timedelta(hours=1))
    assert len(api_keys.list_keys(harness.runtime, factories.ACCOUNT)) == 2


def test_rotation_does_not_extend_a_key_and_rejects_an_ended_one(harness: ApiHarness) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    short = harness.key("read", expires_at=soon)
    api_keys.rotate_key(harness.runtime, factories.ACCOUNT, short.id, overlap=timedelta(days=1))
    kept = {each.id: each.expires_at for each in api_keys.list_keys(harness.runtime, factories.ACCOUNT)}
    assert kept[short.id] == soon
    api_keys.revoke_key(harness.runtime, factories.ACCOUNT, short.id)
    with pytest.raises(InvalidState):
        api_keys.rotate_key(harness.runtime, factories.ACCOUNT, short.id, overlap=timedelta(0))


def test_rotated_key_inherits_the_expiry_unless_given(harness: ApiHarness) -> None:
    in_a_month, in_a_year = (datetime.now(UTC) + timedelta(days=days) for days in (30, 365))
    old = harness.key("read", expires_at=in_a_month)
    day = timedelta(days=1)
    first = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, old.id, overlap=day)
    second = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, first.id, overlap=day, expires_at=in_a_year)
    kept = {each.id: each.expires_at for each in api_keys.list_keys(harness.runtime, factories.ACCOUNT)}
    assert (first.expires_at, kept[second.id], second.expires_at) == (in_a_month, in_a_year, in_a_year)
    assert api_keys.find_caller(harness.runtime, second.bearer, now=in_a_month + day).actor == second.id
    third = api_keys.rotate_key(harness.runtime, factories.ACCOUNT, second.id, overlap=day)
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, third.bearer, now=in_a_year)


def test_key_ends_when_it_expires(harness: ApiHarness) -> None:
    now = datetime.now(UTC)
    key = harness.key("read", expires_at=now + timedelta(hours=1))
    assert api_keys.find_caller(harness.runtime, key.bearer, now=now).account_id == factories.ACCOUNT
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, key.bearer, now=now + timedelta(hours=1))


def test_mistyped_key_is_refused_without_a_database(harness: ApiHarness) -> None:
    bearer = harness.key("read").bearer
    for at in (len("exp_live_"), len(bearer) - 1, len(bearer) // 2):
        other = "A" if bearer[at] != "A" else "B"
        with pytest.raises(InvalidApiKey):
            api_keys.parse_key_id(bearer[:at] + other + bearer[at + 1 :])
    with pytest.raises(InvalidApiKey):
        api_keys.parse_key_id(bearer.replace("exp_live_", "exp_test_"))


def test_another_secret_for_a_known_id_is_refused(harness: ApiHarness) -> None:
    key, other = harness.key("read"), harness.key("read")
    prefix = f"exp_live_{key.id}_" + other.bearer.rsplit("_", 1)[1][:-6]
    with pytest.raises(InvalidApiKey):
        api_keys.find_caller(harness.runtime, prefix + api_keys._compute_checksum(prefix))


def test_keys_are_listed_and_revoked_by_their_own_account(harness: ApiHarness) -> None:
    key = harness.key("read", "partner:br_1", mode="test")
    (listed,) = api_keys.list_keys(harness.runtime, factories.ACCOUNT)
    assert (listed.id, listed.mode, listed.roles) == (key.id, "test", frozenset({"read", "partner:br_1"}))
    assert key.bearer.startswith(f"exp_test_{key.id}_")
    assert api_keys.list_keys(harness.runtime, OTHER) == []
    with pytest.raises(NotFound):
        api_keys.revoke_key(harness.runtime, OTHER, key.id)


def test_roles_and_accounts_are_checked(harness: ApiHarness) -> None:
    for role in ("root", "partner:", "partner:a b", ""):
        with pytest.raises(ValidationFailed):
            harness.key(role)
    with pytest.raises(NotFound):
        harness.key("read", account="acc_none")
    with pytest.raises(ValidationFailed):
        service.create_account(harness.runtime, factories.ACCOUNT, "again")
    with pytest.raises(ValidationFailed):
        service.create_account(harness.runtime, "acc 1", "a space")
    with pytest.raises(ValidationFailed):
        service.create_account(harness.runtime, "acc_1", "a prefix", gs1_prefix="12a")


def test_bucket_refills_with_time() -> None:
    moment = 1000.0
    keys = ApiKeyCache(per_minute=60, clock=lambda: moment)
    assert [keys.take_token("k")[0] for _ in range(60)] == list(range(59, -1, -1))
    assert keys.take_token("k") == (0, 1.0)
    assert keys.take_token("other")[1] == 0.0
    moment += 0.5
    assert keys.take_token("k") == (0, 0.5)
    moment += 1.5
    assert keys.take_token("k") == (1, 0.0)


def test_key_is_cached_for_a_second() -> None:
    moment = 1000.0
    keys = ApiKeyCache(per_minute=60, clock=lambda: moment)
    caller = Caller("acc_1", "k", "live", frozenset({"read"}))
    keys.put("bearer", caller)
    assert keys.get("bearer") == caller
    moment += 1.0
    assert keys.get("bearer") is None
