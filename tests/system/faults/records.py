"""What is known after a test: what the client asked and was told, what the partner stub was sent, and what lies in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.system.faults.bounds import Recovery

Row = Mapping[str, Any]

#: The tables that the checker reads, each row as a mapping of its columns.
TABLES = ("exports", "units", "steps", "events", "artifacts", "notifications", "deliveries", "attempts")


@dataclass(frozen=True)
class Call:
    """One request of the client and what came of it; `status` is None where no answer came.

    `export_id`, `state` and `seq` (the number of events) are what the answer said, `batch` is what was asked to be executed.
    """

    method: str
    path: str
    status: int | None
    seconds: float = 0.0
    batch: str | None = None
    export_id: str | None = None
    state: str | None = None
    seq: int | None = None
    retry_after: str | None = None


@dataclass(frozen=True)
class Receipt:
    """One message as it reached the partner stub, by `partner_id`'s `channel`.

    `at` is when it came, None where it lay in a queue before it was looked at. `taken` says whether the partner stub took it.
    `open_transactions` counts those that its sender had open as it sent (see `telltale`) or, if they are more, those of the
    service that were open all the while the partner stub held it up and looked; None: nobody knows.
    """

    message_id: str
    export_id: str
    partner_id: str
    channel: str
    at: datetime | None = None
    taken: bool = True
    open_transactions: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """The rows of one account, and what lies beside the database, once everything has come to rest.

    `files` are the artifact store's, SHA-256 of the bytes by path; `reference` is what a run without a fault makes of the
    same plan, SHA-256 by export, unit and kind of document.
    """

    tables: Mapping[str, Sequence[Row]]
    files: Mapping[str, str] = field(default_factory=dict)
    reference: Mapping[tuple[str, int, str], str] = field(default_factory=dict)
    processes_left: Sequence[str] = ()


@dataclass(frozen=True)
class History:
    """Everything that the checker goes by; `canaries` are texts that no log may hold.

    `tries` is how often a message is sent before it is a dead letter, `recoveries` how long it took to come to rest.
    """

    snapshot: Snapshot
    calls: Sequence[Call] = ()
    receipts: Sequence[Receipt] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    canaries: Sequence[str] = ()
    tries: int = 1
    recoveries: Sequence[Recovery] = ()
