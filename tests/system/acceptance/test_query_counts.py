"""The number of SQL statements of an export is small, and grows with its units but not with their lines and packages."""

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from config.settings import Settings
from pipeline.accounts import partners, service
from pipeline.accounts.api_keys import Caller
from pipeline.accounts.schemas import NewPartner
from pipeline.core.runtime import Runtime, open_runtime
from pipeline.exports.schemas.export import ExecuteRequest
from pipeline.workflow import read_model
from pipeline.workflow.acceptance import accept_plan
from pipeline.workflow.engine import run_step
from pipeline.workflow.steps import NOTIFY_STEPS, STEPS
from tests.support import factories
from tests.support.query_counter import Traffic, record_statements
from tests.support.task_by_task import task_by_task
from tests.system.benchmarks.statements import count_export

CALLER = Caller(factories.ACCOUNT, "key_test", "test", frozenset({"execute", "read"}))


@pytest.fixture
def runtime(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A migrated database with an account and its partners, all on the queue channel."""
    # The first document makes the folder, and asks the database whether it is the first.
    (tmp_path / "artifacts").mkdir()
    settings = Settings.model_validate(
        # A lease renewal would be counted too, so the lease is long.
        {"database_url": database_url, "artifacts_url": f"file:{tmp_path / 'artifacts'}", "lease_seconds": 3600}
    )
    opened = open_runtime(settings)
    service.create_account(opened, factories.ACCOUNT, "Maple Goods Ltd", gs1_prefix="0614141")
    for kind, partner_id in (
        ("customs_broker", factories.BROKER),
        ("warehouse", factories.WAREHOUSE),
        ("operator", factories.OPERATOR),
    ):
        new = {"id": partner_id, "kind": kind, "name": f"Demo {kind}", "test": True, "live": True}
        partners.create_partner(opened, factories.ACCOUNT, NewPartner.model_validate(new))
    yield opened
    opened.close()


def count_statements(runtime: Runtime, lines: int, packages: int) -> dict[str, list[str]]:
    """Execute a plan of that size; return the statements of each part."""
    plan = factories.plan(1, lines, packages, batch=f"batch_{lines}")
    request = ExecuteRequest.model_validate({"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan})
    parts: dict[str, list[str]] = {}
    with record_statements(runtime.db) as parts["accept"]:
        export_id = accept_plan(runtime, CALLER, request, raw_plan=plan, idempotency_key=f"key-{lines}").export_id
    made: list[str] = []
    for name in ("record_packages", "render_documents", "notify_broker", "notify_warehouse"):
        with task_by_task(), record_statements(runtime.db) as parts[name]:
            made += run_step(runtime, export_id, 0 if name in NOTIFY_STEPS else 1, name).completed
    assert sorted(made) == sorted(spec.name for spec in STEPS)
    with record_statements(runtime.db) as parts["inspect"], runtime.db.read() as session:
        view = read_model.read_export(session, factories.ACCOUNT, export_id)
    assert view.state == "executed"
    assert view.treatment.line_count == lines
    return parts


def test_statement_count_does_not_grow_with_the_plan(runtime: Runtime) -> None:
    count_statements(runtime, 4, 2)  # the first acceptance makes the rules active
    small, large = count_statements(runtime, 3, 2), count_statements(runtime, 300, 400)
    assert {name: len(sent) for name, sent in small.items()} == {name: len(sent) for name, sent in large.items()}
    # The small plan's number is also limited. A step is a claim, its facts, its rows, its events and its end. The
    # largest count is that of the four steps that begin with the documents.
    assert max(len(sent) for sent in small.values()) <= 42


def test_export_and_each_further_unit_cost_few_statements(runtime: Runtime) -> None:
    count_export(runtime, 2, mode="test")  # connects, and asks the server what it can do
    # An export of several units has a transaction more: its handoff waits for all of them.
    one, two, five = (count_export(runtime, units, mode="live") for units in (1, 2, 5))
    three = Traffic(*(many - few for few, many in zip(astuple(two), astuple(five), strict=True)))
    assert (one.statements, one.transactions, one.commits) == (47, 8, 5)
    # A live export records its certificates of origin; a test export reads the test clock instead.
    assert count_export(runtime, 1, mode="test").statements == one.statements
    assert (three.statements, three.transactions, three.commits) == (3 * 14, 3 * 3, 3 * 2)
    # Not exact: psycopg prepares a statement at its fifth use, and sends many rows in as few parts as fit.
    assert one.waits <= 80
    assert three.waits <= 3 * 30
