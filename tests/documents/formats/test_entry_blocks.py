"""A filer of CBP Form 7501 finds each of its blocks for every example plan: the value, or who supplies it."""

import csv
from datetime import date
from decimal import Decimal
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from pypdf import PdfReader

from pipeline.deliveries.outbox.entry_facts import add_estimate
from pipeline.documents.formats.entry_blocks import SUPPLIERS, divide_duties, list_blocks
from pipeline.documents.formats.entry_worksheet import entry_worksheet
from pipeline.documents.formats.facts import find_estimate
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports import examples
from pipeline.exports.plans import hash_plan
from pipeline.exports.schemas.plan import Plan
from pipeline.workflow.render_documents import build_plan_invoice
from tests.documents.formats.test_entry_import import read_tables
from tests.documents.samples import sample

TODAY: Final = date(2026, 11, 29)

#: The blocks of CBP Form 7501 as it prints them, each part by itself: the form of OMB control number 1651-0022 that expires on
#: 2025-03-31, from omb.report/icr/202311-1651-004/doc/137218000. That copy ends before blocks 45 to 47, which have the names
#: that a program's table of the form of October 2025 gives them, as in the blocks 41 to 43 of the form of May 2022.
PRINTED: Final = Path(__file__).parent / "form_7501.csv"
AFTER_THE_COPY: Final = {
    "45": "Declarant Name/Title/Signature/Date",
    "46": "Broker/Filer Information",
    "47": "Broker/Importer File Number",
}


#: The form's abbreviations in full, and the words that a name can leave out.
IN_FULL: Final = {
    "no.": "number", "qty.": "quantity", "docs": "documents", "chgs": "charges", "b/l": "bill of lading", "awb": "air waybill",
    "(last, first, m.i.)": "", "/": " ", ",": " ",
}  # fmt: skip


LEFT_OUT: Final = {"and", "or", "name", "information"}
#: Blocks with another name than the form's: the first word of the declaration, and what `Other` is.
OTHER_NAMES: Final = {"40": "Declaration", "43": "Other fees"}

#: The blocks that no plan knows.
OF_THE_ENTRY: Final = {"3", "16", "17", "18", "19", "20", "28", "37C", "37D", "40", "42", "45", "46", "47"}

UNITS: Final = [
    (name, place)
    for name in examples.list_all_names()
    for place in range(len(examples.load_plan(name, TODAY)["units"]))
]
on_each_unit = pytest.mark.parametrize(("name", "place"), UNITS)


def load_unit(name: str, place: int) -> dict[str, Any]:
    """Return the unit as the plan's JSON has it."""
    unit: dict[str, Any] = examples.load_plan(name, TODAY)["units"][place]
    return unit


@cache
def build_example(name: str, place: int) -> Invoice:
    """Return the invoice of an example's unit, with the estimate of its entry."""
    raw = examples.load_plan(name, TODAY)
    plan = Plan.model_validate(raw)
    made = build_plan_invoice(
        hash_plan(plan, raw), place + 1, package_number="CP-000001", revision=1, test=True, findings=()
    )
    return add_estimate(made, plan.units[place])


def read_blocks(invoice: Invoice) -> dict[str, dict[str, str]]:
    """Return the rows of `blocks.csv` by the number of the block."""
    return {row["block"]: row for row in read_tables(invoice)["blocks.csv"]}


@cache
def read_titles() -> dict[str, str]:
    """Return the titles of the form's blocks as printed."""
    with PRINTED.open(newline="") as file:
        return {row["block"]: row["title"] for row in csv.DictReader(file)}


def list_words(name: str) -> list[str]:
    """Return the words of a name in full, without those that it can leave out."""
    text = name.lower().removesuffix(", expected")
    for short, full in IN_FULL.items():
        text = text.replace(short, full)
    return [word for word in text.split() if word not in LEFT_OUT]


