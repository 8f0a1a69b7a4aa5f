"""`exports preflight`: a table by line and agency, with a service and without one."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.customs.reference.ruleset import ruleset
from tests.support import factories
from tests.support.command_line import Commands
from tests.support.memory import LINEAR, measure_cost_ratio

pytestmark = pytest.mark.clock

#: The plan as of the day for which the builders made it.
OFFLINE = ("preflight", "--offline", "--on", str(factories.TODAY))

#: The service of these tests may have executed the builders' own invoices, which is a finding.
PLAN = factories.plan(invoice="PREFLIGHT-")

OPEN = factories.change_plan(
    factories.change_plan(PLAN, "/units/0/lines/0/treatment/section232/0/countryOfMeltAndPour", None),
    "/units/0/invoice/charges/0/code",
    "handling",
)


def write_plan(folder: Path, plan: dict[str, Any]) -> str:
    path = folder / "plan.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    return str(path)


def test_offline_preflight_checks_only_the_plan(new_machine: Commands, tmp_path: Path) -> None:
    shown = new_machine(*OFFLINE, write_plan(tmp_path, factories.plan()))
    assert shown.exit_code == 0, shown.output
    for text in (
        "executable, 0 findings",
        "10 of 10 rows are complete",
        "FD1 FOO disclaimed A",
        "Not checked: partners",
    ):
        assert text in shown.stdout
    assert not (tmp_path / "exports.db").exists()


def test_table_shows_what_is_missing_and_what_needs_a_person(commands: Commands, tmp_path: Path) -> None:
    shown = commands(*OFFLINE, write_plan(tmp_path, OPEN))
    assert shown.exit_code == 1
    rows = {tuple(line.split()[:2]): line for line in shown.stdout.splitlines() if line.startswith("U1")}
    assert "V17 charges" in rows["U1", "CBP"]
    assert "V09 country of melt and pour" in shown.stdout
    assert "Give the country of melt and pour" in shown.stdout


def without_tariff(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report without the note that only the service gives: it has no tariff."""
    kept = {name: [each for each in report[name] if each["rule"] != "H00"] for name in ("findings", "rules")}
    assert all(len(report[name]) == len(rows) + 1 for name, rows in kept.items())
    return report | kept


def test_json_report_is_the_services_report(service: Commands, tmp_path: Path) -> None:
    path = write_plan(tmp_path, PLAN)
    assert without_tariff(service.json("preflight", path)) == service.json("preflight", "--offline", path)
    path = write_plan(tmp_path, OPEN)
    blocked, offline = service("preflight", path, "--json"), service("preflight", "--offline", path, "--json")
    assert blocked.exit_code == 1
    assert without_tariff(json.loads(blocked.stdout)) == json.loads(offline.stdout)
    report = json.loads(service(*OFFLINE, path, "--json").stdout)
    assert report["executable"] is False
    assert [(each["rule"], each["severity"]) for each in report["rules"]] == [("V09", "block"), ("V17", "warn")]
    assert "V09 country of melt and pour" in service("preflight", path).stdout


def test_json_report_includes_the_table(commands: Commands, tmp_path: Path) -> None:
    report = json.loads(commands(*OFFLINE, write_plan(tmp_path, OPEN), "--json").stdout)
    rows = {(row["unitRef"], row["lineRef"], row["agency"]): row for row in report["standings"]}
    assert len(rows) == 10
    assert rows["U1", "L1", "CBP ch. 99"]["missing"] == ["V09 country of melt and pour"]
    assert rows["U1", "", "CBP"]["person"] == ["V17 charges"]
    assert rows["U1", "L1", "FDA"] == {
        "unitRef": "U1",
        "lineRef": "L1",
        "agency": "FDA",
        "present": ["FD1 FOO disclaimed A"],
        "missing": [],
        "person": [],
        "waived": [],
    }


