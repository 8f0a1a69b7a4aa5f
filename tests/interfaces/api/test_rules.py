"""A planner asks by HTTP which headings the active rules decide for a line, and gets what `exports rules why` prints."""

from datetime import date
from pathlib import Path
from typing import Any

from pipeline.customs import rulesets
from pipeline.customs.reference.archive import RulesFiles
from pipeline.customs.reference.content import read_folder
from tests.interfaces.api.conftest import ApiHarness
from tests.support.command_line import Commands, commands
from tests.support.rule_folders import PACKAGED_HASH, PACKAGED_ID, write_rules
from tests.support.tables import table
from tests.support.tariff import REVISION_6, import_revision

__all__ = ["commands"]

PAN = "/api/rules/decide?htsCode=7323930045&origin=CA&on=2026-11-24"
STEEL = f"{PAN}&metal=steel:0.8&netKg=1&usPercent=0&metalCountry=CA"


def decide(harness: ApiHarness, address: str) -> dict[str, Any]:
    response = harness.client("read").get(address)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_answer_is_what_the_command_prints(harness: ApiHarness, commands: Commands) -> None:
    why = ("rules", "why", "7323930045", "--origin", "CA", "--on", "2026-11-24")
    metals = ("--metal", "steel=0.8", "--net", "1", "--us-percent", "0", "--metal-country", "CA")
    for address, more in ((PAN, ()), (STEEL, metals), (f"{PAN}&spi=S", ("--spi", "S"))):
        assert decide(harness, address) == commands.json(*why, *more)
    module = commands.json("rules", "why", "8541430010", "--origin", "VN", "--on", "2026-12-04")
    assert decide(harness, "/api/rules/decide?htsCode=8541430010&origin=VN&on=2026-12-04") == module
    assert [each["floor"] and each["floor"]["amount"] for each in module["openDuties"]] == [None, "0.38"]


def test_imported_edition_decides_what_depends_on_column_1(harness: ApiHarness) -> None:
    shirt = "/api/rules/decide?htsCode=6105100010&origin=DE&on=2026-11-24"
    before = decide(harness, shirt)
    assert (before["headings"], [each["program"] for each in before["undecided"]]) == ([], ["S301_FL"])
    import_revision(harness.runtime, REVISION_6, date(2026, 10, 1))
    after = decide(harness, shirt)
    assert (after["headings"], after["undecided"]) == (["9903.05.38"], [])
    (step,) = [each for each in after["steps"] if each["applies"]]
    assert (
        "column 1 of 6105.10.00 is 19.7% (edition hts_2026_revision_6 from 2026-10-01, sha256:" in step["reasons"][-1]
    )
    assert decide(harness, f"{shirt.removesuffix('2026-11-24')}2026-09-30")["headings"] == []


def test_answer_follows_the_active_rules(harness: ApiHarness, tmp_path: Path) -> None:
    packaged = decide(harness, STEEL)
    assert (packaged["ruleset"], packaged["rulesHash"]) == (PACKAGED_ID, PACKAGED_HASH)
    rules = read_folder(write_rules(tmp_path / "rules", "us-newer"))
    with harness.runtime.db.write() as session:
        rulesets.store_rules(session, RulesFiles(rules, None), "a folder")
    rulesets.switch_rules(harness.runtime, "us-newer", "me@maple.example")
    assert decide(harness, STEEL)["ruleset"] == "us-newer"


@table(
    ("query", "field"),
    [
        ("htsCode=732393&origin=CA", "htsCode"),
        ("htsCode=9903820900&origin=CA", "htsCode"),
        ("htsCode=7323930045&origin=Canada", "origin"),
        ("htsCode=7323930045&origin=XO", "origin"),
        ("htsCode=7323930045&origin=CA&on=tomorrow", "on"),
        ("htsCode=7323930045&origin=CA&on=2018-07-05", "on"),
        ("htsCode=7323930045&origin=CA&metal=tin:1", "metal"),
        ("htsCode=7323930045&origin=CA&metal=steel", "metal"),
        ("htsCode=7323930045&origin=CA&metal=steel:-1", "metal"),
        ("htsCode=7323930045&origin=CA&metal=steel:1e999999", "metal"),
        ("htsCode=7323930045&origin=CA&metal=steel:%D9%A3", "metal"),
        ("htsCode=7323930045&origin=CA&metal=steel:2&netKg=1", "netKg"),
        ("htsCode=7323930045&origin=CA&usPercent=101", "usPercent"),
        ("htsCode=7323930045&origin=CA&usPercent=10", "usPercent"),
        ("htsCode=7323930045&origin=CA&metal=steel:1&metalCountry=ZZ", "metalCountry"),
        ("htsCode=7323930045&origin=CA&claim=9903.82.9", "claim"),
        ("origin=CA", "htsCode"),
    ],
)
def test_wrong_question_names_its_parameter(harness: ApiHarness, query: str, field: str) -> None:
    response = harness.client("read").get(f"/api/rules/decide?{query}")
    problem = response.json()
    assert (response.status_code, problem["errorCode"]) == (400, "VALIDATION_ERROR")
    assert field in str(problem), problem


def test_wrong_form_is_said_in_words_and_the_contract_has_its_pattern(harness: ApiHarness) -> None:
    problem = harness.client("read").get("/api/rules/decide?htsCode=7323&origin=CA").json()
    assert problem["message"] == "/query/htsCode must have all ten digits, without dots, such as 7323930045"
    parameters = harness.client("read").get("/openapi.json").json()["paths"]["/api/rules/decide"]["get"]["parameters"]
    schemas = {each["name"]: each["schema"] for each in parameters}
    assert schemas["htsCode"]["pattern"] == "^[0-9]{10}$"
    assert schemas["claim"]["items"]["pattern"] == r"^99[0-9]{2}\.[0-9]{2}\.[0-9]{2}$"