def list_unknown(unit: dict[str, Any]) -> set[str]:
    """Return the blocks that the plan's JSON leaves open."""
    entry, lines = unit["entry"], unit["lines"]
    filing = entry.get("filing") or {}
    metals = [metal for line in lines for metal in line["treatment"].get("section232") or ()]
    consignees = unit["parties"].get("ultimateConsignees") or ()
    known = {
        "1": filing.get("filerCode"),
        "4": filing.get("bond"),
        "5": filing.get("bond"),
        "12": entry.get("shipmentControlNumber"),
        "21": any(metal.get("countryOfMeltAndPour") for metal in metals),
        "22": any(metal.get("primaryCountryOfSmelt") for metal in metals),
        "23": any(metal.get("secondaryCountryOfSmelt") for metal in metals),
        "24": any(metal.get("countryOfCast") for metal in metals),
        "25": filing.get("firmsCode"),
        "26": consignees,
        "33B": any("adCvdCase" in line["attributes"] for line in lines),
        "37B": any("adCvdRate" in line["attributes"] for line in lines),
    }
    # Without the tariff, only goods that claim the USMCA, or that chapter 98 exempts whole, have a rate of column 1.
    exempt = [Decimal((line.get("chapter98") or {}).get("dutiableValue", "1")) == 0 for line in lines]
    priced = all(line.get("spi") == "S" or free for line, free in zip(lines, exempt, strict=True))
    known |= dict.fromkeys(("37A", "38", "41", "44"), priced)
    deposited = all("adCvdRate" in line["attributes"] for line in lines if "adCvdCase" in line["attributes"])
    # The fees of goods in a warehouse are due when they leave it.
    charged = entry["type"] != "21" and any(line.get("chapter98") is None for line in lines)
    # Lumber of the examples may have a fee, and so may clothing and linen, of cotton, but not on an informal entry.
    of_fee = ("4407",) if entry["type"] == "11" else ("4407", "61", "63")
    promoted = any(line["htsCode"].startswith(of_fee) for line in lines)
    known["43"] = deposited and (priced or charged) and not promoted
    known["44"] = priced and not promoted
    return {number for number, value in known.items() if not value} | OF_THE_ENTRY


@on_each_unit
def test_every_block_has_a_value_or_a_supplier(name: str, place: int) -> None:
    blocks = read_blocks(build_example(name, place))
    assert tuple(blocks) == (*read_titles(), *AFTER_THE_COPY)
    for number, row in blocks.items():
        assert (row["value"] == "") == (row["supplier"] in SUPPLIERS), number
    assert {number for number, row in blocks.items() if row["supplier"]} == list_unknown(load_unit(name, place))


@on_each_unit
def test_names_are_those_that_the_form_prints(name: str, place: int) -> None:
    names: dict[str, str] = {}
    for row in read_tables(build_example(name, place))["blocks.csv"]:
        # Block 1 has two rows if only the filer is known.
        names[row["block"]] = f"{names.get(row['block'], '')} {row['name']}".strip()
    for number, title in (dict(read_titles()) | AFTER_THE_COPY).items():
        if number in OTHER_NAMES:
            assert names[number] == OTHER_NAMES[number]
        else:
            assert list_words(names[number]) == list_words(title), number


@on_each_unit
def test_values_are_those_of_the_plan(name: str, place: int) -> None:
    invoice, unit = build_example(name, place), load_unit(name, place)
    values = {number: row["value"] for number, row in read_blocks(invoice).items()}
    entry, parties, lines = unit["entry"], unit["parties"], unit["lines"]
    makers = {maker["ref"]: maker["mid"] for maker in parties["manufacturers"]}

    def only(found: set[str]) -> str:
        return found.pop() if len(found) == 1 else "MULTI, see lines"

    assert values["2"].startswith(f"{entry['type']} ")
    assert (values["6"], values["8"]) == (entry["portOfEntry"], "none: not by vessel or air")
    assert values["9"].lower() == f"30 {entry['modeOfTransport']}"
    assert values["10"] == only({line["countryOfOrigin"] for line in lines})
    assert values["12"] == entry["shipmentControlNumber"]
    assert values["13"] == only({makers[line["manufacturerRef"]] for line in lines})
    assert (values["14"], values["15"]) == (only({line["countryOfExport"] for line in lines}), entry["exportDate"])
    assert values["27"] == parties["importerOfRecord"]["importerNumber"]
    assert values["34B"] == str(entry["manifestQuantity"])
    assert values["36C"] == ("Y, related" if unit["invoice"]["relatedParties"] else "N, not related")
    importer = parties["importerOfRecord"].get("name") or parties["buyer"]["name"]
    assert values["30"].startswith(f"{importer}, ")
    if len(parties.get("ultimateConsignees") or ()) > 1:
        assert values["26"] == values["29"] == "MULTI, see consignees"
    else:
        assert values["29"].startswith(f"{parties['shipTo']['name']}, ")


