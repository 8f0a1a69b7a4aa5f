"""Each alert fires after its fault was made with real processes, and is quiet before."""

import json
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any, Final, LiteralString

import httpx
import psutil
import psycopg
import pytest
from kombu import Producer

from config import queues
from config.settings import Settings
from pipeline.core.message_broker import make_connection
from pipeline.customs.reference.ruleset import ruleset
from tests.conftest import OwnServer
from tests.support import factories
from tests.support.alert_history import AlertHistory, Page
from tests.support.command_line import Commands
from tests.support.failpoints import build_variables
from tests.support.fork_server import ForkedProcess, start_fork_server
from tests.support.monitoring import read_rules
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.rule_folders import write_rules
from tests.support.servers import PostgreSQL, Redis, poll
from tests.system.faults.fork_server import MODULE, QUICK
from tests.system.faults.partner_stub import start_partner_stub
from tests.system.faults.short_timeouts import STALLED_AFTER
from tests.system.faults.test_limits import fill_disk, mount_small_disk, needs_mount

pytestmark = pytest.mark.servers

#: More exports than may be sent back in an hour without an alert.
SENT_BACK: Final = 7


class Service:
    """A running service of four processes on PostgreSQL and Redis, its partners, and the history of its metrics."""

    def __init__(self, commands: Commands, folder: Path, postgres: PostgreSQL, redis: Redis, ending: ExitStack) -> None:
        self.commands, self.folder, self.postgres, self.redis = commands, folder, postgres, redis
        counts = self._count_in("parent")
        self.parent = ending.enter_context(start_fork_server(folder, module=MODULE, PROMETHEUS_MULTIPROC_DIR=counts))
        self.taking, self.refusing = (ending.enter_context(start_partner_stub()) for _ in range(2))
        self.artifacts = ending.enter_context(mount_small_disk(folder / "artifacts", 32 * 1024))
        self.api = ending.enter_context(httpx.Client(trust_env=False, timeout=60))
        self.database = commands.environment["DATABASE_URL"].replace("+psycopg", "")
        self.ports: dict[str, int] = {}
        self.processes: dict[str, ForkedProcess] = {}
        ending.callback(lambda: self.stop(*self.ports))
        self.key = self._create_account()
        self.fired: list[str] = []
        self._batches = 0

    def _count_in(self, name: str) -> str:
        """Return a folder for counts: the parent must have one when it imports the library, or no worker shows any."""
        (made := self.folder / "metrics" / name).mkdir(parents=True, exist_ok=True)
        return str(made)

    def _create_account(self) -> str:
        self.commands("migrate")
        self.commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd",
                           "--gs1-prefix", "0614141234")  # fmt: skip
        for partner, kind, options in (
            (factories.BROKER, "customs_broker", ()),
            (factories.WAREHOUSE, "warehouse", ("--webhook", self.taking.address("wh"))),
            (factories.OPERATOR, "operator", ("--webhook", self.refusing.address("op"))),
        ):
            self.commands.json("partners", "add", partner, "--account", factories.ACCOUNT, "--kind", kind,
                               "--name", partner, "--live", *options)  # fmt: skip
        return str(self.commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"])

    def start(self) -> None:
        """Start all processes, execute exports, and read the healthy page."""
        for name in ("web", "worker", "deliveries", "intake"):
            self.run(name)
        poll(lambda: all(map(accepts, self.ports.values())), 120, "a process did not start")
        self.execute(SENT_BACK)
        self.wait_for_handoffs()
        self.history = AlertHistory(self.ports)

    def run(self, name: str, **changes: str) -> None:
        """Run a process with these changes of its environment; the number in a name is not part of the command."""
        port = str(self.ports.setdefault(name, free_port()))
        own = {"HOST": LOOPBACK, "PORT": port, "EXPORTS_METRICS_PORT": port}
        environment = self.commands.environment | own | {"PROMETHEUS_MULTIPROC_DIR": self._count_in(name)} | changes
        command, log = f"exports {name.partition('-')[0]}", self.folder / f"{name}.log"
        self.processes[name] = self.parent.fork(command, environment, self.folder, log)

    def stop(self, *names: str) -> None:
        """Kill processes."""
        for name in names:
            self.processes[name].send_signal(SIGKILL)
            self.processes[name].wait()

    def execute(self, count: int, *, certified_until: date | None = None) -> None:
        """Have exports accepted; with a day, they claim USMCA under a certification that ends then."""
        for _ in range(count):
            self._batches += 1
            batch = f"batch-{self._batches}"
            plan = factories.plan(lines=3 if certified_until else 1, batch=batch, invoice=batch)
            if certified_until:
                pointer = "/units/0/usmcaCertificates/0/blanketTo"
                plan = factories.change_plan(plan, pointer, certified_until.isoformat())
            body: dict[str, Any] = {"accountId": factories.ACCOUNT, "batchId": batch, "plan": plan}
            assert self.request("POST", "/api/exports/execute", body, {"Idempotency-Key": batch}) == 202

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> int:
        """Ask the web process, and return the status of its answer."""
        url = f"http://{LOOPBACK}:{self.ports['web']}{path}"
        sent = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        return self.api.request(method, url, json=body, headers=sent).status_code

    def send_commands(self, count: int) -> None:
        """Publish commands without a plan."""
        settings = Settings.model_validate({"broker_url": self.redis.url})
        with make_connection(settings) as connection:
            producer = Producer(connection, exchange=queues.exchange)
            for _ in range(count):
                producer.publish(b"{}", routing_key="execute", declare=queues.contract_queues(settings))

    def query(self, statement: LiteralString) -> list[str]:
        """Run a statement, and return the first column of its rows."""
        with psycopg.connect(self.database) as connection:
            found = connection.execute(statement)
            return [str(row[0]) for row in found] if found.description else []

    def wait_for_handoffs(self) -> None:
        """Return when all exports are handed off that are not quarantined."""
        waiting = "SELECT e.id FROM exports e LEFT JOIN broker_submissions ON export_id = e.id WHERE export_id IS NULL"
        poll(lambda: not self.query(f"{waiting} AND NOT quarantined"), 90, "the exports are not handed off")

    def wait(self, least: float, metric: str, *labels: str) -> None:
        """Return when the metric has reached a value."""
        poll(lambda: self.history.value(metric, *labels) >= least, 90, f"{metric} {labels} did not reach {least}")

    def check(self, first: Page, *expected: str) -> None:
        """Let promtool judge until each alert has fired at one of the pages; `first` was read before the fault."""
        deadline, left = time.monotonic() + 120, [*expected]
        while left := self.history.find_wrong(first, left, self.folder):
            assert time.monotonic() < deadline, left
        self.fired += expected


@pytest.fixture
def service(commands: Commands, own_server: OwnServer, tmp_path: Path) -> Iterator[Service]:
    """A service that does everything quickly, not yet started."""
    postgres, redis = own_server(PostgreSQL), own_server(Redis)
    commands.environment |= {
        "DATABASE_URL": postgres.fresh_url(),
        "BROKER_URL": redis.url,
        "EXPORTS_SECRET_KEY": "k" * 40,
        "EXPORTS_ALLOW_PRIVATE_DESTINATIONS": "true",
        "EXPORTS_LOG_LEVEL": "ERROR",
        "EXPORTS_SWEEP_SECONDS": "0.5",
        "EXPORTS_STALLED_SECONDS": "1",
        "EXPORTS_DATABASE_TIMEOUT_SECONDS": "4",
        "EXPORTS_BREAKER_FAILURES": "2",
        "EXPORTS_BREAKER_OPEN_SECONDS": "5",
        "EXPORTS_DELIVERY_SCHEDULE_SECONDS": json.dumps([1] * 1000),
        "EXPORTS_STEP_MAX_ATTEMPTS": "2",
        "EXPORTS_STEP_RETRY_SECONDS": "1",
        "EXPORTS_RULES": str(write_dated_rules(tmp_path / "rules", "us-ca-own", datetime.now(UTC).date())),
        STALLED_AFTER: "20",
        **QUICK,
    }
    with ExitStack() as ending:
        yield Service(commands, tmp_path, postgres, redis, ending)


def write_dated_rules(folder: Path, name: str, day: date) -> Path:
    """Write the rules of this version as if they were read on another day."""
    return write_rules(folder, name, ("ruleset.yaml", f"as_of: {ruleset().as_of}", f"as_of: {day}"))


@needs_mount
@pytest.mark.timeout(900)
def test_each_alert_fires_after_its_fault(service: Service) -> None:
    service.start()
    neglect(service)
    fail_partners(service)
    crash_worker(service)
    hang_worker(service)
    with fill_disk(service.artifacts):
        service.execute(4)
        service.check(
            service.history.healthy, "ExportsAccessDenied", "ExportsBreakersOpen", "ExportsCertificationsExpire",
            "ExportsDeadLetters", "ExportsDeliveriesFailing", "ExportsDiskFull", "ExportsDiskLow",
            "ExportsEndpointFailing", "ExportsFailed", "ExportsFileDescriptors", "ExportsHandoffsOverdue",
            "ExportsHandoffsSlow", "ExportsIntakeRefusals", "ExportsLeasesLost", "ExportsNotReady",
            "ExportsPrefixNearlyUsed", "ExportsProcessRestarts", "ExportsQuarantined", "ExportsRejections",
            "ExportsRulesOld", "ExportsRulesRefused", "ExportsStepsFailing", "ExportsStepsRetrying",
        )  # fmt: skip
    stop_workers(service)
    lock_tables(service)
    stop_servers(service)
    assert sorted(service.fired) == sorted(rule["alert"] for rule in read_rules() if "alert" in rule)


def neglect(service: Service) -> None:
    """Send exports back, guess keys, use up serials, let the rules grow old, and take the intake's file descriptors."""
    for submission in service.query("SELECT id FROM broker_submissions"):
        path = f"/api/broker-submissions/{submission}/acknowledgements"
        assert service.request("POST", path, {"id": "1", "status": "rejected"}) == 200
    for _ in range(200):
        assert service.request("GET", "/api/exports", headers={"Authorization": "Bearer guessed"}) == 401
    service.commands("accounts", "skip-numbers", factories.ACCOUNT, "--above-sscc", "850000")
    write_dated_rules(service.folder / "rules", "us-ca-old", datetime.now(UTC).date() - timedelta(days=400))
    service.send_commands(12)
    service.wait(12, "exports_intake_seconds_count", "refused")
    intake = service.processes["intake"].pid
    resource.prlimit(intake, resource.RLIMIT_NOFILE, (psutil.Process(intake).num_fds() * 6 // 5,) * 2)


def fail_partners(service: Service) -> None:
    """Let the warehouse fail, and the operator's endpoint be gone."""
    service.taking.respond, service.refusing.respond = lambda: 500, lambda: 410
    service.execute(1)
    # The next export that a worker renders kills it.
    service.wait_for_handoffs()


def crash_worker(service: Service) -> None:
    """Let an export kill each worker that takes it, until it is quarantined; the next export holds the worker."""
    service.stop("worker")
    service.execute(1)
    armed = f"render_documents.before=kill*2 hand_off.before=barrier:{service.folder / 'open'}"
    # It does not sweep: it would take what it has counted with it.
    changes = {"EXPORTS_SWEEP_SECONDS": "600", "EXPORTS_LEASE_SECONDS": "2"}
    changes |= build_variables(armed, service.folder / "marks")
    service.run("worker", **changes)

    def is_quarantined() -> bool:
        if service.processes["worker"].poll() is not None:
            service.run("worker", **changes)
        return service.query("SELECT id FROM exports WHERE quarantined") != []

    poll(is_quarantined, 120, "the export is not quarantined")


def hang_worker(service: Service) -> None:
    """Stop a worker that holds a step; ten minutes later, as the rows say, another takes all work, and brokers are late."""
    service.execute(1)
    poll((service.folder / "marks/hand_off.before.1").exists, 60, "the worker does not hand off")
    break_rules(service)
    service.processes["worker"].send_signal(SIGSTOP)
    service.query("UPDATE exports SET accepted_at = accepted_at - interval '10 minutes' WHERE state = 'executing'")
    service.query("UPDATE broker_submissions SET deadline_at = now() - interval '1 minute'")
    service.run("worker-2")
    service.wait_for_handoffs()
    (service.folder / "open").touch()
    service.processes["worker"].send_signal(SIGCONT)


def break_rules(service: Service) -> None:
    """Break the rules after the old ones were activated; let a certification end soon."""
    service.execute(2, certified_until=datetime.now(UTC).date() + timedelta(days=10))
    stored = "SELECT ruleset_id FROM rulesets WHERE ruleset_id = 'us-ca-old'"
    poll(lambda: service.query(stored) != [], 60, "the old rules are not active")
    (service.folder / "rules/ruleset.yaml").write_text("id: 1", encoding="utf-8")

    def are_refused() -> bool:
        service.request("POST", "/api/exports/preflight", factories.plan())  # a process looks when it checks a plan
        return service.history.value("exports_rules_refused") == 1

    poll(are_refused, 90, "the rules are not refused")


def stop_workers(service: Service) -> None:
    """Run no worker and no intake. The senders still sweep."""
    before = service.history.read()
    service.stop("worker", "worker-2", "intake")
    service.send_commands(1)
    service.execute(1)
    # The age does not begin again with each sweep.
    service.wait(5, "exports_queue_oldest_due_seconds", "exports.steps")
    service.check(before, "ExportsProcessDown", "ExportsQueueLate", "ExportsQueueStalled", "ExportsQueueUnread")


def lock_tables(service: Service) -> None:
    """Let each reader of two tables wait for a lock until its time is over."""
    before = service.history.read()
    with psycopg.connect(service.database) as connection:
        connection.execute("LOCK TABLE steps, exports")
        assert [service.request("GET", "/api/exports") for _ in range(2)] == [503] * 2
        service.check(before, "ExportsHttpErrors", "ExportsHttpSlow", "ExportsNoSweep", "ExportsSweepErrors")


def stop_servers(service: Service) -> None:
    """Kill the message broker, then the database, then the web process."""
    before = service.history.read()
    service.redis.kill()
    service.execute(1)
    service.check(before, "ExportsTaskMessagesNotSent")
    service.postgres.kill()
    service.check(before, "ExportsDatabaseDown")
    service.stop("web")
    service.check(before, "ExportsMetricsMissing")
