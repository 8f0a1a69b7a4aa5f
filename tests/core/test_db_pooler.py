"""Tests of the service behind a transaction pooler, PgBouncer with its default settings."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update
from sqlmodel import SQLModel, col

from config.settings import Settings
from pipeline.accounts import service
from pipeline.core import tenancy
from pipeline.core.db import Database
from pipeline.core.errors import DatabaseBusy
from pipeline.exports.models import Account, Export, ExportPackage, Step
from pipeline.ops import doctor
from pipeline.ops.migrations import row_security
from pipeline.ops.migrations.runner import SchemaStatus, schema_status, upgrade_database
from pipeline.workflow.engine import run_step
from pipeline.workflow.step_leases import claim_step
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS_BY_NAME
from pipeline.workflow.sweeper import find_due
from tests.conftest import OWNER, OwnServer
from tests.support import factories, stored
from tests.support.pooler import PgBouncer
from tests.support.servers import PostgreSQL
from tests.workflow.conftest import WorkflowHarness
from tests.workflow.revisions import execute_export, make_amendment, packages

pytestmark = [pytest.mark.servers, pytest.mark.system]

IN_FORCE = text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")


@pytest.fixture
def pooled_url(pgbouncer_server: PgBouncer, postgres_server: PostgreSQL, postgres_template: str) -> str:
    """The URL, through the pooler, of a migrated empty database; its owner is not a superuser."""
    return pgbouncer_server.url_through(postgres_server.fresh_url(postgres_template, owner=OWNER))


@pytest.fixture
def pooled_workflow(make_workflow: Callable[[str], WorkflowHarness], pooled_url: str) -> WorkflowHarness:
    """A workflow harness that reaches its database through the pooler."""
    return make_workflow(pooled_url)


def read_server_settings(url: str) -> Settings:
    return Settings.model_validate({"database_url": url, "artifacts_url": "memory:"})


def read_settings_in_force(database: Database) -> dict[str, str]:
    with database.read() as session:
        rows = session.execute(IN_FORCE, {"names": list(database.transaction_settings)})
        return {row.name: row.setting for row in rows}


def run_together(work: Callable[[int], None], threads: int = 8) -> None:
    """Run the work in several threads at once; raise the first error of a thread."""
    barrier = threading.Barrier(threads)

    def begin(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(begin, range(threads)))


def test_migrations_run_through_the_pooler(pgbouncer_server: PgBouncer, postgres_server: PostgreSQL) -> None:
    database = Database(pgbouncer_server.url_through(postgres_server.fresh_url(owner=OWNER)))
    assert upgrade_database(database) is SchemaStatus.BEHIND
    assert schema_status(database) is SchemaStatus.CURRENT
    with database.engine.connect() as connection:
        assert (row_security.tables_without_policy(connection), row_security.bypasses_policies(connection)) == (
            [],
            False,
        )
    database.dispose()


def test_transaction_settings_hold_on_every_pooled_connection(pooled_url: str) -> None:
    database = Database(pooled_url, timeout_seconds=8)
    assert database.transaction_settings == {
        "TimeZone": "UTC",
        "synchronous_commit": "on",
        "jit": "off",
        "lock_timeout": "4000",
        "statement_timeout": "24000",
        "idle_in_transaction_session_timeout": "24000",
    }

    def look(_: int) -> None:
        for _ in range(10):
            assert read_settings_in_force(database) == database.transaction_settings

    run_together(look)
    with database.engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        left = dict(raw.execute("SELECT name, setting FROM pg_settings WHERE name LIKE '%_timeout'").fetchall())
    assert {left[name] for name in database.transaction_settings if name.endswith("_timeout")} == {"0"}, (
        "no setting may be left on the connection"
    )
    database.dispose()


def test_waits_are_bounded_through_the_pooler(pooled_url: str) -> None:
    first, second = Database(pooled_url), Database(pooled_url, timeout_seconds=0.2)
    with first.write() as session:
        session.add(Account(id=factories.ACCOUNT, name="Maple Goods Ltd"))
    with first.write() as holder:
        holder.execute(update(Account).values(name="held"))
        with pytest.raises(DatabaseBusy, match="LockNotAvailable"), second.write() as late:
            late.execute(update(Account).values(name="late"))
    with pytest.raises(DatabaseBusy, match="QueryCanceled"), second.read() as slow:
        slow.execute(text("SELECT pg_sleep(600)"))
    with first.read() as session:
        assert session.scalars(select(col(Account.name))).all() == ["held"]
    for database in (first, second):
        database.dispose()


def test_account_on_shared_connections_sees_only_its_own_rows(pooled_workflow: WorkflowHarness) -> None:
    """If a transaction left its account on the connection, the next one would see rows of another account."""
    others = [f"acc_{number}" for number in range(7)]
    for other in others:
        service.create_account(pooled_workflow.runtime, other, "Another Ltd")
    pooled_workflow.accept()
    seen = {factories.ACCOUNT: 1} | dict.fromkeys(others, 0)

    def look(number: int) -> None:
        account = [factories.ACCOUNT, *others][number]
        for _ in range(25):
            with tenancy.account_scope(account), pooled_workflow.runtime.db.read() as session:
                assert session.scalars(select(col(Account.id))).all() == [account]
                assert session.scalar(select(func.count()).select_from(Export)) == seen[account]

    run_together(look)
    with tenancy.account_scope(tenancy.NO_ACCOUNT), pooled_workflow.runtime.db.read() as session:
        for table in SQLModel.metadata.tables.values():
            if table.name in row_security.SHARED:
                continue
            assert session.scalar(select(func.count()).select_from(table)) == 0, table.name


def test_many_workers_at_once_execute_an_export_once(pooled_workflow: WorkflowHarness) -> None:
    export_id = pooled_workflow.accept(factories.plan(units=4)).export_id
    did: list[tuple[int, str]] = []

    def run(unit_no: int, name: str) -> None:
        done = run_step(pooled_workflow.runtime, export_id, unit_no, name).completed
        did.extend((unit_no if STEPS_BY_NAME[step].per_unit else 0, step) for step in done)

    def work(_: int) -> None:
        for unit_no in (1, 2, 3, 4):
            for name in ("record_packages", "attach_customs", "render_documents", "close_unit"):
                run(unit_no, name)
        for name in ("hand_off", *NOTIFY_STEPS):
            run(0, name)

    run_together(work)
    for name in ("hand_off", *NOTIFY_STEPS):
        pooled_workflow.step(export_id, 0, name)
    assert pooled_workflow.state(export_id) == "executed"
    assert [step for step, count in Counter(did).items() if count > 1] == []
    assert pooled_workflow.count(ExportPackage) == 8
    assert Counter(pooled_workflow.events(export_id))["EXPORT_EXECUTED"] == 1


def test_concurrent_claims_give_each_step_one_holder(pooled_workflow: WorkflowHarness) -> None:
    export_id = pooled_workflow.accept(factories.plan(units=20)).export_id
    won: list[int] = []

    def race(_: int) -> None:
        won.extend(
            unit_no
            for unit_no in range(1, 21)
            if claim_step(pooled_workflow.runtime, export_id, unit_no, "record_packages") is not None
        )

    run_together(race)
    assert sorted(won) == [*range(1, 21)]


def test_concurrent_sweeps_find_stalled_step_once_and_amendment_works(pooled_workflow: WorkflowHarness) -> None:
    export_id = pooled_workflow.accept(factories.plan(units=3)).export_id
    stored.change(
        pooled_workflow.runtime,
        update(Step).where(col(Step.due_at).is_not(None)).values(due_at=pooled_workflow.clock()),
    )
    found: list[tuple[str, int, str | None]] = []
    run_together(lambda _: found.extend((w.export_id, w.unit_no, w.step) for w in find_due(pooled_workflow.runtime)))
    assert sorted(found) == [(export_id, unit_no, "record_packages") for unit_no in (1, 2, 3)]
    other = execute_export(pooled_workflow, factories.plan(batch="batch_2"))
    new = make_amendment(pooled_workflow, other, factories.plan(batch="batch_2", lines=4)).export_id
    pooled_workflow.step(new, 1, "record_packages")
    assert packages(pooled_workflow, new).keys() == packages(pooled_workflow, other).keys()


def test_statements_behind_a_pooler_are_not_prepared(own_server: OwnServer, postgres_server: PostgreSQL) -> None:
    """A pooler that does not track prepared statements gives a transaction a connection without them."""
    pooler = own_server(PgBouncer, postgres_server, max_prepared_statements=0)
    url = postgres_server.fresh_url(owner=OWNER)
    direct, pooled_workflow = Database(url), Database(pooler.url_through(url))

    def ask(number: int) -> None:
        for round_ in range(40):
            with pooled_workflow.write() as session:
                asked = text("SELECT CAST(:number AS integer), pg_sleep(0.001)")
                assert session.execute(asked, {"number": number * 100 + round_}).one()[0] == number * 100 + round_

    run_together(ask)
    for database, threshold in ((direct, 5), (pooled_workflow, None)):
        with database.engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            assert raw.prepare_threshold == threshold
        database.dispose()


def test_pooler_without_free_connection_raises_database_busy(
    own_server: OwnServer, postgres_server: PostgreSQL
) -> None:
    pooler = own_server(PgBouncer, postgres_server, default_pool_size=1, query_wait_timeout=0.2)
    url = pooler.url_through(postgres_server.fresh_url(owner=OWNER))
    first, second = Database(url), Database(url)
    with second.read() as session:
        assert session.scalar(text("SELECT 1")) == 1
    with first.write() as holder:
        assert holder.scalar(text("SELECT 1")) == 1
        with pytest.raises(DatabaseBusy, match="query_wait_timeout"), second.read() as late:
            late.scalar(text("SELECT 1"))
    with second.read() as session:
        assert session.scalar(text("SELECT 1")) == 1
    for database in (first, second):
        database.dispose()


@contextmanager
def drop_setting(setting: str) -> Iterator[None]:
    """Keep one setting from the server, like a pooler that drops it."""
    original = Database.__init__

    def opened(self: Database, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)

        @event.listens_for(self.engine, "before_cursor_execute", retval=True)
        def _drop(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
            kept = [part for part in statement.split("; ") if not part.startswith(f"SET LOCAL {setting} ")]
            return "; ".join(kept), parameters

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "__init__", opened)
        yield


def test_doctor_compares_settings_in_force_with_requested_settings(
    pooled_url: str, pgbouncer_server: PgBouncer, postgres_server: PostgreSQL
) -> None:
    def found(url: str) -> tuple[bool, str]:
        checks = {check.name: check for check in doctor.run_checks(read_server_settings(url))}
        return checks["database settings"].ok, checks["database settings"].found

    direct = pooled_url.replace(f":{pgbouncer_server.port}/", f":{postgres_server.port}/")
    assert found(pooled_url) == (True, "7 are in force in each transaction, through a pooler")
    assert found(direct) == (True, "7 are in force in each transaction, without a pooler")
    with drop_setting("statement_timeout"):
        assert found(pooled_url) == (False, "in a transaction, statement_timeout is 0 but must be 15000")
