"""Exactly once: a plan that is sent repeatedly and in parallel becomes one export with one set of messages."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.system.acceptance.account import AccountClient

POSTS = 50


@pytest.mark.parametrize("key", [lambda _: "one-key", lambda n: f"key-{n}"], ids=["one key", "fifty keys"])
def test_fifty_parallel_posts_are_one_export(account: AccountClient, key: Callable[[int], str]) -> None:
    plan = account.plan()
    limits = httpx.Limits(max_connections=POSTS)
    with (
        httpx.Client(
            base_url=account.service.url, headers=account.http.headers, timeout=60, limits=limits, trust_env=False
        ) as http,
        ThreadPoolExecutor(POSTS) as pool,
    ):
        body = {"accountId": account.account_id, "batchId": plan["batchId"], "plan": plan}

        def post(number: int) -> httpx.Response:
            return http.post("/api/exports/execute", json=body, headers={"Idempotency-Key": key(number)})

        answers = list(pool.map(post, range(POSTS)))
    # During the first request a repeated one may get "retry later"; no other error is allowed.
    refused = [answer.json()["errorCode"] for answer in answers if answer.status_code != 202]
    assert set(refused) <= {"BUSY", "IDEMPOTENCY_IN_PROGRESS", "NOT_READY"}
    (export_id,) = {answer.json()["exportId"] for answer in answers if answer.status_code == 202}
    account.wait_executed(export_id)
    assert [item["exportId"] for item in account.get("/api/exports")["items"]] == [export_id]
    messages = account.received_messages(export_id, 5)
    assert Counter(message.queue for message in messages) == {
        "exports.broker": 1,
        "exports.warehouse": 2,
        "exports.operator": 2,
    }
    assert len({message.body["id"] for message in messages}) == 5
    assert len(account.events_of_type(export_id, "EXPORT_ACCEPTED")) == 1


def test_repeated_key_gets_the_same_answer_and_rejects_another_plan(account: AccountClient) -> None:
    plan, other = account.plan(), account.plan()
    first = account.execute(plan, idempotency_key="key-1")
    account.wait_executed(first.json()["exportId"])
    again = account.execute(plan, idempotency_key="key-1")
    assert (again.status_code, again.text) == (202, first.text)
    assert again.headers["idempotent-replayed"] == "true"
    reused = account.execute(other, idempotency_key="key-1")
    assert (reused.status_code, reused.json()["errorCode"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    changed = account.execute(plan | {"destinationCountry": "US", "units": other["units"] * 1, "exportCountry": "MX"})
    assert (changed.status_code, changed.json()["errorCode"]) == (409, "EXPORT_ALREADY_EXECUTED")
    assert len(account.get("/api/exports")["items"]) == 1
