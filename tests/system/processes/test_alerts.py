"""Each alert fires after its fault was made with real processes, and is quiet before."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psutil
import psycopg
import pytest
from httpx import Response
from kombu import Producer

from config import queues
from config.settings import Settings
from pipeline.core.message_broker import make_connection
from tests.conftest import OwnServer
from tests.support import factories
from tests.support.alert_history import AlertHistory
from tests.support.command_line import Commands, exports
from tests.support.monitoring import read_rules
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.rule_folders import write_rules
from tests.support.servers import PostgreSQL, Redis, poll
from tests.system.faults.partner_stub import start_partner_stub

pytestmark = pytest.mark.servers

#: Alerts whose faults are not made here.
OTHERS = {
    "ExportsDiskFull",
    "ExportsDiskLow",
    "ExportsFailed",
    "ExportsHandoffsSlow",
    "ExportsLeasesLost",
    "ExportsProcessRestarts",
    "ExportsQuarantined",
    "ExportsRulesOld",
}


class Service:
    """A running service of four processes on PostgreSQL and Redis, its partners, and the history of its metrics."""

    def __init__(self, commands: Commands, folder: Path, postgres: PostgreSQL, redis: Redis, ending: ExitStack) -> None:
        self.commands, self.folder, self.postgres, self.redis = commands, folder, postgres, redis
        self.taking, self.refusing = (ending.enter_context(start_partner_stub()) for _ in range(2))
        self.ports = {name: free_port() for name in ("web", "worker", "deliveries", "intake")}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        ending.callback(lambda: self.stop(*self.ports))
        self.key = self._create_account()
        self.fired: list[str] = []
        self._batches = 0

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
        """Start all processes, execute an export, and read the healthy pages."""
        for name, port in self.ports.items():
            own = {"HOST": LOOPBACK, "PORT": str(port), "EXPORTS_METRICS_PORT": str(port)}
            self.processes[name] = exports([name], self.commands.environment | own, self.folder)
        for name, port in self.ports.items():
            poll(partial(accepts, port), 120, f"{name} did not start")
        self.execute(1)
        poll(lambda: len(self.taking.receipts) >= 2, 60, "the warehouse got no message")
        self.history = AlertHistory(self.ports)

    def stop(self, *names: str) -> None:
        """Kill processes."""
        for name in names:
            if (process := self.processes.pop(name, None)) is not None:
                process.kill()
                process.communicate()

    def execute(self, count: int, *, certified_until: date | None = None) -> None:
        """Have exports accepted; with a day, they claim USMCA under a certification that ends then."""
        for _ in range(count):
            self._batches += 1
            batch = f"batch-{self._batches}"
            plan = factories.plan(lines=3 if certified_until else 1, batch=batch, invoice=batch)
            if certified_until:
                ends = certified_until.isoformat()
                plan = factories.change_plan(plan, "/units/0/usmcaCertificates/0/blanketTo", ends)
            body: dict[str, Any] = {"accountId": factories.ACCOUNT, "batchId": batch, "plan": plan}
            answer = self.request("POST", "/api/exports/execute", json=body, headers={"Idempotency-Key": batch})
            assert answer.status_code == 202, answer.text

    def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> Response:
        """Ask the web process."""
        with httpx.Client(base_url=f"http://{LOOPBACK}:{self.ports['web']}", trust_env=False, timeout=60) as api:
            return api.request(
                method, path, json=json, headers={"Authorization": f"Bearer {self.key}", **(headers or {})}
            )

    def send_commands(self, count: int) -> None:
        """Publish commands without a plan."""
        settings = Settings.model_validate({"broker_url": self.redis.url})
        with make_connection(settings) as connection:
            producer = Producer(connection, exchange=queues.exchange)
            for _ in range(count):
                producer.publish(b"{}", routing_key="execute", declare=queues.contract_queues(settings))

    def change(self, *statements: LiteralString) -> None:
        """Change rows, as the time or a fault would."""
        with psycopg.connect(self.database) as connection:
            for statement in statements:
                connection.execute(statement)

    def list_submissions(self) -> list[str]:
        """Return the ids of the handoffs to the customs broker."""
        with psycopg.connect(self.database) as connection:
            return [str(row[0]) for row in connection.execute("SELECT id FROM broker_submissions")]

    @property
    def database(self) -> str:
        """The address of the database for the driver."""
        return self.commands.environment["DATABASE_URL"].replace("+psycopg", "")

    def wait(self, least: float, metric: str, *labels: str) -> None:
        """Return when the metric has reached a value."""
        poll(lambda: self.history.value(metric, *labels) >= least, 90, f"{metric} {labels} did not reach {least}")

    def check(self, again: Callable[[], None], *expected: str) -> None:
        """Read the fault's pages, with the fault made again between them, and let promtool judge."""
        first = self.history.read()
        again()
        assert self.history.find_wrong(first, self.history.read(), expected, self.folder) == []
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
        "EXPORTS_BREAKER_OPEN_SECONDS": "1",
        "EXPORTS_DELIVERY_SCHEDULE_SECONDS": json.dumps([1] * 1000),
        "EXPORTS_STEP_RETRY_SECONDS": "1",
        "EXPORTS_RULES": str(write_rules(tmp_path / "rules", "us-ca-own")),
    }
    with ExitStack() as ending:
        yield Service(commands, tmp_path, postgres, redis, ending)


@pytest.mark.timeout(900)
def test_each_alert_fires_after_its_fault(service: Service) -> None:
    service.start()
    neglect(service)
    artifacts = service.folder / "artifacts"
    fail_partners(service)
    artifacts.rename(service.folder / "kept")
    artifacts.write_text("not a folder")
    fail_documents(service)
    artifacts.unlink()
    (service.folder / "kept").rename(artifacts)
    stop_workers(service)
    lock_tables(service)
    stop_servers(service)
    assert {*service.fired} | OTHERS == {rule["alert"] for rule in read_rules() if "alert" in rule}
    assert not {*service.fired} & OTHERS


