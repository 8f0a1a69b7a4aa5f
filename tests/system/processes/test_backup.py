"""A backup taken while exports run: after a restore each export ends, and its messages keep their ids."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from subprocess import PIPE

import pytest
from sqlalchemy import select
from sqlmodel import col

from config.settings import HOME, Settings
from pipeline.accounts import partners, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.schemas import NewPartner
from pipeline.core.errors import InvalidState
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.deliveries.models import Delivery, Notification
from pipeline.deliveries.streams import sender
from pipeline.exports.models import Artifact, Export
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.ops import audit, backup
from pipeline.ops.migrations.runner import SchemaStatus, schema_status
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.engine import run_step
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import TaskMessage
from pipeline.workflow.sweeper import find_due
from tests.conftest import OWNER, SERVERS
from tests.support import factories
from tests.support.servers import PostgreSQL, poll
from tests.support.task_by_task import task_by_task

CALLER = Caller(factories.ACCOUNT, "key_test", "test", frozenset({"execute", "read", "operate"}))


#: The progress of each export at the backup: nothing, one step, a leased step, documents, all but two notify steps.
STAGES: Sequence[Sequence[tuple[int, str]]] = (
    (),
    ((1, "record_packages"),),
    ((1, "record_packages"),),
    ((1, "record_packages"), (1, "render_documents")),
    ((1, "record_packages"), (1, "render_documents"), (0, "notify_warehouse")),
)


LEASED = 2


Open = Callable[[str, str], Runtime]


@pytest.fixture
def open_service() -> Iterator[Open]:
    """Return a function that opens a service with short leases on a database and a store."""
    runtimes: list[Runtime] = []

    def start(database_url: str, artifacts_url: str) -> Runtime:
        settings = {"lease_seconds": 3, "stalled_seconds": 0.05, "step_retry_seconds": 0.05}
        urls = {"database_url": database_url, "artifacts_url": artifacts_url, "secret_key": "of the tests alone"}
        runtimes.append(open_runtime(Settings.model_validate(urls | settings)))
        return runtimes[-1]

    yield start
    for runtime in runtimes:
        runtime.close()


def take(runtime: Runtime, name: str) -> str:
    plan = factories.plan(batch=name, invoice=name.upper())
    body = {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}
    request = ExecuteRequest.model_validate(body)
    return accept_plan(runtime, CALLER, request, raw_plan=plan, idempotency_key=None).export_id


def start_exports(runtime: Runtime) -> list[str]:
    """Start exports at every stage, one of them with a leased step; return their ids."""
    service.create_account(runtime, factories.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    for partner_id, kind in ((factories.BROKER, "customs_broker"), (factories.WAREHOUSE, "warehouse")):
        facts = {"id": partner_id, "kind": kind, "name": "of a test", "test": True, "live": True}
        partners.create_partner(runtime, factories.ACCOUNT, NewPartner.model_validate(facts))
    exports = []
    for number, stage in enumerate(STAGES):
        export_id = take(runtime, f"a{number}")
        for unit_no, step in stage:
            with task_by_task():
                assert step in run_step(runtime, export_id, unit_no, step).completed
        exports.append(export_id)
    assert claim_step(runtime, exports[LEASED], 1, "render_documents") is not None
    return exports


def state(runtime: Runtime, export_id: str) -> str:
    with runtime.db.read() as session:
        return session.get_one(Export, export_id).state


def finish(runtime: Runtime, exports: Sequence[str]) -> None:
    """Sweep as workers do until all exports are executed and no delivery is pending."""

    def swept() -> bool:
        tasks: list[TaskMessage] = find_due(runtime)
        while tasks:
            task = tasks.pop()
            if task.step is not None:
                tasks += run_step(runtime, task.export_id, task.unit_no, task.step).tasks
            elif task.partner_id and task.channel:
                sender.deliver_stream(runtime, task.export_id, task.partner_id, task.channel)
        return all(state(runtime, each) == "executed" for each in exports) and not count_pending(runtime)

    poll(swept, 200, "the exports did not end")


def count_pending(runtime: Runtime) -> int:
    with runtime.db.read() as session:
        return len(session.scalars(select(col(Delivery.id)).where(col(Delivery.state) == "pending")).all())


def list_messages(runtime: Runtime, exports: Sequence[str]) -> set[str]:
    with runtime.db.read() as session:
        return set(session.scalars(select(col(Notification.id)).where(col(Notification.export_id).in_(exports))))


def list_delivered(runtime: Runtime, exports: Sequence[str]) -> set[str]:
    wanted = select(col(Delivery.id)).where(col(Delivery.subject_id).in_(exports), col(Delivery.state) == "delivered")
    with runtime.db.read() as session:
        return set(session.scalars(wanted))


def check_promises(original: Runtime, restored: Runtime, exports: Sequence[str], delivered: set[str]) -> None:
    """Check that the restored service finishes every export with the same messages and repeats no known delivery."""
    attempts_before = count_attempts(restored)
    finish(restored, exports)
    finish(original, exports)
    assert list_messages(restored, exports) == list_messages(original, exports)
    assert {row: count for row, count in count_attempts(restored).items() if row in delivered} == {
        row: count for row, count in attempts_before.items() if row in delivered
    }
    assert audit.verify_chains(restored).intact
    with restored.db.read() as session:
        for sha256 in set(session.scalars(select(col(Artifact.sha256)))):
            restored.store.get(sha256)


def count_attempts(runtime: Runtime) -> dict[str, int]:
    with runtime.db.read() as session:
        return {row.id: row.attempts for row in session.scalars(select(Delivery))}


def test_create_backup_during_writes_can_be_restored_and_continued(
    open_service: Open, sqlite_url: str, tmp_path: Path
) -> None:
    original = open_service(sqlite_url, f"file:{tmp_path / 'artifacts'}")
    exports = start_exports(original)
    delivered = list_delivered(original, exports)
    assert len(delivered) == 2
    stated = audit.sign_checkpoint(original, settled_seconds=0)
    over = threading.Event()
    late: list[str] = []

    def accept_more() -> None:
        while not over.is_set():
            late.append(take(original, f"late{len(late)}"))

    writer = threading.Thread(target=accept_more)
    writer.start()
    try:
        poll(lambda: len(late) > 1, 30, "no export was accepted")
        taken = backup.create_backup(original, tmp_path / "copy")
        accepted = len(late)
        poll(lambda: len(late) > accepted, 30, "no export was accepted after the backup")
    finally:
        over.set()
        writer.join()
    assert len(exports) <= taken.exports <= len(exports) + len(late)
    assert taken.documents > 0

    home = tmp_path / "restored"
    shutil.copytree(tmp_path / "copy", home)
    restored = open_service(f"sqlite:///{home / backup.DATABASE}", f"file:{home / backup.DOCUMENTS}")
    assert schema_status(restored.db) is SchemaStatus.CURRENT
    assert (
        audit.find_mismatch(stated, audit.verify_chains(restored, until=datetime.fromisoformat(stated.until))) is None
    )
    check_promises(original, restored, exports, delivered)


def read_documented_command(beginning: str) -> str:
    """Return the command of docs/deployment.md that starts with `beginning`, without its comment."""
    text = (HOME / "docs" / "deployment.md").read_text(encoding="utf-8")
    (found,) = (line for line in text.splitlines() if line.startswith(f"$ {beginning}"))
    return found.removeprefix("$ ").split("   ")[0]


@SERVERS
def test_postgresql_dump_during_exports_can_be_restored_and_continued(
    open_service: Open, postgres_server: PostgreSQL, postgres_template: str, tmp_path: Path
) -> None:
    """As the tables' owner, who is not a superuser, with the commands of docs/deployment.md."""
    url = postgres_server.fresh_url(postgres_template, owner=OWNER)
    original = open_service(url, f"file:{tmp_path / 'artifacts'}")
    exports = start_exports(original)
    delivered = list_delivered(original, exports)
    with pytest.raises(InvalidState, match="pg_dump"):
        backup.create_backup(original, tmp_path / "copy")

    stated = audit.sign_checkpoint(original, settled_seconds=0)

    def run(line: str) -> str:
        path = f"{Path(postgres_server.program).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "DATABASE_URL": url.replace("+psycopg", "")}
        # No check: grep exits with an error if it counts zero lines.
        ran = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment, stdout=PIPE, text=True, check=False)
        return ran.stdout.strip()

    dump, count, restore = (
        read_documented_command(line) for line in ("PGOPTIONS=", "pg_restore --data-only", "pg_restore --exit")
    )
    run(dump.removeprefix('PGOPTIONS="-c exports.account=*" '))
    assert run(count) == "0", "the warning"
    run(dump)
    shutil.copytree(tmp_path / "artifacts", tmp_path / "copied")  # after the dump
    assert run(count) == str(len(exports))
    back = postgres_server.fresh_url(owner=OWNER)
    run(restore.replace("postgresql://.../exports", back.replace("+psycopg", "")))
    restored = open_service(back, f"file:{tmp_path / 'copied'}")
    assert (
        audit.find_mismatch(stated, audit.verify_chains(restored, until=datetime.fromisoformat(stated.until))) is None
    )
    assert schema_status(restored.db) is SchemaStatus.CURRENT
    check_promises(original, restored, exports, delivered)
