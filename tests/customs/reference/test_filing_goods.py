"""The goods that need a license or a softwood declaration are those of the proclamation, the law and the agencies."""

import csv
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.customs.reference.filing import FilingRules, GoodsOnEntry, LicensedGoods, filing_rules
from pipeline.exports.line_declarations import LICENSES

#: Proclamation 9705 (2018-03-08), clause (1): the six-digit numbers of steel articles, each from and to.
STEEL = [("720610", "721650"), ("721699", "730110"), ("730210", "730210"), ("730240", "730290"), ("730410", "730690")]
#: Aluminum, from the proposed rule as trade.gov/aluminum has it (85 FR 23748), and the notices of customs brokers of the final one.
ALUMINUM = ["7601", "7604", "7605", "7606", "7607", "7608", "7609", "7616.99.51.60", "7616.99.51.70"]
#: CBP, Kimberley Process importation requirements.
DIAMONDS = ["7102.10", "7102.21", "7102.31"]
#: 19 USC 1683b(a)(1), and how the tariff divides 4407.10 since 2017 and 2022; the notice of a customs broker of 2008 has 4409.10.05.
LUMBER = ["4407.11", "4407.12", "4407.13", "4407.14", "4407.19", "4409.10.05", "4409.10.10", "4409.10.20", "4409.10.90"]
#: Code and name, as the declarations of a public filing program and notices of customs brokers have them.
CODES = {"01": "Steel Import License", "06": "Diamond Certificate", "28": "Aluminum Import License"}

#: Provisions of the tariff that U.S. notes print: among them all subheadings of steel.
NOTES = [Path(__file__).parent / name for name in ("hts_2026_revision_6_notes.csv", "hts_notes_by_day.csv")]
DAY = date(2026, 11, 26)


def find_row(attribute: str) -> LicensedGoods:
    return next(row for row in filing_rules().licenses if row.attribute == attribute)


def read_subheadings(chapters: set[str]) -> set[str]:
    found: set[str] = set()
    for path in NOTES:
        with path.open(newline="") as file:
            found |= {code.replace(".", "")[:6] for row in csv.DictReader(file) for code in row["provisions"].split()}
    return {code for code in found if len(code) == 6 and code[:2] in chapters}


def test_steel_is_that_of_the_proclamation() -> None:
    numbers, row = read_subheadings({"72", "73"}), find_row("steelImportLicense")
    named = {number for number in numbers if any(first <= number <= last for first, last in STEEL)}
    assert (len(numbers) > 250, len(named) > 150) == (True, True)
    assert {number for number in numbers if row.cover(number, "01", DAY)} == named


@pytest.mark.parametrize(
    ("row", "printed"),
    [
        (find_row("aluminumImportLicense"), ALUMINUM),
        (find_row("diamondCertificate"), DIAMONDS),
        (filing_rules().softwood_lumber, LUMBER),
    ],
    ids=["aluminum", "diamonds", "lumber"],
)
def test_numbers_are_those_of_the_texts(row: GoodsOnEntry, printed: list[str]) -> None:
    assert set(row.numbers) == {number.replace(".", "") for number in printed}


def test_licenses_have_the_codes_and_names_of_other_programs() -> None:
    theirs = {code: name.split()[0].lower() for code, name in CODES.items()}
    ours = {
        license_.type: row.name.split()[0].lower()
        for row in filing_rules().licenses
        for license_ in [LICENSES[row.attribute]]
    }
    assert ours == theirs | {"06": "kimberley"}
    assert {license_.type for license_ in LICENSES.values()} == theirs.keys()


def test_license_without_a_known_attribute_is_refused() -> None:
    row = find_row("steelImportLicense").model_dump() | {"attribute": "steelLicence"}
    with pytest.raises(
        ValidationError, match="attribute steelLicence is not one of steelImportLicense, diamondCertificate"
    ):
        LicensedGoods.model_validate(row)


def test_rules_of_a_release_before_know_no_such_goods() -> None:
    table = filing_rules().model_dump(by_alias=True) | {"licenses": (), "softwood_lumber": None}
    older = FilingRules.model_validate(table)
    assert (older.licenses, older.softwood_lumber) == ((), None)
