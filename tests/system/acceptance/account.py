"""A test's own account, and its HTTP requests with its key."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from pipeline.accounts import api_keys
from pipeline.accounts import service as account_service
from pipeline.accounts.api_keys import ADMIN
from tests.support import factories
from tests.support.servers import poll
from tests.system.acceptance.installation import Service
from tests.system.acceptance.queue_client import ReceivedMessage

Json = dict[str, Any]

RUNNING_STATES = {"accepted", "executing"}
WAITING_STATUSES = {"pending", "sent", "delivered", "received"}
SECONDS = 180.0

#: A test export goes to the sandbox broker; the service really sends to partners that are marked test.
PARTNERS: tuple[Json, ...] = (
    {
        "id": factories.BROKER,
        "kind": "customs_broker",
        "name": "Sandbox customs broker",
        "test": True,
        "live": True,
        "path": "borderbuddy",
        "channels": [{"channel": "borderbuddy"}, {"channel": "queue"}],
    },
    {"id": factories.WAREHOUSE, "kind": "warehouse", "name": "Demo warehouse", "test": True, "live": True},
    {"id": "op_demo", "kind": "operator", "name": "Export desk", "test": True, "live": True},
)


@dataclass(frozen=True)
class AccountClient:
    """An account with its partners and an administrator's key, in test mode."""

    service: Service
    account_id: str
    http: httpx.Client
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def as_own_plan(self, plan: Json) -> Json:
        """Return the plan with this account's ids."""
        return plan | {"accountId": self.account_id}

    def plan(self, units: int = 1, lines: int = 3, packages: int = 2, **changes: Any) -> Json:
        """Return a plan of this account in a new batch."""
        batch = f"batch_{next(self.numbers):04d}"
        return factories.plan(units, lines, packages, **{"account": self.account_id, "batch": batch, **changes})

    def execute(self, plan: Json, **headers: str) -> httpx.Response:
        """Post the plan; header names have underscores here."""
        body = {"accountId": self.account_id, "batchId": plan["batchId"], "plan": plan}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post("/api/exports/execute", json=body, headers=named)

    def execute_accepted(self, plan: Json, **headers: str) -> str:
        """Post the plan, assert that it is accepted, and return the export's id."""
        answer = self.execute(plan, **headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["exportId"])

    def get(self, path: str) -> Json:
        """Return the JSON at the path."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def inspect(self, export_id: str) -> Json:
        """Return the export's current view."""
        return self.get(f"/api/exports/{export_id}")

    def events(self, export_id: str) -> list[Json]:
        """Return the whole log; assert that its numbers have no gap."""
        found: list[Json] = []
        while True:
            page = self.get(f"/api/exports/{export_id}/events?after={len(found)}&limit=1000")
            found += page["items"]
            if page["nextAfter"] is None:
                break
        assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
        return found

    def events_of_type(self, export_id: str, event_type: str) -> list[Json]:
        """Return the events of one type."""
        return [event for event in self.events(export_id) if event["type"] == event_type]

    def wait_until(self, export_id: str, condition: Callable[[Json], bool], seconds: float = SECONDS) -> Json:
        """Return the export when the condition holds for it."""
        deadline = time.monotonic() + seconds
        while True:
            began = time.monotonic()
            view = self.inspect(export_id)
            if condition(view):
                return view
            now = time.monotonic()
            last = [(event["seq"], event["type"], event["data"]) for event in view["events"][-8:]]
            assert now < deadline, f"after {seconds:g} s it is {view['state']}: {view['status']}\n{last}"
            # A large view costs the service more; pause longer, so that the test's requests do not keep it busy.
            time.sleep(max(0.1, 4 * (now - began)))

    def wait_executed(self, export_id: str, seconds: float = SECONDS) -> Json:
        """Return the export when it is executed, all partners are notified, and the customs broker has answered."""
        view = self.wait_until(export_id, is_finished, seconds)
        assert view["state"] == "executed", (view["status"], view["events"][-3:])
        return view

    def received_messages(self, export_id: str, count: int) -> list[ReceivedMessage]:
        """Return the messages about the export that partners took from their queues, when there are `count`."""
        poll(
            lambda: len(self.service.received_messages(export_id)) >= count,
            SECONDS,
            f"the partners did not receive {count} messages about {export_id}",
        )
        return self.service.received_messages(export_id)


def is_finished(view: Json) -> bool:
    """Return whether the export is finished, with its deliveries and answers."""
    if view["state"] in RUNNING_STATES:
        return False
    all_delivered = all(not each["pending"] and not each["waiting"] for each in view["notifications"])
    return all_delivered and all(
        each["submission_status"] not in WAITING_STATUSES for each in view["broker_submissions"]
    )


@contextmanager
def open_account(service: Service, partners: tuple[Json, ...] = PARTNERS) -> Iterator[AccountClient]:
    """Open a new account; yield it with its partners registered."""
    account = f"acc_{secrets.token_hex(6)}"
    account_service.create_account(service.runtime, account, "Maple Goods Ltd", gs1_prefix="0614141")
    key = api_keys.create_key(service.runtime, account, "acceptance", mode="test", roles=[ADMIN])
    with httpx.Client(
        base_url=service.url, headers={"authorization": f"Bearer {key.bearer}"}, timeout=60, trust_env=False
    ) as http:
        for partner in partners:
            answer = http.post("/api/partners", json=partner)
            assert answer.status_code == 201, answer.text
        yield AccountClient(service, account, http)
