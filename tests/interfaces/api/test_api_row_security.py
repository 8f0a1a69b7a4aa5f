"""Row-level security on PostgreSQL: an account sees only its rows, whatever a query asks; the service runs with it."""

import json
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError
from sqlmodel import SQLModel

from config.settings import Settings
from pipeline.accounts import api_keys, partners
from pipeline.accounts.models import Guessing
from pipeline.core import tenancy
from pipeline.core.clock import utc_now
from pipeline.core.db import Database, row_count
from pipeline.core.runtime import Runtime
from pipeline.core.tenancy import ALL_ACCOUNTS, NO_ACCOUNT
from pipeline.customs import waivers
from pipeline.customs.models import OriginCertification, Waiver
from pipeline.deliveries import queries, sandbox_broker
from pipeline.deliveries.models import SandboxHandoff
from pipeline.deliveries.submissions.signature import build_signature_headers
from pipeline.exports.audit_trail import Action, record_act
from pipeline.exports.models import LegalHold, LogoFile, SavedFilter
from pipeline.exports.numbers import SerialBlock, reserve_blocks
from pipeline.exports.schemas.filters import ExportFilter
from pipeline.ops import doctor, work_counts
from pipeline.ops.migrations import row_security
from pipeline.ops.migrations.runner import upgrade_database
from pipeline.ops.stats.models import OUTCOME, Stat
from pipeline.ops.work_counts import WorkCount
from pipeline.workflow import queries as workflow_queries
from pipeline.workflow.waiting_commands import WaitingCommand
from tests.conftest import OWNER
from tests.interfaces.api.conftest import OTHER, ApiHarness, Open, execution
from tests.support import factories, orders
from tests.support.people import add_person
from tests.support.query_counter import record_statements
from tests.support.servers import PostgreSQL

pytestmark = pytest.mark.servers

TABLES = sorted({*SQLModel.metadata.tables} - row_security.SHARED)


@pytest.fixture
def own_url(postgres_server: PostgreSQL, postgres_template: str) -> str:
    """A migrated database whose owner is not a superuser."""
    return postgres_server.fresh_url(postgres_template, owner=OWNER)


