"""The table of values and fees agrees with the law's amounts, CBP's factor and the numbers of the tariff, all in their own words."""

import csv
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pycountry
import pytest
import yaml
from pydantic import ValidationError

from pipeline.core.money import round_dollars
from pipeline.customs.reference.valuation import EntryFee, GoodsFee, ValuationRules, valuation_rules

CENT: Final = Decimal("0.01")
DAY: Final = date(2026, 11, 27)

#: Base amounts as the US Code and appendix B to 19 CFR part 24 print them: 19 USC 58c(b)(8)(A)(i), (a)(10)(C)(i).
LEAST, MOST, INFORMAL = Decimal(25), Decimal(485), Decimal(2)
#: What CBP adds for the inflation since 2014, in percent, by fiscal year: 90 FR 34665; 91 FR 48398, at second hand.
ADDED: Final = {2026: Decimal("34.331"), 2027: Decimal("38.322")}
#: Other fees of the same notices, which the table does not have: the surcharge of 58c(b)(8)(A)(ii) and the dutiable mail fee of
#: 19 CFR 24.22(f). Their bases times the factor are the amounts of CSMS 65741993 and 69915041.
ANNOUNCED: Final = [
    (2026, "3", "4.03"), (2026, "5.50", "7.39"), (2026, "1", "1.34"), (2027, "3", "4.15"), (2027, "5.50", "7.61"),
]  # fmt: skip


def is_adjusted(amount: Decimal | None, base: Decimal, year: int) -> bool:
    """Return whether the amount is the base with what the year adds; CBP prints it rounded, and does not compute so."""
    half = Decimal("0.0005")
    least, most = ((base * (100 + ADDED[year] + step) / 100).quantize(CENT) for step in (-half, half))
    return amount is not None and least <= amount <= most and most - least <= CENT


@pytest.mark.parametrize(("year", "base", "amount"), ANNOUNCED)
def test_factor_of_the_year_gives_each_announced_fee(year: int, base: str, amount: str) -> None:
    assert is_adjusted(Decimal(amount), Decimal(base), year)


def test_processing_fees_are_the_amounts_of_the_law_times_the_factor_of_the_year() -> None:
    rows = {(fee.code, fee.effective_to.year): fee for fee in valuation_rules().fees if fee.effective_to is not None}
    assert rows.keys() == {(code, year) for code in ("499", "311") for year in ADDED}
    for (code, year), fee in rows.items():
        assert (fee.effective_from, fee.effective_to) == (date(year - 1, 10, 1), date(year, 9, 30))
        if code == "499":
            # CSMS 65741993: the rate "will NOT change".
            assert fee.percent == Decimal("0.3464")
            assert is_adjusted(fee.minimum, LEAST, year)
            assert is_adjusted(fee.maximum, MOST, year)
        else:
            assert is_adjusted(fee.flat, INFORMAL, year)


#: Numbers of CBP's HTS/PGA report of 2026-02-21 with their descriptions, and the rates of the Internal Revenue Code in its words.
TAXED: Final = [
    ("2203000060", "BEER MADE FROM MALT", "26 USC 5051", "$18 on any barrels", "a barrel shall contain not more than 31 gallons"),
    ("2204100065", "SPRKLNG WINE", "26 USC 5041", "On champagne and other sparkling wines, $3.40 per", "wine gallon"),
    ("2204213000", "TOKAY WN,<=14% ALCHL", "26 USC 5041", "not more than 16 percent of alcohol by volume, $1.07 per", "wine gallon"),
    ("2204215055", "WHTWINE,<=14% ALC", "26 USC 5041", "not more than 16 percent of alcohol by volume, $1.07 per", "wine gallon"),
    ("2204226000", "WINE,N/O 14% ALC", "26 USC 5041", "not more than 16 percent of alcohol by volume, $1.07 per", "wine gallon"),
    ("2204296100", "WINE,N/O 14% ALC", "26 USC 5041", "not more than 16 percent of alcohol by volume, $1.07 per", "wine gallon"),
    ("2208303030", "IRISH/SCOTCH WHISK", "26 USC 5001", "a tax at the rate of $13.50 on each", "proof gallon"),
    ("2402103030", "SML CGRS,=<1.36KG/1000", "26 USC 5701", "weighing not more than 3 pounds per thousand, $50.33 per", "thousand"),
    ("2402208000", "PAPER-WRAP CIGRETS", "26 USC 5701", "weighing not more than 3 pounds per thousand, $50.33 per", "thousand"),
    ("2403992130", "CHEWING TOBACCO", "26 USC 5701", "On chewing tobacco, 50.33 cents per", "pound"),
    ("2403992140", "SNUF", "26 USC 5701", "On snuff, $1.51 per", "pound"),
]  # fmt: skip
#: Each measure of the code as so many of a unit of quantity: a gallon has 3.785411784 liters, of spirits proof liters.
MEASURES: Final = {
    "a barrel shall contain not more than 31 gallons": ("31", "GAL"), "wine gallon": ("1", "GAL"),
    "proof gallon": ("3.785411784", "PFL"), "thousand": ("1", "K"), "pound": ("1", "LB"),
}  # fmt: skip