FAILING, STEPS = ("exports_failing_endpoint_seconds", "warehouse"), ("exports_step_seconds_count", "retried")
REFUSED = "exports_intake_seconds_count", "refused"


def fail_partners(service: Service) -> None:
    """Let the warehouse fail, the operator's endpoint be gone, and the customs broker be late; send wrong commands."""
    service.taking.respond, service.refusing.respond = lambda: 500, lambda: 410
    service.execute(4)
    service.send_commands(12)
    service.wait(1, *FAILING)
    service.wait(1, "exports_deliveries", "dead")
    service.wait(12, *REFUSED)
    service.change("UPDATE broker_submissions SET deadline_at = now() - interval '1 minute'")
    service.wait(1, "exports_handoffs_overdue")
    service.wait(1, "exports_breakers_open")
    waited = service.history.value(*FAILING)

    def again() -> None:
        service.send_commands(12)
        service.wait(24, *REFUSED)
        service.wait(waited + 1, *FAILING)

    service.check(again, "ExportsEndpointFailing", "ExportsBreakersOpen", "ExportsDeliveriesFailing",
                  "ExportsDeadLetters", "ExportsHandoffsOverdue", "ExportsIntakeRefusals")  # fmt: skip
    service.taking.respond = lambda: 204


def neglect(service: Service) -> None:
    """Use up serials, let a certification end soon, break the rules, send exports back, and guess keys."""
    service.commands("accounts", "skip-numbers", factories.ACCOUNT, "--above-sscc", "850000")
    ends = datetime.now(UTC).date() + timedelta(days=10)
    service.execute(8, certified_until=ends)
    (service.folder / "rules/ruleset.yaml").write_text("id: 1", encoding="utf-8")

    def are_rules_refused() -> bool:
        service.execute(1, certified_until=ends)  # a process looks at the rules when it checks a plan
        return service.history.value("exports_rules_refused") == 1

    poll(are_rules_refused, 90, "the rules are not refused")
    poll(lambda: len(service.list_submissions()) >= 9, 90, "the exports are not handed off")
    service.wait(1, "exports_certifications_expiring")
    service.wait(0.8, "exports_gs1_prefix_used_ratio")
    *others, first = service.list_submissions()

    def reject(reached: int, *submissions: str) -> None:
        for submission in submissions:
            path = f"/api/broker-submissions/{submission}/acknowledgements"
            assert service.request("POST", path, json={"id": "1", "status": "rejected"}).status_code == 200
        for _ in range(80):
            assert service.request("GET", "/api/exports", headers={"Authorization": "Bearer guessed"}).is_client_error
        service.wait(reached, "exports_outcomes_reached_total", "rejected")

    reject(1, first)
    service.check(partial(reject, 1 + len(others), *others), "ExportsAccessDenied", "ExportsCertificationsExpire",
                  "ExportsPrefixNearlyUsed", "ExportsRejections", "ExportsRulesRefused")  # fmt: skip


def fail_documents(service: Service) -> None:
    """Let steps fail for two minutes, as their rows say, and take the file descriptors of the intake."""
    service.execute(4)
    service.wait(4, *STEPS)
    service.change("UPDATE steps SET started_at = started_at - interval '2 minutes' WHERE error IS NOT NULL")
    poll(lambda: service.history.value("exports_ready", "outage") == 0, 60, "the outage is not shown")
    intake = service.processes["intake"].pid
    resource.prlimit(intake, resource.RLIMIT_NOFILE, (psutil.Process(intake).num_fds() + 2,) * 2)
    service.wait(1, "exports_steps_retrying")
    retried = service.history.value(*STEPS)

    def again() -> None:
        service.wait(retried + 2, *STEPS)
        service.wait(1, "exports_steps_retrying")  # the sweeper counts later

    service.check(again, "ExportsStepsRetrying", "ExportsStepsFailing", "ExportsNotReady", "ExportsFileDescriptors")  # fmt: skip


def stop_workers(service: Service) -> None:
    """Run no worker and no intake. The senders still sweep."""
    service.stop("worker", "intake")
    service.send_commands(1)
    service.execute(1)
    late = "exports_queue_oldest_due_seconds", "exports.steps"
    service.wait(1, *late)
    waited = service.history.value(*late)
    service.check(lambda: service.wait(waited + 1, *late),
                  "ExportsQueueStalled", "ExportsQueueLate", "ExportsQueueUnread", "ExportsProcessDown")  # fmt: skip


def lock_tables(service: Service) -> None:
    """Let each reader of two tables wait for a lock until its time is over."""

    def ask() -> None:
        assert [service.request("GET", "/api/exports").status_code for _ in range(3)] == [503] * 3

    with psycopg.connect(service.database) as connection:
        connection.execute("LOCK TABLE steps, exports")
        ask()
        service.wait(1, "exports_sweep_errors_total")
        service.check(ask, "ExportsHttpErrors", "ExportsHttpSlow", "ExportsSweepErrors", "ExportsNoSweep")


def stop_servers(service: Service) -> None:
    """Kill the message broker, then the database, then the web process."""
    service.redis.kill()
    service.execute(1)
    service.wait(1, "exports_task_messages_total", "failed")
    service.check(lambda: service.execute(1), "ExportsTaskMessagesNotSent")
    service.postgres.kill()
    service.check(lambda: None, "ExportsDatabaseDown")
    service.stop("web")
    service.check(lambda: None, "ExportsMetricsMissing")