@pytest.fixture
def harness(open_harness: Open, own_url: str) -> ApiHarness:
    """The API on that database, with an executed export and rows in every table."""
    harness = open_harness(own_url)
    harness.client("admin").patch(
        f"/api/partners/{factories.BROKER}", json={"channels": [{"channel": "queue"}]}
    ).raise_for_status()
    rotated = harness.client("admin").post(f"/api/partners/{factories.BROKER}/rotate-secret", json={"overlapHours": 1})
    secret = rotated.raise_for_status().json()["secret"]
    harness.client("admin").post(f"/api/partners/{factories.BROKER}/test").raise_for_status()
    harness.client("admin").post(f"/api/partners/{factories.BROKER}/portal-links", json={"days": 1}).raise_for_status()
    harness.client("admin").post("/api/waivers", json={"rule": "V17", "reason": "It is known."}).raise_for_status()
    export_id = harness.execute(factories.plan())
    planner = harness.client("execute")
    for what, body in (("products", orders.product_sync()), ("plan-templates", orders.template_sync())):
        planner.post(f"/api/{what}/sync", json=body).raise_for_status()
    synced = planner.post("/api/orders/sync", json=orders.order_sync() | {"idempotencyKey": "once"}).raise_for_status()
    order_ids = [each["id"] for each in synced.json()["data"]]
    planner.post("/api/exports/plan", json=orders.plan_request(order_ids)).raise_for_status()
    once = harness.client("execute")
    once.headers["Idempotency-Key"] = "once"
    once.post("/api/exports/execute", json=execution(factories.plan())).raise_for_status()
    harness.run(export_id)
    submission = harness.client().get(f"/api/exports/{export_id}").json()["broker_submission"]
    answer = json.dumps({"id": "1", "status": "accepted"}).encode()
    harness.client_with_key(None).post(
        f"/api/broker-submissions/{submission['id']}/acknowledgements",
        content=answer,
        headers=build_signature_headers("1", answer, secret),
    ).raise_for_status()
    harness.client().post(f"/api/exports/{export_id}/messages", json={"id": "1", "text": "Thanks."}).raise_for_status()
    harness.client().post(
        f"/api/exports/{export_id}/attachments?filename=a.csv",
        content=b"a,b\n1,2\n",
        headers={"content-type": "text/csv"},
    ).raise_for_status()
    with harness.runtime.db.write() as session:
        kept = {"id": "n", "submission_id": submission["id"], "path": "webhook", "outcome": "none"}
        session.add(SandboxHandoff(**kept, invoice_numbers=[], answer={}))
        session.add(LegalHold(id="h", account_id=factories.ACCOUNT, reason="an inquiry", placed_by="somebody"))
        session.add(
            Stat(
                account_id=factories.ACCOUNT,
                name=OUTCOME,
                seconds=300,
                starts_at=utc_now(),
                partner_id="",
                label="accepted",
                bin=0,
                value=1,
            )
        )
        session.add(WorkCount(account_id=factories.ACCOUNT, name=work_counts.EXPORTS, state="accepted", value=1))
        session.add(LogoFile(account_id=factories.ACCOUNT, sha256="0" * 64, picture=b"a picture", added_by="per_1"))
        session.add(SavedFilter(account_id=factories.ACCOUNT, name="mine", query="state=failed", saved_by="per_1"))
        session.add(
            OriginCertification(
                account_id=factories.ACCOUNT,
                hs_code="732393",
                blanket_to=date(2026, 12, 31),
                blanket_from=date(2026, 1, 1),
                certifier_name="Maple Goods Ltd",
                sku="A",
                ref="C1",
                certifier_role="exporter",
                criterion="B",
                signed_on=date(2026, 1, 2),
                export_id=export_id,
            )
        )
        reserve_blocks(session, factories.ACCOUNT, packages=1, ssccs=0)
        session.add(SerialBlock(account_id=factories.ACCOUNT, last_serial=9, serials_left=1))
        session.add(WaitingCommand(id="cmd_1", account_id=factories.ACCOUNT, body=b"{}", properties={}))
        record_act(session, factories.ACCOUNT, "per_1", Action.SIGNED_IN, "ses_1")
    add_person(harness.runtime)
    with harness.runtime.db.write() as session:
        session.add(Guessing(key="k", failures=1, last_at=utc_now()))
    return harness


def count_visible_rows(runtime: Runtime, whose: str) -> dict[str, int]:
    """Return how many rows of each table `whose` account sees, by queries without a filter."""
    with tenancy.account_scope(whose), runtime.db.read() as session:
        return {
            name: session.scalar(sa.select(sa.func.count()).select_from(SQLModel.metadata.tables[name])) or 0
            for name in TABLES
        }


def test_every_table_has_its_policy(own_url: str) -> None:
    database = Database(own_url)
    with database.engine.connect() as connection:
        assert row_security.tables_without_policy(connection) == []
        assert not row_security.bypasses_policies(connection)
        forced = connection.execute(
            sa.text("SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity AND relkind = 'r'")
        )
        assert {name for (name,) in forced} == set(TABLES)
    database.dispose()


def test_account_sees_its_own_rows_and_no_others(harness: ApiHarness) -> None:
    everything = count_visible_rows(harness.runtime, ALL_ACCOUNTS)
    assert {name for name, rows in everything.items() if rows == 0} == set()
    assert everything["accounts"] == 2
    own = count_visible_rows(harness.runtime, factories.ACCOUNT)
    assert own == everything | {"accounts": 1} | dict.fromkeys(row_security.HIDDEN, 0)
    assert count_visible_rows(harness.runtime, OTHER) == dict.fromkeys(TABLES, 0) | {"accounts": 1}
    assert count_visible_rows(harness.runtime, NO_ACCOUNT) == dict.fromkeys(TABLES, 0)


