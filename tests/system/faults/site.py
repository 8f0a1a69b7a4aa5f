"""The whole service on one of the three stacks, made to be broken: its processes die often and restart at once."""

import contextlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Any, Final

import httpx
from kombu import Connection

from config import queues
from pipeline.accounts import api_keys, service
from pipeline.accounts.api_keys import ADMIN
from pipeline.core.runtime import Runtime, open_runtime
from tests.conftest import Stack
from tests.support import factories
from tests.support.fork_server import ForkedProcess, ForkServer
from tests.support.ports import LOOPBACK, free_port
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, poll
from tests.system.acceptance.programs import read_procfile
from tests.system.faults import open_transactions
from tests.system.faults.client import Client
from tests.system.faults.fork_server import QUICK
from tests.system.faults.partner_stub import PartnerStub, start_partner_stub
from tests.system.faults.processes import find_left
from tests.system.faults.records import Receipt

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
KILLED: Final = -SIGKILL

#: Shorter times than in production: lost work becomes due after a second or two. No attempt limit ends the tests early.
FAST_SETTINGS: Final[Mapping[str, str]] = {
    "EXPORTS_LEASE_SECONDS": "1.5",
    "EXPORTS_STALLED_SECONDS": "1",
    "EXPORTS_SWEEP_SECONDS": "0.25",
    "EXPORTS_STEP_MAX_ATTEMPTS": "40",
    "EXPORTS_STEP_RETRY_SECONDS": "0.2",
    "EXPORTS_DELIVERY_SCHEDULE_SECONDS": json.dumps([0.5] * 40),
    "EXPORTS_DELIVERY_TIMEOUT_SECONDS": "5",
    "EXPORTS_BREAKER_FAILURES": "1000",
    "EXPORTS_DATABASE_TIMEOUT_SECONDS": "3",
    "EXPORTS_ALLOW_PRIVATE_DESTINATIONS": "true",
}


