"""Changes to a good plan, and the findings that the customs checks must yield for each."""

from datetime import date
from functools import partial
from typing import Any

from pipeline.core.findings import Finding
from pipeline.core.runtime import Runtime
from pipeline.customs.checks.plan import check_plan
from pipeline.customs.checks.tariff import check_tariff, load_tariff
from pipeline.exports.schemas.plan import Plan
from tests.customs.foreign_importer import FOREIGN_ADDRESS, RESIDENT_AGENT
from tests.support import factories
from tests.support.factories import Json, change_plan, plan

TODAY = date(2026, 11, 24)
UNIT = "/units/0"
PAN, SHIRT, BAG = (f"{UNIT}/lines/{place}" for place in range(3))

#: The shirts at $2,800: above $2,500 a USMCA claim needs a certification.
DEAR: list[tuple[str, Any]] = [
    (f"{SHIRT}/unitPrice", "700.00"),
    (f"{SHIRT}/lineValue", "2800.00"),
    (f"{UNIT}/invoice/total", "2977.00"),
]


def findings(changed: Json, on: date = TODAY) -> list[Finding]:
    return check_plan(Plan.model_validate(changed), on=on)


def list_findings(changed: Json, on: date = TODAY) -> list[tuple[str, str, str]]:
    return [(finding.rule, finding.severity, finding.pointer) for finding in findings(changed, on)]


def with_changes(*changes: tuple[str, Any]) -> Json:
    changed = plan()
    for pointer, value in changes:
        changed = change_plan(changed, pointer, value)
    return changed


def check_by_tariff(runtime: Runtime, *changes: tuple[str, Any]) -> list[Finding]:
    changed = Plan.model_validate(with_changes(*changes))
    with runtime.db.read() as session:
        return check_tariff(changed, load_tariff(session, changed))


def enter_on(on: str) -> list[tuple[str, Any]]:
    return [(f"{UNIT}/entry/exportDate", on), (f"{UNIT}/entry/estimatedArrivalAt", f"{on}T18:00:00Z")]


def heading(code: str, rate: str = "25") -> Json:
    return {"heading": code, "program": "S232_METALS", "ratePercent": rate, "basis": "full_value"}


def pga_row(flag: str, agency: str, **other: Any) -> Json:
    blank = dict.fromkeys(("program", "processing", "disclaimer", "intendedUse"))
    return {"flag": flag, "agency": agency, "data": {}} | blank | other


def metal_row(metal: str, weight: str, **countries: str) -> Json:
    fields = ("countryOfMeltAndPour", "primaryCountryOfSmelt", "secondaryCountryOfSmelt", "countryOfCast")
    return {"metal": metal, "metalWeightKg": weight, "usMetalPercent": None} | dict.fromkeys(fields) | countries


COSMETIC = dict.fromkeys(("manufacturer", "shipper", "fdaImporter", "deliveredTo"), "Maple Goods Ltd") | {
    "productName": "Face cream",
    "fdaProductCode": "53L--04",
    "sourceCountry": "CA",
}
RADIATION = COSMETIC | {"form2877Declaration": "RA1"}
WRONG_FORM = COSMETIC | {"form2877Declaration": "RA8"}

#: The changes that make a breach, and the findings that they cause: rule, severity and pointer.
Breach = tuple[list[tuple[str, Any]], list[tuple[str, str, str]]]


def _breach(severity: str, pointer: str, changes: list[tuple[str, Any]] | None = None, *, to: Any = None) -> Breach:
    """Return a breach with one finding, of the rule that its name begins with; by default the change is `to` there."""
    return [(pointer, to)] if changes is None else changes, [("", severity, pointer)]


block, warn, note = (partial(_breach, severity) for severity in ("block", "warn", "note"))


def name_rules(breaches: dict[str, Breach]) -> dict[str, Breach]:
    """Return the breaches with the rule of each finding."""
    return {
        name: (changes, [(rule or name.split()[0], severity, pointer) for rule, severity, pointer in found])
        for name, (changes, found) in breaches.items()
    }


