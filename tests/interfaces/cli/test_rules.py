"""`exports rules`: the rules printed for people and as JSON, and their errors reported at once."""

import shutil
from pathlib import Path

import pytest

from pipeline.customs.reference.ruleset import ruleset
from pipeline.interfaces.cli.output import ExitCode
from tests.support.command_line import Commands
from tests.support.rule_folders import write_rules
from tests.support.tables import table
from tests.support.tariff import REVISION_6

pytestmark = pytest.mark.clock

RULES = Path(__file__).parents[3] / "config" / "rules"
WHY = ("rules", "why", "7323.93.0045", "--origin", "CA", "--on", "2026-11-24")


def test_why_lists_headings_in_order_with_reasons_and_sources(commands: Commands) -> None:
    answer = commands.json(*WHY, "--metal", "steel=0.8", "--net", "1", "--us-percent", "10")
    assert answer["headings"] == [row["heading"] for row in answer["stack"]] == ["9903.05.90", "9903.82.09"]
    assert answer["lists"] == [{"list": "16(c)(vii)", "code": "7323.93.00"}]
    assert [need["metal"] for need in answer["data"]] == ["steel"]
    assert answer["data"][0]["fields"][-1] == "the country of melt and pour (or OTH)"
    taken = [step for step in answer["steps"] if step["applies"]]
    assert [step["ratePercent"] for step in taken] == ["0", "25"]
    assert all(step["source"] and step["reasons"] for step in answer["steps"])


def test_why_prints_for_people(commands: Commands) -> None:
    shown = commands(*WHY, "--metal", "steel=0.8", "--net", "1", "--us-percent", "0").stdout
    assert "takes 9903.82.09 Derivatives and copper wire (S232_METALS)" in shown
    assert "chapter 73 is outside the weight test" in shown
    assert "7323930045 of CA on 2026-11-24: 9903.05.90 9903.82.09" in shown
    assert "depends" not in shown


def test_why_leaves_headings_open_for_missing_metals(commands: Commands) -> None:
    shown = commands(*WHY).stdout
    assert "takes" not in shown
    assert "7323930045 of CA on 2026-11-24: no heading is decided" in shown
    assert (
        "depends Section 232, metals\n"
        "      9903.82.01 (0 %) if it contains no aluminum, steel or copper\n"
        "      9903.82.06 (10 %) if at least 85 % of its listed metal is US metal\n"
        "      9903.82.09 (25 %) otherwise\n"
    ) in shown
    assert "9903.05.90 (0 %) if 9903.82.06 or 9903.82.09 is on the line\n      9903.05.29 (10 %) otherwise" in shown
    assert "not decided: Section 301, forced labor; Section 232, metals. Give --metal" in shown


def test_why_json_has_the_outcome_of_each_value(commands: Commands) -> None:
    answer = commands.json("rules", "why", "8703.23.0140", "--origin", "JP", "--on", "2026-11-24")
    assert answer["headings"] == []
    assert not any(step["applies"] for step in answer["steps"])
    vehicles = {each["program"]: each["outcomes"] for each in answer["undecided"]}["S232_AUTOS"]
    assert [(each["heading"], each["ratePercent"]) for each in vehicles] == [
        ("9903.94.02", "0"),
        ("9903.94.04", "0"),
        ("9903.94.40", "0"),
        ("9903.94.41", "15"),
    ]
    assert vehicles[-1]["appliesIf"] == "the column 1 rate is below 15 %"


def test_why_takes_the_rate_of_the_imported_edition(commands: Commands) -> None:
    shirt = ("rules", "why", "6105.10.0010", "--origin", "JP", "--on", "2026-11-24")
    assert commands.json(*shirt)["headings"] == []
    commands("tariff", "import", str(REVISION_6), "--from", "2026-10-01")
    shown = commands(*shirt).stdout
    assert "6105100010 of JP on 2026-11-24: 9903.05.48" in shown
    assert "the column 1 rate is 12.5 % or more: column 1 of 6105.10.00 is 19.7% (edition hts_2026_revision_6" in shown


