"""The files of config/monitoring: promtool accepts them, each alert is tested and has a section of the runbook."""

import copy
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from typer.core import TyperGroup

from pipeline.interfaces.app import ROUTERS
from pipeline.interfaces.cli.main import load_command
from pipeline.ops import readiness
from pipeline.ops.doctor import CHECKS
from pipeline.ops.readiness import ServicePart
from tests.support.doc_tables import command_names
from tests.support.monitoring import (
    DASHBOARDS,
    FOLDER,
    ROOT,
    check_expressions,
    find_grouping_labels,
    find_selectors,
    list_queries,
    read_dashboard,
    read_rule_tests,
    read_rules,
    run_promtool,
)

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
WIDTH = 24  # columns of Grafana's grid

register_default_plugins()


def list_alerts() -> list[dict[str, Any]]:
    return [rule for rule in read_rules() if "alert" in rule]


# Rules


@pytest.mark.system
def test_promtool_accepts_configuration_and_rules() -> None:
    run_promtool("check", "config", FOLDER / "prometheus.yml")
    run_promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "alerts.yml")


@pytest.mark.system
def test_alerts_fire_and_stay_quiet_as_their_tests_expect() -> None:
    assert "SUCCESS" in run_promtool("test", "rules", FOLDER / "alerts_test.yml")


@pytest.mark.system
def test_promtool_notices_an_alert_that_does_not_fire(tmp_path: Path) -> None:
    document = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if rule.get("alert") == "ExportsDeadLetters":
            rule["expr"] = rule["expr"].replace("> 0", "> 100")
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "alerts_test.yml").write_text((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))
    with pytest.raises(AssertionError, match="ExportsDeadLetters"):
        run_promtool("test", "rules", tmp_path / "alerts_test.yml")


def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not() -> None:
    fires, quiet = Counter[str](), Counter[str]()
    for test in read_rule_tests():
        for expected in test["alert_rule_test"]:
            (fires if expected["exp_alerts"] else quiet)[expected["alertname"]] += 1
    names = {rule["alert"] for rule in list_alerts()}
    assert fires.keys() == quiet.keys() == names


@pytest.mark.parametrize("rule", list_alerts(), ids=lambda rule: rule["alert"])
def test_alert_says_what_is_wrong_and_where_the_remedy_stands(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    page, _, section = annotations["runbook_url"].partition("#")
    # The operator sets the external label once; without it, the path in this project is the best there is.
    assert page == "{{ with $externalLabels.runbook }}{{ . }}{{ else }}docs/runbook.md{{ end }}"
    assert section in read_sections()
    # What the alert is grouped by, its text names.
    groups = find_grouping_labels(rule["expr"].split(" unless ")[0]) - {"le"}
    text = annotations["summary"] + annotations["description"]
    assert [label for label in groups if f"$labels.{label}" not in text] == []


def test_recorded_rules_are_used() -> None:
    recorded = {rule["record"] for rule in read_rules() if "record" in rule}
    used = {selector.metric for rule in read_rules() for selector in find_selectors(rule["expr"])}
    assert recorded == {name for name in used if ":" in name}


# Runbook


def read_sections() -> dict[str, str]:
    """Return anchor -> text of each section of the runbook."""
    parts = re.split(r"^## (.+)$", RUNBOOK, flags=re.MULTILINE)[1:]
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): text
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def read_causes(text: str) -> dict[str, list[str]]:
    """Return alerts, parts of /readyz and checks of the doctor that lead to a section, by where they are shown."""
    (line,) = re.findall(r"^Shown by: (.+)$", text, re.MULTILINE)
    causes: dict[str, list[str]] = {}
    for shown in line.split("; "):
        *source, names = shown.split(": ")
        causes[source[0].strip("`") if source else "alert"] = re.findall(r"`([^`]+)`", names)
    return causes


def list_parts() -> set[str]:
    """Return the parts that readiness may report as failing."""
    text = Path(readiness.__file__).read_text(encoding="utf-8")
    return set(re.findall(r"ServicePart\(\s*\"(\w+)\"", text)) | set(re.findall(r"_stuck_part\(\"(\w+)\"", text))


def test_each_alert_part_and_check_has_one_section_and_each_section_has_one_of_them() -> None:
    found: dict[str, list[str]] = {"alert": [], "/readyz": [], "exports doctor": []}
    for section, text in read_sections().items():
        causes = read_causes(text)
        assert any(causes.values()), section
        for source, names in causes.items():
            found[source] += names
        for name in causes.get("alert", []):
            (rule,) = [rule for rule in list_alerts() if rule["alert"] == name]
            assert rule["annotations"]["runbook_url"].endswith(f"#{section}")
    assert sorted(found["alert"]) == sorted(rule["alert"] for rule in list_alerts())
    assert len(list_parts()) == 10
    assert sorted(found["/readyz"]) == sorted(list_parts())
    for name in list_parts():
        (section,) = [each for each, text in read_sections().items() if name in read_causes(text).get("/readyz", [])]
        assert ServicePart(name, ok=False, message="").runbook == f"docs/runbook.md#{section}"
    assert sorted(found["exports doctor"]) == sorted(name for name, _, _ in CHECKS)