@pytest.mark.parametrize(("number", "description", "section", "words", "measure"), TAXED)
def test_tax_is_that_of_the_internal_revenue_code(
    number: str, description: str, section: str, words: str, measure: str
) -> None:
    row = valuation_rules().find_tax(number, DAY)
    assert row is not None, description
    dollars, cents = re.search(r"\$([\d.]+)", words), re.search(r"([\d.]+) cents", words)
    amount = Decimal(dollars[1]) if dollars else Decimal(cents[1]) / 100 if cents else None
    assert (row.section, row.dollars, str(row.each), row.unit) == (section, amount, *MEASURES[measure])


@pytest.mark.parametrize("number", ["2204216000", "2204218060", "2204212000", "2402108080", "2404110000", "2404910000"])
def test_tax_whose_rate_depends_on_the_goods_has_none(number: str) -> None:
    row = valuation_rules().find_tax(number, DAY)
    assert row is not None
    assert (row.taxed, row.dollars) == (True, None)


def test_every_rate_of_a_tax_is_held_to_the_code() -> None:
    priced = [row for row in valuation_rules().taxes if row.dollars is not None]
    assert all(any(number.startswith(row.numbers) for number, *_ in TAXED) for row in priced)


def test_harbor_fee_is_that_of_the_internal_revenue_code() -> None:
    # 26 USC 4461(b): "an amount equal to 0.125 percent of the value of the commercial cargo involved"
    (fee,) = (row for row in valuation_rules().fees if row.effective_to is None)
    assert (fee.code, fee.percent, set(fee.modes)) == ("501", Decimal("0.125"), {"vessel"})


#: CBP's table "MPF and Preferential Trade Programs", by symbol of the program. It has Canada and Mexico as NAFTA; 58c(b)(10)(B)
#: now has the USMCA. Of A and D, only goods of the least-developed countries are exempt.
EXEMPT = {
    "AU": True, "BH": True, "CL": True, "CO": True, "E": True, "IL": True, "KR": True, "OM": True, "P": True, "P+": True,
    "PA": True, "PE": True, "R": True, "S": True, "S+": True, "SG": True,
    "A": False, "D": False, "J+": False, "JO": False, "JP": False, "K": False, "MA": False, "N": False, "NP": False,
}  # fmt: skip


@pytest.mark.parametrize("code", ["499", "311"])
def test_programs_are_exempt_as_in_the_table_of_cbp(code: str) -> None:
    rows = valuation_rules().exemptions_of(code, DAY)
    ours = {symbol: any(row.leaves_out(symbol, "CA", None) for row in rows) for symbol in EXEMPT}
    assert ours == EXEMPT
    assert {symbol for row in rows for symbol in row.programs} <= EXEMPT.keys()


