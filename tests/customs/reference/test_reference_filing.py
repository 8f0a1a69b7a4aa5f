"""The tables of entry and filing agree with independent texts: a form's instructions, a bank's rates, a list of terms."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest
from stdnum.us import ein, ssn

from pipeline.customs.reference.entry import entry_rules
from pipeline.customs.reference.filing import filing_rules

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
