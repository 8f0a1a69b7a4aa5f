"""The files of config/monitoring: their expressions, the metrics and labels that those name, and promtool."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tests.conftest import skip_or_fail

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "config" / "monitoring"
DASHBOARDS: Final = sorted((FOLDER / "dashboards").glob("*.json"))
#: The labels that Prometheus itself adds.
SCRAPED: Final = frozenset({"job", "instance"})

_GROUPING: Final = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_SELECTOR: Final = re.compile(r"\b([a-zA-Z_:][\w:]*)(?![\w:])(?!\s*\()\s*(?:\{([^}]*)\})?")
_MATCHER: Final = re.compile(r"([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "by", "on", "without", "ignoring"})
_VARIABLES: Final = {"$__rate_interval": "5m", "$instance": ".*"}


class Selector(NamedTuple):
    """A metric that an expression reads, and label -> the values that its matchers name."""

    metric: str
    matchers: Mapping[str, frozenset[str]]


def run_promtool(*arguments: str | Path) -> str:
    """Return what promtool prints; fails if it finds a mistake."""
    if shutil.which("promtool") is None:
        skip_or_fail("promtool is not installed; the package is prometheus")
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_rules() -> list[dict[str, Any]]:
    """Return the alerts and recorded rules."""
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def read_rule_tests() -> list[dict[str, Any]]:
    """Return the unit tests of the rules."""
    document = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))
    tests: list[dict[str, Any]] = document["tests"]
    return tests


def read_dashboard(path: Path) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    dashboard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return dashboard


def list_queries(dashboard: Mapping[str, Any]) -> list[str]:
    """Return the expressions of all panels and variables, with the variables of Grafana replaced."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            (metric,) = re.findall(r"^label_values\((\w+), \w+\)$", variable["query"]["query"])
            queries.append(metric)
    return [replace_variables(each) for each in queries]


def replace_variables(expression: str) -> str:
    """Return the expression as Prometheus gets it from Grafana."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def list_expressions() -> list[str]:
    """Return the expressions of all rules and dashboards."""
    of_dashboards = [query for path in DASHBOARDS for query in list_queries(read_dashboard(path))]
    return [rule["expr"] for rule in read_rules()] + of_dashboards


def find_selectors(expression: str) -> Iterator[Selector]:
    """Yield the metrics that the expression reads."""
    for name, matchers in _SELECTOR.findall(_GROUPING.sub(" ", _without_durations(expression))):
        if name not in _WORDS:
            yield Selector(name, {label: frozenset(text.split("|")) for label, _, text in _MATCHER.findall(matchers)})


def find_grouping_labels(expression: str) -> set[str]:
    """Return the labels by which the expression groups or joins."""
    return {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")}


def _without_durations(expression: str) -> str:
    return re.sub(r"\[[^\]]*\]", "", expression)


def check_expressions(expressions: Sequence[str], folder: Path) -> None:
    """Let promtool parse the expressions; fails if one is not PromQL."""
    rules = [{"record": f"parsed:{at}", "expr": each} for at, each in enumerate(expressions)]
    file = folder / "parsed.yml"
    file.write_text(json.dumps({"groups": [{"name": "parsed", "rules": rules}]}), encoding="utf-8")
    run_promtool("check", "rules", file)