#: General note 4(b)(i), in its own words.
LEAST_DEVELOPED = """Afghanistan; Angola; Benin; Bhutan; Burkina Faso; Burma; Burundi; Cambodia; Central African Republic; Chad;
Comoros; Congo (Kinshasa); Djibouti; Ethiopia; Gambia; Guinea; Guinea-Bissau; Haiti; Kiribati; Lesotho; Liberia; Madagascar;
Malawi; Mali; Mauritania; Mozambique; Nepal; Niger; Republic of Yemen; Rwanda; Samoa; Sao Tome and Principe; Senegal; Sierra
Leone; Solomon Islands; Somalia; South Sudan; Tanzania; Timor-Leste; Togo; Tuvalu; Uganda; Vanuatu; Zambia"""
#: Names of the note that ISO 3166 does not have.
RENAMED = {"Burma": "MM", "Congo (Kinshasa)": "CD"}


def test_countries_without_the_fee_are_those_of_the_law() -> None:
    names = [" ".join(name.split()) for name in LEAST_DEVELOPED.split(";")]
    theirs = {RENAMED.get(name) or pycountry.countries.lookup(name).alpha_2 for name in names}
    # 58c(b)(8)(B)(ii), with the island possessions of the table of CBP, and (11): "products of Israel".
    theirs |= {pycountry.countries.lookup(name).alpha_2 for name in ISLANDS} | {"IL"}
    for code in ("499", "311"):
        ours = {origin for row in valuation_rules().exemptions_of(code, DAY) for origin in row.origins}
        assert ours == theirs


#: The same list in a public tariff program (44 codes), and the United Nations' list of December 2024.
PROGRAM = """AF AO BJ BT BF MM BI KH CF TD KM CD DJ ET GM GN GW HT KI LS LR MG MW ML MR MZ NP NE YE RW WS ST SN SL SO SS SB TZ TL
TG TV UG VU ZM"""
UNITED_NATIONS = """AO BJ BF BI CF TD KM CD DJ ER ET GM GN GW LS LR MG MW ML MR MZ NE RW SN SL SO SS SD TG UG TZ ZM AF BD KH LA MM
NP TL YE KI SB TV HT"""
#: Least developed, but without the preference of general note 4; and no longer least developed, or soon not, but still in it.
WITHOUT_PREFERENCE, GRADUATED = {"BD", "ER", "LA", "SD"}, {"BT", "ST", "VU", "WS"}


def test_least_developed_countries_are_those_of_a_second_copy_and_of_the_united_nations() -> None:
    (row,) = (each for each in valuation_rules().exemptions if "least-developed" in each.name)
    assert row.origins == set(PROGRAM.split())
    assert row.origins == set(UNITED_NATIONS.split()) - WITHOUT_PREFERENCE | GRADUATED


ISLANDS = ("Virgin Islands, U.S.", "Guam", "American Samoa", "Northern Mariana Islands")


@pytest.mark.parametrize("code", ["499", "311"])
def test_chapter_98_pays_only_for_processed_metal_and_assembly(code: str) -> None:
    # 58c(b)(8)(B)(i): "any item in chapter 98 ... except subheading 9802.00.60 or 9802.00.80"
    rows = valuation_rules().exemptions_of(code, DAY)
    claims = (
        "9801.00.10", "9801.00.10.12", "9802.00.40", "9802.00.50", "9802.00.60", "9802.00.60.00", "9802.00.80",
        "9813.00.05",
    )  # fmt: skip
    paying = {claim for claim in claims if not any(row.leaves_out(None, "CA", claim) for row in rows)}
    assert paying == {"9802.00.60", "9802.00.60.00", "9802.00.80"}
    assert valuation_rules().exemptions_of("501", DAY) == ()


#: What 19 USC 1401a(b) says of a cost: added to the price, or not a part of the transaction value.
VALUE_OF_THE_LAW = {
    "packing": ("(1)(A)", True),  # "the packing costs incurred by the buyer"
    "commission": ("(1)(B)", True),  # "any selling commission incurred by the buyer"
    "duty": (
        "(3)(B)",
        False,
    ),  # "customs duties and other Federal taxes currently payable ... by reason of its importation"
    "freight": ("(4)(A)", False),  # "exclusive of any costs ... incurred for transportation,
    "insurance": ("(4)(A)", False),  # insurance,
    "handling": ("(4)(A)", True),  # and related services incident to the international shipment": other handling counts
    "other": ("(4)(A)", True),  # "the total payment (whether direct or indirect"
}


