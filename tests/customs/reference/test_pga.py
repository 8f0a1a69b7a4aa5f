"""The reference data of partner government agencies: it fits together, or the program does not start."""

from __future__ import annotations

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


def unknown_agency(made: Document) -> None:
    row(made, "flags", flag="FD1")["agency"] = "FDB"


def unknown_program(made: Document) -> None:
    row(made, "flags", flag="AL1")["programs"] = ["APX"]


def unknown_disclaimer(made: Document) -> None:
    row(made, "flags", flag="FD1")["disclaimers"] = ["A", "Z"]


def disclaimer_of_another_agency(made: Document) -> None:
    row(made, "flags", flag="FD1")["disclaimers"] = ["E"]


def disclaimer_of_another_program(made: Document) -> None:
    row(made, "flags", flag="AQ1")["disclaimers"] = ["G"]


def unknown_element(made: Document) -> None:
    row(made, "programs", agency="FDA", program="COS")["data"].append("colour")


def unknown_processing(made: Document) -> None:
    row(made, "programs", agency="CPS", program="CPS")["by_processing"]["XXX"] = []


def unknown_source(made: Document) -> None:
    row(made, "flags", flag="FD1")["source"] = "hearsay"


def flag_twice(made: Document) -> None:
    made["flags"].append(row(made, "flags", flag="CP1") | {"effective_from": date(2027, 1, 1)})


def program_twice(made: Document) -> None:
    made["programs"].append(row(made, "programs", agency="FDA", program="COS"))


def misspelt(made: Document) -> None:
    row(made, "flags", flag="FD1")["requried"] = True


WRONG: dict[Callable[[Document], None], str] = {
    unknown_agency: "flag FD1 names agency FDB",
    unknown_program: "flag AL1 names program APX",
    unknown_disclaimer: "flag FD1 names disclaimer Z",
    disclaimer_of_another_agency: "flag FD1 of FDA allows disclaimer E",
    disclaimer_of_another_program: "flag AQ1 of APH allows disclaimer G",
    unknown_element: "program FDA COS names element colour",
    unknown_processing: "program CPS CPS names processing code XXX",
    unknown_source: "a row names no source",
    flag_twice: "flag CP1 has two rows for 2027-01-01",
    program_twice: "program FDA COS has two rows",
    misspelt: "requried",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_file_that_cannot_be_right_is_refused(document: Document, wrong: Callable[[Document], None]) -> None:
    made = deepcopy(document)
    wrong(made)
    with pytest.raises(ValidationError, match=WRONG[wrong]):
        PgaRules.model_validate(made)


def test_a_flag_may_change_from_one_day_to_the_next(document: Document) -> None:
    made = deepcopy(document)
    old = row(made, "flags", flag="FD1")
    made["flags"].append(old | {"required": True, "disclaimers": [], "effective_from": date(2027, 1, 1)})
    old["effective_to"] = date(2026, 12, 31)
    rules = PgaRules.model_validate(made)
    days = (date(2026, 12, 31), date(2027, 1, 1))
    assert [flag.required for day in days if (flag := rules.find_flag("FD1", day))] == [False, True]


def test_every_row_says_where_it_comes_from_and_how_sure_that_is() -> None:
    rules = pga_rules()
    rows = (*rules.flags, *rules.programs, *rules.disclaimers, *rules.roles, *rules.intended_uses)
    assert len(rows) > 100
    texts = {source.text for source in rules.sources.values()}
    for each in rows:
        assert each.source in texts
        assert (each.status == "check") or each.confidence != "low"


def test_what_is_only_recalled_refuses_nothing() -> None:
    rules = pga_rules()
    severities = {
        name: flag.severity for name in ("AM1", "AT1", "CP1", "CP2") if (flag := rules.find_flag(name, TODAY))
    }
    assert severities == {"AM1": "warn", "AT1": "warn", "CP1": "warn", "CP2": "warn"}
    food, cosmetics = (rules.find_program("FDA", code, TODAY) for code in ("FOO", "COS"))
    assert food is not None
    assert cosmetics is not None
    assert (food.severity, cosmetics.severity) == ("block", "warn")


def test_consumer_product_certificates_begin_later_for_goods_from_a_zone() -> None:
    rules = pga_rules()
    flag = rules.find_flag("CP1", TODAY)
    assert flag is not None
    assert rules.find_flag("CP1", date(2026, 7, 7)) is None
    assert [flag.is_asked_for(TODAY, kind) for kind in ("01", "06")] == [True, False]
    assert flag.is_asked_for(date(2027, 1, 8), "06")


def test_food_asks_more_where_it_needs_prior_notice() -> None:
    food = pga_rules().find_program("FDA", "FOO", TODAY)
    assert food is not None
    plain = food.required_keys("PRO", prior_notice=False)
    noticed = food.required_keys("PRO", prior_notice=True)
    assert noticed[len(plain) :] == (
        "arrivalDatetime",
        "arrivalPort",
        "foodFacilityRegistration|foodFacilityExemption",
    )
    assert food.required_keys("NSF", prior_notice=False) == (*plain, "sourceType")
