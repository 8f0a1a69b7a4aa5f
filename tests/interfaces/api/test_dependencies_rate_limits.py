"""Limits of one account: active exports, and the domains of its mail."""

import pytest
from sqlalchemy import text

from pipeline.accounts.domains import MAIL, set_domains
from pipeline.core.errors import NotFound, ValidationFailed
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open, execution
from tests.support import factories
from tests.support.query_counter import record_plans

EXECUTE = "/api/exports/execute"
BOTH = "desk@broker.example", "clerk@Broker.Example"


def build_mail_partner(*addresses: str) -> factories.Json:
    channels = [{"channel": "email", "addresses": list(addresses)}]
    return {"id": "br_mail", "kind": "customs_broker", "name": "Broker", "channels": channels}


def plan(number: int, account: str = factories.ACCOUNT) -> factories.Json:
    return factories.change_plan(factories.plan(batch=f"batch-{number}", invoice=f"A-{number}"), "/accountId", account)


def test_account_at_its_export_limit_is_rejected_until_one_ends(open_harness: Open) -> None:
    harness = open_harness(max_open_exports=2)
    first, second = (harness.execute(plan(number)) for number in (1, 2))
    client = harness.client()
    refused = client.post(EXECUTE, json=execution(plan(3)))
    assert (refused.status_code, refused.json()["errorCode"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "30"
    assert "has 2 active exports, the maximum" in refused.json()["message"]
    # Existing exports are answered as before, and preflight does not count.
    assert client.post(EXECUTE, json=execution(plan(2))).json()["exportId"] == second
    assert client.post("/api/exports/preflight", json=plan(3)).status_code == 200
    assert client.post(f"/api/exports/{first}/cancel").status_code == 200
    assert client.post(EXECUTE, json=execution(plan(3))).status_code == 202


def test_retried_export_counts_again_and_only_for_its_account(open_harness: Open) -> None:
    harness = open_harness(max_open_exports=1)
    export_id = harness.execute(plan(1))
    other = harness.client(account=OTHER)
    other.post("/api/partners", json={"id": factories.BROKER, "kind": "customs_broker", "name": "B", "live": True})
    other.post("/api/partners", json={"id": factories.WAREHOUSE, "kind": "warehouse", "name": "W", "live": True})
    answer = other.post(EXECUTE, json=execution(plan(1, OTHER)) | {"accountId": OTHER})
    assert answer.status_code == 202, answer.text
    with harness.runtime.db.write() as session:
        session.execute(text("UPDATE exports SET state = 'failed', finished_at = accepted_at"))
        session.execute(text("UPDATE steps SET state = 'failed' WHERE name = 'record_packages'"))
    client = harness.client()
    assert client.post(f"/api/exports/{export_id}/retry").status_code in {200, 202}
    assert client.post(EXECUTE, json=execution(plan(2))).status_code == 429


def test_active_exports_are_counted_by_an_index(harness: ApiHarness) -> None:
    with record_plans(harness.runtime.db) as plans:
        harness.execute(plan(1))
    assert any("ix_exports_state (account_id=? AND state=?)" in step for step in plans), plans


def test_active_exports_are_counted_once_for_a_hundredth_of_the_room(open_harness: Open) -> None:
    harness = open_harness(max_open_exports=203)
    harness.execute(plan(1))  # counts 0, so this process accepts two more without counting
    harness.runtime.settings.__dict__["max_open_exports"] = 1
    client = harness.client()
    answers = [client.post(EXECUTE, json=execution(plan(number))).status_code for number in (2, 3, 4)]
    assert answers == [202, 202, 429]


def test_mail_goes_to_the_domains_that_the_account_may_send_to(harness: ApiHarness) -> None:
    client = harness.client("admin")
    set_domains(harness.runtime, factories.ACCOUNT, MAIL, ["Broker.Example"])
    for elsewhere in ("desk@other.example", "desk@broker.example.other.example", "desk@mail.broker.example"):
        refused = client.post("/api/partners", json=build_mail_partner("desk@broker.example", elsewhere))
        assert (refused.status_code, refused.json()["pointer"]) == (400, "/channels/0/addresses/1")
        assert "may send mail to broker.example" in refused.json()["message"]
    assert client.post("/api/partners", json=build_mail_partner(*BOTH)).status_code == 201
    change = {"channels": build_mail_partner("desk@other.example")["channels"]}
    assert client.patch("/api/partners/br_mail", json=change).status_code == 400
    assert (
        harness.client("admin", account=OTHER)
        .post("/api/partners", json=build_mail_partner("a@other.example"))
        .status_code
        == 201
    )


def test_mail_domains_that_exclude_a_partner_are_rejected(harness: ApiHarness) -> None:
    client = harness.client("admin")
    assert client.post("/api/partners", json=build_mail_partner(*BOTH)).status_code == 201
    for domains in ([], ["other.example"]):
        with pytest.raises(ValidationFailed, match="br_mail has the address desk@broker"):
            set_domains(harness.runtime, factories.ACCOUNT, MAIL, domains)
    for none in ("broker", "*.example", "a@b.example", "bröker.example", ""):
        with pytest.raises(ValidationFailed, match="is not a domain"):
            set_domains(harness.runtime, factories.ACCOUNT, MAIL, [none])
    with pytest.raises(NotFound):
        set_domains(harness.runtime, "acc_none", MAIL, None)
    assert set_domains(harness.runtime, factories.ACCOUNT, MAIL, ["broker.example"]) == ["broker.example"]
    assert set_domains(harness.runtime, factories.ACCOUNT, MAIL, None) is None
    changed = client.patch(
        "/api/partners/br_mail", json={"channels": build_mail_partner("a@elsewhere.example")["channels"]}
    )
    assert changed.status_code == 200
