"""The data that agencies' programs require are those of the regulations: CFR by its paragraphs."""

from datetime import date
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.customs.reference.pga import pga_rules
from tests.support.tables import table

TEXTS: Final[list[dict[str, Any]]] = yaml.safe_load(Path(__file__).with_name("agency_programs.yaml").read_text("utf-8"))
TODAY: Final = date(2026, 11, 24)
#: Programs whose required data are in no text that was read. DEA's machines need the number that DEA gives a Form 452, and the
#: record for it was not read.
WITHOUT_TEXT: Final = {"DEA MAC"}


def required_keys(row: dict[str, Any], condition: str | dict[str, str]) -> set[str]:
    """Return what the program of the row requires with a processing code, or with values of its data."""
    given = {"processing": condition} if isinstance(condition, str) else dict(condition)
    agency, program = row["program"].split()
    found = pga_rules().find_program(agency, program, TODAY)
    assert found is not None
    code = given.pop("processing", None)
    values = {key: [value] for key, value in given.items()}
    return {*found.required_keys(code, values, prior_notice=row.get("prior_notice", False))}


CASES: Final = [
    (row, case) for row in TEXTS for case in (row["if"] if isinstance(row.get("if"), list) else [row.get("if", {})])
]


@table(("row", "case"), CASES)
def test_program_requires_what_the_paragraphs_ask_for(row: dict[str, Any], case: str | dict[str, str]) -> None:
    asked = {key for keys in row["paragraphs"].values() for key in keys}
    required = required_keys(row, case)
    assert asked <= required, row["text"]
    if row.get("whole"):
        assert required == asked, row["text"]


@table("row", [row for row in TEXTS if "optional" in row])
def test_program_takes_what_only_some_goods_need(row: dict[str, Any]) -> None:
    agency, program = row["program"].split()
    found = pga_rules().find_program(agency, program, TODAY)
    assert found is not None
    assert {key for keys in row["optional"].values() for key in keys} <= {*found.all_keys()}


def test_case_of_a_paragraph_requires_nothing_without_it() -> None:
    without = {box: required_keys({"program": "NHT MVS"}, {"hs7Box": box}) for box in ("2A", "8")}
    for row in TEXTS:
        if "hs7Box" in row.get("if", {}):
            for key in {key for keys in row["paragraphs"].values() for key in keys}:
                assert all(key not in required for required in without.values()), key
    # 21 CFR 1.79(a): not for products solely for further manufacturing, or investigational.
    for code in ("FFM", "INV"):
        assert "brandName" not in required_keys({"program": "FDA TOB"}, code)


def test_every_program_has_a_text_or_is_named() -> None:
    known = {f"{each.agency} {each.program}" for each in pga_rules().programs}
    assert {row["program"] for row in TEXTS} | WITHOUT_TEXT == known
    assert not {row["program"] for row in TEXTS} & WITHOUT_TEXT
