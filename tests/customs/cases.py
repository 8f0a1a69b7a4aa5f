"""Changes to a good plan, and the findings that the customs checks must yield for each."""

from collections.abc import Callable
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
ENTRY, INVOICE, PARTIES = (f"{UNIT}/{name}" for name in ("entry", "invoice", "parties"))
IMPORTER, MAKER, CERTIFICATE = f"{PARTIES}/importerOfRecord", f"{PARTIES}/manufacturers", f"{UNIT}/usmcaCertificates/0"


#: Of the pan: its headings, its metal, and its answer to an agency.
STACK, METAL, PGA = (f"{PAN}/treatment/{name}" for name in ("chapter99", "section232/0", "pga/0"))
REF = f"{SHIRT}/usmcaCertificateRef"


Change = tuple[str, Any]

#: The shirts at $2,800: above $2,500 a USMCA claim needs a certification.
DEAR: list[Change] = [
    (f"{SHIRT}/unitPrice", "700.00"),
    (f"{SHIRT}/lineValue", "2800.00"),
    (f"{INVOICE}/total", "2977.00"),
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


def enter_on(on: str) -> list[Change]:
    return [(f"{ENTRY}/exportDate", on), (f"{ENTRY}/estimatedArrivalAt", f"{on}T18:00:00Z")]


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
Breach = tuple[list[Change], list[tuple[str, str, str]]]


def _breach(severity: str, pointer: str, *changes: Change, to: Any = None, also: str = "") -> Breach:
    """Return a breach with findings of the rule that its name begins with, at the pointer and at the pointer `also`.

    By default the change is `to` at the pointer.
    """
    return [*changes] or [(pointer, to)], [("", severity, place) for place in (pointer, also) if place]


block, warn, note = (partial(_breach, severity) for severity in ("block", "warn", "note"))


def name_rules(breaches: dict[str, Breach]) -> dict[str, Breach]:
    """Return the breaches with the rule of each finding."""
    return {
        name: (changes, [(rule or name.split()[0], severity, pointer) for rule, severity, pointer in found])
        for name, (changes, found) in breaches.items()
    }


def _answer(kind: Callable[..., Breach], place: str, flag: str, agency: str, **row: Any) -> Breach:
    """Return the breach of an answer to an agency's flag, with a finding at this place of it."""
    return kind(f"{PGA}{place}", (PGA, pga_row(flag, agency, **row)))


_BREACHES: dict[str, Breach] = {
    "V01 a Canadian MID begins with CA": block(f"{MAKER}/0/mid", to="CAMAPGOO120TOR"),
    "V01 a MID begins with digits": block(f"{MAKER}/0/mid", to="12MAPGOO120TOR"),
    "V01 a MID is not the one that name and address give": block(f"{MAKER}/1/mid", to="CNDEMBAG8SHE"),
    "V01 a maker is of another country than its goods": (
        [(f"{BAG}/countryOfOrigin", "VN")],
        [
            ("V01", "block", f"{MAKER}/1/mid"),
            *(("V11", "warn", f"{BAG}/treatment/chapter99/{at}/heading") for at in (0, 1)),
        ],
    ),
    "V02 two words": block(f"{PAN}/description", to="Frying pan"),
    "V02 words that say nothing": block(f"{PAN}/description", to="Various household goods, 12 items"),
    # The total equals the sum of the lines, so that only the line is wrong.
    "V03 a line value is not quantity by price": block(
        f"{PAN}/lineValue", (f"{PAN}/lineValue", "50.01"), (f"{INVOICE}/total", "228.01")
    ),
    "V03 the total is a cent off": block(f"{INVOICE}/total", to="228.01"),
    "V04 lines and packages differ in weight": block(f"{UNIT}/packages", (f"{UNIT}/packages/0/grossWeightKg", "8.200")),
    "V05 a line weighs nothing": block(f"{SHIRT}/netWeightKg", to="0"),
    "V05 net is more than gross": block(f"{SHIRT}/netWeightKg", to="4.001"),
    "V09 a listed code has no metal": block(f"{PAN}/treatment/section232", to=[]),
    "V09 steel without melt and pour": block(f"{METAL}/countryOfMeltAndPour", to=None),
    "V09 aluminum without smelt and cast": block(
        f"{METAL}/primaryCountryOfSmelt",
        (f"{PAN}/htsCode", "7615107180"),
        (METAL, metal_row("aluminum", "3.200")),
        also=f"{METAL}/countryOfCast",
    ),
    "V09 aluminum of unknown origin": warn(
        METAL,
        (f"{PAN}/htsCode", "7615107180"),
        (METAL, metal_row("aluminum", "3.200", primaryCountryOfSmelt="OTH", countryOfCast="CA")),
    ),
    "V09 copper cable without smelt and cast": block(
        f"{METAL}/primaryCountryOfSmelt",
        (f"{PAN}/htsCode", "8544429090"),
        (METAL, metal_row("copper", "3.200")),
        also=f"{METAL}/countryOfCast",
    ),
    "V10 more metal than goods": block(f"{PAN}/treatment/section232", (f"{METAL}/metalWeightKg", "3.601")),
    "V10 a duty heading below fifteen percent": block(
        f"{STACK}/1/heading", (f"{PAN}/htsCode", "8302416015"), (f"{METAL}/metalWeightKg", "0.539")
    ),
    "V10 the light heading on an article of chapter 73": block(f"{STACK}/1/heading", to="9903.82.03"),
    "V11 two metals headings": block(f"{STACK}/2/heading", (f"{STACK}/-", heading("9903.82.06"))),
    "V11 an IEEPA heading after its end": block(
        f"{BAG}/treatment/chapter99/2/heading", (f"{BAG}/treatment/chapter99/-", heading("9903.01.25"))
    ),
    "V11 a surcharge after its end": block(
        f"{BAG}/treatment/chapter99/2/heading", (f"{BAG}/treatment/chapter99/-", heading("9903.03.01"))
    ),
    "V11 a listed code with no metals heading": ([(STACK, [])], [("V11", "block", STACK), ("V11", "warn", STACK)]),
    "V12 a claim without a certification": block(REF, *DEAR, (REF, None)),
    "V12 a certification that the unit does not carry": block(REF, to="C9"),
    "V12 a certification that ran out": block(REF, *DEAR, (f"{CERTIFICATE}/blanketTo", "2026-11-25")),
    "V12 a claim for goods of another country": block(
        f"{BAG}/spi",
        (f"{BAG}/spi", "S"),
        (f"{BAG}/usmcaCertificateRef", "C1"),
        (f"{CERTIFICATE}/goods/-", {"description": "Backpacks of polyester", "hsCode": "420292"}),
    ),
    "V12 a certification and no claim": (
        [(f"{SHIRT}/spi", None)],
        [("V12", "warn", f"{SHIRT}/spi"), ("V11", "warn", f"{SHIRT}/treatment/chapter99/0/heading")],
    ),
    "V14 a flag with neither data nor disclaimer": block(PGA, (f"{PGA}/disclaimer", None)),
    "V14-DISCLAIMER that the flag does not allow": _answer(block, "/disclaimer", "EH1", "EPA", disclaimer="B"),
    "V14-DISCLAIMER of another agency": _answer(block, "/disclaimer", "FD1", "FDA", program="FOO", disclaimer="G"),
    "V14-DISCLAIMER of a flag that has none": _answer(
        block, "/disclaimer", "FD2", "FDA", program="FOO", disclaimer="A"
    ),
    "V14-AGENCY of another flag": _answer(block, "/agency", "FD1", "EPA", disclaimer="A"),
    "V14 consumer product safety only advises": warn(PGA, to=pga_row("CP1", "CPS")),
    "V14-DATA that lacks a part": _answer(
        warn, "/data/certifierId", "CP1", "CPS", processing="REF", data={"productId": "1", "versionId": "1"}
    ),
    "V14-PROCESSING of no program": warn(
        f"{PAN}/treatment/pga/1/processing",
        (PGA, pga_row("TB1", "TTB", program="DSP", processing="XYZ", data={"permit": "1", "cola": "2"})),
        (f"{PAN}/treatment/pga/-", pga_row("FD1", "FDA", program="RAD", processing="XYZ", data=RADIATION)),
    ),
    "V14-VALUE that the agency's table does not have": _answer(
        warn, "/data/form2877Declaration", "FD1", "FDA", program="RAD", processing="REP", data=WRONG_FORM
    ),
    "V14-PROGRAM that is not known": _answer(
        warn, "/program", "FD1", "FDA", program="ZZZ", data={"fdaProductCode": "53L--04"}
    ),
    "V14-PROGRAM missing beside a disclaimer": warn(f"{PGA}/program", to=None),
    "V14-PROGRAM of another flag": _answer(warn, "/program", "EP7", "EPA", program="ODS", disclaimer="A"),
    "V14-DISCLAIMER of another entry type": _answer(block, "/disclaimer", "FD1", "FDA", program="DRU", disclaimer="F"),
    "V14-DISCLAIMER that the program does not allow": _answer(
        block, "/disclaimer", "FD1", "FDA", program="DRU", disclaimer="B"
    ),
    "V14-USE missing beside data": _answer(block, "/intendedUse", "FD1", "FDA", program="COS", data=COSMETIC),
    "V14-BOTH a disclaimer and data": _answer(
        warn, "/data", "FD1", "FDA", program="FOO", disclaimer="A", data={"fdaProductCode": "53L--04"}
    ),
    "V14-FLAG that is not known": _answer(note, "/flag", "ZZ1", "FDA"),
    "V15 goods without a value": warn(
        f"{PAN}/lineValue", (f"{PAN}/unitPrice", "0"), (f"{PAN}/lineValue", "0"), (f"{INVOICE}/total", "178.00")
    ),
    "V16 Canadian dollars without a rate": block(f"{INVOICE}/exchangeRate", (f"{INVOICE}/currency", "CAD")),
    "V16 US dollars with a rate": warn(f"{INVOICE}/exchangeRate", to="0.7150"),
    "V17 delivered without freight": warn(f"{INVOICE}/charges", (f"{INVOICE}/charges/0/code", "handling")),
    "V17 insured without insurance": warn(f"{INVOICE}/charges", (f"{INVOICE}/incoterm", "CIP")),
    "V18 related parties": note(f"{INVOICE}/relatedParties", to=True),
    "V19 a contact without a telephone": warn(f"{PARTIES}/exporterContact/phone", to=None),
    "V20 a number of no form": block(f"{IMPORTER}/importerNumber", to="12-3456789"),
    "V20 a foreign importer on informal entry": warn(
        f"{IMPORTER}/importerNumber",
        (f"{ENTRY}/type", "11"),
        (f"{ENTRY}/estimatedArrivalAt", "2026-11-30T00:30:00-05:00"),
        (f"{IMPORTER}/address", FOREIGN_ADDRESS),
        RESIDENT_AGENT,
    ),
    "V21 a long invoice number": block(f"{INVOICE}/number", to="A-2026-11-24-00017"),
    "V21 an invoice number with a stroke": block(f"{INVOICE}/number", to="A/17"),
    "V22 de minimis entry": block(f"{ENTRY}/type", to="86"),
    "V24 a line twice": block(f"{SHIRT}/lineRef", to="L1"),
    "V24 a maker that is not there": block(f"{SHIRT}/manufacturerRef", to="M9"),
    "V24 a maker twice": block(f"{MAKER}/2/ref", (f"{MAKER}/-", factories.PARTIES["manufacturers"][0])),
    "V25 another destination": block("/destinationCountry", to="MX"),
    "V25 shipped elsewhere": block(f"{PARTIES}/shipTo/address/country", to="CA"),
    "V25 no ZIP code": block(f"{PARTIES}/shipTo/address/postalCode", to=None),
    "V27 informal entry above the limit": warn(
        f"{ENTRY}/type",
        (f"{ENTRY}/type", "11"),
        (f"{PAN}/unitPrice", "700.00"),
        (f"{PAN}/lineValue", "2800.00"),
        (f"{INVOICE}/total", "2978.00"),
    ),
    "T01 an undetermined treatment": block(f"{BAG}/treatment/undetermined", to="The outer surface is not known."),
}


BREACHES = name_rules(_BREACHES)