def test_query_without_an_account_sees_no_rows(harness: ApiHarness, own_url: str) -> None:
    engine = sa.create_engine(own_url)
    with engine.connect() as connection:
        for name in TABLES:
            assert connection.execute(sa.select(sa.func.count()).select_from(sa.table(name))).scalar_one() == 0, name
    engine.dispose()


def test_rows_of_another_account_cannot_be_changed_or_deleted(harness: ApiHarness) -> None:
    before = count_visible_rows(harness.runtime, ALL_ACCOUNTS)
    for name in TABLES:
        rows = SQLModel.metadata.tables[name]
        first = next(iter(rows.primary_key.columns))
        others = rows.c.id != OTHER if name == "accounts" else sa.true()
        for statement in (sa.update(rows).where(others).values({first.name: first}), sa.delete(rows).where(others)):
            for whose in (OTHER, NO_ACCOUNT):
                with tenancy.account_scope(whose), harness.runtime.db.write() as session:
                    assert row_count(session.execute(statement)) == 0, (name, whose)
    assert count_visible_rows(harness.runtime, ALL_ACCOUNTS) == before


def test_row_cannot_be_inserted_for_another_account(harness: ApiHarness) -> None:
    for whose in (OTHER, NO_ACCOUNT):
        with (
            pytest.raises(ProgrammingError, match="row-level security"),
            tenancy.account_scope(whose),
            harness.runtime.db.write() as session,
        ):
            session.add(Waiver(id="w", account_id=factories.ACCOUNT, rule="V17", reason="r", waived_by="somebody"))
    event = {"export_id": harness.execute(factories.plan(batch="b2")), "seq": 99, "type": "X", "actor": "a", "data": {}}
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        tenancy.account_scope(OTHER),
        harness.runtime.db.write() as session,
    ):
        session.execute(sa.insert(SQLModel.metadata.tables["events"]).values(**event, hash="h"))


def test_account_scope_ends_with_the_transaction(harness: ApiHarness) -> None:
    with tenancy.account_scope(factories.ACCOUNT), harness.runtime.db.read() as session:
        raw = session.connection().connection.driver_connection
        assert session.execute(sa.text("SELECT current_setting('exports.account', true)")).scalar_one() == (
            factories.ACCOUNT
        )
    assert raw is not None
    assert raw.execute("SELECT current_setting('exports.account', true)").fetchone()[0] in {None, ""}


def test_account_scope_needs_no_extra_round_trip(harness: ApiHarness) -> None:
    with (
        record_statements(harness.runtime.db) as asked,
        tenancy.account_scope("acc_o'brien%"),
        harness.runtime.db.read() as session,
    ):
        session.execute(sa.select(1))
    settings = "".join(
        f"; SET LOCAL {name} = '{value}'" for name, value in harness.runtime.db.transaction_settings.items()
    )
    assert asked == [
        f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY{settings}; SET LOCAL exports.account = 'acc_o''brien%%'",
        "SELECT 1",
    ]


@pytest.mark.system
def test_owner_can_dump_and_restore_everything(harness: ApiHarness, own_url: str, postgres_server: PostgreSQL) -> None:
    dump = [str(Path(postgres_server.program).with_name("pg_dump")), "--enable-row-security", "--column-inserts"]
    plain = own_url.replace("+psycopg", "")
    whole = {"PGOPTIONS": f"-c exports.account={ALL_ACCOUNTS}"}
    made = subprocess.run([*dump, plain], env=whole, capture_output=True, text=True, check=True).stdout
    assert made.count("INSERT INTO public.events ") == count_visible_rows(harness.runtime, ALL_ACCOUNTS)["events"]
    assert made.count("CREATE POLICY own_rows") == len(TABLES)
    nothing = subprocess.run([*dump, plain], env={}, capture_output=True, text=True, check=True).stdout
    assert "INSERT INTO public.events " not in nothing


