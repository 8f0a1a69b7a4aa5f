"""No agency answer of a plan is silently dropped: it is in the records file, or named there as omitted."""

from datetime import date
from typing import Any

import pytest

from pipeline.customs.pga.checks import check_agencies
from pipeline.customs.pga.parties import UnitParties
from pipeline.customs.pga.records import describe_position
from pipeline.customs.reference.pga import AgencyProgram, pga_rules
from pipeline.documents.formats.pga_records import pga_records
from pipeline.exports.schemas.plan import Pga, Plan
from tests.customs.cases import PAN, pga_row, with_changes
from tests.documents.samples import sample
from tests.support.tables import table

Json = dict[str, Any]

ENTERED = date(2026, 11, 26)
MAKER = "Maple Goods Ltd"
PARTIES = {
    "applicant", "aquacultureFacility", "carrier", "certifier", "certifyingImporter", "consignee", "customsBroker",
    "deliveredTo", "deviceImporter", "exporter", "fdaImporter", "foreignExporter", "fsvpImporter", "goodsLocation",
    "governmentOfficial", "harvester", "importer", "manufacturePlace", "manufacturer", "originalManufacturer",
    "owner", "recordsContact", "shipper", "storageLocation", "submitter", "testLab", "transmitter",
    "ultimateConsignee", "wildlifeImporter",
}  # fmt: skip

#: A value for each key that has a required form; every other key gets a unique text.
SHAPED: Json = {
    "activePercent": "12.5", "arrivalDatetime": "2026-11-27T13:05-05:00", "arrivalPort": "0901", "bondAmount": "5000",
    "bondSurety": "891", "cartons": "17", "citationCodes": ["1203C, 1215C", "1250A"], "casNumber": "811-97-2",
    "countryOfOrigin": "AU", "descriptionCode": "SKI", "enginePower": "13.5", "fdaProductCode": "41FBT04",
    "harvestCountry": "NZ", "importPermission": "14-1234-5678", "manufactureDate": "2026-09-14", "modelYear": "2019",
    "netWeight": "88.5", "percentRecycled": "12.5", "permitType": "A09", "registeredImporter": "R-90-007",
    "supportingDocument": "165", "testDate": ["2026-08-14", "2026-08-20"], "testReport": ["REPORT 1", "REPORT 2"],
    "plantQuantity": "77.25", "plantUom": "M3", "quantity": "321 NO", "quantityBaseUom": ["10 CTN", "24 CAN"],
    "quantityKg": "456", "carrierCountry": "MX", "catchCountry": "ZZ", "catchWeight": "711 KG", "certificateCountry": "IS",
    "colaExemption": "TTBEX9", "controlledCode": "4000", "exportCountry": "SE", "exportDate": "2026-10-03",
    "fishingGear": "PS", "harvestDate": "2026-10-04", "ingredientQuantity": "714.5", "inspectionDate": "2026-10-05",
    "inspectionFirms": "H323", "landingCountry": "PA", "netWeightPounds": "715", "permitExemption": "TTBEX1",
    "preApprovalKg": "716", "productCharacteristic": "1F", "productSpecies": "12", "productionEnd": "2026-10-07",
    "productionStart": "2026-10-06", "shipmentCountry": "DK", "smallVessels": "717", "transshipmentCountry": "EC",
    "unspscCode": "50303904", "vesselCountry": "PT", "passportCountry": "JP", "refusalCountry": "BR", "sourceCountry": "CL",
    "value": "1234", "vin": "1HGCM82633A004352", "year": "2018",
} | dict.fromkeys(PARTIES, MAKER)  # fmt: skip

#: A value of each table, in the word for it if it has one: the last, which differs from the values of the layouts.
TABLED: Json = {
    key: (table.allowed[-1].words or (table.allowed[-1].code,))[0]
    for table in pga_rules().values
    for key in table.elements
}
CODES: Json = {key: table.allowed[-1].code for table in pga_rules().values for key in table.elements}

