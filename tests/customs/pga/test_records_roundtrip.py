"""The agency records read back: an independent reader finds each value of a plan in the columns that the worksheet names."""

from decimal import Decimal
from typing import Any

from pipeline.customs.reference.pga import AgencyProgram
from pipeline.documents.formats.pga_records import pga_records
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.pga_worksheet import Datum
from tests.customs.cases import pga_row
from tests.documents.formats.test_pga_records_complete import CASES, CODES, PARTIES, build_complete_row
from tests.documents.samples import sample
from tests.support.tables import table

Json = dict[str, Any]

#: The columns of each record, copied by hand from the message set chapter.
COLUMNS = """
OI 11-80
PG01 5-7 8-10 11-13 14-16 17 18 19-22 23-41 42-57 58-78 79 80
PG02 5 6-9 10-28 29-32 33-51 52-55 56-74
PG04 5 6-56 57-68 69-73 74-80
PG05 5-26 27-48 49-66 67-73 74-80
PG06 5-7 8-9 10-29 30-37 38-45 46-50 51-80
PG07 5-39 40-54 55-60 61-63 64-80
PG10 5-10 11-15 16-19 20-23 24-80
PG13 5-39 40-42 43-45 46-70
PG14 5 6-8 9-41 42 43-50 51-66 67-71 72-80
PG17 5-34 35-64 65 66-70
PG19 5-7 8-10 11-25 26-57 58-80
PG20 5-36 37-41 42-62 63-65 66-67 68-76
PG21 5-7 8-30 31-45 46-80
PG22 5 6-12 13-17 18-20 21-24 25 26-33 34-50 51-80
PG23 5-9 10-79
PG24 5-7 8-12 13-80
PG25 5 6 7 8-13 14 15 16-40 41-48 49-56 57-68 69-80
PG26 5 6-17 18-22 23-47 48-50 51-65 66-80
PG28 5-16 17-20 21-70
PG29 5-7 8-19 20-22 23-34 35-37 38-49 50-52 53-64
PG30 5 6-13 14-17 18-21 22-71
PG31 5-7 8-42 43-45 46-55
PG32 5-7 8-9 10-12 13-21 22-76
PG34 5-7 8-9 10-44
PG35 5-7 8-37 38 39-46
PG60 5-7 8-80
"""
KNOWN = {f"{line.split()[0]} {span}" for line in COLUMNS.split("\n") if line for span in line.split()[1:]}

#: The columns of numbers: how many digits are decimals. A number is at the right, with zeros before it.
DECIMALS = {
    "PG01 5-7": 0, "PG04 57-68": 2, "PG04 74-80": 4, "PG06 30-37": 0, "PG07 55-60": 0, "PG14 51-66": 4, "PG17 66-70": 0,
    "PG25 41-48": 0, "PG25 49-56": 0, "PG25 57-68": 0, "PG31 46-55": 2, "PG26 5": 0, "PG26 6-17": 2, "PG29 8-19": 2, "PG30 6-13": 0, "PG30 14-17": 0, "PG35 39-46": 0,
}  # fmt: skip

#: Values in another form than the plan's.
READ: Json = {
    "arrivalDatetime": "11272026",
    "catchWeight": "711",
    "exportDate": "10032026",
    "harvestDate": "10042026",
    "inspectionDate": "10052026",
    "productionEnd": "10072026",
    "productionStart": "10062026",
    "citationCodes": "1203C",
    "testDate": "8142026",
    "testReport": "REPORT 1",
    "manufactureDate": "92026",
    "quantityBaseUom": "1",
    "quantity": {"PG29 8-19": "321", "PG26 5": "1"},
} | dict.fromkeys(PARTIES, "MAPLE GOODS LTD")


def read_columns(record: str, place: str) -> str:
    """Return what stands in the columns; a text is at the left and filled with spaces, a number with zeros before it."""
    first, _, last = place.split()[1].partition("-")
    field = record[int(first) - 1 : int(last or first)]
    if not field.strip():
        return ""
    if place in DECIMALS:
        assert field.isdigit(), place
        return f"{Decimal(field).scaleb(-DECIMALS[place]).normalize():f}"
    assert not field.startswith(" "), place
    return field.rstrip()


def read_file(row: Json) -> tuple[list[str], tuple[Datum, ...]]:
    """Return the records of the file without its remarks, and the data of the worksheet's only answer."""

    def change(data: Json) -> None:
        data["lines"][0]["treatment"]["pga"] = [row]

    invoice: Invoice = sample(1, change=change)
    assert invoice.worksheet is not None
    lines = pga_records(invoice).decode("ascii").split("\r\n")[:-1]
    assert {len(line) for line in lines} == {80}
    ((answer,),) = (line.answers for line in invoice.worksheet.lines)
    return [line for line in lines if not line.startswith("*")], answer.data


