"""The reference data of partner government agencies: inconsistent data is rejected."""

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from importlib.resources import files
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.customs.reference.pga import PgaRules, pga_rules

TODAY = date(2026, 11, 24)
Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    loaded: Document = yaml.safe_load((files("config") / "rules" / "pga.yaml").read_text(encoding="utf-8"))
    return loaded


def row(document: Document, table: str, **key: str) -> Document:
    (found,) = [row for row in document[table] if all(row[name] == value for name, value in key.items())]
    assert isinstance(found, dict)
    return found


def unknown_agency(changed: Document) -> None:
    row(changed, "flags", flag="FD1")["agency"] = "FDB"


def unknown_program(changed: Document) -> None:
    row(changed, "flags", flag="AL1")["programs"] = ["APX"]


def unknown_disclaimer(changed: Document) -> None:
    row(changed, "flags", flag="FD1")["disclaimers"] = ["A", "Z"]


def disclaimer_of_another_agency(changed: Document) -> None:
    row(changed, "flags", flag="FD1")["disclaimers"] = ["E"]


def disclaimer_of_another_program(changed: Document) -> None:
    row(changed, "flags", flag="AQ1")["disclaimers"] = ["G"]


def unknown_element(changed: Document) -> None:
    row(changed, "programs", agency="FDA", program="COS")["data"].append("colour")


def unknown_processing(changed: Document) -> None:
    row(changed, "programs", agency="CPS", program="CPS")["by_processing"]["XXX"] = []


def unknown_case(changed: Document) -> None:
    row(changed, "programs", agency="FDA", program="DEV")["cases"][0]["of"] = "colour"


def unknown_disclaimed_use(changed: Document) -> None:
    row(changed, "programs", agency="CPS", program="CPS")["disclaimed_uses"]["Z"] = []


def unknown_source(changed: Document) -> None:
    row(changed, "flags", flag="FD1")["source"] = "hearsay"


def flag_twice(changed: Document) -> None:
    changed["flags"].append(row(changed, "flags", flag="CP1") | {"effective_from": date(2027, 1, 1)})


def program_twice(changed: Document) -> None:
    changed["programs"].append(row(changed, "programs", agency="FDA", program="COS"))


def misspelt(changed: Document) -> None:
    row(changed, "flags", flag="FD1")["requried"] = True


WRONG: dict[Callable[[Document], None], str] = {
    unknown_agency: "flag FD1 names agency FDB",
    unknown_program: "flag AL1 names program APX",
    unknown_disclaimer: "flag FD1 names disclaimer Z",
    disclaimer_of_another_agency: "flag FD1 of FDA allows disclaimer E",
    disclaimer_of_another_program: "flag AQ1 of APH allows disclaimer G",
    unknown_element: "program FDA COS names element colour",
    unknown_processing: "program CPS CPS names processing code XXX",
    unknown_case: "program FDA DEV names datum colour",
    unknown_disclaimed_use: "program CPS CPS names disclaimer Z",
    unknown_source: "a row must name a source",
    flag_twice: "flag CP1 has two rows for 2027-01-01",
    program_twice: "program FDA COS has two rows",
    misspelt: "requried",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_inconsistent_file_is_rejected(document: Document, wrong: Callable[[Document], None]) -> None:
    changed = deepcopy(document)
    wrong(changed)
    with pytest.raises(ValidationError, match=WRONG[wrong]):
        PgaRules.model_validate(changed)


def test_flag_may_change_between_days(document: Document) -> None:
    changed = deepcopy(document)
    old = row(changed, "flags", flag="FD1")
    changed["flags"].append(old | {"required": True, "disclaimers": [], "effective_from": date(2027, 1, 1)})
    old["effective_to"] = date(2026, 12, 31)
    rules = PgaRules.model_validate(changed)
    days = (date(2026, 12, 31), date(2027, 1, 1))
    assert [flag.required for day in days if (flag := rules.find_flag("FD1", day))] == [False, True]


def test_every_row_has_source_and_confidence() -> None:
    rules = pga_rules()
    rows = (*rules.flags, *rules.programs, *rules.disclaimers, *rules.roles, *rules.intended_uses)
    assert len(rows) > 100
    texts = {source.text for source in rules.sources.values()}
    for each in rows:
        assert each.source in texts
        assert (each.status == "check") or each.confidence != "low"


def test_unconfirmed_row_never_blocks() -> None:
    rules = pga_rules()
    severities = {name: flag.severity for name in ("CP1", "CP2") if (flag := rules.find_flag(name, TODAY))}
    assert severities == {"CP1": "warn", "CP2": "warn"}
    food, plants = (rules.find_program(*code, TODAY) for code in (("FDA", "FOO"), ("APH", "APQ")))
    assert food is not None
    assert plants is not None
    assert (food.severity, plants.severity) == ("block", "warn")


def test_cpsc_certificates_begin_later_for_zone_goods() -> None:
    rules = pga_rules()
    flag = rules.find_flag("CP1", TODAY)
    assert flag is not None
    assert rules.find_flag("CP1", date(2026, 7, 7)) is None
    assert [flag.is_asked_for(TODAY, kind) for kind in ("01", "06")] == [True, False]
    assert flag.is_asked_for(date(2027, 1, 8), "06")


def test_food_with_prior_notice_needs_more_data() -> None:
    food = pga_rules().find_program("FDA", "FOO", TODAY)
    assert food is not None
    plain = food.required_keys("PRO", {}, prior_notice=False)
    noticed = food.required_keys("PRO", {}, prior_notice=True)
    assert noticed[len(plain) :] == ("arrivalDatetime", "arrivalPort", "foodFacilityRegistration|foodFacilityExemption")
    assert food.required_keys("NSF", {}, prior_notice=False) == (*plain, "sourceType")