#: The records' form of those values that change in them, by hand from the layouts.
CARRIED: Json = (
    {
        "activePercent": "0125000", "arrivalDatetime": "112720261305", "bondAmount": "00005000", "cartons": "00017",
        "catchWeight": "KG 0000071100", "exportDate": "10032026", "harvestDate": "10042026",
        "ingredientQuantity": "000000071450", "inspectionDate": "10052026", "netWeightPounds": "LB 000000071500",
        "preApprovalKg": "0000000007160000KG", "productionEnd": "10072026", "productionStart": "10062026",
        "citationCodes": "1203C", "manufactureDate": "092026", "netWeight": "KG 000000008850", "percentRecycled": "0125000",
        "testDate": "08142026", "plantQuantity": "000000007725", "quantity": "000000032100",
        "quantityBaseUom": "1000000001000CTN", "quantityKg": "KG 000000045600", "value": "000000001234",
    }
    | dict.fromkeys(PARTIES, MAKER.upper())
    | CODES
)  # fmt: skip


def make_value(key: str) -> str | list[str]:
    return TABLED.get(key) or SHAPED.get(key) or f"Q{sorted(pga_rules().elements).index(key):03d}X"


def list_keys(program: AgencyProgram) -> list[str]:
    return sorted({*program.all_keys(), "intendedUseText", "thing"})


def read_text(row: Json) -> tuple[str, str]:
    """Return the records of the file, and its remarks joined into one line."""

    def change(data: Json) -> None:
        data["lines"][0]["treatment"]["pga"] = [row]

    lines = pga_records(sample(1, change=change)).decode("ascii").split("\r\n")
    records = "\n".join(line for line in lines if not line.startswith("*"))
    return records, " ".join(line[2:].strip() for line in lines if line.startswith("*"))


def list_findings(row: Json) -> list[tuple[str, str]]:
    unit = Plan.model_validate(with_changes((f"{PAN}/treatment/pga", [row]))).units[0]
    found = check_agencies(unit, unit.lines[0], UnitParties(unit), "/units/0/lines/0", ENTERED)
    return [(one.rule, one.message) for one in found]


def build_complete_row(program: AgencyProgram, processing: str | None, **more: Any) -> Json:
    # A product has the id of the Product Registry or a SKU.
    keys = [key for key in list_keys(program) if key in pga_rules().elements and key != "sku"]
    data = {key: make_value(key) for key in keys} | {"thing": "QTHING"}
    flag = next(
        flag.flag
        for flag in pga_rules().flags
        if flag.agency == program.agency and program.program in (flag.programs or (program.program,))
    )
    codes = {"program": program.program, "processing": processing, "intendedUse": "130.000"}
    return pga_row(flag, program.agency, **codes, data=data, **more)


CASES = [(program, processing) for program in pga_rules().programs for processing in (*program.processing, None)]


@table(("program", "processing"), CASES)
def test_every_answer_is_in_records_or_named_as_omitted(program: AgencyProgram, processing: str | None) -> None:
    row = build_complete_row(program, processing)
    records, remarks = read_text(row)
    reported = list_findings(row)
    for key, value in row["data"].items():
        first = value if isinstance(value, str) else value[0]
        label = pga_rules().elements[key].label if key in pga_rules().elements else "Thing"
        if describe_position(key, program.agency) is None:
            assert f"{label}: needs a person" in remarks, key
            assert first in remarks, key
            assert any(rule == "V14-HAND" and label in message for rule, message in reported), key
        else:
            assert str(CARRIED.get(key, first)).upper() in records, key
    assert f"PG01001{program.agency}{program.program:3}{processing or '':3}" in records
    assert "130.000" in records
    assert f"{row['agency']} {row['flag']}, " in remarks


@pytest.mark.parametrize("name", sorted(Pga.model_fields))
def test_every_field_of_answer_is_in_file(name: str) -> None:
    rows = {
        "disclaimer": pga_row("FD1", "FDA", program="FOO", disclaimer="B"),
        "data": pga_row("FD1", "FDA", program="FOO", data={"productName": "Tomatoes"}),
    }
    row = rows.get(
        name, build_complete_row(next(each for each in pga_rules().programs if each.program == "FOO"), "PRO")
    )
    records, remarks = read_text(row)
    shown = {
        "flag": (" FD1,", remarks),
        "agency": ("001FDA", records),
        "program": ("FDAFOO", records),
        "processing": ("FOOPRO", records),
        "intended_use": ("130.000", records),
        "disclaimer": (" " * 60 + "B", records),
        "data": ("TOMATOES", records),
    }
    value, text = shown[name]
    assert value in text


