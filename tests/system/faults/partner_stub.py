"""The partners' webhook endpoint: it records requests, and gives the answers and pauses that a test sets."""

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

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: closing resets the connection


#: On SQLite all writers look alike: a transaction counts as open only if it is seen in each of these samples.
_SAMPLES: Final = 10


@dataclass
class PartnerStub:
    """The requests in order; the answers are `statuses` in turn, then those of `respond`, each after `hold_seconds`.

    `respond` returns a status, or None to break the connection; by default 204.

    Each receipt has the sender's number of open transactions. During the pause the stub calls `open_transactions`
    several times for the transactions in the database, of any process; one that is seen every time was open throughout.
    """

    url: str
    receipts: list[Receipt] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    respond: Callable[[], int | None] = lambda: 204
    hold_seconds: float = 0.0
    open_transactions: Callable[[], set[str]] | None = None

    def address(self, partner_id: str) -> str:
        """Return the partner's address."""
        return f"{self.url}/{partner_id}"

    def receipts_of(self, message_id: str) -> list[Receipt]:
        """Return the receipts of one message."""
        return [receipt for receipt in self.receipts if receipt.message_id == message_id]

    def count_repeats(self) -> int:
        """Return the number of receipts beyond the first of each message to each partner."""
        return len(self.receipts) - len({(each.message_id, each.partner_id) for each in self.receipts})


@contextmanager
def start_partner_stub() -> Iterator[PartnerStub]:
    """Yield a partner stub that listens on loopback."""

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
                    at=at,
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
                time.sleep(stub.hold_seconds / _SAMPLES)  # the pause is the fault: a slow partner
                if stub.open_transactions and open_throughout:
                    open_throughout &= stub.open_transactions()
            return sender_has if sender_has is None else max(sender_has, len(open_throughout))

        def log_message(self, *_: object) -> None:
            """Log nothing."""

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