_BREACHES: dict[str, Breach] = {
    "V01 a Canadian MID begins with CA": block(f"{UNIT}/parties/manufacturers/0/mid", to="CAMAPGOO120TOR"),
    "V01 a MID begins with digits": block(f"{UNIT}/parties/manufacturers/0/mid", to="12MAPGOO120TOR"),
    "V01 a MID is not the one that name and address give": block(
        f"{UNIT}/parties/manufacturers/1/mid", to="CNDEMBAG8SHE"
    ),
    "V01 a maker is of another country than its goods": (
        [(f"{BAG}/countryOfOrigin", "VN")],
        [
            ("V01", "block", f"{UNIT}/parties/manufacturers/1/mid"),
            ("V11", "warn", f"{BAG}/treatment/chapter99/0/heading"),
            ("V11", "warn", f"{BAG}/treatment/chapter99/1/heading"),
        ],
    ),
    "V02 two words": block(f"{PAN}/description", to="Frying pan"),
    "V02 words that say nothing": block(f"{PAN}/description", to="Various household goods, 12 items"),
    "V03 a line value is not quantity by price": (
        # The total equals the sum of the lines, so that only the line is wrong.
        [(f"{PAN}/lineValue", "50.01"), (f"{UNIT}/invoice/total", "228.01")],
        [("V03", "block", f"{PAN}/lineValue")],
    ),
    "V03 the total is a cent off": block(f"{UNIT}/invoice/total", to="228.01"),
    "V04 lines and packages differ in weight": block(
        f"{UNIT}/packages", [(f"{UNIT}/packages/0/grossWeightKg", "8.200")]
    ),
    "V05 a line weighs nothing": block(f"{SHIRT}/netWeightKg", to="0"),
    "V05 net is more than gross": block(f"{SHIRT}/netWeightKg", to="4.001"),
    "V09 a listed code has no metal": block(f"{PAN}/treatment/section232", to=[]),
    "V09 steel without melt and pour": block(f"{PAN}/treatment/section232/0/countryOfMeltAndPour", to=None),
    "V09 aluminum without smelt and cast": (
        [(f"{PAN}/htsCode", "7615107180"), (f"{PAN}/treatment/section232/0", metal_row("aluminum", "3.200"))],
        [
            ("V09", "block", f"{PAN}/treatment/section232/0/primaryCountryOfSmelt"),
            ("V09", "block", f"{PAN}/treatment/section232/0/countryOfCast"),
        ],
    ),
    "V09 aluminum of unknown origin": warn(
        f"{PAN}/treatment/section232/0",
        [
            (f"{PAN}/htsCode", "7615107180"),
            (
                f"{PAN}/treatment/section232/0",
                metal_row("aluminum", "3.200", primaryCountryOfSmelt="OTH", countryOfCast="CA"),
            ),
        ],
    ),
    "V09 copper cable without smelt and cast": (
        [(f"{PAN}/htsCode", "8544429090"), (f"{PAN}/treatment/section232/0", metal_row("copper", "3.200"))],
        [
            ("V09", "block", f"{PAN}/treatment/section232/0/primaryCountryOfSmelt"),
            ("V09", "block", f"{PAN}/treatment/section232/0/countryOfCast"),
        ],
    ),
    "V10 more metal than goods": block(
        f"{PAN}/treatment/section232", [(f"{PAN}/treatment/section232/0/metalWeightKg", "3.601")]
    ),
    "V10 a duty heading below fifteen percent": block(
        f"{PAN}/treatment/chapter99/1/heading",
        [(f"{PAN}/htsCode", "8302416015"), (f"{PAN}/treatment/section232/0/metalWeightKg", "0.539")],
    ),
    "V10 the light heading on an article of chapter 73": block(f"{PAN}/treatment/chapter99/1/heading", to="9903.82.03"),
    "V11 two metals headings": block(
        f"{PAN}/treatment/chapter99/2/heading", [(f"{PAN}/treatment/chapter99/-", heading("9903.82.06"))]
    ),
    "V11 an IEEPA heading after its end": block(
        f"{BAG}/treatment/chapter99/2/heading", [(f"{BAG}/treatment/chapter99/-", heading("9903.01.25"))]
    ),
    "V11 a surcharge after its end": block(
        f"{BAG}/treatment/chapter99/2/heading", [(f"{BAG}/treatment/chapter99/-", heading("9903.03.01"))]
    ),
    "V11 a listed code with no metals heading": (
        [(f"{PAN}/treatment/chapter99", [])],
        [("V11", "block", f"{PAN}/treatment/chapter99"), ("V11", "warn", f"{PAN}/treatment/chapter99")],
    ),
    "V12 a claim without a certification": block(
        f"{SHIRT}/usmcaCertificateRef", [*DEAR, (f"{SHIRT}/usmcaCertificateRef", None)]
    ),
    "V12 a certification that the unit does not carry": block(f"{SHIRT}/usmcaCertificateRef", to="C9"),
    "V12 a certification that ran out": block(
        f"{SHIRT}/usmcaCertificateRef", [*DEAR, (f"{UNIT}/usmcaCertificates/0/blanketTo", "2026-11-25")]
    ),
    "V12 a claim for goods of another country": block(
        f"{BAG}/spi",
        [
            (f"{BAG}/spi", "S"),
            (f"{BAG}/usmcaCertificateRef", "C1"),
            (f"{UNIT}/usmcaCertificates/0/goods/-", {"description": "Backpacks of polyester", "hsCode": "420292"}),
        ],
    ),
    "V12 a certification and no claim": (
        [(f"{SHIRT}/spi", None)],
        [("V12", "warn", f"{SHIRT}/spi"), ("V11", "warn", f"{SHIRT}/treatment/chapter99/0/heading")],
    ),
    "V14 a flag with neither data nor disclaimer": block(
        f"{PAN}/treatment/pga/0", [(f"{PAN}/treatment/pga/0/disclaimer", None)]
    ),
    "V14 a disclaimer that the flag does not allow": (
        [(f"{PAN}/treatment/pga/0", pga_row("EH1", "EPA", disclaimer="B"))],
        [("V14-DISCLAIMER", "block", f"{PAN}/treatment/pga/0/disclaimer")],
    ),
    "V14 a disclaimer of another agency": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD1", "FDA", program="FOO", disclaimer="G"))],
        [("V14-DISCLAIMER", "block", f"{PAN}/treatment/pga/0/disclaimer")],
    ),
    "V14 a flag that cannot be disclaimed": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD2", "FDA", program="FOO", disclaimer="A"))],
        [("V14-DISCLAIMER", "block", f"{PAN}/treatment/pga/0/disclaimer")],
    ),
    "V14 a flag of another agency": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD1", "EPA", disclaimer="A"))],
        [("V14-AGENCY", "block", f"{PAN}/treatment/pga/0/agency")],
    ),
    "V14 consumer product safety only advises": warn(f"{PAN}/treatment/pga/0", to=pga_row("CP1", "CPS")),
    "V14 data that lacks a part": (
        [
            (
                f"{PAN}/treatment/pga/0",
                pga_row("CP1", "CPS", processing="REF", data={"productId": "1", "versionId": "1"}),
            )
        ],
        [("V14-DATA", "warn", f"{PAN}/treatment/pga/0/data/certifierId")],
    ),
    "V14 a processing code of no program": (
        [
            (
                f"{PAN}/treatment/pga/0",
                pga_row("TB1", "TTB", program="DSP", processing="XYZ", data={"permit": "1", "cola": "2"}),
            ),
            (f"{PAN}/treatment/pga/-", pga_row("FD1", "FDA", program="RAD", processing="XYZ", data=RADIATION)),
        ],
        [("V14-PROCESSING", "warn", f"{PAN}/treatment/pga/1/processing")],
    ),
    "V14 a value that the agency's table does not have": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD1", "FDA", program="RAD", processing="REP", data=WRONG_FORM))],
        [("V14-VALUE", "warn", f"{PAN}/treatment/pga/0/data/form2877Declaration")],
    ),
    "V14 a program that is not known": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD1", "FDA", program="ZZZ", data={"fdaProductCode": "53L--04"}))],
        [("V14-PROGRAM", "warn", f"{PAN}/treatment/pga/0/program")],
    ),
    "V14 a disclaimer without a program": (
        [(f"{PAN}/treatment/pga/0/program", None)],
        [("V14-PROGRAM", "warn", f"{PAN}/treatment/pga/0/program")],
    ),
    "V14 a disclaimer of another flag's program": (
        [(f"{PAN}/treatment/pga/0", pga_row("EP7", "EPA", program="ODS", disclaimer="A"))],
        [("V14-PROGRAM", "warn", f"{PAN}/treatment/pga/0/program")],
    ),
    "V14 a disclaimer of another entry type": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD1", "FDA", program="DRU", disclaimer="F"))],
        [("V14-DISCLAIMER", "block", f"{PAN}/treatment/pga/0/disclaimer")],
    ),
    "V14 a disclaimer that the program does not allow": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD1", "FDA", program="DRU", disclaimer="B"))],
        [("V14-DISCLAIMER", "block", f"{PAN}/treatment/pga/0/disclaimer")],
    ),
    "V14 data without the intended use": (
        [(f"{PAN}/treatment/pga/0", pga_row("FD1", "FDA", program="COS", data=COSMETIC))],
        [("V14-USE", "block", f"{PAN}/treatment/pga/0/intendedUse")],
    ),
    "V14 a disclaimer and data": (
        [
            (
                f"{PAN}/treatment/pga/0",
                pga_row("FD1", "FDA", program="FOO", disclaimer="A", data={"fdaProductCode": "53L--04"}),
            )
        ],
        [("V14-BOTH", "warn", f"{PAN}/treatment/pga/0/data")],
    ),
    "V14 a flag that is not known": (
        [(f"{PAN}/treatment/pga/0", pga_row("ZZ1", "FDA"))],
        [("V14-FLAG", "note", f"{PAN}/treatment/pga/0/flag")],
    ),
    "V15 goods without a value": warn(
        f"{PAN}/lineValue", [(f"{PAN}/unitPrice", "0"), (f"{PAN}/lineValue", "0"), (f"{UNIT}/invoice/total", "178.00")]
    ),
    "V16 Canadian dollars without a rate": block(f"{UNIT}/invoice/exchangeRate", [(f"{UNIT}/invoice/currency", "CAD")]),
    "V16 US dollars with a rate": warn(f"{UNIT}/invoice/exchangeRate", to="0.7150"),
    "V17 delivered without freight": warn(f"{UNIT}/invoice/charges", [(f"{UNIT}/invoice/charges/0/code", "handling")]),
    "V17 insured without insurance": warn(f"{UNIT}/invoice/charges", [(f"{UNIT}/invoice/incoterm", "CIP")]),
    "V18 related parties": note(f"{UNIT}/invoice/relatedParties", to=True),
    "V19 a contact without a telephone": warn(f"{UNIT}/parties/exporterContact/phone", to=None),
    "V20 a number of no form": block(f"{UNIT}/parties/importerOfRecord/importerNumber", to="12-3456789"),
    "V20 a foreign importer on informal entry": warn(
        f"{UNIT}/parties/importerOfRecord/importerNumber",
        [
            (f"{UNIT}/entry/type", "11"),
            (f"{UNIT}/entry/estimatedArrivalAt", "2026-11-30T00:30:00-05:00"),
            (f"{UNIT}/parties/importerOfRecord/address", FOREIGN_ADDRESS),
            RESIDENT_AGENT,
        ],
    ),
    "V21 a long invoice number": block(f"{UNIT}/invoice/number", to="A-2026-11-24-00017"),
    "V21 an invoice number with a stroke": block(f"{UNIT}/invoice/number", to="A/17"),
    "V22 de minimis entry": block(f"{UNIT}/entry/type", to="86"),
    "V24 a line twice": block(f"{SHIRT}/lineRef", to="L1"),
    "V24 a maker that is not there": block(f"{SHIRT}/manufacturerRef", to="M9"),
    "V24 a maker twice": block(
        f"{UNIT}/parties/manufacturers/2/ref",
        [(f"{UNIT}/parties/manufacturers/-", factories.PARTIES["manufacturers"][0])],
    ),
    "V25 another destination": block("/destinationCountry", to="MX"),
    "V25 shipped elsewhere": block(f"{UNIT}/parties/shipTo/address/country", to="CA"),
    "V25 no ZIP code": block(f"{UNIT}/parties/shipTo/address/postalCode", to=None),
    "V27 informal entry above the limit": warn(
        f"{UNIT}/entry/type",
        [
            (f"{UNIT}/entry/type", "11"),
            (f"{PAN}/unitPrice", "700.00"),
            (f"{PAN}/lineValue", "2800.00"),
            (f"{UNIT}/invoice/total", "2978.00"),
        ],
    ),
    "T01 an undetermined treatment": block(f"{BAG}/treatment/undetermined", to="The outer surface is not known."),
}
BREACHES = name_rules(_BREACHES)