class Program:
    """One process of the service; all its starts write to one log."""

    def __init__(self, site: "Site", name: str, command: str) -> None:
        self.name = name
        self.command = command
        self.log_file = site.folder / f"{name}.log"
        self.child: ForkedProcess | None = None
        self.terminating = False
        self.sessions: list[int] = []
        self.fork_server = site.fork_server
        self._site = site
        self._log_begins = 0
        self._changes: Mapping[str, str] = {}

    def start(self, variables: Mapping[str, str] | None = None, /, **changes: str) -> None:
        """Start it with these variables and settings, which stay until the next `start`."""
        self._changes = {**(variables or {}), **{f"EXPORTS_{name.upper()}": value for name, value in changes.items()}}
        self._log_begins = len(self.log())
        self.start_again()

    def start_again(self) -> None:
        """Start it with the same settings as before."""
        environment = {**self._site.environment, **self._changes}
        self.child, self.terminating = (
            self.fork_server.fork(self.command, environment, self._site.folder, self.log_file),
            False,
        )
        self.sessions.append(self.child.pid)

    @property
    def armed(self) -> bool:
        """Return whether its variables differ from its site's."""
        return bool(self._changes)

    @property
    def running(self) -> bool:
        """Return whether it was started and has not ended."""
        return self.child is not None and self.child.poll() is None

    @property
    def handles_signals(self) -> bool:
        """Return whether it has installed its handler for SIGTERM."""
        if self.child is None:
            return False
        try:
            process_status = Path(f"/proc/{self.child.pid}/status").read_text()
        except OSError:  # it has ended, but its exit status is not written yet
            return False
        status = dict(line.split(":", 1) for line in process_status.splitlines())
        return bool(int(status["SigCgt"], 16) >> (SIGTERM - 1) & 1)

    def send(self, number: Signals) -> None:
        """Send it a signal."""
        assert self.child is not None
        self.child.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM as its supervisor would; its end is then not an error."""
        self.terminating = True
        self.send(SIGTERM)

    def end_with(self, number: Signals, seconds: float = STOP_SECONDS) -> int:
        """Send it a signal; return how it ended."""
        if self.child is None:
            return 0
        self.child.send_signal(SIGCONT)
        self.child.send_signal(number)
        try:
            return self.child.wait(seconds)
        except TimeoutError:
            self.child.send_signal(SIGKILL)
            self.child.wait(seconds)
            raise
        finally:
            self.child = None

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        self.end_with(SIGKILL)

    def wrote(self, *words: str) -> bool:
        """Return whether it logged one of these words since its last `start`, restarts not counted."""
        return any(map(self.count, words))

    def count(self, word: str) -> int:
        """Return how often it logged this word since then."""
        return self.log()[self._log_begins :].count(word)

    def log(self) -> str:
        """Return its log."""
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""


class Site:
    """A database, a message broker, an artifact store, and the programs that use them."""

    def __init__(
        self,
        stack: Stack,
        folder: Path,
        fork_server: ForkServer,
        *,
        message_broker: Redis | RabbitMQ | None = None,
        database: PostgreSQL | None = None,
        **changes: str,
    ) -> None:
        self.stack, self.folder, self.fork_server = stack, folder, fork_server
        self.message_broker, self.database = message_broker, database
        self.runtime: Runtime = open_runtime(stack.settings)
        self.store = folder / "artifacts"
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.environment = {
            # By the longer names, so that a program can be started with another address.
            **{f"EXPORTS_{name.removeprefix('EXPORTS_')}": value for name, value in stack.environment.items()},
            **FAST_SETTINGS,
            **QUICK,
            "HOST": LOOPBACK,
            "PORT": str(self.port),
            "EXPORTS_PUBLIC_URL": self.url,
            **{f"EXPORTS_{name.upper()}": value for name, value in changes.items()},
        }
        commands = read_procfile()
        everything = f"exports worker -Q {','.join(queues.TASK_QUEUES)}"
        self.programs = {
            "serve": Program(self, "serve", f"exports serve --port {self.port}"),
            "web": Program(self, "web", commands["web"]),
            "worker": Program(self, "worker", everything),
            "worker-2": Program(self, "worker-2", everything),
            "worker-3": Program(self, "worker-3", everything),
            "prefork": Program(self, "prefork", everything + " --concurrency 2"),
            # As in production: one runs the steps; the processes that deliver have sixteen threads each.
            "steps": Program(self, "steps", "exports worker"),
            "deliveries": Program(self, "deliveries", commands["deliveries"]),
            "deliveries-2": Program(self, "deliveries-2", commands["deliveries"]),
            "intake": Program(self, "intake", commands["intake"]),
        }
        self.deaths: list[tuple[str, int]] = []
        self.canaries: list[str] = []
        self._taken_from_queues: list[tuple[str, Receipt]] = []

    @property
    def embedded(self) -> bool:
        """Return whether one process is the whole service."""
        return self.stack.embedded

    @property
    def tries(self) -> int:
        """Return a message's attempts before it is a dead letter: one, and one after each pause of the schedule."""
        return len(json.loads(self.environment["EXPORTS_DELIVERY_SCHEDULE_SECONDS"])) + 1

    def __getitem__(self, role: str) -> Program:
        """Return the program of a role (web, worker, deliveries, intake), or the one that has all roles."""
        return self.programs["serve" if self.embedded else role]

    def start(self, *roles: str) -> None:
        """Start the programs of these roles if they do not run; return when the API answers, if it is one of them."""
        for role in roles:
            if not self[role].running:
                self[role].start()
        if self.embedded or "web" in roles:
            poll(self.answers, START_SECONDS, f"the API did not start\n{self.logs_end()}")

    def answers(self) -> bool:
        """Return whether the API is alive."""
        return answers(self.url)

    def stop(self) -> None:
        """Stop every program as its supervisor would."""
        running = [program for program in self.programs.values() if program.running]
        for program in running:
            program.send(SIGCONT)
            program.send(SIGTERM)
        for program in running:
            with contextlib.suppress(TimeoutError):
                program.end_with(SIGTERM)

    def stop_workers(self) -> None:
        """Stop all workers after a test; only a separate API without failpoints continues."""
        for program in self.programs.values():
            if program.name != "web" or program.armed or not program.running:
                program.kill()

    def close(self) -> None:
        """Stop everything and close the database."""
        for program in self.programs.values():
            program.kill()
        self.runtime.close()

    def restart_killed(self) -> None:
        """Restart every killed or terminated program, as its supervisor would; any other end is an error."""
        for program in self.programs.values():
            status = None if program.child is None else program.child.poll()
            if status is None:
                continue
            self.deaths.append((program.name, status))
            if status != KILLED and not (program.terminating and status == 0):
                raise AssertionError(f"{program.name} ended with {status}\n{program.log()[-6000:]}")
            program.start_again()

    def wait_until(
        self, condition: Callable[[], object], seconds: float, otherwise: str = "the condition did not hold"
    ) -> None:
        """Return when the condition holds; restart killed programs meanwhile. AssertionError with the logs if it fails."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.restart_killed()
            assert time.monotonic() < deadline, f"{otherwise} within {seconds:g} s\n{self.logs_end()}"
            time.sleep(0.05)

    def logs(self) -> dict[str, str]:
        """Return every program's log."""
        return {name: program.log() for name, program in self.programs.items() if program.sessions}

    def logs_end(self) -> str:
        """Return the end of every log, to explain a failure."""
        return "\n".join(f"--- {name}\n{log[-5000:]}" for name, log in self.logs().items())

    def processes_left(self) -> list[str]:
        """Return the leftovers of ended programs, and the zombies of running ones."""
        living = {program.child.pid for program in self.programs.values() if program.child and program.running}
        started = {session for program in self.programs.values() for session in program.sessions}
        return find_left(started - living, living)

    def waiting(self, queue: str) -> int:
        """Return the number of the queue's messages, with the unacknowledged ones; 0 if it does not exist."""
        if isinstance(self.message_broker, RabbitMQ):
            vhost = self.stack.broker_url.rsplit("/", 1)[1]
            try:
                found = self.message_broker.manage("GET", f"queues/{vhost}/{queue}").json()
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise
                return 0
            return int(found.get("messages", 1))
        with Connection(self.stack.broker_url) as connection:
            client: Any = connection.default_channel.client
            # Of each unacknowledged message Redis has the message, its exchange and its routing key.
            held = [each for each in client.hvals("unacked") if json.loads(each)[2] == queue]
            return int(client.llen(queue)) + len(held)

    def drop_unacknowledged(self) -> None:
        """Drop what killed processes of earlier tests held: Redis returns it late, after a wrong clock in an hour."""
        if isinstance(self.message_broker, Redis):
            with Connection(self.stack.broker_url) as connection:
                connection.default_channel.client.delete("unacked", "unacked_index", "unacked_mutex")

    def open_transactions(self) -> set[str]:
        """Return names of the open transactions in the database; on SQLite only the writer is visible."""
        if self.database is None:
            with contextlib.closing(sqlite3.connect(self.folder / "exports.db", isolation_level=None)) as connection:
                connection.execute("PRAGMA busy_timeout=0")
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    return {"the writer"}
                connection.execute("ROLLBACK")
                return set()
        name = self.stack.database_url.rsplit("/", 1)[1]
        with self.database.connection() as connection:
            rows = connection.execute(
                "SELECT pid || ' ' || xact_start FROM pg_stat_activity"
                " WHERE datname = %s AND xact_start IS NOT NULL AND backend_type = 'client backend'",
                (name,),
            ).fetchall()
        return {row[0] for row in rows}

    def take_from_queues(self, account_id: str) -> list[Receipt]:
        """Take all messages from the partners' queues; return all that the account's partners ever got."""
        read = (queues.CUSTOMS_BROKER, queues.WAREHOUSE, queues.OPERATOR)
        with Connection(self.stack.broker_url, transport_options={"socket_timeout": 5}) as connection:
            for queue in queues.contract_queues(self.stack.settings):
                if queue.name not in read:
                    continue
                bound = queue.bind(connection.default_channel)
                bound.declare()
                while (message := bound.get(no_ack=True)) is not None:
                    self._taken_from_queues.append(_from_queue(message))
        return [receipt for account, receipt in self._taken_from_queues if account == account_id]

    @contextmanager
    def account(self, *, by_queue: tuple[str, ...] = ()) -> Iterator[tuple[Client, PartnerStub]]:
        """Open an account for one test; its partners receive at its own partner stub, or `by_queue`."""
        name = f"acc_{secrets.token_hex(6)}"
        service.create_account(self.runtime, name, "Maple Goods Ltd", gs1_prefix="0614141")
        key = api_keys.create_key(self.runtime, name, "faults", mode="test", roles=[ADMIN])
        self.canaries.append(key.bearer)
        headers = {"authorization": f"Bearer {key.bearer}"}
        with ExitStack() as end:
            kept = end.enter_context(start_partner_stub())
            # A long timeout: two hundred callers may use an API that waits for a lock. A connection each: no caller
            # waits for another, and httpx does not close a connection that another thread has just taken ("Bad file
            # descriptor").
            http = end.enter_context(
                httpx.Client(
                    base_url=self.url, headers=headers, timeout=120, limits=ENOUGH_CONNECTIONS, trust_env=False
                )
            )
            for partner in PARTNERS:
                channel: dict[str, Any] = {"channel": "queue"}
                if partner["id"] not in by_queue:
                    channel = {"channel": "webhook", "address": kept.address(str(partner["id"]))}
                answer = http.post("/api/partners", json={**partner, "test": True, "live": True, "channels": [channel]})
                assert answer.status_code == 201, answer.text
                self.canaries += [secret for secret in (answer.json().get("secret"),) if secret]
            yield Client(name, http), kept


ENOUGH_CONNECTIONS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=None)

PARTNERS: Final[tuple[Mapping[str, Any], ...]] = (
    {"id": factories.BROKER, "kind": "customs_broker", "name": "Customs broker", "path": "byob"},
    {"id": factories.WAREHOUSE, "kind": "warehouse", "name": "Warehouse"},
    {"id": "op_demo", "kind": "operator", "name": "Export desk"},
)


def answers(url: str) -> bool:
    """Return whether an API is alive."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/livez", timeout=5, trust_env=False).is_success
    return False


def _from_queue(message: Any) -> tuple[str, Receipt]:
    body = json.loads(message.body)
    segment, partner, *_ = message.delivery_info["routing_key"].split(".")
    # Each test's account has partners with the same ids: after the first account the routing name has the account's id
    # as prefix.
    partner_id = "op_demo" if segment == "operator" else partner.rpartition(":")[2]
    return body["source"].removeprefix("/accounts/"), Receipt(
        body["id"],
        body["subject"],
        partner_id,
        "queue",
        open_transactions=open_transactions.read_count(message.headers),
    )
