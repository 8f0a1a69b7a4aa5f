"""A customs broker that answers only by its own channel takes the example exports to their ends, entry by entry."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from config import queues
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.exports import examples
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script
from tests.system.acceptance.account import PARTNERS, AccountClient, open_account
from tests.system.acceptance.installation import Service

Json = dict[str, Any]


class Broker:
    """A customs broker with one channel, by which it also answers."""

    def __init__(self, account: AccountClient, channel: str, secret: str) -> None:
        self._account, self._channel, self._secret = account, channel, secret
        self._ids = (f"a-{number}" for number in count(1))

    def answer(self, view: Json, status: str, *packages: str, **more: Any) -> None:
        """Send an answer to the handoff, signed with the partner's secret."""
        answer = {"id": next(self._ids), "status": status, "customsPackageNumbers": packages, **more}
        handoff = view["broker_submission"]["id"]
        if self._channel == "queue":
            body = json.dumps({"submissionId": handoff, **answer}).encode()
            self._account.service.files.post(
                body, queues.ACKNOWLEDGEMENTS, headers=build_signature_headers(answer["id"], body, self._secret)
            )
            return
        body = json.dumps(answer).encode()
        address = f"{self._account.service.url}/api/broker-submissions/{handoff}/acknowledgements"
        receipt = httpx.post(
            address, content=body, headers=build_signature_headers(answer["id"], body, self._secret), trust_env=False
        )
        assert receipt.status_code == 200, receipt.text


@pytest.fixture(params=["queue", "webhook"])
def desk(request: pytest.FixtureRequest, service: Service) -> Iterator[tuple[AccountClient, Broker]]:
    """An account, and its customs broker."""
    with Endpoint([Script()] * 100) as endpoint, open_account(service, PARTNERS[1:]) as account:
        address = {"address": endpoint.url} if request.param == "webhook" else {}
        broker = {
            "id": factories.BROKER,
            "kind": "customs_broker",
            "name": "A broker with one channel",
            "test": True,
            "path": "byob",
            "channels": [{"channel": request.param, **address}],
        }
        secret = account.http.post("/api/partners", json=broker).json()["secret"]
        yield account, Broker(account, request.param, secret)


def wait_delivered(account: AccountClient, name: str) -> Json:
    """Execute the example plan of this name; return the export when the customs broker has it."""
    plan = account.as_own_plan(examples.load_plan(name, datetime.now(UTC).date()))
    return account.wait_until(account.execute_accepted(plan), lambda view: has_status(view, "delivered"))


def has_status(view: Json, status: str) -> bool:
    return (view["broker_submission"] or {}).get("submission_status") == status


def test_examples_are_released_held_and_withdrawn(desk: tuple[AccountClient, Broker]) -> None:
    account, broker = desk
    released, held, withdrawn = (wait_delivered(account, name) for name in examples.list_names())
    answers: tuple[tuple[Json, Callable[[Json], bool], tuple[str, ...]], ...] = (
        (released, lambda view: view["outcome"] == "released", ("accepted", "filed", "released")),
        (held, lambda view: view["outcome"] == "held", ("filed", "released", "held")),
    )
    for view, is_reached, statuses in answers:
        for status in statuses:
            broker.answer(view, status)
        account.wait_until(view["exportId"], is_reached)
    asked = account.http.post(f"/api/exports/{withdrawn['exportId']}/withdraw", json={"reason": "sold elsewhere"})
    assert asked.status_code == 200, asked.text
    broker.answer(withdrawn, "withdrawn")
    account.wait_until(withdrawn["exportId"], lambda view: view["outcome"] == "withdrawn")
    (item,) = account.get("/api/inbox")["items"]
    assert (item["exportId"], item["cause"]) == (held["exportId"], "held")


def test_entries_of_one_export_are_released_held_and_withdrawn(desk: tuple[AccountClient, Broker]) -> None:
    account, broker = desk
    view = wait_delivered(account, "three-units")
    first, second, third = (package["packageNumber"] for package in view["customs_packages"])
    broker.answer(view, "released", first, entryNumber="ABC-0000001-1")
    broker.answer(view, "held", second, hold={"holder": "agency", "agency": "FDA", "kind": "exam"})
    broker.answer(view, "withdrawn", third)
    view = account.wait_until(
        view["exportId"], lambda view: "1 of 3 released" in view["status"] and "withdrawn" in view["status"]
    )
    entries = view["broker_submission"]["entries"]
    assert {entry["customs_package_number"]: entry["headline"] for entry in entries} == {
        first: "released",
        second: "held",
        third: "withdrawn",
    }
