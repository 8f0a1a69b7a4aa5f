"""The agencies' flags are those of CBP's table: agency, programs, whether data is required, and the disclaimers."""

import csv
from datetime import date
from pathlib import Path

from pipeline.customs.reference.pga import AgencyFlag, pga_rules
from tests.support.tables import table

#: The Agency Tariff Code Reference of 2026-03-04 (a work of the US government), in the order of its table.
TABLE = Path(__file__).with_name("agency_tariff_codes_2026_03_04.csv")
TODAY = date(2026, 11, 24)

#: The disclaimers that agencies' guides leave, instead of all codes: AMS (July 2025), NHTSA, and the CPSC's rules.
NARROWED = {"AM1": {"A"}, "AM3": set(), "AM7": {"A"}, "DT1": {"A", "B", "C"}, "CP1": {"A", "B"}}
#: No HTS number has it: ATF uses no flags.
NOT_IN_TABLE = {"AT1"}


def read_table() -> list[dict[str, str]]:
    return list(csv.DictReader(line for line in TABLE.read_text("utf-8").splitlines() if not line.startswith("#")))


def find_flag(code: str) -> AgencyFlag:
    found = pga_rules().find_flag(code, TODAY)
    assert found is not None, code
    return found


@table("row", read_table())
def test_flag_is_that_of_the_table(row: dict[str, str]) -> None:
    flag = find_flag(row["flag"])
    assert flag.agency == row["agency"]
    assert flag.required is (row["need"] == "R")
    assert {*(flag.programs or pga_rules().find_programs(flag.agency, TODAY))} == {*row["programs"].split()}


@table("row", [row for row in read_table() if row["need"] == "M"])
def test_disclaimers_are_those_of_the_table_or_of_the_agency(row: dict[str, str]) -> None:
    flag, limits = find_flag(row["flag"]), row["disclaimers"].split()
    if limits == ["none"]:
        assert flag.silent
        assert flag.disclaimers == ()
    elif limits:
        assert {*flag.disclaimers} == {*limits}
    else:
        # The table: "all disclaim codes are allowed" unless an agency's guide says otherwise.
        own = {code.code for code in pga_rules().disclaimers if flag.agency in code.agencies}
        assert {*flag.disclaimers} - own == NARROWED.get(row["flag"], {"A", "B", "C", "D"})


def test_every_flag_is_in_the_table() -> None:
    known = {flag.flag for flag in pga_rules().flags if flag.in_force(TODAY)}
    assert known - {row["flag"] for row in read_table()} == NOT_IN_TABLE


def test_limit_of_little_plant_material_is_that_of_the_message_set() -> None:
    # PG01, code G: "no more than 5 percent of the total weight of the individual product unit", and "the total weight of the
    # plant material in an entry of products in the same 10-digit HTS provision does not exceed 2.9 kilograms".
    limits = {row.code: row.plants for row in pga_rules().disclaimers if row.plants is not None}
    assert limits.keys() == {"G"}
    assert (str(limits["G"].most_percent), str(limits["G"].most_kg)) == ("5", "2.9")
    # The titles of the HTSUS: 44 wood and articles of wood, 45 cork and articles of cork, 46 manufactures of straw, of esparto
    # or of other plaiting materials; basketware and wickerwork.
    assert limits["G"].wholly == ("44", "45", "46")
