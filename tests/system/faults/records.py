"""The evidence after a test: the client's calls, the partner stub's receipts, and the database."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline.simulation.evidence import ReceivedMessage, RunEvidence, Tables
from tests.system.faults.bounds import Recovery

#: The path of a document in the artifact store.
KEPT_AT: Final = re.compile(r"sha256/(?P<a>[0-9a-f]{2})/(?P<b>[0-9a-f]{2})/(?P<sha256>(?P=a)(?P=b)[0-9a-f]{60})")


@dataclass(frozen=True)
class Call:
    """One request of the client and its result; `status` is None if there was no answer.

    `export_id`, `state` and `seq` (the number of events) come from the answer; `batch` is the requested one.
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
class Receipt(ReceivedMessage):
    """One message that the partner stub received.

    `at` is the time of receipt; None if the message waited in a queue. `taken` says whether the partner stub accepted
    it. `open_transactions` is the sender's own count (see `open_transactions.py`) or, if higher, the number that were
    open during the whole pause of the stub; None if unknown.
    """

    at: datetime | None = None
    open_transactions: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """The rows of one account and the store's files, after all work is done.

    `files` has the SHA-256 of each file in the artifact store by path. `reference` has the SHA-256 of each document of
    a run of the same plan without a fault, by export, unit and kind.
    """

    tables: Tables
    files: Mapping[str, str] = field(default_factory=dict)
    reference: Mapping[tuple[str, int, str], str] = field(default_factory=dict)
    processes_left: Sequence[str] = ()


@dataclass(frozen=True)
class History:
    """All evidence for the judge; `canaries` are texts that no log may hold.

    `tries` is the number of attempts before a message is a dead letter, `recoveries` are the measured recovery times.
    """

    snapshot: Snapshot
    calls: Sequence[Call] = ()
    receipts: Sequence[Receipt] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    canaries: Sequence[str] = ()
    tries: int = 1
    recoveries: Sequence[Recovery] = ()

    def evidence(self) -> RunEvidence:
        """Return the part that the product's judge reads."""
        return RunEvidence(
            self.snapshot.tables,
            [
                (call.batch, call.export_id)
                for call in self.calls
                if call.method == "POST" and call.status in {200, 202} and call.export_id is not None
            ],
            self.receipts,
            {
                match["sha256"]
                for path, sha256 in self.snapshot.files.items()
                if (match := KEPT_AT.fullmatch(path)) and match["sha256"] == sha256
            },
            self.tries,
        )
