"""The tables of entry and filing agree with independent texts: a form's instructions, regulations, rulings, layouts, rates."""

import csv
import re
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest
from stdnum.us import ein, ssn

from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.filing import filing_rules
from pipeline.customs.reference.valuation import valuation_rules
from pipeline.exports.schemas.entry_filing import entry_check_digit

#: CBP Form 7501 instructions, updated 2012-07-24, block 2 (a copy at pdfslide.net): group, words and code, as printed. The
#: words "Consumption Entries", "Informal Entries", "Warehouse Entries", "Warehouse Withdrawal" and "Government Entries" are
#: those of the groups.
INSTRUCTIONS: Final = {
    "01": ("Consumption", "Free and Dutiable"),
    "02": ("Consumption", "Quota/Visa"),
    "03": ("Consumption", "Antidumping/Countervailing Duty (AD/CVD)"),
    "04": ("Consumption", "Appraisement"),
    "05": ("Consumption", "Vessel Repair"),
    "06": ("Consumption", "Foreign Trade Zone Consumption"),
    "07": ("Consumption", "Quota/Visa and AD/CVD combinations"),
    "08": ("Consumption", "Duty Deferral"),
    "11": ("Informal", "Free and Dutiable"),
    "12": ("Informal", "Quota Other than textiles"),
    "21": ("Warehouse", "Warehouse"),
    "22": ("Warehouse", "Re-Warehouse"),
    "23": ("Warehouse", "Temporary Importation Bond"),
    "24": ("Warehouse", "Trade Fair"),
    "25": ("Warehouse", "Permanent Exhibition"),
    "26": ("Warehouse", "Foreign Trade Zone Admission"),
    "31": ("Warehouse Withdrawal", "For Consumption"),
    "32": ("Warehouse Withdrawal", "Quota/Visa"),
    "34": ("Warehouse Withdrawal", "AD/CVD"),
    "38": ("Warehouse Withdrawal", "Quota/Visa and AD/CVD combinations"),
    "51": ("Government", "Defense Contract Management Command (DCMAO NY) Military Only (P99 filer)"),
    "52": ("Government", "Any U.S. Federal Government agency (other than DCMAO NY)"),
}
#: What a word of the instructions is in our names.
OUR_WORDS: Final = {
    "Quota": "quota",
    "Visa": "visa",
    "AD/CVD": "antidumping and countervailing duty",
    "Foreign Trade Zone Consumption": "foreign trade zone",
    "Other than textiles": "other than textiles",
    "Re-Warehouse": "re-warehouse",
    "Temporary Importation Bond": "temporary importation under bond",
}
#: Types of goods that are not entered for consumption yet, or come from a zone: no AD/CVD type exists for them.
OF_ZONE_OR_WAREHOUSE: Final = {"06", "21", "22"}
#: Types of CBP Form 7512, which the instructions of Form 7501 do not have.
IN_TRANSIT: Final = {"61", "62", "63"}

#: Federal Reserve statistical release H.10, the first rate of each week as printed: units of a currency per US dollar, or (EUR,
#: GBP) US dollars per unit. From federalreserve.gov/releases/h10/ and the day of the release.
H10: Final = Path(__file__).parent / "federal_reserve_h10.csv"
PER_UNIT: Final = {"EUR", "GBP"}

#: The terms of Incoterms 2020 by their names, and those that are for sea and inland waterways only; from the European
#: Commission's Access2Markets glossary, and from a carrier's list (myronlogistics.com) for the kinds.
TERMS: Final = {
    "EXW": "Ex Works", "FCA": "Free Carrier", "FAS": "Free Alongside Ship", "FOB": "Free on Board",
    "CFR": "Cost and Freight", "CIF": "Cost, Insurance and Freight", "CPT": "Carriage Paid to",
    "CIP": "Carriage and Insurance Paid to", "DAP": "Delivered at Place", "DPU": "Delivered at Place Unloaded",
    "DDP": "Delivered Duty Paid",
}  # fmt: skip
BY_WATER: Final = {"FAS", "FOB", "CFR", "CIF"}


@pytest.mark.parametrize("code", sorted(set(entry_rules().entry_types.types) - IN_TRANSIT))
def test_entry_type_is_that_of_the_instructions(code: str) -> None:
    group, words = INSTRUCTIONS[code]
    ours = entry_rules().entry_types.types[code]
    assert ours.startswith((group.lower(), OUR_WORDS.get(words, group.lower())))
    for theirs, word in OUR_WORDS.items():
        assert (word in ours) == (theirs in words), (theirs, word)


def test_types_of_antidumping_and_countervailing_duty_are_those_of_the_instructions() -> None:
    named = {code for code, (_, words) in INSTRUCTIONS.items() if "AD/CVD" in words}
    assert entry_rules().trade_remedy_cases.entry_types == named | OF_ZONE_OR_WAREHOUSE
    assert {INSTRUCTIONS[entry_rules().informal.type][0]} == {"Informal"}
    formal = {code for code, (group, _) in INSTRUCTIONS.items() if group == "Consumption"}
    for row in (filing_rules().consignee_number, filing_rules().bond_needed, entry_rules().foreign_importer_formal):
        assert {code for code in row.entry_types if code.startswith("0")} == formal & set(
            entry_rules().entry_types.types
        )


