"""Every datum of every agency program has a key in the plan, columns in the records or a reason, and a line on the worksheet."""

from datetime import date
from typing import Any

import pytest

from pipeline.customs.pga.answers import flag_answers
from pipeline.customs.pga.records import describe_position
from pipeline.customs.pga.worksheet import build_worksheet
from pipeline.customs.reference.pga import AgencyProgram, pga_rules
from pipeline.customs.reference.pga_layouts import record_rules
from pipeline.exports.schemas.plan import Pga, Plan
from tests.customs.cases import PAN, pga_row, with_changes
from tests.support.factories import Json
from tests.support.tables import table

ENTERED = date(2026, 11, 26)

#: What the sources require of each program, copied by hand, with the record that has it; `-`: no source gives the record.
#: The message set chapter and its minimum data per agency; 21 CFR 1.281 (prior notice); PPQ Form 505, blocks 12 to 18 (Lacey
#: Act); 16 CFR 1110.11 (CPSC); Form HS-7 (NHTSA); Form 3-177 (FWS); FDA's and EPA's guides as filing programs have them.
REQUIRED = """
FDA FOO fdaProductCode PG02, productName PG10, sourceCountry PG06, manufacturer PG19, shipper PG19, fdaImporter PG19
FDA FOO deliveredTo PG19, quantityBaseUom PG26, sourceType PG06, arrivalDatetime PG30, arrivalPort PG30
FDA FOO foodFacilityRegistration PG23, foodFacilityExemption PG23, priorNoticeConfirmation PG14
FDA COS fdaProductCode PG02, productName PG10, sourceCountry PG06, manufacturer PG19, shipper PG19, fdaImporter PG19
FDA COS deliveredTo PG19
FDA FOO submitter PG19, transmitter PG19, fsvpImporter PG19, ultimateConsignee PG19, carrierName PG23, carrierCountry -
FDA DEV deviceImporter PG19, premarketNumber PG23, sourceCountry PG06, deviceExporter PG23, deviceManufacturer PG23
FDA DEV fdaProductCode PG02, deviceListing PG23, establishmentRegistration PG23, manufacturer PG19, shipper PG19
FDA DEV fdaImporter PG19, deliveredTo PG19
FDA DRU fdaProductCode PG02, drugRegistration PG23, drugListing PG23, manufacturer PG19, shipper PG19, fdaImporter PG19
FDA DRU deliveredTo PG19, sourceCountry PG06, drugApplication PG23, investigationalDrug PG23, lotNumber PG25
FDA DRU foreignSellerRegistration PG23, preImportRequest PG23
FDA VME drugRegistration PG23, drugCode PG23, animalDrugApplication PG23, animalDrugAbbreviated PG23
FDA VME animalDrugInvestigational PG23
FDA BIO drugApplication PG23, drugRegistration PG23, tissueStatement PG23, tissueRegistration PG23
FDA BIO investigationalDrug PG23, importForExport PG23
FDA TOB brandName PG07, sourceCountry PG06, fdaProductCode PG02, manufacturer PG19, shipper PG19, fdaImporter PG19
FDA TOB deliveredTo PG19
FDA RAD form2877Declaration PG23, fdaProductCode PG02, sourceCountry PG06, manufacturer PG19, shipper PG19
FDA RAD fdaImporter PG19, deliveredTo PG19
FDA VME sourceCountry PG06, fdaProductCode PG02, manufacturer PG19, shipper PG19, fdaImporter PG19, deliveredTo PG19
FDA BIO fdaProductCode PG02, licence PG23, sourceCountry PG06, manufacturer PG19, shipper PG19, fdaImporter PG19
FDA BIO deliveredTo PG19
APH APL genus PG05, species PG05, harvestCountry PG06, plantQuantity PG04, plantUom PG04, value PG25, percentRecycled PG04
APH APL component PG04, itemType PG02, laceyDeclaration PG22, certifyingImporter PG19
APH APQ category PG10, categoryType PG10, permitOrPhyto PG14, permitType PG14, arrivalPort PG30
APH AVS category PG10, permitOrCertificate PG14, arrivalPort PG30
APH AAC animalType -, permit PG14
APH ABS permit PG14
EPA TS1 tscaCertification PG22, certifierName PG21, certifierPhone PG21, certifierEmail PG21
EPA PS1 epaRegistrationNumber PG14, producerEstablishment PG19, noticeOfArrival PG22, brandName PG07, netWeight PG29
EPA PS1 unregisteredReason PG24, activeIngredient PG04, activePercent PG04, quantityBaseUom PG26, importer PG19
EPA PS2 noticeOfArrival PG22, producerEstablishment PG19, quantityBaseUom PG26, netWeight PG29, importer PG19
EPA PS3 epaRegistrationNumber PG14, producerEstablishment PG19, noticeOfArrival PG22, netWeight PG29, importer PG19
EPA PS3 unregisteredReason PG24, activeIngredient PG04, activePercent PG04, quantityBaseUom PG26
EPA VNE engineFamily PG14, exemptionNumber PG14, modelYear PG10, manufactureDate PG07, formType PG22, importer PG19
EPA VNE importCode PG24, industryCode PG24
EPA ODS tscaCertification PG22, certifierName PG21, certifierPhone PG21, certifierEmail PG21, casNumber PG02
EPA HFC casNumber PG02, refrigerantNumber PG07, quantityKg PG29, allowance -, consignee PG19, importer PG19
CPS CPS productId PG02, citationCodes PG60, manufactureDate PG07, manufacturePlace PG19, testDate PG30, testLab PG19
CPS CPS certifierId PG14, versionId PG02, certifier PG19, attestation PG22, recordsContact PG19, testLabId PG19
CPS CPS productName PG07, sku PG02, model PG07, serialNumber PG07, registeredNumber PG07, alternateId PG07
CPS CPS untestedCitationCodes PG60
NHT OFF hs7Box PG22, category PG10, modelYear PG10, importer PG19, consignee PG19
NHT MVS hs7Box PG22, make PG07, model PG07, year PG10, vin PG07, passportNumber PG34, passportCountry PG34
NHT MVS bondSurety PG35, bondNumber PG35, bondAmount PG35, category PG10, brandName PG07, modelYear PG10, importer PG19
NHT MVS consignee PG19, manufactureDate PG07, driveSide PG10, registeredImporter PG14, vehicleEligibility PG14
NHT MVS importPermission PG14, originalManufacturer PG19
NHT TPE hs7Box PG22, category PG10, importer PG19, consignee PG19
NHT REI hs7Box PG22, manufacturer PG19, quantity PG26, category PG10, brandName PG07, tireManufacturerCode PG19
NHT REI glazingManufacturerCode PG19, importer PG19, consignee PG19
NHT OEI hs7Box PG22, category PG10, importer PG19, consignee PG19
FWS FWS species PG05, countryOfOrigin PG06, sourceCode PG10, purposeCode -, descriptionCode PG05, quantity PG29
FWS FWS commonName PG17, cartons PG17, value PG25, foreignExporter PG19, wildlifeImporter PG19, arrivalDatetime PG30
FWS FWS eDecsConfirmation PG14, citesPermit PG14, wildlifeLicence PG14
AMS EG inspectionCertificate PG14, productName PG10, applicant PG19
AMS MO productName PG10
AMS PN productName PG10
AMS OR organicCertificate PG14, productName PG10, organicDeclaration PG22
ATF ATF category PG10, permit PG14, firearmsLicence PG14, explosivesLicence PG14
DEA DEA permit PG14, deaRegistration PG19, deaForm PG22, activeIngredient PG04, activePercent PG04, arrivalPort PG30
FSI FSI inspectionCertificate PG14, foreignEstablishment PG19, certificateCountry PG13
TTB BER permit PG14, permitExemption PG14, cola PG14, colaExemption PG14
TTB WIN permit PG14, permitExemption PG14, cola PG14, colaExemption PG14
TTB DSP permit PG14, permitExemption PG14, cola PG14, colaExemption PG14
TTB TOB permit PG14, permitExemption PG14
NMF SIM permit PG14, species PG05, sourceType PG06, catchCountry PG06, harvestDate PG06, harvester -
NMF SIM aquacultureFacility PG19, vesselName PG31, vesselCountry PG31, landingCountry PG32
NMF 370 permit PG14, form370 PG22, dolphinSafeStatus PG22
NMF HMS permit PG14, statisticalDocument PG22
NMF AMR permit PG14, catchDocument PG22
OMC OMC ds2031 PG22
"""
ROWS = [
    (agency, program, *datum.split())
    for agency, program, data in (line.split(" ", 2) for line in REQUIRED.strip().split("\n"))
    for datum in data.split(", ")
]
#: Programs without data in the sources.
WITHOUT_DATA = {("DEA", "MAC")}