@pytest.mark.parametrize(
    ("approval", "pointer", "message", "label"),
    [
        (None, "/approval", "The plan has no approval.", "A02 approval"),
        (
            {
                "approvedBy": "ops@maple.example",
                "approvedAt": "2020-01-01T00:00:00Z",
                "expiresAt": "2020-02-01T00:00:00Z",
            },
            "/approval/expiresAt",
            "The approval expired at 2020-02-01T00:00:00+00:00.",
            "A02 expires at",
        ),
    ],
)
def test_missing_or_expired_approval_is_reported(
    service: Commands, tmp_path: Path, approval: object, pointer: str, message: str, label: str
) -> None:
    path = write_plan(tmp_path, factories.plan(approval=approval, invoice="PREFLIGHT-"))
    for command in (("preflight",), OFFLINE):
        shown = service(*command, path, "--json")
        report = json.loads(shown.stdout)
        assert (shown.exit_code, report["executable"]) == (1, False)
        # The service checks as of the real day, which may be after the day of entry.
        (found,) = [each for each in report["findings"] if each["rule"] not in {"V26", "H00"}]
        assert (found["rule"], found["severity"], found["pointer"]) == ("A02", "block", pointer)
        assert found["message"] == message
        assert found["remedy"].startswith("Have ")
        assert report["standings"][0]["missing"] == [label]
    assert label in service("preflight", path).stdout


def test_long_plan_shows_incomplete_rows_and_all_on_demand(commands: Commands, tmp_path: Path) -> None:
    long = factories.plan(lines=60, packages=60)
    long["units"][0]["lines"][40]["netWeightKg"] = "0"
    path = write_plan(tmp_path, long)
    shown = commands(*OFFLINE, path).stdout
    assert "L41" in shown
    assert "L40" not in shown
    assert "rows are complete; --all shows them" in shown
    assert "L40" in commands(*OFFLINE, "--all", path).stdout


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("/units/0/lines/0/htsCode", "7323"), ("/units/0/invoice/total", 12.5), ("/schemaVersion", "2")],
)
def test_malformed_plan_names_the_field(commands: Commands, tmp_path: Path, pointer: str, value: object) -> None:
    path = write_plan(tmp_path, factories.change_plan(factories.plan(), pointer, value))
    shown = commands(*OFFLINE, path, "--json")
    problem = json.loads(shown.stdout)
    assert (shown.exit_code, problem["errorCode"], problem["pointer"]) == (1, "VALIDATION_ERROR", pointer)
    assert commands(*OFFLINE, path).exit_code == 1


def test_markup_in_a_plan_is_printed_as_text(commands: Commands, tmp_path: Path) -> None:
    hostile = factories.change_plan(factories.plan(), "/units/0/lines/0/sku", "[red]x[/red][link=file:///etc]y")
    hostile = factories.change_plan(hostile, "/units/0/invoice/number", "[bold]1")
    shown = commands(*OFFLINE, write_plan(tmp_path, hostile))
    assert shown.exit_code == 1
    assert "[bold]1" in shown.stdout


@pytest.mark.system
def test_ten_times_the_lines_cost_about_ten_times_as_much(commands: Commands, tmp_path: Path) -> None:
    def check(lines: int) -> None:
        shown = commands(*OFFLINE, str(tmp_path / f"{lines}.json"))
        assert (shown.exit_code, f"{rows[lines]} of {rows[lines]} rows are complete" in shown.stdout) == (0, True)

    rows = {500: 1_336, 5_000: 13_336}

    for lines in rows:
        made = factories.plan(lines=lines, packages=lines)
        (tmp_path / f"{lines}.json").write_text(json.dumps(made), encoding="utf-8")
    assert measure_cost_ratio(check, 500, 5_000) < LINEAR


@pytest.mark.parametrize(("late", "said"), [(0, None), (1, "Their review is 1 day late"), (9, "is 9 days late")])
def test_late_review_of_the_rules_is_said_once(commands: Commands, tmp_path: Path, late: int, said: str | None) -> None:
    path = write_plan(tmp_path, factories.plan())
    day = ruleset().as_of + timedelta(days=ruleset().review.within_days + late)
    shown = commands("preflight", "--offline", "--on", str(day), path).stdout
    assert shown.count("Their review is") == (said is not None)
    assert said is None or said in shown


def test_on_needs_offline(commands: Commands, tmp_path: Path) -> None:
    path = write_plan(tmp_path, factories.plan())
    late = commands("preflight", "--offline", "--on", "2026-11-27", path, "--json")
    (found,) = json.loads(late.stdout)["findings"]
    assert (found["rule"], found["severity"]) == ("V26", "warn")
    expiring = factories.plan(
        approval={
            "approvedBy": "ops@maple.example",
            "approvedAt": "2026-11-20T00:00:00Z",
            "expiresAt": "2026-11-25T00:00:00Z",
        }
    )
    path = write_plan(tmp_path, expiring)
    for day, code in (("2026-11-24", 0), ("2026-11-26", 1)):
        assert commands("preflight", "--offline", "--on", day, path).exit_code == code
    result = commands("preflight", "--on", "2026-11-24", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--on needs --offline" in result.stderr