def test_data_with_disclaimer_is_named_but_not_sent() -> None:
    row = pga_row("FD1", "FDA", program="FOO", disclaimer="A", data={"productName": "Tomatoes", "thing": ["A1", "B2"]})
    records, remarks = read_text(row)
    assert "PG10" not in records
    assert "FDA FD1 Product name: needs a person: not sent: the flag is disclaimed; the plan says: Tomatoes" in remarks
    assert "FDA FD1 thing: needs a person: not sent: the flag is disclaimed; the plan says: A1 | B2" in remarks


def test_intended_use_is_sent_with_disclaimer() -> None:
    records, _ = read_text(pga_row("CP1", "CPS", program="CPS", disclaimer="B", intendedUse="130.005"))
    assert ("PG01001CPSCPS".ljust(41) + "130.005").ljust(79) + "B" in records


def test_codes_of_unsent_answer_are_named() -> None:
    records, remarks = read_text(pga_row("FD1", "FDA", program="FOO", processing="PRO", intendedUse="130.000"))
    assert records == ""
    for code in ("Program", "Processing code", "Intended use"):
        assert f"FDA FD1 {code}: needs a person: not sent: the answer has neither data nor a disclaimer" in remarks


def test_surplus_values_of_single_field_are_named() -> None:
    row = pga_row(
        "FD1",
        "FDA",
        program="FOO",
        processing="PRO",
        intendedUse="980.000",
        data={"intendedUseText": ["First", "Second"], "arrivalDatetime": ["2026-11-27T13:05", "2026-11-28T13:05"]},
    )
    _, remarks = read_text(row)
    for label, last in (("Intended use in words", "Second"), ("Day and time of arrival", "2026-11-28T13:05")):
        assert f"{label}: needs a person: only one value is sent; the filer must key the other values" in remarks
        assert last in remarks
    assert [rule for rule, message in list_findings(row) if "one value is sent" in message] == ["V14-RECORD"] * 2


def test_surplus_value_of_single_record_is_named_at_its_datum() -> None:
    row = pga_row("CP1", "CPS", program="CPS", processing="REF", data={"productId": "P-1", "versionId": ["1", "2"]})
    reported = [message for rule, message in list_findings(row) if rule == "V14-RECORD"]
    assert len(reported) == 1
    assert "CPS records, versionId: PG02 is sent once at most" in reported[0]


def test_tsca_certification_is_declaration_of_certifier() -> None:
    data = {"tscaCertification": "Negative", "certifierName": "Sample Person", "certifierEmail": "s@maple.example"}
    records, remarks = read_text(pga_row("EP7", "EPA", program="TS1", data=data))
    assert records.splitlines()[1:] == [
        "PG01001EPATS1".ljust(80),
        "PG02P".ljust(80),
        "PG22             CI EP5".ljust(80),
        ("PG21CI SAMPLE PERSON".ljust(45) + "S@MAPLE.EXAMPLE").ljust(80),
    ]
    assert "the filer certifies it: PG22 25 and the day in PG22 26-33 are left blank" in remarks


def test_unknown_tsca_wording_is_omitted_and_named() -> None:
    row = pga_row("EP7", "EPA", program="TS1", data={"tscaCertification": "maybe"})
    records, remarks = read_text(row)
    assert "PG22" not in records
    nearest = "EP4 (Positive, complies with TSCA), EP5 (Negative, not subject to TSCA)"
    assert (
        f"TSCA certification: needs a person: maybe is omitted; give one of {nearest}; the plan says: maybe" in remarks
    )
    (finding,) = [message for rule, message in list_findings(row) if rule in {"V14-RECORD", "V14-VALUE"}]
    assert (
        "tscaCertification of the EPA data for flag EP7 is maybe, which is none of the TSCA certifications" in finding
    )


def test_plant_material_has_species_and_country_of_harvest() -> None:
    data = {
        "genus": ["Acer", "Quercus"], "species": ["saccharum", "rubra"], "harvestCountry": ["CA", "US"],
        "plantQuantity": ["1.5", "20"], "plantUom": ["M3", "KG"], "value": "1200",
    }  # fmt: skip
    records, _ = read_text(pga_row("AL2", "APH", program="APL", data=data))
    assert [record.rstrip() for record in records.splitlines()[2:]] == [
        "PG04".ljust(56) + "000000000150M3",
        "PG05ACER                  SACCHARUM",
        "PG06HRVCA",
        "PG04".ljust(56) + "000000002000KG",
        "PG05QUERCUS               RUBRA",
        "PG06HRVUS",
        "PG25".ljust(56) + "000000001200",
    ]