@on_each_unit
def test_values_of_lines_are_in_the_named_columns(name: str, place: int) -> None:
    invoice = build_example(name, place)
    tables, unit = read_tables(invoice), load_unit(name, place)
    rows = tables["lines.csv"]
    assert {row["hts10"] for row in rows} == {line["htsCode"] for line in unit["lines"]}
    cases = {line["attributes"].get("adCvdCase", "") for line in unit["lines"]}
    assert {row["ad_cvd_case"] for row in rows} == cases
    named = {number: row["value"] for number, row in read_blocks(invoice).items() if ".csv: " in row["value"]}
    assert named.keys() >= {"31", "32", "33A", "34A", "35", "36A", "36B"}
    for number, value in named.items():
        table, columns = value.split(": ")
        first = columns.split(",")[0]
        assert first in tables[table][0], number
        assert all(row[first if number != "35" else "uom"] for row in tables[table]), number
    assert str(sum(int(row["entered_value_usd"]) for row in rows)) == tables["header.csv"][0]["entered_value_usd"]


@pytest.mark.pdf_engine
@on_each_unit
def test_worksheet_prints_each_block_beside_its_number(name: str, place: int) -> None:
    invoice = build_example(name, place)
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(entry_worksheet(invoice))).pages)
    printed = "".join(text.replace("\u200b", "").split()).upper()
    for block in list_blocks(invoice, find_estimate(invoice)):
        if block.place in {"head", "foot", "beyond"}:
            shown = block.value or f"from {block.supplier}"
            assert "".join(f"{block.number}{block.name}{shown}".split()).upper() in printed, block
    heads = "31Line 33HTS 34Gross 35Quantity 36Entered 37,38Rate 39Entered 41Duty 43Fees 44Total".upper().split()
    assert [head for head in heads if head not in printed] == []


def test_two_countries_of_export_and_of_melting_are_read_by_line() -> None:
    invoice = sample(
        3, change={"lines/0/countryOfExport": "MX", "lines/1/treatment/section232/0/countryOfMeltAndPour": "JP"}
    )
    blocks = read_blocks(invoice)
    assert (blocks["14"]["value"], blocks["21"]["value"]) == ("MULTI, see lines", "MULTI, see Section 232 statement")
    tables = read_tables(invoice)
    assert tables["header.csv"][0]["export_country"] == ""
    assert [row["export_country"] for row in tables["lines.csv"]] == ["MX", "CA", "CA"]


@pytest.mark.parametrize(
    ("mode", "supplier"),
    [("vessel", "the carrier: name of the vessel"), ("air", "the carrier: IATA code of the airline"), ("rail", "")],
)
def test_importing_carrier_is_never_a_scac(mode: str, supplier: str) -> None:
    invoice = sample(1, change={"entry/modeOfTransport": mode, "entry/carrierScac": "DEMO"})
    block = read_blocks(invoice)["8"]
    assert (block["value"] == "", block["supplier"]) == (supplier != "", supplier)
    beyond = {each.name: each.value for each in list_blocks(invoice, find_estimate(invoice)) if not each.number}
    assert beyond["Carrier (SCAC)"] == "DEMO"