@table(("agency", "program", "key", "record"), ROWS)
def test_datum_of_sources_is_built(agency: str, program: str, key: str, record: str) -> None:
    found = pga_rules().find_program(agency, program, ENTERED)
    assert found is not None
    assert key in found.all_keys()
    place = describe_position(key, agency)
    assert (place[:4] if place else "-") == record


def test_every_program_is_in_the_list() -> None:
    listed = {(agency, program) for agency, program, *_ in ROWS}
    assert {(each.agency, each.program) for each in pga_rules().programs} - listed == WITHOUT_DATA
    for each in pga_rules().programs:
        required = {key for some in (*each.data, *each.prior_notice) for key in some.split("|")}
        required |= {key for keys in each.by_processing.values() for some in keys for key in some.split("|")}
        required |= {key for case in each.cases for some in case.data for key in some.split("|")}
        assert required <= {key for agency, program, key, _ in ROWS if (agency, program) == (each.agency, each.program)}


PROGRAM_DATA = [(program, key) for program in pga_rules().programs for key in program.all_keys()]


@table(("program", "key"), PROGRAM_DATA)
def test_datum_has_columns_or_a_reason_and_a_line_on_worksheet(program: AgencyProgram, key: str) -> None:
    rules, agency = record_rules(), program.agency
    position, reasons = (
        rules.find_position(key, agency),
        [each for each in rules.by_hand.get(key, ()) if each.takes(agency)],
    )
    assert (position is None) == bool(reasons), "a datum has a place, or a reason why it has none"
    if position is not None:
        assert position.record in (*rules.order, "PG60")
        assert position.field is not None or position.reading in {"party", "quantities", "instant"}
    label = pga_rules().elements[key].label
    (datum,) = [each for each in worksheet_data(program, key) if each.key == key]
    assert (datum.label, datum.place) == (label, describe_position(key, agency))
    assert datum.values