def read_rates() -> dict[str, list[Decimal]]:
    """Return the printed values of a unit of each currency in US dollars."""
    found: dict[str, list[Decimal]] = {}
    with H10.open(newline="") as file:
        for row in csv.DictReader(file):
            for currency in row.keys() - {"released"}:
                printed = Decimal(row[currency])
                found.setdefault(currency, []).append(printed if currency in PER_UNIT else 1 / printed)
    return found


@pytest.mark.parametrize("currency", sorted(entry_rules().exchange_rates.usual))
def test_usual_rate_holds_those_of_the_federal_reserve_and_never_the_reverse(currency: str) -> None:
    usual, rates = entry_rules().exchange_rates.usual[currency], read_rates()[currency]
    for rate in rates:
        assert usual.least < rate < usual.most
        # A euro and a pound are worth about a dollar, so that a reversed rate can be a usual one.
        assert not usual.least <= 1 / rate <= usual.most or currency in PER_UNIT
    # Not below half the least of the rates, nor above the double of the greatest.
    assert usual.least > min(rates) / 2
    assert usual.most < max(rates) * 2


#: Units for one US dollar by the European Central Bank, as programs that read frankfurter.dev have them: 2026-09-25 and 26.
OF_ANOTHER_BANK = {"EUR": "0.87735", "INR": "95.82"}


def test_rates_of_the_quarter_are_usual_ones_and_hold_those_of_another_bank() -> None:
    rates = entry_rules().exchange_rates
    (quarter,) = rates.quarters
    assert quarter.per_dollar.keys() == rates.usual.keys()
    for currency, known in quarter.per_dollar.items():
        usual = rates.usual[currency]
        assert usual.least < 1 / known.most < 1 / known.least < usual.most
        assert known.most < known.least * Decimal("1.07"), "the rates of one quarter lie together"
    for currency, text in OF_ANOTHER_BANK.items():
        assert quarter.per_dollar[currency].least < Decimal(text) < quarter.per_dollar[currency].most


def test_terms_are_the_eleven_of_incoterms_2020() -> None:
    rules = entry_rules().incoterms
    insured = {code for code, name in TERMS.items() if "Insurance" in name}
    carried = {code for code, name in TERMS.items() if name.startswith(("Cost", "Carriage", "Delivered"))}
    assert rules.freight_and_insurance == insured
    assert rules.freight == carried - insured
    assert rules.without_freight == TERMS.keys() - carried
    assert rules.duty == {code for code, name in TERMS.items() if "Duty" in name}
    assert rules.by_water == BY_WATER


def test_forms_of_importer_numbers_are_those_of_other_libraries() -> None:
    employer, person, _ = entry_rules().importer_numbers.forms
    assert ein.is_valid(employer.example[:10])
    assert ein.format("123456789") == "12-3456789"
    assert employer.pattern.fullmatch(f"{ein.format('123456789')}00")
    assert ssn.format("123456789") == person.example
    assert person.pattern.fullmatch(ssn.format("536904399"))


def carried(*groups: str) -> set[str]:
    """Return the entry types of the groups of the instructions that a plan may name."""
    return {
        code for code, (group, _) in INSTRUCTIONS.items() if group in groups
    } & entry_rules().entry_types.types.keys()


def test_bond_is_needed_where_the_regulations_ask_for_one() -> None:
    # 19 CFR 142.4(a): no release of an entry without a bond. 144.13: a bond supports the entry for warehouse; goods are withdrawn
    # under it. 10.31(f): "a bond shall be given" for temporary importation, whose type the instructions print in that group.
    assert filing_rules().bond_needed.entry_types == carried("Consumption", "Warehouse")


def test_processing_fee_is_of_the_entries_of_the_regulation() -> None:
    # 19 CFR 24.23(b)(1): merchandise that is formally entered or released, with (a)(2)(iii): "Withdrawn from warehouse for
    # consumption"; (b)(2): informally. No fee is due when goods enter a warehouse.
    theirs = {"499": carried("Consumption", "Warehouse Withdrawal"), "311": carried("Informal")}
    ours = {(fee.code, fee.entry_types) for fee in valuation_rules().fees if fee.code in theirs}
    assert ours == {(code, frozenset(types)) for code, types in theirs.items()}


#: Entry numbers that rulings of Customs Headquarters print, by the ruling.
RULINGS: Final = {
    "111688": "C53-0012157-7", "111477": "C18-0014538-0", "112061": "C20-0029780-7", "112009": "C27-0061018-4",
    "112444": "C27-0061057-2", "112925": "C46-0015866-0",
}  # fmt: skip
#: Numbers of other rulings, which name the entries of 112061 and 112009 and print one digit of them otherwise.
MISPRINTED: Final = {"111758": "C27-0029780-7", "112229": "C27-0061918-4"}