def test_deposits_are_other_fees_and_no_duty() -> None:
    invoice = sample(
        1, change={"lines/0/attributes/adCvdCase": "A-122-857-000", "lines/0/attributes/adCvdRate": "20.56%"}
    )
    estimate = find_estimate(invoice)
    (deposit,) = [row for row in estimate.lines[0].duties if row.heading == "A-122-857-000"]
    _, _, duty, others = divide_duties(invoice, estimate)
    assert deposit.amount_usd is not None
    assert duty is not None
    assert duty == sum(row.amount_usd or 0 for row in estimate.lines[0].duties if row is not deposit)
    assert others == deposit.amount_usd + sum(fee.amount_usd for fee in estimate.fees)
    assert duty + others == estimate.total_usd


def test_duty_whose_heading_is_open_is_a_duty_that_the_filer_completes() -> None:
    module = {"lines/0/htsCode": "8541430010", "lines/0/countryOfOrigin": "VN"}
    invoice = sample(1, change={"entry/estimatedArrivalAt": "2026-12-04T18:00:00Z", **module})
    estimate = find_estimate(invoice)
    names = ["Section 232, polysilicon", "Section 232, price floor of polysilicon"]
    divided = divide_duties(invoice, estimate)
    assert [row.heading for row in divided.rates if row.heading in names] == names
    assert divided.deposits == []
    blocks = read_blocks(invoice)
    assert (blocks["33B"]["value"], blocks["41"]["supplier"]) == ("", "the filer")
    assert [row.heading for row in estimate.heading_sources if row.heading in names] == names


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({}, None),
        ({"adNonReimbursement": "Y"}, None),
        ({"adCvdCase": "C-122-858-000"}, None),
        ({"adCvdCase": "C-122-858-000, A-122-857-000"}, ("", "the importer")),
        ({"adCvdCase": "A-122-857-000", "adNonReimbursement": "N"}, ("", "the importer")),
        ({"adCvdCase": "A-122-857-000", "adNonReimbursement": "Y"}, ("Y", None)),
    ],
)
def test_importer_certifies_that_nobody_reimburses_antidumping_duty(
    attributes: dict[str, str], shown: tuple[str, str | None] | None
) -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0]["attributes"] |= attributes

    invoice = sample(1, change=change)
    found = [each for each in list_blocks(invoice, find_estimate(invoice)) if each.name.startswith("Non-reimb")]
    assert [(each.value or "", each.supplier) for each in found] == ([] if shown is None else [shown])


def test_without_exchange_rate_the_filer_supplies_the_values() -> None:
    blocks = read_blocks(sample(2, change={"invoice/currency": "CAD", "invoice/exchangeRate": None}))
    assert {blocks[number]["supplier"] for number in ("36A", "36B", "38", "39", "41", "44")} == {"the filer"}


@pytest.mark.parametrize(
    ("unit", "blocks"),
    [
        ("K", {"37C": "$50.33 a thousand", "42": "603.96", "44": "641.54"}),
        ("KG", {"37C": "$50.33 a thousand", "42": "the filer", "44": "the filer"}),
    ],
)
def test_tax_of_cigarettes_stands_in_its_blocks(unit: str, blocks: dict[str, str]) -> None:
    def change(data: dict[str, Any]) -> None:
        data["lines"][0] |= {"htsCode": "2402208000", "unit": unit}
        data["lines"][0]["treatment"] = {"chapter99": [], "section232": [], "pga": []}
        data["invoice"] |= {"charges": [], "discounts": [], "total": "300.00"}

    invoice = sample(1, change=change, general="1%")
    found = read_blocks(invoice)
    assert {number: found[number]["value"] or found[number]["supplier"] for number in blocks} == blocks
    rows = [row for row in read_tables(invoice)["estimate.csv"] if row["code"] == "26 USC 5701"]
    assert [row["estimated_usd"] for row in rows] == ["603.96" if unit == "K" else ""]
    printed = " ".join(page.extract_text() for page in PdfReader(BytesIO(entry_worksheet(invoice))).pages)
    assert ("Tax on cigarettes" in printed) is (unit == "K")
    assert ("does not give the quantity in K (thousands)" in " ".join(printed.split())) is (unit == "KG")
