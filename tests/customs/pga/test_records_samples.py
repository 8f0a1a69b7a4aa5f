"""The agency records against a digest of samples of the message sets: each datum in the columns, with the codes, of a sample.

`message_set_samples.csv` was copied by hand from samples that public filing programs have of CBP's and the agencies' guides:
a datum of the plan, and the columns of the sample's record. Values that a sample hides stand in as other values.
"""

import csv
from itertools import groupby
from pathlib import Path

import pytest

from pipeline.customs.reference.pga import pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from tests.customs.cases import pga_row
from tests.customs.pga.test_records import build_records, kinds
from tests.support.factories import Json

ROWS = list(csv.DictReader((Path(__file__).parent / "message_set_samples.csv").read_text("utf-8").splitlines()))
SAMPLES = [(name, list(rows)) for name, rows in groupby(ROWS, key=lambda row: row["sample"])]
#: The agencies and programs whose places come from the samples.
SAMPLED = {"CPS", "EPA", "NHT"}
#: Placed data of these agencies that no row of the digest has; their places have other sources.
WITHOUT_SAMPLE = {
    "allowance", "bondExemption", "certifier", "certifierEmail", "certifierName", "certifierPhone", "consignee",
    "customsBroker", "carrier", "goodsLocation", "importer", "manufacturePlace", "manufacturer", "originalManufacturer",
    "owner", "passportCountry", "passportNumber", "quantity", "recordsContact", "shipper", "storageLocation",
    "tscaCertification",
}  # fmt: skip


def answer(rows: list[dict[str, str]]) -> Json:
    first = rows[0]
    data = {row["key"]: row["value"].split("|") for row in rows}
    codes = {"program": first["program"], "processing": first["processing"] or None}
    return pga_row(first["flag"], first["agency"], **codes, data=data)


def read(record: str, columns: str) -> str:
    first, _, last = columns.partition("-")
    return record[int(first) - 1 : int(last or first)].rstrip()


def parts_of(columns: str) -> list[tuple[str, str]]:
    # `5-7=EP2 8-12= 13-80=TEST REMARKS` is three fields, the second of them blank.
    parts: list[list[str]] = []
    for word in columns.split(" "):
        span, mark, value = word.partition("=")
        if mark and span.replace("-", "").isdigit():
            parts.append([span, value])
        else:
            parts[-1][1] += f" {word}"
    return [(span, value) for span, value in parts]


@pytest.mark.parametrize(("name", "rows"), SAMPLES, ids=[name for name, _ in SAMPLES])
def test_datum_stands_where_sample_has_it(name: str, rows: list[dict[str, str]]) -> None:
    got = build_records([answer(rows)])
    for row in rows:
        wanted = parts_of(row["columns"])
        found = [
            record
            for record in got.records
            if record.startswith(row["record"]) and all(read(record, span) == value for span, value in wanted)
        ]
        assert found, (row["key"], row["columns"], [each for each in got.records if each.startswith(row["record"])])
    keys = {row["key"] for row in rows}
    assert [(one.key, one.note) for one in got.notes if one.key in keys and (one.unfit or one.by_hand)] == []


def test_digest_has_each_placed_datum_of_its_agencies() -> None:
    asked = {key for each in pga_rules().programs if each.agency in SAMPLED for key in each.all_keys()}
    placed = {key for key in asked if any(record_rules().find_position(key, agency) for agency in SAMPLED)}
    assert placed - {row["key"] for row in ROWS} <= WITHOUT_SAMPLE


def test_tests_of_product_stand_with_their_laboratory() -> None:
    data = {
        "testLabId": ["1111", "2222"], "testDate": ["2026-08-14", "2026-08-20"], "citationCodes": ["1203C, 1215C", "1250A"],
        "testReport": ["R-1", "R-2"], "untestedCitationCodes": "1401A",
    }  # fmt: skip
    got = build_records([pga_row("CP1", "CPS", processing="FCP", data=data)])
    assert [record.rstrip() for record in got.records[3:]] == [
        "PG30L08142026", "PG19ITL   1111", "PG60CIT1203C", "PG60CIT1215C", "PG60CP1R-1", "PG30L08202026", "PG19ITL   2222",
        "PG60CIT1250A", "PG60CP1R-2", "PG19NOL", "PG60CIT1401A",
    ]  # fmt: skip
    assert not any(one.unfit for one in got.notes)