def test_each_section_says_what_it_means_how_to_look_and_what_to_do_in_this_order() -> None:
    for section, text in read_sections().items():
        assert re.findall(r"^- \*\*(\w+):\*\*", text, re.MULTILINE) == ["Means", "Look", "Do"], section


def list_commands() -> list[str]:
    return sorted({each for each in re.findall(r"`(exports [a-z][^`]*)`", RUNBOOK) if not each.startswith("exports.")})


@pytest.mark.parametrize("command", list_commands())
def test_command_of_the_runbook_exists_with_its_options(command: str) -> None:
    _, *words = shlex.split(command)
    assert find_unknown(words) == []


def find_unknown(words: list[str]) -> list[str]:
    """Return the words that are neither a command, its option nor an argument."""
    if words[0] not in command_names():
        return words[:1]
    found, words = load_command(words[0]), words[1:]
    while isinstance(found, TyperGroup) and words and words[0] in found.commands:
        found, words = found.commands[words[0]], words[1:]
    if isinstance(found, TyperGroup) and not found.invoke_without_command:
        return words or ["a command is missing"]
    options = {option for parameter in found.params for option in parameter.opts}
    takes = sum(parameter.param_type_name == "argument" for parameter in found.params)
    unknown = [word for word in words if word.startswith("-") and word not in options]
    return unknown if takes or not words or words[0].startswith("-") else [*unknown, words[0]]


def test_unknown_command_and_option_are_found() -> None:
    assert find_unknown(["deliveries", "list", "--state", "dead"]) == []
    assert find_unknown(["deliveries", "lost"]) == ["lost"]
    assert find_unknown(["list", "--stat", "dead"]) == ["--stat"]
    assert find_unknown(["mend"]) == ["mend"]


def test_pages_of_the_runbook_exist() -> None:
    pages = {route.path for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)}
    named = {each.partition("?")[0] for each in re.findall(r"`(/[a-z/]+[^`]*)`", RUNBOOK)} - {"/tmp"}  # noqa: S108
    assert len(named) > 5
    assert named - pages == set()


# Dashboards


def lose(given: Any, kept: Any, place: str = "") -> Iterator[str]:
    """Yield the places of a dashboard that Grafana's types do not have or have another value for."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lose(value, kept[key], f"{place}/{key}") if key in kept else [f"{place}/{key}"]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for at, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lose(one, other, f"{place}/{at}")
    elif given != kept:
        yield place


def find_unknown_places(dashboard: dict[str, Any]) -> list[str]:
    """Return the members that are not in Grafana's schema, as its SDK has it."""
    kept = JSONEncoder(sort_keys=True).encode(Dashboard.from_json(copy.deepcopy(dashboard)))
    return [*lose(dashboard, json.loads(kept))]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_is_valid_by_the_types_of_grafana(path: Path) -> None:
    assert find_unknown_places(read_dashboard(path)) == []


def test_unknown_member_of_a_dashboard_is_found() -> None:
    dashboard = read_dashboard(DASHBOARDS[0])
    dashboard["panels"][0]["options"]["colour"] = "red"
    dashboard["titel"] = "x"
    assert find_unknown_places(dashboard) == ["/panels/0/options/colour", "/titel"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_ids_places_units_and_descriptions(path: Path) -> None:
    panels = read_dashboard(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 5
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < WIDTH
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_dashboards_have_own_ids_and_a_data_source_to_choose() -> None:
    dashboards = [read_dashboard(path) for path in DASHBOARDS]
    assert len({each["uid"] for each in dashboards}) == len(dashboards) == 3
    for each in dashboards:
        chosen = each["templating"]["list"][0]
        assert (chosen["name"], chosen["type"], chosen["query"]) == ("datasource", "datasource", "prometheus")


@pytest.mark.system
def test_promtool_parses_each_query_of_the_dashboards(tmp_path: Path) -> None:
    queries = [query for path in DASHBOARDS for query in list_queries(read_dashboard(path))]
    assert len(queries) > 50
    check_expressions(queries, tmp_path)


def test_query_that_is_not_promql_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="parse"):
        check_expressions(["sum by (queue (exports_queue_depth)"], tmp_path)
