"""A caller over HTTP that keeps a log: it repeats a request with the same key until answered, and reads the results."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support import factories
from tests.system.faults.records import Call

Json = dict[str, Any]


@dataclass(frozen=True)
class Client:
    """One account's caller; `calls` is its log, in the order of the answers."""

    account: str
    http: httpx.Client
    calls: list[Call] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def plan(self, units: int = 1, lines: int = 2, packages: int = 1, **changes: Any) -> Json:
        """Return a plan of this account in a new batch."""
        batch = f"batch_{next(self._numbers):04d}"
        return factories.plan(units, lines, packages, **{"account": self.account, "batch": batch, **changes})

    def post(
        self, path: str, body: Json | bytes, *, key: str | None = None, batch: str | None = None
    ) -> httpx.Response | None:
        """Post JSON or a PDF once; return None without an answer."""
        began = time.monotonic()
        headers = {} if key is None else {"idempotency-key": key}
        try:
            if isinstance(body, bytes):
                answer = self.http.post(path, content=body, headers=headers | {"content-type": "application/pdf"})
            else:
                answer = self.http.post(path, json=body, headers=headers)
        except httpx.HTTPError:
            self.calls.append(Call("POST", path, None, time.monotonic() - began, batch))
            return None
        self.calls.append(self._call("POST", path, answer, began, batch))
        return answer

    def execute(self, plan: Json) -> httpx.Response | None:
        """Send the plan once, with its batch's key; return None without an answer."""
        body = {"accountId": self.account, "batchId": plan["batchId"], "plan": plan}
        return self.post("/api/exports/execute", body, key=f"key-{plan['batchId']}", batch=plan["batchId"])

    def amend(self, export_id: str, plan: Json) -> httpx.Response | None:
        """Send the plan once as the export's replacement."""
        body = {"accountId": self.account, "batchId": plan["batchId"], "plan": plan}
        return self.post(f"/api/exports/{export_id}/amend", body, key=f"amend-{export_id}")

    def inspect(self, export_id: str) -> Json | None:
        """Return the export's current view; None after a 503 or without an answer."""
        began, path = time.monotonic(), f"/api/exports/{export_id}"
        try:
            answer = self.http.get(path)
        except httpx.HTTPError:
            self.calls.append(Call("GET", path, None, time.monotonic() - began))
            return None
        self.calls.append(self._call("GET", path, answer, began))
        return answer.json() if answer.status_code == 200 else None

    def _call(self, method: str, path: str, answer: httpx.Response, began: float, batch: str | None = None) -> Call:
        content: Json = {}
        with contextlib.suppress(ValueError):
            content = answer.json()
        events = content.get("events") or []
        return Call(
            method,
            path,
            answer.status_code,
            time.monotonic() - began,
            batch,
            content.get("exportId"),
            content.get("state"),
            events[-1]["seq"] if events else None,
            answer.headers.get("retry-after"),
        )


def export_id_of(answer: httpx.Response | None) -> str:
    """Return the id of the export that an answer accepted."""
    assert answer is not None, "there was no answer"
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json()["exportId"])
