"""Each metric and label that the rules and dashboards of config/monitoring name is one that the processes show."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.core.metrics import REGISTRY
from pipeline.exports import metrics
from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories
from tests.support.monitoring import (
    SCRAPED,
    find_grouping_labels,
    find_selectors,
    list_expressions,
    read_rule_tests,
    read_rules,
)

#: What Prometheus itself records about each process that it reads.
OWN: Mapping[str, set[str]] = {"up": set()}


@pytest.fixture
def shown(harness: ApiHarness) -> dict[str, dict[str, set[str]]]:
    """Return metric -> label -> values of the page of a web process, after an export was executed."""
    harness.run(harness.execute(factories.plan()))
    harness.client().get("/api/exports")
    page = harness.client_with_key(None).get("/metrics").text
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            values = found[sample.name]
            for label, value in sample.labels.items():
                values[label].add(value)
    # What has not happened in this process has no sample yet.
    for name, labels in list_declared():
        for label in labels:
            found[name][label] |= set()
    return found


def list_declared() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the samples of the metrics that processes count, with their labels."""
    for collector, names in REGISTRY._collector_to_names.items():
        labels: tuple[str, ...] = vars(collector)["_labelnames"]
        for name in names:
            yield name, (*labels, "le") if name.endswith("_bucket") else labels


def read_recorded() -> dict[str, set[str]]:
    """Return the recorded metrics with their labels."""
    recorded: dict[str, set[str]] = defaultdict(set)
    for rule in read_rules():
        if "record" in rule:
            recorded[rule["record"]] |= {*rule.get("labels", ()), *(find_grouping_labels(rule["expr"]) - {"le"})}
    return recorded


def find_unknown(expressions: Iterable[str], shown: Mapping[str, Mapping[str, set[str]]]) -> list[str]:
    """Return the metrics, labels and values of labels that the expressions name and no process shows."""
    known = {name: {*labels, *SCRAPED} for name, labels in {**shown, **read_recorded(), **OWN}.items()}
    results = {value for value in vars(metrics).values() if isinstance(value, str)}
    unknown: list[str] = []
    for expression in expressions:
        selectors = [*find_selectors(expression)]
        assert selectors, expression
        for metric, matchers in selectors:
            if metric not in known:
                unknown.append(metric)
                continue
            unknown += [f"{metric}{{{label}}}" for label in matchers if label not in known[metric]]
            for label in matchers.keys() & shown.get(metric, {}).keys() - {"status", "method"}:
                named = matchers[label] - shown[metric][label] - results
                unknown += [f"{metric}{{{label}={value}}}" for value in named]
        labels = set[str]().union(*(known.get(metric, set()) for metric, _ in selectors))
        unknown += sorted(find_grouping_labels(expression) - labels)
    return unknown


def test_rules_and_dashboards_name_metrics_and_labels_that_exist(shown: dict[str, dict[str, set[str]]]) -> None:
    assert find_unknown(list_expressions(), shown) == []


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("rate(exports_steps_lost_total[5m])", "exports_steps_lost_total"),
        ('exports{status="failed"}', "exports{status}"),
        ('exports{state="lost"}', "exports{state=lost}"),
        ('sum(exports_step_seconds_count{result=~"done|lost"})', "exports_step_seconds_count{result=lost}"),
        ("sum by (broker) (exports_queue_depth)", "broker"),
        ("exports:steps:rate5m > 1", "exports:steps:rate5m"),
    ],
)
def test_name_that_no_process_shows_is_found(
    shown: dict[str, dict[str, set[str]]], expression: str, unknown: str
) -> None:
    assert find_unknown([expression], shown) == [unknown]


def test_tests_of_the_rules_use_metrics_with_the_labels_that_exist(shown: dict[str, dict[str, set[str]]]) -> None:
    wrong = []
    for test in read_rule_tests():
        for series in test["input_series"]:
            (selector,) = find_selectors(series["series"])
            labels = {**shown, "up": {}}.get(selector.metric)
            if labels is None or {*labels} != {*selector.matchers} - SCRAPED:
                wrong.append(series["series"])
    assert wrong == []


def test_selectors_of_an_expression_are_found() -> None:
    found = find_selectors('time() - (max(max_over_time(a{x="1|2"}[1h])) > 0) unless on (x) b:c > 5')
    assert [(metric, sorted(matchers.get("x", ()))) for metric, matchers in found] == [("a", ["1", "2"]), ("b:c", [])]
