"""A recorded client of the public EntryGo protocol runs its steps unchanged against the service."""

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.core.clock import utc_now
from pipeline.customs.reference.entry import entry_rules
from tests.support import factories, orders
from tests.system.acceptance.account import AccountClient

RECORDED = Path(__file__).with_name("recorded_client.http")

#: The customs data behind the products of the recorded orders, and the terms of the account: its setup, not its steps.
PRODUCTS = [orders.product(0, externalId="prod_pan"), orders.product(1, externalId="prod_shirt")]


@dataclass
class RecordedRequest:
    """One request of the file, and what the client does with its answer."""

    title: str
    method: str = ""
    path: str = ""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    keeps: dict[str, str] = field(default_factory=dict)
    expects: dict[str, str] = field(default_factory=dict)
    body: str = ""


def read_requests(text: str) -> list[RecordedRequest]:
    """Return the requests of an .http file, in order."""
    requests = []
    for part in text.split("\n### ")[1:]:
        title, *lines = part.splitlines()
        request = RecordedRequest(title)
        head, _, request.body = "\n".join(lines).partition("\n\n")
        for line in head.splitlines():
            if (directive := re.fullmatch(r"# @(keep|expect) (\S+) = (.+)", line)) is not None:
                {"keep": request.keeps, "expect": request.expects}[directive[1]][directive[2]] = directive[3]
            elif (directive := re.fullmatch(r"# @status (\d+)", line)) is not None:
                request.status = int(directive[1])
            elif not request.method:
                request.method, request.path = line.split(" ", 1)
            else:
                name, value = line.split(": ", 1)
                request.headers[name] = value
        requests.append(request)
    return requests


def read_member(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def fill_in(text: str, known: dict[str, Any]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: known[found[1]], text)


def make_template(year: int) -> factories.Json:
    """Return the plan template with USMCA certificates of that year."""
    made = orders.template()
    period = {"blanketFrom": f"{year}-01-01", "blanketTo": f"{year}-12-31"}
    return made | {"usmcaCertificates": [each | period for each in made["usmcaCertificates"]]}


def test_recorded_client_runs_unchanged(account: AccountClient) -> None:
    today = utc_now().astimezone(ZoneInfo(entry_rules().clock.zone)).date()
    entered_on = today + timedelta(days=orders.template()["entry"]["exportAfterDays"])
    for what, items in (("products", PRODUCTS), ("plan-templates", [make_template(entered_on.year)])):
        body = {"accountId": account.account_id, "items": items}
        account.http.post(f"/api/{what}/sync", json=body).raise_for_status()
    known: dict[str, Any] = {
        "accountId": account.account_id,
        "warehouseId": factories.WAREHOUSE,
        "brokerId": factories.BROKER,
    }
    requests = read_requests(RECORDED.read_text(encoding="utf-8"))
    assert len(requests) == 12
    for request in requests:
        content = json.loads(fill_in(request.body, known)) if request.body else None
        answer = account.http.request(
            request.method, fill_in(request.path, known), headers=request.headers, json=content
        )
        if request.status is None:
            assert answer.is_success, (request.title, answer.text)
        else:
            assert answer.status_code == request.status, (request.title, answer.text)
        given = answer.json()
        for path, expected in request.expects.items():
            found = read_member(given, path)
            assert found == fill_in(expected, known) or (expected == "*" and found), (request.title, path, found)
        known |= {name: read_member(given, path) for name, path in request.keeps.items()}
    assert [each for each in known["messages"] if each["severity"] == "warn"] == []
