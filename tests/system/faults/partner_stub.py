"""The partners' end of every webhook: it keeps what came and when, and answers or dawdles as it is told."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from tests.support.ports import LOOPBACK
from tests.system.faults import open_transactions
from tests.system.faults.records import Receipt

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: what is closed is reset


#: On SQLite one writer looks like the next: only who is there at each of so many looks was there all along.
_SAMPLES: Final = 10


@dataclass
class PartnerStub:
    """What came, in order; `statuses` are answered in turn, then whatever `respond` say, each after `hold_seconds`.

    `respond` return a status, or None to break the connection off; by default 204.

    What its sender tells of open transactions is kept with each. `open_transactions` is asked all through that pause for the
    names of what is open in the database, whoever's it is; what was open each time was so all the while.
    """

    url: str
    receipts: list[Receipt] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    respond: Callable[[], int | None] = lambda: 204
    hold_seconds: float = 0.0
    open_transactions: Callable[[], set[str]] | None = None

    def address(self, partner_id: str) -> str:
        """Return where the partner is reached."""
        return f"{self.url}/{partner_id}"

    def receipts_of(self, message_id: str) -> list[Receipt]:
        """Return the receipts of one message."""
        return [receipt for receipt in self.receipts if receipt.message_id == message_id]

    def count_repeats(self) -> int:
        """Return how many receipts there are beyond the first of each message to each partner."""
        return len(self.receipts) - len({(each.message_id, each.partner_id) for each in self.receipts})


@contextmanager
def start_partner_stub() -> Iterator[PartnerStub]:
    """Give a partner stub that listens on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            at = datetime.now(UTC)
            body = self.rfile.read(int(self.headers["content-length"]))
            open_now = self._count_open()
            status = stub.statuses.pop(0) if stub.statuses else stub.respond()
            stub.receipts.append(
                Receipt(
                    self.headers["webhook-id"],
                    json.loads(body)["subject"],
                    self.path.strip("/"),
                    "webhook",
                    at,
                    taken=status is not None and 200 <= status < 300,
                    open_transactions=open_now,
                )
            )
            if status is None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.close_connection = True
                return
            with suppress(OSError):
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        def _count_open(self) -> int | None:
            sender_has = open_transactions.read_count(dict(self.headers))
            open_throughout = stub.open_transactions() if stub.open_transactions else set()
            for _ in range(_SAMPLES):
                time.sleep(stub.hold_seconds / _SAMPLES)  # it is the fault itself: a partner that takes its time
                if stub.open_transactions and open_throughout:
                    open_throughout &= stub.open_transactions()
            return sender_has if sender_has is None else max(sender_has, len(open_throughout))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        server.daemon_threads = True
        stub = PartnerStub(f"http://{LOOPBACK}:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