def test_check_digits_are_those_of_entries_in_rulings() -> None:
    for ruling, number in RULINGS.items():
        assert entry_check_digit(number.replace("-", "")[:10]) == number[-1], ruling
    for ruling, number in MISPRINTED.items():
        assert entry_check_digit(number.replace("-", "")[:10]) != number[-1], ruling


#: Record 10 of the entry summary of the older system, as a public filing program copies it.
BOND_TYPES: Final = "0 = No bond required, 8 = Continuous bond, 9 = Single transaction bond"
INVALID_SURETIES: Final = "990-997 or 999"


def test_bond_types_are_those_of_the_layout() -> None:
    rules = filing_rules().bond_types
    theirs = {code: words.lower() for code, words in re.findall(r"(\d) = ([A-Z][a-z ]+) bond", BOND_TYPES)}
    assert {code: name.replace("none", "no") for code, name in rules.types.items()} == theirs
    assert (theirs[rules.none], theirs[rules.continuous], theirs[rules.single]) == (
        "no",
        "continuous",
        "single transaction",
    )


def test_sureties_of_no_company_are_those_of_the_layout() -> None:
    # An examination of brokers: 999 if the "bond is waived by regulation". A bond of cash needs a code too, and of those that
    # stand for no company, only one is valid beside a bond.
    first, last, waived = map(int, re.findall(r"\d+", INVALID_SURETIES))
    assert filing_rules().sureties.none == str(waived)
    assert {int(filing_rules().sureties.cash)} == set(range(first, waived + 1)) - set(range(first, last + 1)) - {waived}


def test_continuous_bond_has_the_least_amount_that_brokers_print() -> None:
    # A broker (abcocustoms.com): "The minimum bond amount is $50,000."
    assert filing_rules().continuous_bond.least_usd == 50_000


def test_foreign_importer_needs_permission_from_the_day_of_the_order() -> None:
    # Executive Order 14411 of June 3, 2026, gives 180 days for its rules.
    assert filing_rules().foreign_continuous_bond.effective_from == date(2026, 6, 3) + timedelta(days=180)


def test_power_of_a_partnership_lasts_as_the_regulation_says() -> None:
    # 19 CFR 141.34, 2015 edition.
    text = "limited to a period not to exceed 2 years from the date of execution"
    assert f"exceed {filing_rules().partnership_power.years} years" in text


#: The payment type of AE record 10, as a public filing program lists it: the statement, and how it groups the entries.
PAYMENTS: Final = {
    "1": ("none", "individual"),
    "2": ("daily", "filer code"),
    "3": ("daily", "filer code, importer of record number"),
    "5": ("daily", "filer code, importer of record number without suffix"),
    "6": ("monthly", "filer code"),
    "7": ("monthly", "filer code, importer of record number"),
    "8": ("monthly", "filer code, importer of record number without suffix"),
}


def test_payment_types_are_those_of_the_layout() -> None:
    types = filing_rules().payment_types.types
    assert {code: each.cycle for code, each in types.items()} == {code: cycle for code, (cycle, _) in PAYMENTS.items()}
    for code, (cycle, grouped) in PAYMENTS.items():
        name = types[code].name
        assert ("individual" in name) == (grouped == "individual"), code
        assert [word for word in ("daily", "monthly") if word in name] == [cycle] * (cycle != "none"), code
        assert ("of the importer" in name) == ("importer" in grouped) != ("filer" in name or code == "1"), code
        assert ("all suffixes" in name) == ("without suffix" in grouped), code


def test_summary_and_statement_have_ten_working_days() -> None:
    # 19 CFR 142.12(b): "within 10 working days after the time of entry"; 24.25(e): "within 10 working days after the date of
    # entry". 142.13 and 132.11 ask for the summary of quota goods at entry, and 146.62 has its own time for a zone.
    assert (filing_rules().summary_time.working_days, filing_rules().statement_days.working_days) == (10, 10)
    at_entry = {code for code, (_, words) in INSTRUCTIONS.items() if "Quota" in words or "Zone" in words}
    assert filing_rules().summary_time.entry_types == carried("Consumption") - at_entry


#: 19 CFR 101.6(a), 2015 edition, and 5 USC 6103(a) for the nineteenth of June.
CLOSED: Final = """first day January; third Monday January; third Monday February; last Monday May; nineteenth day June;
fourth day July; first Monday September; second Monday October; eleventh day November; fourth Thursday November;
twenty-fifth day December"""
ORDINALS: Final = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "eleventh": 11, "nineteenth": 19, "twenty-fifth": 25, "last": -1,
}  # fmt: skip
MONTHS: Final = "January February March April May June July August September October November December".split()


def test_statement_holidays_are_those_of_the_regulation() -> None:
    theirs = set()
    for words in CLOSED.split(";"):
        ordinal, kind, month = words.split()
        number = ORDINALS[ordinal]
        weekday = {"Monday": 0, "Thursday": 3}.get(kind)
        theirs.add((MONTHS.index(month) + 1, *((number, None, None) if weekday is None else (None, weekday, number))))
    assert {(each.month, each.day, each.weekday, each.nth) for each in filing_rules().statement_days.holidays} == theirs