def test_doctor_reports_the_state_of_row_security(own_url: str, postgres_server: PostgreSQL) -> None:
    def found(url: str) -> tuple[bool, str]:
        settings = Settings.model_validate({"database_url": url, "artifacts_url": "memory:"})
        (check,) = (check for check in doctor.run_checks(settings) if check.name == "row-level security")
        return check.ok, check.found

    assert found(own_url) == (True, "row-level security applies to this role")
    administrator = own_url.replace(f"{OWNER}@", "postgres@")
    assert found(administrator) == (True, "active, but this role is a superuser or has BYPASSRLS, so it does not apply")
    database = Database(own_url)
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE plans NO FORCE ROW LEVEL SECURITY"))
    database.dispose()
    assert found(own_url) == (
        False,
        "row-level security is missing or wrong on plans: run `exports migrate`, and drop all policies there except own_rows",
    )


def test_use_case_with_a_wrong_account_id_sees_nothing(harness: ApiHarness) -> None:
    """The API's own check is bypassed: a use case gets another account's id than the key's."""
    runtime = harness.runtime

    def exports(whose: str) -> object:
        with runtime.db.read() as session:
            return workflow_queries.list_exports(session, whose, ExportFilter(), cursor=None, limit=50).items

    asked: list[Callable[[str], object]] = [
        exports,
        lambda whose: queries.list_deliveries(runtime, whose, limit=50).items,
        lambda whose: sandbox_broker.list_handoffs(runtime, whose).items,
        lambda whose: partners.list_partners(runtime, whose),
        lambda whose: waivers.list_waivers(runtime, whose),
        lambda whose: api_keys.list_keys(runtime, whose),
    ]
    for ask in asked:
        with tenancy.account_scope(factories.ACCOUNT):
            assert ask(factories.ACCOUNT)
        with tenancy.account_scope(OTHER):
            assert ask(factories.ACCOUNT) == []


def test_missing_policies_are_found_and_restored(own_url: str) -> None:
    database = Database(own_url)
    with database.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE exports DISABLE ROW LEVEL SECURITY"))
        connection.execute(sa.text("DROP POLICY own_rows ON events"))
        connection.execute(sa.text("DROP POLICY own_rows ON steps"))
        connection.execute(sa.text("CREATE POLICY own_rows ON steps USING (true)"))
    with database.engine.connect() as connection:
        assert row_security.tables_without_policy(connection) == ["events", "exports", "steps"]
    upgrade_database(database)
    with database.engine.connect() as connection:
        assert row_security.tables_without_policy(connection) == []
    database.dispose()


@pytest.mark.parametrize(
    ("statements", "mends_itself"),
    [
        # The comment of our policy stays on the changed policy.
        (("ALTER POLICY own_rows ON {table} USING (true)",), True),
        (("ALTER POLICY own_rows ON {table} WITH CHECK (true)",), True),
        (("ALTER POLICY own_rows ON {table} TO pg_monitor",), True),
        (("DROP POLICY own_rows ON {table}", "CREATE POLICY own_rows ON {table} FOR SELECT USING (true)"), True),
        (("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY",), True),
        (("CREATE POLICY another ON {table} USING (true)",), False),
    ],
)
def test_table_with_another_policy_beside_ours_is_unprotected(
    own_url: str, statements: tuple[str, ...], *, mends_itself: bool
) -> None:
    database = Database(own_url)
    with database.engine.begin() as connection:
        for table in ("exports", "steps"):
            for statement in statements:
                connection.execute(sa.text(statement.format(table=table)))
    with database.engine.connect() as connection:
        assert row_security.tables_without_policy(connection) == ["exports", "steps"]
    upgrade_database(database)
    with database.engine.connect() as connection:
        assert (row_security.tables_without_policy(connection) == []) == mends_itself
    database.dispose()


def test_table_without_an_account_column_stops_the_migration() -> None:
    stray = sa.Table("stray", sa.MetaData(), sa.Column("id", sa.String, primary_key=True))
    with pytest.raises(RuntimeError, match="the account of the rows of stray is unknown"):
        row_security._condition(stray)