@table(("program", "processing"), CASES)
def test_every_value_stands_in_columns_of_worksheet(program: AgencyProgram, processing: str | None) -> None:
    row = build_complete_row(program, processing)
    records, data = read_file(row)
    given = row["data"] | {"intendedUse": row["intendedUse"]}
    seen = set()
    for datum in (datum for datum in data if datum.key in given and datum.place is not None):
        assert datum.place in KNOWN, datum.key
        expected = READ.get(datum.key, CODES.get(datum.key, given[datum.key]))
        if isinstance(expected, dict):
            expected = expected[datum.place]
        if datum.place in DECIMALS:
            expected = f"{Decimal(expected).normalize():f}"
        found = [read_columns(record, datum.place) for record in records if record[:4] == datum.place[:4]]
        assert str(expected).upper() in found, (datum.key, datum.place)
        seen.add(datum.key)
    keyed = {datum.key for datum in data if datum.key in given and datum.place is None}
    assert seen | keyed == given.keys()
    assert records[1][4:16] == f"001{program.agency}{program.program:3}{processing or '':3}"[:12]


def test_values_of_one_component_stay_together() -> None:
    data = {
        "component": ["Top", "Legs"], "genus": ["Acer", "Quercus"], "species": ["saccharum", "rubra"],
        "harvestCountry": ["CA", "US"], "plantQuantity": ["1.5", "20"], "plantUom": ["M3", "KG"],
        "percentRecycled": ["0", "12.5"], "laceyDeclaration": "importer",
    }  # fmt: skip
    records, _ = read_file(pga_row("AL2", "APH", program="APL", data=data))
    groups = [records[at : at + 3] for at, record in enumerate(records) if record.startswith("PG04")]
    places = ("PG04 6-56", "PG05 5-26", "PG05 27-48", "PG06 8-9", "PG04 57-68", "PG04 69-73", "PG04 74-80")
    read = [
        [read_columns(next(record for record in group if record[:4] == place[:4]), place) for place in places]
        for group in groups
    ]
    assert read == [
        ["TOP", "ACER", "SACCHARUM", "CA", "1.5", "M3", "0"],
        ["LEGS", "QUERCUS", "RUBRA", "US", "20", "KG", "12.5"],
    ]
    (declaration,) = [record for record in records if record.startswith("PG22")]
    assert (read_columns(declaration, "PG22 18-20"), read_columns(declaration, "PG22 21-24")) == ("IM", "AP6")


def test_form_of_engines_has_its_declaration() -> None:
    data = {"formType": "3520-21", "bondExemption": "no", "bondNumber": "B-7", "certifierName": "Sample Person"}
    records, _ = read_file(pga_row("EP4", "EPA", program="VNE", data=data))
    read = {
        place: [read_columns(record, place) for record in records if record[:4] == place[:4]]
        for place in (
            "PG22 6-12", "PG22 18-20", "PG22 21-24", "PG24 5-7", "PG24 8-12", "PG14 6-8", "PG14 9-41", "PG21 8-30",
        )
    }  # fmt: skip
    assert [value for values in read.values() for value in values] == [
        "943", "CI", "EP1", "EP1", "E1N", "EP7", "B-7", "SAMPLE PERSON",
    ]  # fmt: skip


def test_scientific_name_is_divided_for_wildlife() -> None:
    data = {"species": "Alligator mississippiensis", "quantity": "12.5 KG", "citesPermit": "US123"}
    records, _ = read_file(pga_row("FW1", "FWS", program="FWS", data=data))
    names = [record for record in records if record.startswith("PG05")]
    assert [read_columns(names[0], place) for place in ("PG05 5-26", "PG05 27-48")] == ["ALLIGATOR", "MISSISSIPPIENSIS"]
    (net,) = [record for record in records if record.startswith("PG29")]
    assert [read_columns(net, place) for place in ("PG29 5-7", "PG29 8-19")] == ["KG", "12.5"]


def test_declaration_of_radiation_is_its_own_affirmation() -> None:
    data = {"radiationModel": "M-1", "form2877Declaration": "RB1", "radiationAccession": "9912345"}
    records, _ = read_file(pga_row("FD1", "FDA", program="RAD", processing="REP", data=data))
    read = [(read_columns(one, "PG23 5-9"), read_columns(one, "PG23 10-79")) for one in records if one[:4] == "PG23"]
    assert sorted(read) == [("ACC", "9912345"), ("MDL", "M-1"), ("RB1", "")]


def test_country_without_postal_codes_is_named_for_lacey_act() -> None:
    def change(data: Json) -> None:
        data["lines"][0]["treatment"]["pga"] = [
            pga_row("AL2", "APH", program="APL", data={"certifyingImporter": data["parties"]["buyer"]["name"]})
        ]
        data["parties"]["buyer"]["address"]["postalCode"] = None

    records = pga_records(sample(1, change=change)).decode("ascii").split("\r\n")
    (address,) = [record for record in records if record.startswith("PG20")]
    assert read_columns(address, "PG20 68-76") == "NO CODE"
