"""The page /metrics: every metric is documented, promtool accepts it, and it names the customs brokers that are silent."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from sqlalchemy import insert, update

from pipeline.core.db import database_now, table
from pipeline.core.metrics import REGISTRY
from pipeline.core.runtime import open_runtime
from pipeline.customs.reference.ruleset import ruleset
from pipeline.deliveries.models import BrokerSubmission
from pipeline.exports.models import Account
from pipeline.interfaces.api.metrics import WorkCollector
from pipeline.ops import work_counts
from pipeline.workflow.steps import STEPS
from tests.interfaces.api.conftest import ApiHarness, Open, RecordingPublisher, serve_api
from tests.support import factories
from tests.support.doc_tables import read_yaml
from tests.support.metrics_text import check_by_promtool, parse, value
from tests.support.ports import LOOPBACK, free_port
from tests.support.query_counter import record_statements


def read_page(harness: ApiHarness) -> str:
    return harness.client_with_key(None).get("/metrics").raise_for_status().text


def list_labels(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}


@pytest.fixture
def executed(harness: ApiHarness) -> ApiHarness:
    """An API whose process executed an export."""
    harness.run(harness.execute(factories.plan()))
    return harness


def test_page_has_the_documented_metrics_with_their_labels(executed: ApiHarness) -> None:
    documented = {
        name: (each["type"], set(each["labels"]))
        for part in read_yaml("docs/metrics.yaml").values()
        for name, each in part.items()
    }
    families = {name: each for name, each in parse(read_page(executed)).items() if not name.startswith("process_")}
    # A family has no sample before its first event.
    known = {name: set(instrument._labelnames) for name, instrument in REGISTRY._names_to_collectors.items()}  # type: ignore[attr-defined]  # no public call lists them
    found = {name: (each.type, list_labels(each) or known.get(name, set())) for name, each in families.items()}
    assert found == documented


def test_use_of_the_fullest_gs1_prefix_is_measured(harness: ApiHarness) -> None:
    family = "exports_gs1_prefix_used_ratio"
    with harness.runtime.db.write() as session:
        session.execute(update(table(Account)).values(gs1_prefix=None))
        session.add(Account(id="acc_long", name="Long", gs1_prefix="061414123456", ssccs_issued=4_000))
        session.add(Account(id="acc_short", name="Short", gs1_prefix="0614141", ssccs_issued=5_000))
    assert value(parse(read_page(harness)), family) == pytest.approx(4_000 / 9_999)


def test_rules_and_disks_are_measured(open_harness: Open, tmp_path: Path) -> None:
    folder, rules = tmp_path / "artifacts", ruleset()
    harness = open_harness(artifacts_url=f"file:{folder}")
    assert list_disks(harness) == {"database"}, "no document was stored yet"
    harness.run(harness.execute(factories.plan()))
    shown = parse(read_page(harness))
    day = datetime.fromtimestamp(value(shown, "exports_ruleset_as_of_timestamp_seconds", ruleset=rules.id), UTC)
    assert day.date() == rules.as_of
    assert value(shown, "exports_ruleset_review_seconds", ruleset=rules.id) == rules.review.within_days * 86400
    assert value(shown, "exports_disk_size_bytes", use="artifacts") == shutil.disk_usage(folder).total
    assert 0 < value(shown, "exports_disk_free_bytes", use="artifacts") < shutil.disk_usage(folder).total
    folder.rename(tmp_path / "unmounted")
    assert list_disks(harness) == {"database"}


def list_disks(harness: ApiHarness) -> set[str]:
    return {sample.labels["use"] for sample in parse(read_page(harness))["exports_disk_free_bytes"].samples}


def test_promtool_has_no_criticism(executed: ApiHarness) -> None:
    text = read_page(executed)
    assert check_by_promtool(text) == ""
    assert 'should have "_total" suffix' in check_by_promtool(
        "# HELP some_count x\n# TYPE some_count counter\nsome_count 1\n"
    )


def test_steps_documents_and_deliveries_are_measured(harness: ApiHarness) -> None:
    before = parse(read_page(harness))
    harness.run(harness.execute(factories.plan(units=2)))
    after = parse(read_page(harness))

    def rise(sample: str, **labels: str) -> float:
        return value(after, sample, **labels) - value(before, sample, **labels)

    steps = {spec.name: rise("exports_step_seconds_count", step=spec.name, result="done") for spec in STEPS}
    assert steps == {spec.name: 2 if spec.per_unit else 1 for spec in STEPS}
    assert rise("exports_document_seconds_count", document="cci_pdf") == 2
    assert rise("exports_document_seconds_count", document="manifest") == 2
    delivered = {"channel": "queue", "result": "delivered"}
    assert rise("exports_delivery_seconds_count", partner_kind="customs_broker", **delivered) == 1
    assert rise("exports_delivery_seconds_count", partner_kind="warehouse", **delivered) > 1
    assert rise("exports_step_seconds_count") == sum(steps.values())


def test_depth_and_delay_of_queues_are_shown(harness: ApiHarness) -> None:
    harness.execute(factories.plan(units=3))
    families = parse(read_page(harness))
    assert {each.labels["queue"]: each.value for each in families["exports_queue_depth"].samples} == {
        "exports.steps": 3,
        "exports.large": 0,
        "exports.documents": 0,
        "exports.deliveries": 0,
    }
    assert value(families, "exports_queue_oldest_due_seconds") == 0
    assert value(families, "exports_database_up") == 1


def shown_overdue(work: WorkCollector) -> dict[tuple[str, str], float]:
    (family,) = [each for each in work.collect() if each.name == "exports_handoffs_overdue"]
    return {(sample.labels["account"], sample.labels["broker"]): sample.value for sample in family.samples}


def keep_overdue(harness: ApiHarness, late: dict[tuple[str, str], int]) -> None:
    """Keep these counts beside those that the sweeper would keep now."""
    assert work_counts.keep_counts(harness.runtime)
    rows = [
        {"account_id": account, "name": work_counts.OVERDUE_HANDOFFS, "state": broker, "value": count}
        for (account, broker), count in late.items()
    ]
    with harness.runtime.db.write() as session:
        session.execute(insert(table(work_counts.WorkCount)), rows)


def test_brokers_with_most_overdue_handoffs_are_named(open_harness: Open) -> None:
    harness = open_harness(metrics_brokers=2)
    work = WorkCollector(harness.runtime)
    assert shown_overdue(work) == {("", "other"): 0}
    harness.run(harness.execute(factories.plan()))
    with harness.runtime.db.write() as session:
        late = {"deadline_at": database_now(-60), "overdue_at": database_now(-30)}
        session.execute(update(BrokerSubmission).values(**late))
    assert shown_overdue(WorkCollector(harness.runtime)) == {(factories.ACCOUNT, factories.BROKER): 1, ("", "other"): 0}
    keep_overdue(harness, {(account, f"br_{n}"): n for account in ("acc_one", "acc_two") for n in range(2, 5)})
    assert shown_overdue(WorkCollector(harness.runtime)) == {
        ("acc_one", "br_4"): 4,
        ("acc_two", "br_4"): 4,
        ("", "other"): 1 + 2 * (2 + 3),
    }


def test_no_broker_is_named_if_the_setting_is_zero(open_harness: Open) -> None:
    harness = open_harness(metrics_brokers=0)
    keep_overdue(harness, {("acc_one", "br_1"): 7})
    assert shown_overdue(WorkCollector(harness.runtime)) == {("", "other"): 7}


def test_page_counts_nothing_that_the_sweeper_has_counted(harness: ApiHarness) -> None:
    work_counts.keep_counts(harness.runtime)
    with record_statements(harness.runtime.db) as statements:
        WorkCollector(harness.runtime).collect()
    assert len(statements) <= 5, statements
    assert not any("count(" in statement for statement in statements)


def test_page_without_a_database_has_the_work_of_the_process(harness: ApiHarness) -> None:
    url = f"postgresql://nobody@{LOOPBACK}:{free_port()}/none"
    runtime = open_runtime(harness.runtime.settings.model_copy(update={"database_url": url}))
    with serve_api(runtime, RecordingPublisher()) as address:
        answer = httpx.get(f"{address}/metrics", timeout=30, trust_env=False)
    families = parse(answer.raise_for_status().text)
    assert value(families, "exports_database_up") == 0
    assert "exports_queue_depth" not in families
    assert value(families, "exports_build_info") == 1
    assert families["exports_step_seconds"].type == "histogram"
    runtime.close()