def test_why_explains_the_rules_without_a_database(commands: Commands) -> None:
    shirt = ("rules", "why", "6105.10.0010", "--origin", "JP", "--on", "2026-11-24")
    down = Commands(commands.environment | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/exports"})
    done = down(*shirt)
    assert (done.exit_code, "no heading is decided" in done.stdout) == (ExitCode.OK, True)
    assert "without the imported tariff: the database did not answer" in done.stderr
    pan = down("rules", "why", "7323.93.0045", "--origin", "CA", "--on", "2026-11-24")
    assert pan.stderr == "", "no heading of the pan depends on the rate"


def test_why_takes_a_claimed_heading(commands: Commands) -> None:
    claimed = ("--claim", "9903.94.41")
    answer = commands.json("rules", "why", "8703.23.0140", "--origin", "JP", "--on", "2026-11-24", *claimed)
    assert answer["headings"] == ["9903.05.90", "9903.94.41"]
    assert answer["undecided"] == []


def test_why_asks_whether_aluminum_is_russian(commands: Commands) -> None:
    pot = ("rules", "why", "7615.10.7180", "--origin", "CA", "--on", "2026-11-24", "--us-percent", "0")
    answer = commands.json(*pot, "--metal", "aluminum=0.8", "--net", "1")
    metals = answer["undecided"][-1]
    assert [(each["heading"], each["appliesIf"]) for each in metals["outcomes"]] == [
        ("9903.85.68", "any of its aluminum is of RU"),
        ("9903.82.09", None),
    ]
    other_answer = commands.json(*pot, "--metal", "aluminum=0.8", "--net", "1", "--metal-country", "CA")
    assert (other_answer["headings"], other_answer["undecided"]) == (["9903.05.90", "9903.82.09"], [])


@table(
    "arguments",
    [
        ("rules", "why", "7323", "--origin", "CA"),
        ("rules", "why", "7323930045", "--origin", "Canada"),
        ("rules", "why", "7323930045", "--origin", "CA", "--on", "tomorrow"),
        ("rules", "why", "7323930045", "--origin", "CA", "--metal", "tin=1"),
        ("rules", "why", "7323930045", "--origin", "CA", "--metal", "steel=much"),
        ("rules", "why", "7323930045", "--origin", "CA", "--metal", "steel=-1"),
        ("rules", "why", "7323930045", "--origin", "CA", "--metal", "steel=2", "--net", "1"),
        ("rules", "why", "7323930045", "--origin", "CA", "--us-percent", "101"),
        ("rules", "why", "7323930045", "--origin", "CA", "--metal-country", "Canada"),
        ("rules", "why", "7323930045", "--origin", "CA", "--claim", "the usual"),
        ("rules", "why", "7323930045", "--origin", "XO"),
        ("rules", "why", "7323930045", "--origin", "UK"),
        ("rules", "why", "9903820900", "--origin", "CA"),
        ("rules", "show", "7323.93"),
        ("rules", "list", "--status", "sure"),
        ("rules", "list", "--program", "S999"),
        ("rules", "list", "--on", "2026-02-30"),
        ("rules", "diff", "2026-11-24", "2026-11-23"),
    ],
)
def test_invalid_argument_is_a_usage_error(commands: Commands, arguments: tuple[str, ...]) -> None:
    result = commands(*arguments)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("error ")
    assert "Traceback" not in result.stderr


def test_list_prints_and_filters_rows(commands: Commands) -> None:
    rows = commands.json("rules", "list", "--program", "S338_CA", "--on", "2026-11-24")
    assert [row["name"] for row in rows if row["kind"] == "heading"] == [
        "9903.03.16",
        "9903.03.15",
        "9903.03.12",
        "9903.03.13",
        "9903.03.14",
    ]
    doubtful = commands.json("rules", "list", "--status", "check")
    assert {row["status"] for row in doubtful} == {"check"}
    assert {"heading", "agencies", "entry"} <= {row["kind"] for row in doubtful}
    assert "9903.82.09" in commands("rules", "list").stdout
    everything = commands.json("rules", "list", "--all", "--on", "2026-11-30")
    assert len(everything) > len(commands.json("rules", "list", "--on", "2026-11-30"))
    assert ("entry", "foreign importer") in {(row["kind"], row["name"]) for row in everything}


def test_show_prints_every_row_of_a_heading(commands: Commands) -> None:
    answer = commands.json("rules", "show", "9903.76.02", "--on", "2027-01-01")
    assert [(row["rate_percent"], row["in_force"]) for row in answer["rows"]] == [("25", False), ("30", True)]
    assert "25 % on full_value" in commands("rules", "show", "9903.76.02").stdout
    assert "is one of Section 232, Russian" not in commands("rules", "show", "9903.82.09").stdout
    assert "is one of Section 301, China" in commands("rules", "show", "9903.88.21").stdout
    assert commands("rules", "show", "9903.99.99").exit_code == ExitCode.NOT_FOUND
    assert "Near it are 9903.82.26" in commands("rules", "show", "9903.82.29").stderr


def test_show_prints_conditions_and_accepts_a_heading_without_dots(commands: Commands) -> None:
    shown = commands("rules", "show", "99038568").stdout
    assert "- the code is on list 16(c)(ii), 16(c)(vi), 16(c)(ix), 19(i), 19(j) or 19(k)" in shown
    assert "- any of its aluminum is, or the goods are of RU" in shown
    assert "- the column 1 rate is below 15 %" in commands("rules", "show", "9903.82.10").stdout


def test_why_names_goods_excluded_from_import(commands: Commands) -> None:
    whey = ("rules", "why", "0404.10.1100", "--origin", "ca", "--on", "2026-11-24")
    assert [ban["list"] for ban in commands.json(*whey)["excluded"]] == ["ban-dairy"]
    assert "excluded whey, certain sugars" in commands(*whey).stdout
    assert commands.json(*whey[:-1], "2026-09-28")["excluded"] == []


def test_why_names_the_list_of_early_2025(commands: Commands) -> None:
    shown = commands("rules", "why", "7323930045", "--origin", "CA", "--on", "2025-05-20").stdout
    assert "yes 9903.81.90" in shown
    assert "7323.93.00 is on list 16(m) until April 2026 (probable: " in shown


def test_diff_compares_two_days_and_two_rulesets(commands: Commands, tmp_path: Path) -> None:
    changes = commands.json("rules", "diff", "2026-06-07", "2026-06-08")
    assert {change["name"] for change in changes if change["kind"] == "list"} == {
        "16(c)(vi)", "16(c)(vii)", "16(c)(ix)", "16(c)(x)", "16(c)(xi)",
    }  # fmt: skip
    other = Path(shutil.copytree(RULES, tmp_path / "rules"))
    sheet = other / "headings" / "section232-metals.yaml"
    sheet.write_text(sheet.read_text().replace('rate_percent: "200"', 'rate_percent: "100"', 1))
    (changed,) = commands.json("rules", "diff", str(RULES / "ruleset.yaml"), str(other / "ruleset.yaml"))
    assert changed == {
        "kind": "heading",
        "name": "9903.85.67 from 2023-03-10",
        "what": "changed",
        "details": "200 % (full_value) is now 100 % (full_value)",
    }
    assert "1 change\n" in commands("rules", "diff", str(RULES / "ruleset.yaml"), str(other / "ruleset.yaml")).stdout
    assert commands("rules", "diff", "2026-06-07", "nothing.yaml").exit_code == ExitCode.NOT_FOUND


def test_diff_includes_entry_and_agency_rules(commands: Commands, tmp_path: Path) -> None:
    november = commands.json("rules", "diff", "2026-11-29", "2026-11-30")
    assert [(change["name"], change["what"]) for change in november] == [
        ("foreign importer", "began"),
        ("foreign importer formal", "began"),
        ("foreign continuous bond", "began"),
    ]
    july = commands.json("rules", "diff", "2026-07-07", "2026-07-08")
    assert {change["name"] for change in july} == {"flags CP1 CPS", "flags CP2 CPS"}
    assert "reporting" in {change["kind"] for change in commands.json("rules", "diff", "2026-08-26", "2026-08-27")}
    other = Path(shutil.copytree(RULES, tmp_path / "rules"))
    entry = other / "entry.yaml"
    written = entry.read_text().replace("effective_from: 2026-11-30", "effective_from: 2027-01-31", 1)
    entry.write_text(written.replace('limit_usd: "2500"', 'limit_usd: "5000"', 1))
    assert commands.json("rules", "diff", str(RULES), str(other)) == [
        {"kind": "entry", "name": name, "what": "changed", "details": details}
        for name, details in (
            ("informal 11", "limit usd 2500 is now 5000"),
            ("foreign importer", "effective from 2026-11-30 is now 2027-01-31"),
        )
    ]


def test_check_names_the_ruleset_or_all_errors(commands: Commands, tmp_path: Path) -> None:
    assert commands.json("rules", "check")["content_hash"] == ruleset().content_hash
    other = Path(shutil.copytree(RULES, tmp_path / "rules"))
    sheet = other / "headings" / "section338-canada.yaml"
    sheet.write_text(
        sheet.read_text().replace("list: ban-dairy", "list: ban-cheese").replace("origins: [CA]", "origins: [Ca]", 1)
    )
    result = commands("rules", "check", str(other / "ruleset.yaml"))
    assert result.exit_code == ExitCode.REFUSED
    assert "'Ca' is neither a country code nor the name of a group" in result.stderr


def test_check_loads_a_folder_and_the_rules_outside_chapter_99(commands: Commands, tmp_path: Path) -> None:
    other = Path(shutil.copytree(RULES, tmp_path / "rules"))
    assert commands.json("rules", "check", str(other))["content_hash"] == ruleset().content_hash
    with (other / "entry.yaml").open("a") as file:
        file.write("schema: 1\n")
    result = commands("rules", "check", str(other))
    assert result.exit_code == ExitCode.REFUSED
    assert "entry.yaml: line" in result.stderr
    assert "key 'schema' is there twice. Correct the line." in result.stderr
    assert commands("rules", "check", str(tmp_path / "none")).exit_code == ExitCode.NOT_FOUND


def test_why_refuses_day_before_first_rule(commands: Commands) -> None:
    result = commands("rules", "why", "7323930045", "--origin", "CA", "--on", "2018-07-05")
    assert result.exit_code == ExitCode.USAGE
    assert "2018-07-05 is before 2018-07-06, the first day of these rules" in result.output
    assert commands("rules", "why", "7323930045", "--origin", "CA", "--on", "2018-07-06").exit_code == 0


def test_check_names_rules_of_a_day_to_come(commands: Commands, tmp_path: Path) -> None:
    later = write_rules(tmp_path / "rules", "us-ca-later", ("ruleset.yaml", "as_of: 2026-10-07", "as_of: 2126-10-07"))
    assert "as_of is a day to come" in commands("rules", "check", str(later)).stdout
    assert "as_of is" not in commands("rules", "check").stdout