def worksheet_data(program: AgencyProgram, key: str) -> Any:
    flag = next(
        each.flag
        for each in pga_rules().flags
        if each.agency == program.agency and program.program in (each.programs or (program.program,))
    )
    row: Json = pga_row(flag, program.agency, program=program.program, data={key: "Q7X"})
    unit = Plan.model_validate(with_changes((f"{PAN}/treatment/pga", [row]))).units[0]
    sheet = build_worksheet(unit, ENTERED, {line.line_ref: "0" for line in unit.lines})
    return [datum for line in sheet.lines for answer in line.answers for datum in answer.data]


def test_no_place_and_no_reason_is_left_over() -> None:
    asked = {(program.agency, key) for program in pga_rules().programs for key in program.all_keys()}
    rules = record_rules()
    named = [(key, one) for key, places in rules.elements.items() for one in places]
    reasons = [(key, one) for key, some in rules.by_hand.items() for one in some]
    for key, takes in [*((key, one.takes) for key, one in named), *((key, one.takes) for key, one in reasons)]:
        assert any(name == key and takes(agency) for agency, name in asked), key


def test_every_known_key_belongs_to_a_program() -> None:
    known = {key for program in pga_rules().programs for key in program.all_keys()}
    assert set(pga_rules().elements) - known == {"intendedUseText"}


def test_value_tables_fit_their_fields() -> None:
    for values in pga_rules().values:
        for agency in values.agencies or pga_rules().agencies:
            for key in values.elements:
                position = record_rules().find_position(key, agency)
                if position is None or position.field is None:
                    continue
                field = record_rules().find_field(position.record, position.field)
                assert all(len(value.code) <= field.width for value in values.allowed), (values.name, agency)
                assert position.codes.keys() <= {value.code for value in values.allowed}


@pytest.mark.parametrize(
    ("flag", "agency", "program", "key", "given", "code", "nearest"),
    [
        ("DT1", "NHT", "REI", "hs7Box", "box 2a", "2A", None),
        ("DT1", "NHT", "REI", "hs7Box", "2C", None, ["2B", "2A"]),
        ("AL1", "APH", "APL", "plantUom", "kgm", "KG", None),
        ("AL1", "APH", "APL", "plantUom", "KGS", None, ["KG"]),
        ("EP3", "EPA", "VNE", "formType", "3520-21", "943", None),
        ("FW1", "FWS", "FWS", "purposeCode", "Y", None, list("BEGHLMNPQSTZ")),
        ("DT1", "NHT", "MVS", "hs7Box", "03", "3", None),
        ("FD1", "FDA", "RAD", "form2877Declaration", "RA8", None, ["RA7"]),
        ("FD1", "FDA", "FOO", "sourceType", "HCF", "HCF", None),
        ("NM2", "NMF", "370", "form370", "370", "877", None),
        ("DE1", "DEA", "DEA", "deaForm", "dea-486a", "923", None),
    ],
)
def test_table_gives_code_or_nearest_values(
    flag: str, agency: str, program: str, key: str, given: str, code: str | None, nearest: list[str] | None
) -> None:
    row = pga_row(flag, agency, program=program, data={key: given})
    unit = Plan.model_validate(with_changes((f"{PAN}/treatment/pga", [row]))).units[0]
    (answer,) = flag_answers(unit, unit.lines[0], ENTERED)
    (asked,) = [each for each in answer.data if each.key == key]
    assert asked.table is not None
    assert asked.code_of(given) == code
    assert asked.unknown == (() if code else (given,))
    if nearest is not None:
        assert [each.code for each in asked.table.nearest_values(given)][: len(nearest)] == nearest


def test_answer_of_every_program_fits_the_plan() -> None:
    for program in pga_rules().programs:
        data: dict[str, Any] = dict.fromkeys(program.all_keys(), "Q7X")
        assert Pga.model_validate(pga_row("FD1", program.agency, data=data)).data == data