@pytest.mark.parametrize(
    ("data", "key", "note"),
    [
        (
            {"testLabId": ["1", "2"], "citationCodes": ["1203C"]},
            "citationCodes",
            "names 2 parties in the role LAB or ITL",
        ),
        (
            {"testDate": "2026-08-14"},
            "testDate",
            "belongs to a party in the role LAB or ITL, but the answer names none",
        ),
        ({"testLabId": "1", "testDate": "2026-08"}, "testDate", "2026-08 must be a day, such as 2026-09-14"),
        ({"testLab": "A; B; C; D; E; Nowhere"}, "testLab", "no party of the unit is named A; B; C; D; E; Nowhere"),
    ],
)
def test_test_that_does_not_fit_is_reported(data: Json, key: str, note: str) -> None:
    got = build_records([pga_row("CP1", "CPS", processing="FGC", data=data)])
    assert any(one.key == key and one.unfit and note in one.note for one in got.notes)


def test_party_that_is_written_out_has_address_and_contact() -> None:
    data = {
        "recordsContact": "Records Ltd; 1 Quay; Halifax; NS; B3H 1A1; CA; Sample Person; +1 902 555 0100; r@records.example"
    }
    got = build_records([pga_row("CP1", "CPS", processing="FGC", data=data)])
    assert [record.rstrip() for record in got.records[3:]] == [
        "PG19PK                   RECORDS LTD                     1 QUAY",
        "PG20                                     HALIFAX              NS CAB3H 1A1",
        "PG21PK SAMPLE PERSON          +1 902 555 0100R@RECORDS.EXAMPLE",
    ]
    assert not any(one.unfit for one in got.notes)


def test_several_vehicles_are_groups() -> None:
    data = {
        "hs7Box": "2A", "make": "Toyota", "model": ["RAV4", "Prius"], "vin": ["JTMBK35V395075946", "JTMKB22U940070052"],
        "category": ["MVS2", "MVS1"], "year": ["2013", "2014"], "importer": "Somebody Else LLC",
        "consignee": "Somebody Else LLC",
    }  # fmt: skip
    got = build_records([pga_row("DT2", "NHT", program="MVS", data=data)])
    assert [record.rstrip() for record in got.records[2:11]] == [
        "PG02P",
        "PG50",
        "PG07TOYOTA                             RAV4                 AKGJTMBK35V395075946",
        "PG10MVSTYPMVS2 V06 2013",
        "PG51",
        "PG50",
        "PG07TOYOTA                             PRIUS                AKGJTMKB22U940070052",
        "PG10MVSTYPMVS1 V06 2014",
        "PG51",
    ]


def test_what_vehicles_share_stands_in_each_group() -> None:
    data = {"vin": ["1", "2", "3"], "category": "MVS1", "year": "2014", "registeredImporter": "R-90-007"}
    got = kinds(build_records([pga_row("DT2", "NHT", program="MVS", data=data)]).records)
    assert got[2:18] == ["PG02", *["PG50", "PG07", "PG10", "PG14", "PG51"] * 3]


def test_several_ingredients_are_components_at_the_end() -> None:
    data = {
        "casNumber": ["50-00-0", "64-17-5"],
        "activeIngredient": ["Ingredient A", "Ingredient B"],
        "activePercent": ["45.999", "54.001"],
        "netWeight": "789",
    }
    got = build_records([pga_row("EP6", "EPA", program="PS1", intendedUse="130.026", data=data)])
    assert got.records[2].rstrip() == "PG02P"
    assert [record.rstrip() for record in got.records[-5:]] == [
        "PG29KG 000000078900", "PG02CCAS 50-00-0", f"{'PG04YINGREDIENT A':73}0459990", "PG02CCAS 64-17-5",
        f"{'PG04YINGREDIENT B':73}0540010",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("use", "text", "record"),
    [
        ("980.000", "Test", "PG01001CPSCPS                            980.000         TEST                  A"),
        ("130.005", None, "PG01001CPSCPS                            130.005                               A"),
    ],
)
def test_disclaimer_has_intended_use(use: str, text: str | None, record: str) -> None:
    data = {} if text is None else {"intendedUseText": text}
    got = build_records([pga_row("CP1", "CPS", disclaimer="A", intendedUse=use, data=data)])
    assert got.records[1:] == [record]
    assert got.notes == []
