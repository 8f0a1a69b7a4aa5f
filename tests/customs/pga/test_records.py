"""A line's agency answers as 80-column records: their number and order, and the notes on values that do not fit."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.customs.pga.answers import flag_answers
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.pga.record_fields import LineRecords
from pipeline.customs.pga.records import line_records
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.exports.schemas.plan import Plan
from tests.customs.cases import PAN, UNIT, list_findings, pga_row, with_changes
from tests.support.factories import Json

ENTERED = date(2026, 11, 26)
ROWS = f"{PAN}/treatment/pga"


ADDRESS: Json = {
    "line1": "120 Front Street West", "line2": "Suite 400", "city": "Toronto", "region": "ON", "postalCode": "M5J 2M2", "country": "CA",
}  # fmt: skip


BUFFALO: Json = {
    "line1": "45 Delaware Avenue", "line2": None, "city": "Buffalo", "region": "NY", "postalCode": "14202", "country": "US",
}  # fmt: skip


MANUFACTURER: Json = {"ref": "M1", "name": "Maple Goods Ltd", "address": ADDRESS, "mid": "XOMAPGOO400TOR"}
BUYER: Json = {
    "name": "Lakeside Kitchen Supply Inc.",
    "address": BUFFALO,
    "contact": {"name": "Customs desk", "title": None, "email": "customs@lakeside.example", "phone": "+1 716 555 0100"},
    "identifiers": {"fei": "3001234567"},
}
FOOD: Json = {
    "fdaProductCode": "41FBT04", "productName": "Tomatoes, peeled, canned", "sourceCountry": "CA",
    "manufacturer": "Maple Goods Ltd, Toronto ON", "shipper": "MAPLE GOODS LTD",
    "fdaImporter": "Lakeside Kitchen Supply Inc.", "deliveredTo": "Somebody Else LLC",
    "quantityBaseUom": ["10 CTN", "24.5 CAN"], "foodFacilityRegistration": "12345678901",
}  # fmt: skip


def food(**more: Any) -> Json:
    return pga_row("FD3", "FDA", program="FOO", processing="PRO", intendedUse="130.000", data=FOOD | more)


def build_records(rows: list[Json], *changes: tuple[str, Any]) -> LineRecords:
    plan = with_changes(
        (f"{UNIT}/parties/manufacturers/0", MANUFACTURER),
        (f"{UNIT}/parties/seller/name", "Maple Trading Ltd"),
        (f"{UNIT}/parties/buyer", BUYER),
        (f"{UNIT}/parties/importerOfRecord/name", None),
        (f"{UNIT}/parties/importerOfRecord/address", None),
        (f"{UNIT}/entry/estimatedArrivalAt", "2026-11-26T13:05:00-05:00"),
        (ROWS, rows),
        *changes,
    )
    unit = Plan.model_validate(plan).units[0]
    return line_records(unit.lines[0], flag_answers(unit, unit.lines[0], ENTERED), UnitParties(unit))


def kinds(records: list[str]) -> list[str]:
    return [record[:4].strip() for record in records]


def test_food_records_follow_chapter_order() -> None:
    got = build_records([food()], (f"{PAN}/description", "Tomatoes, peeled, canned, for eating"))
    assert got.records == [
        "OI        TOMATOES, PEELED, CANNED, FOR EATING                                  ",
        "PG01001FDAFOOPRO                         130.000                                ",
        "PG02PFDP 41FBT04                                                                ",
        "PG0639 CA                                                                       ",
        "PG10                   TOMATOES, PEELED, CANNED                                 ",
        "PG19MF                   MAPLE GOODS LTD                 120 FRONT STREET WEST  ",
        "PG20SUITE 400                            TORONTO              ON CAM5J 2M2      ",
        "PG23PFR  12345678901                                                            ",
        "PG19DEQ                  MAPLE GOODS LTD                 120 FRONT STREET WEST  ",
        "PG20SUITE 400                            TORONTO              ON CAM5J 2M2      ",
        "PG19FD147 3001234567     LAKESIDE KITCHEN SUPPLY INC.    45 DELAWARE AVENUE     ",
        "PG20                                     BUFFALO              NY US14202        ",
        "PG21FD1CUSTOMS DESK           +1 716 555 0100CUSTOMS@LAKESIDE.EXAMPLE           ",
        "PG19DP                   SOMEBODY ELSE LLC                                      ",
        "PG261000000001000CTN                                                            ",
        "PG262000000002450CAN                                                            ",
        "PG30A1126202613052   0901                                                       ",
    ]


@pytest.mark.parametrize(
    ("arrival", "said"),
    [
        ("2026-11-26T18:05:00Z", "is UTC; give the local time of the port"),
        ("2026-11-27T00:00:00-05:00", "is midnight, and PG30 does not take 0000; give a time such as 00:01"),
    ],
)
def test_utc_arrival_or_midnight_leaves_date_and_time_to_filer(arrival: str, said: str) -> None:
    got = build_records([food()], (f"{UNIT}/entry/estimatedArrivalAt", arrival))
    assert [record for record in got.records if record.startswith("PG30")] == ["PG30A            2   0901".ljust(80)]
    (note,) = [one for one in got.notes if one.key == "arrivalDatetime"]
    assert note.unfit
    assert said in note.note


def test_number_of_filed_prior_notice_is_certificate() -> None:
    row = pga_row("FD3", "FDA", program="FOO", processing="PRO", data={"priorNoticeConfirmation": "123456789012"})
    got = build_records([row])
    assert got.records[2:] == ["PG141PNC123456789012".ljust(80)]
    assert got.places[0, "priorNoticeConfirmation"] == "PG14 9-41"


def test_certifier_without_declaration_has_party_before_contact() -> None:
    data = {"brandName": "Sure", "certifierName": "Sample Person", "certifierEmail": "s@maple.example"}
    bare = pga_row("EP5", "EPA", program="PS1", data=data | {"importer": "Somebody Else LLC"})
    certified = pga_row("EP7", "EPA", program="TS1", data=data | {"tscaCertification": "positive"})
    for row, expected in ((bare, "PG02 PG07 PG19 PG19 PG21"), (certified, "PG02 PG07 PG22 PG21")):
        assert kinds(build_records([row]).records[2:]) == expected.split()


def test_disclaimer_is_sent_with_only_pg01() -> None:
    got = build_records([pga_row("FD1", "FDA", program="FOO", disclaimer="A", data={"productName": "left out"})])
    assert kinds(got.records) == ["OI", "PG01"]
    assert got.records[1] == "PG01001FDAFOO" + " " * 66 + "A"


def test_answers_of_one_agency_are_grouped_and_numbered() -> None:
    rows = [
        food(),
        pga_row("EP7", "EPA", disclaimer="A"),
        pga_row("FD1", "FDA", program="COS", disclaimer="A"),
        pga_row("AQ1", "APH", program="APQ", disclaimer="A"),
        pga_row("AL1", "APH", disclaimer="G"),
    ]
    heads = [record[:16] for record in build_records(rows).records if record.startswith("PG01")]
    assert heads == ["PG01001FDAFOOPRO", "PG01002FDACOS   ", "PG01001EPATS1   ", "PG01001APHAPQ   ", "PG01002APHAPL   "]
    assert kinds(build_records(rows).records).count("OI") == 1


def test_answer_without_data_is_not_sent() -> None:
    assert build_records([pga_row("AQX", "APH"), pga_row("FD1", "FDA")]).records == []
    assert build_records([]).records == []


def test_certificate_by_reference_sends_id_and_version() -> None:
    row = pga_row("CP1", "CPS", processing="REF", data={"certifierId": "C-1", "productId": "P-77", "versionId": "3"})
    got = build_records([row])
    expected = ["PG01001CPSCPSREF", "PG02PPRI P-77               PRIV3", "PG14    C-1"]
    assert [record.rstrip() for record in got.records[1:]] == expected
    places = {"certifierId": "PG14 9-41", "productId": "PG02 10-28", "versionId": "PG02 33-51"}
    assert got.places == {(0, name): place for name, place in places.items()}


def test_each_species_has_its_country_of_harvest() -> None:
    data = {"genus": ["Acer", "Quercus"], "species": ["saccharum", "rubra"], "harvestCountry": ["CA", "US"]}
    maple, oak = "PG05ACER                  SACCHARUM", "PG05QUERCUS               RUBRA"
    got = build_records([pga_row("AL2", "APH", data=data)])
    assert [record.rstrip() for record in got.records[2:]] == [maple, "PG06HRVCA", oak, "PG06HRVUS"]
    one = data | {"genus": "Acer", "species": "saccharum"}
    got = build_records([pga_row("AL2", "APH", data=one)])
    assert [record.rstrip() for record in got.records[2:]] == [maple, "PG06HRVCA", "PG06HRVUS"]


def test_each_affirmation_of_compliance_has_own_record() -> None:
    data = {"fdaProductCode": "80FMF--", "deviceListing": ["D123456", "D654321"], "establishmentRegistration": "3009"}
    got = build_records([pga_row("FD1", "FDA", program="DEV", processing="NED", data=data)])
    assert got.records[3:] == ["PG23LST  D123456".ljust(80), "PG23LST  D654321".ljust(80), "PG23DEV  3009".ljust(80)]
    assert got.places[0, "establishmentRegistration"] == "PG23 10-79"


def test_packing_has_at_most_six_levels() -> None:
    got = build_records([food(quantityBaseUom=["1 PLT", "10 CTN", "20 BX", "40 PK", "80 BG", "160 CAN", "320 KG"])])
    assert [record[4] for record in got.records if record.startswith("PG26")] == list("123456")
    (remark,) = [one for one in got.notes if one.key == "quantityBaseUom"]
    assert remark.unfit
    assert remark.note == "PG26 is sent 6 times at most; the filer must key the other values"


#: The order of the records below one PG01, copied by hand from the chapter; the places of PG17, PG24, PG31, PG32, PG34 and PG35 are
#: those of their numbers.
ORDER = (
    "PG02 PG04 PG05 PG06 PG07 PG08 PG10 PG13 PG14 PG17 PG19 PG20 PG21 PG22 PG23 PG24 PG25 PG26 PG27 PG28 PG29 PG30 "
    "PG31 PG32 PG34 PG35"
).split()


def test_records_follow_chapter_order_for_any_order_of_data() -> None:
    assert list(record_rules().order) == ORDER
    data = {
        "arrivalPort": "0901", "value": "1200", "hs7Box": "2B", "deviceListing": "D1", "deliveredTo": "Somebody Else LLC",
        "productName": "Thing", "vin": "1HGCM82633A004352", "sourceCountry": "CA", "genus": "Acer", "productId": "P-1",
        "quantityBaseUom": "1 NO",
    }  # fmt: skip
    got = build_records([pga_row("FD1", "FDA", program="ZZZ", data=data)])
    places = [ORDER.index(kind) for kind in kinds(got.records[2:])]
    assert places == sorted(places)
    assert len(places) == len(data)


def test_long_name_and_address_overflow_after_party_records() -> None:
    name = "Maple Goods and Household Wares of Ontario Limited"
    address = ADDRESS | {"line1": "12000 Front Street West, Building C", "city": "Saint-Louis-de-Gonzague-du-Cap"}
    row = pga_row("FD1", "FDA", program="TOB", processing="CSU", data={"manufacturer": name})
    got = build_records([row], (f"{UNIT}/parties/manufacturers/0", MANUFACTURER | {"name": name, "address": address}))
    assert got.records[2:] == [
        "PG19MF                   MAPLE GOODS AND HOUSEHOLD WARES 12000 FRONT STREET WEST",
        "PG20SUITE 400                            SAINT-LOUIS-DE-GONZAGON CAM5J 2M2      ",
        "PG60ENAMAPLE GOODS AND HOUSEHOLD WARES OF ONTARIO LIMITED                       ",
        "PG60AD112000 FRONT STREET WEST, BUILDING C                                      ",
        "PG60ECISAINT-LOUIS-DE-GONZAGUE-DU-CAP                                           ",
    ]
    assert got.notes == []


def test_name_longer_than_overflow_is_reported() -> None:
    row = pga_row("FD1", "FDA", program="TOB", processing="CSU", data={"manufacturer": ("Maple " * 13 + "Ltd")})
    got = build_records([row])
    assert [one.key for one in got.notes] == ["manufacturer", "manufacturer"]
    assert got.notes[1].note == "longer than the 32 characters of PG19 26-57"


def test_unknown_party_has_no_address() -> None:
    (remark,) = [one for one in build_records([food()]).notes if one.key == "deliveredTo"]
    said = "no party of the unit is named Somebody Else LLC, so its address is not in the plan; name one of its parties"
    assert (remark.note, remark.unfit) == (said, True)


@pytest.mark.parametrize(
    ("row", "pointer"),
    [
        (food(productName="番茄罐头"), "data/productName"),
        (food(productName="Tomatoes, " * 8 + "canned"), "data/productName"),
        (food(quantityBaseUom="a lot"), "data/quantityBaseUom"),
        (food(quantityBaseUom=["10 CTN", "1.125 KG"]), "data/quantityBaseUom"),
        (food(arrivalDatetime="tomorrow"), "data/arrivalDatetime"),
        (food(fdaProductCode=["41FBT04", "41FBT05"]), "data/fdaProductCode"),
        (food(quantityBaseUom=[f"{n} CTN" for n in range(1, 8)]), "data/quantityBaseUom"),
    ],
)
def test_unfit_value_gives_finding_at_datum(row: Json, pointer: str) -> None:
    named = {"fdaImporter": "Demo Housewares Inc, Dock 4", "deliveredTo": "Demo Housewares Inc, Dock 4"}
    known = row | {"data": row["data"] | named}
    at_the_port = (f"{UNIT}/entry/estimatedArrivalAt", "2026-11-26T13:00:00-05:00")
    assert list_findings(with_changes((f"{ROWS}/0", known), at_the_port)) == [
        ("V14-RECORD", "warn", f"{ROWS}/0/{pointer}")
    ]


def test_description_in_other_script_gives_finding_but_long_one_does_not() -> None:
    row = (f"{ROWS}/0", pga_row("FD1", "FDA", program="FOO", disclaimer="A"))
    long = "Frying pan of stainless steel with a folding handle, for household cooking on a stove of any kind"
    assert list_findings(with_changes(row, (f"{PAN}/description", long))) == []
    foreign = list_findings(with_changes(row, (f"{PAN}/description", "Frying pan 不锈钢, for household cooking")))
    assert foreign == [("V14-RECORD", "warn", f"{PAN}/description")]


def test_base_unit_equal_to_line_unit_needs_no_quantity() -> None:
    (record,) = [record for record in build_records([food(quantityBaseUom="NO")]).records if record.startswith("PG26")]
    assert record == "PG261000000000400NO".ljust(80)


TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=90).map(str.strip).filter(bool)


@given(TEXT, TEXT)
def test_any_record_has_eighty_printable_columns(name: str, product: str) -> None:
    got = build_records([food(productName=product, deliveredTo=name)])
    for record in got.records:
        assert len(record) == 80
        assert record.isascii()
        assert record.isprintable()
        assert record[:4].strip() in record_rules().layouts
    sent = next(record for record in got.records if record.startswith("PG10"))[23:].rstrip()
    whole, unknown = record_rules().spell(product)
    assert sent == whole.rstrip() or any(one.key == "productName" and one.unfit for one in got.notes)
    assert not unknown or any(one.key == "productName" for one in got.notes)