def test_charges_count_as_the_law_says() -> None:
    ours = {row.code: row for row in valuation_rules().charges}
    # 19 CFR 152.103(a)(5), not the law, has the freight inside the country of export.
    del ours["inland_freight"]
    assert {code: row.dutiable for code, row in ours.items()} == {
        code: counts for code, (_, counts) in VALUE_OF_THE_LAW.items()
    }
    for code, (paragraph, _) in VALUE_OF_THE_LAW.items():
        assert f"1401a(b){paragraph}" in ours[code].source, code
    # (1)(C): "the value, apportioned as appropriate, of any assist"; (4)(B): a decrease after the importation is disregarded.
    assert "1401a(b)(1)(C)" in valuation_rules().assist.source
    assert "1401a(b)(4)(B)" in valuation_rules().discount.source


def test_inland_freight_counts_as_the_regulation_says() -> None:
    # 19 CFR 152.103(a)(5)(ii), 2015 edition: "includes a charge for foreign inland freight, whether or not itemized separately
    # on the invoices ..., that charge will be part of the transaction value", but not if it occurs "after the merchandise has
    # been sold for export" and "placed with a carrier for through shipment"; (iii): "by means of a through bill of lading".
    row = valuation_rules().find_charge("inland_freight")
    assert row.dutiable
    assert row.decided
    assert "through bill of lading" in str(row.unless)
    assert "after the sale for export" in str(row.unless)


def test_cents_are_rounded_as_the_regulation_says() -> None:
    # 19 CFR 159.3(a): "less than 50 cents being disregarded and 50 cents or more being considered as $1".
    assert "nearest whole dollar; 50 cents and more count as one" in valuation_rules().rounding.text
    assert [str(round_dollars(Decimal(each))) for each in ("1.49", "1.50", "2.50", "0.49")] == ["1", "2", "3", "0"]


def test_bond_is_that_of_the_answers_of_broker_examinations() -> None:
    # October 2005, 42 and 43; October 2009, 53: "Three times the total entered value"; so a broker too (abcocustoms.com).
    assert valuation_rules().bond.agency_factor == 3


def test_bond_of_temporary_importation_is_that_of_the_message() -> None:
    # CSMS 53992279, as nnrglobal.com has it: "equal to 2x the estimated duties, including fees"; "9813.00.20 ... 9813.00.25 ...
    # 9813.00.50 ...: 110 percent". The instructions of Form 7501 have type 23 for it.
    (row,) = filter(None, map(valuation_rules().find_other_bond, ("01", "03", "11", "21", "22", "23", "31", "52")))
    assert row.entry_types == {"23"}
    assert set(re.findall(r"\d[\d.]+\d", row.text)) == {"110", "9813.00.20", "9813.00.25", "9813.00.50"}
    assert "twice the duties and fees" in row.text


def test_exemption_from_a_fee_without_a_row_is_refused() -> None:
    table = valuation_rules().model_dump(by_alias=True)
    table["exemptions"][0]["fees"] = {"499", "500"}
    with pytest.raises(ValidationError, match="claims of a program is of fees without a row: 500"):
        ValuationRules.model_validate(table)


def test_fee_is_a_rate_or_an_amount() -> None:
    with pytest.raises(ValidationError, match="fee 499 needs either percent or flat"):
        EntryFee(code="499", name="Fee", source="19 USC 58c", confidence="high", status="confirmed")


FOLDER: Final = Path(__file__).parent
PRINTED: Final[dict[str, Any]] = yaml.load((FOLDER / "cfr_7_goods_fees.yaml").read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - keeps numbers as text
FEES: Final = valuation_rules().goods_fees


def bare(number: str) -> str:
    return number.replace(".", "")


def numbers_of(fee: GoodsFee) -> set[str]:
    """Return the numbers of the fee's section, as printed and as replaced."""
    printed = PRINTED["sections"][fee.section.removeprefix("7 CFR ").partition("(")[0]].split()
    return {bare(each) for each in (*printed, *(PRINTED["replaced"].get(number, number) for number in printed))}


def read_tariff() -> set[str]:
    """Return the provisions that U.S. notes of the tariff print."""
    found: set[str] = set()
    for name in ("hts_2026_revision_6_notes.csv", "hts_notes_by_day.csv"):
        with (FOLDER / name).open(newline="") as file:
            found |= {bare(code) for row in csv.DictReader(file) for code in row["provisions"].split()}
    return found


def test_codes_and_sections_are_those_of_the_texts() -> None:
    assert {fee.code: f"{fee.name}".lower() for fee in FEES} == {
        code: f"{name} fee".lower() for code, name in PRINTED["codes"].items()
    }
    sections = [fee.section.removeprefix("7 CFR ").partition("(")[0] for fee in FEES]
    assert sorted(sections) == sorted(PRINTED["sections"])
    assert all(fee.section in fee.source for fee in FEES)


@pytest.mark.parametrize("fee", FEES, ids=[fee.name for fee in FEES])
def test_fee_covers_the_numbers_of_its_section_and_no_prefix_without_one(fee: GoodsFee) -> None:
    listed = numbers_of(fee)
    gone = {bare(number) for number in PRINTED["replaced"]}
    assert [number for number in sorted(listed - gone) if not fee.may_cover(number, None)] == []
    for prefix in fee.numbers:
        # A number of the section is in the prefix, or the prefix is in a heading of the section.
        assert any(number.startswith(prefix) or prefix.startswith(number) for number in listed), prefix
    covered = {code[:4] for code in read_tariff() if len(code) >= 4 and fee.may_cover(code, None)}
    assert covered <= {number[:4] for number in listed}


@pytest.mark.parametrize("fee", FEES, ids=[fee.name for fee in FEES])
def test_each_prefix_begins_a_number_of_the_tariff_of_today(fee: GoodsFee) -> None:
    # No note prints these; copies of the tariff of 2025 do.
    tariff = read_tariff() | {"94044010", "2106909888"}
    assert len(tariff) > 5000
    lacking = [
        prefix
        for prefix in fee.numbers
        if not any(code.startswith(prefix) or prefix.startswith(code) for code in tariff)
    ]
    assert lacking == []


def test_neighbors_of_the_lists_have_no_fee() -> None:
    # A chocolate bar without milk, food preparations, jam, oak, cotton waste, synthetic yarn, flags, peppers, moldings of pine.
    without = (
        "1806329000", "2106909998", "2007994800", "4407910063", "5202990000", "5402200000", "6307909891", "0709600000",
        "4409104500",
    )  # fmt: skip
    assert [number for number in without if any(fee.may_cover(number, None) for fee in FEES)] == []


def test_cotton_has_the_exceptions_of_its_section() -> None:
    (cotton,) = (fee for fee in FEES if fee.code == "056")
    # (b)(4): "Any entry of cotton that qualifies for informal entry ... will not be subject to the assessment."
    assert cotton.except_entry_types == {"11", "12"}
    # (b)(8): "the Harmonized Tariff Schedule heading which begins with '9813'"; (9): "subheadings 9802.00.40 and 9802.00.50".
    assert set(cotton.except_chapter98) == {"9802.00.40", "9802.00.50", "9813"}
    (lumber,) = (fee for fee in FEES if fee.code == "105")
    # 1217.52(k): "an exemption is claimed under subchapter XIII of chapter 98".
    assert (lumber.except_entry_types, lumber.except_chapter98) == (frozenset(), ("9813",))
    others = [fee for fee in FEES if fee.code not in {"056", "105"}]
    assert not any(fee.except_entry_types or fee.except_chapter98 for fee in others)


def test_fee_has_one_row_for_a_day() -> None:
    table = valuation_rules().model_dump(by_alias=True)
    table["goods_fees"] = (*table["goods_fees"], table["goods_fees"][0])
    with pytest.raises(ValidationError, match="fee 053 has two rows for one day"):
        ValuationRules.model_validate(table)


def test_rules_that_were_stored_before_have_no_fees_on_goods() -> None:
    table = valuation_rules().model_dump(by_alias=True)
    del table["goods_fees"]
    assert ValuationRules.model_validate(table).goods_fees == ()
