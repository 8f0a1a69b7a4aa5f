"""More changes to a good plan, each with the finding that replaces a question of the broker."""

from tests.customs.cases import (
    BAG,
    CERTIFICATE,
    DEAR,
    ENTRY,
    IMPORTER,
    INVOICE,
    MAKER,
    METAL,
    PAN,
    PARTIES,
    REF,
    SHIRT,
    STACK,
    Breach,
    Change,
    block,
    heading,
    name_rules,
    warn,
)
from tests.customs.foreign_importer import FOREIGN_ADDRESS, RESIDENT_AGENT

#: A battery instead of the pan, so that metals and agencies do not matter.
NEUTRAL: list[Change] = [
    (STACK, [heading("9903.05.29", "10")]),
    (f"{PAN}/treatment/section232", []),
    (f"{PAN}/treatment/pga", []),
]


def goods(hts_code: str, description: str, **attributes: str) -> list[Change]:
    return [
        *NEUTRAL,
        (f"{PAN}/htsCode", hts_code),
        (f"{PAN}/description", description),
        (f"{PAN}/attributes", attributes),
    ]


def battery(**attributes: str) -> list[Change]:
    # A battery may be a part of a vehicle; a heading declares that it is not.
    changed = goods("8507600020", "Lithium-ion battery for cordless drills, 18 V", **attributes)
    return [*changed, (f"{STACK}/-", heading("9903.94.06", "0"))]


EXPORTED = f"{ENTRY}/exportDate"

_INTAKE: dict[str, Breach] = {
    "V01 a maker of textiles is not coded exactly": block(f"{MAKER}/0/mid", to="XOMAPGOO12TOR"),
    "V01 a Canadian maker without a province": warn(f"{MAKER}/0/mid", (f"{MAKER}/0/address/region", None)),
    "V02 a code and a colour": block(f"{PAN}/description", to="SKU 8841 X9 red 24"),
    "V02 consolidated daily necessities": block(f"{PAN}/description", to="Consolidated daily necessities and gifts"),
    "V03 a charge finer than a cent": block(
        f"{INVOICE}/charges/0/amount", (f"{INVOICE}/charges/0/amount", "80.001"), (f"{INVOICE}/total", "228.001")
    ),
    "V04 the manifest has another weight": block(f"{ENTRY}/manifestGrossWeightKg", to="12.500"),
    "V06 the manifest has another count": block(f"{ENTRY}/manifestQuantity", to="3"),
    "V07 the origin is where it is shipped from": (
        [(f"{BAG}/countryOfOrigin", "CA")],
        [
            ("V01", "block", f"{MAKER}/1/mid"),
            ("V07", "block", f"{BAG}/countryOfOrigin"),
            ("V11", "warn", f"{BAG}/treatment/chapter99/0/heading"),
            ("V11", "warn", f"{BAG}/treatment/chapter99/1/heading"),
            ("V13", "warn", f"{BAG}/treatment/chapter99"),
        ],
    ),
    "V08 no such chapter": (
        [(f"{BAG}/htsCode", "7701100000")],
        [("V08", "block", f"{BAG}/htsCode"), ("V11", "warn", f"{BAG}/treatment/chapter99/0/heading")],
    ),
    "V08 a number that is claimed beside another": (
        [(f"{BAG}/htsCode", "9801001012")],
        [("V08", "warn", f"{BAG}/htsCode"), ("V11", "warn", f"{BAG}/treatment/chapter99/0/heading")],
    ),
    "V12 a certification that is signed after the entry": block(REF, *DEAR, (f"{CERTIFICATE}/signedOn", "2026-11-27")),
    "V12 a certification of other goods": block(REF, *DEAR, (f"{CERTIFICATE}/goods/0/hsCode", "610610")),
    "V15 no commercial value": warn(f"{BAG}/description", to="Backpack, woven polyester, no commercial value"),
    "V15 a kilogram for less than a dollar": warn(
        f"{BAG}/unitPrice",
        (f"{BAG}/unit", "KG"),
        (f"{BAG}/unitPrice", "0.99"),
        (f"{BAG}/lineValue", "3.96"),
        (f"{INVOICE}/total", "179.96"),
    ),
    "V16 a rate upside down": warn(
        f"{INVOICE}/exchangeRate", (f"{INVOICE}/currency", "CAD"), (f"{INVOICE}/exchangeRate", "1.3986")
    ),
    "V17 duty paid without duty": warn(f"{INVOICE}/charges", (f"{INVOICE}/incoterm", "DDP")),
    "V17 freight in a price without it": warn(
        f"{INVOICE}/charges/0/includedInPrices",
        (f"{INVOICE}/incoterm", "EXW"),
        (f"{INVOICE}/charges/0/includedInPrices", True),
        (f"{INVOICE}/total", "148.00"),
    ),
    "V17 a sea term by truck": warn(f"{INVOICE}/incoterm", to="FOB"),
    "V20 a foreign importer's formal entry": warn(
        f"{IMPORTER}/importerNumber",
        (f"{ENTRY}/estimatedArrivalAt", "2026-12-01T12:00:00Z"),
        (f"{IMPORTER}/importerNumber", "261127-12345"),
        RESIDENT_AGENT,
    ),
    "V20 a buyer abroad who imports": warn(
        f"{IMPORTER}/importerNumber",
        (f"{ENTRY}/type", "11"),
        (f"{ENTRY}/estimatedArrivalAt", "2026-12-01T12:00:00Z"),
        (f"{PARTIES}/buyer/address", FOREIGN_ADDRESS),
        RESIDENT_AGENT,
    ),
    "V22 a type that is not known": warn(f"{ENTRY}/type", to="99"),
    "V22 a dumping case on plain consumption": warn(
        f"{ENTRY}/type", (f"{PAN}/attributes", {"adCvdCase": "A570930000", "adNonReimbursement": "Y"})
    ),
    "V22 a dumping case on a withdrawal of another type": warn(
        f"{ENTRY}/type",
        (f"{ENTRY}/type", "31"),
        (f"{PAN}/attributes", {"adCvdCase": "A570930000", "adNonReimbursement": "Y"}),
    ),
    "V23 a shirt without fibre and wearer": (
        [(f"{SHIRT}/description", "Polo shirt for daily outdoor life")],
        [("V23", "warn", f"{SHIRT}/attributes")] * 3,
    ),
    "V23 shoes without upper and sole": (
        goods("6403996075", "Hiking shoes, waterproof, ankle high"),
        [("V23", "warn", f"{PAN}/attributes")] * 3,
    ),
    "V23 wood without a species": warn(f"{PAN}/attributes", *goods("4419909000", "Salad bowl, wooden, turned by hand")),
    "V23 a battery without its number": warn(f"{PAN}/attributes", *battery()),
    "V23 a battery with a number of no form": warn(f"{PAN}/attributes/unNumber", *battery(unNumber="class 9")),
    "V25 an unknown state": warn(f"{PARTIES}/shipTo/address/region", to="New York"),
    "V25 a Canadian postal code": warn(f"{PARTIES}/shipTo/address/postalCode", to="M5J 1H8"),
    "V30 a certifier without contact": warn(f"{CERTIFICATE}/certifierContact", to=None),
    "V30 a certifier without an address": warn(f"{CERTIFICATE}/certifierAddress", to=None),
    "V30 an importer certifies and names no exporter": (
        [(f"{CERTIFICATE}/certifierRole", "importer")],
        [("V30", "warn", f"{CERTIFICATE}/exporter"), ("V30-PARTY", "warn", f"{CERTIFICATE}/certifierName")],
    ),
    "V30 an exporter certifies and names no producer": warn(
        f"{CERTIFICATE}/producer", (f"{CERTIFICATE}/producerOnRequest", False)
    ),
    "V30 no importer": warn(f"{CERTIFICATE}/importer", to=None),
    "V30-PARTY another importer": warn(f"{CERTIFICATE}/importer/name", to="Demo Toy Shop LLC"),
    "V30-PARTY various importers": ([(f"{CERTIFICATE}/importer/name", "Various importers")], []),
    "V30-PARTY the importer's name in another spelling": (
        [(f"{CERTIFICATE}/importer/name", "DEMO HOUSEWARES, Incorporated")],
        [],
    ),
    "V19-NAME a department certifies": warn(f"{CERTIFICATE}/certifierContact/name", to="Bureau des exportations"),
    "V30 no goods": warn(f"{CERTIFICATE}/goods", to=[]),
    "V30 a period without an end": warn(f"{CERTIFICATE}/blanketTo", to=None),
    "V30 a period of two years": warn(f"{CERTIFICATE}/blanketTo", to="2027-12-31"),
    "V31 there before it left": warn(EXPORTED, to="2026-11-28"),
    "V31 three weeks in a truck": ([(EXPORTED, "2026-11-05")], []),
    "V31 more than three weeks in a truck": warn(EXPORTED, to="2026-11-04"),
    "V31 at sea for four months": ([(EXPORTED, "2026-07-29"), (f"{ENTRY}/modeOfTransport", "vessel")], []),
    "V31 invoiced after it crossed": warn(f"{INVOICE}/date", to="2026-11-27"),
    "V31 sold after it crossed": warn(f"{INVOICE}/saleDate", to="2026-11-27"),
    "V32 assists without a list": warn(f"{INVOICE}/assists", to="declared"),
    "V32 an assist without a worth": warn(
        f"{INVOICE}/assistItems/1/amount",
        (f"{INVOICE}/assists", "declared"),
        (f"{INVOICE}/assistItems", [{"name": "Die", "amount": "350.00"}, {"name": "Drawings", "amount": None}]),
    ),
    "V32 assists that are said to be none": block(
        f"{INVOICE}/assists", (f"{INVOICE}/assistItems", [{"name": "Die", "amount": "350.00"}])
    ),
    "V03 an assist finer than a cent": block(
        f"{INVOICE}/assistItems/0/amount",
        (f"{INVOICE}/assists", "declared"),
        (f"{INVOICE}/assistItems", [{"name": "Die", "amount": "350.001"}]),
    ),
    "V33 a sale without a day": block(f"{INVOICE}/saleDate", to=None),
    "V33 a sale without a place": block(f"{INVOICE}/salePlace", to=None),
    "V03 a rebate finer than a cent": block(
        f"{INVOICE}/rebates/0/amount",
        (f"{INVOICE}/rebates", [{"name": "Excise refunded on export", "amount": "3.201"}]),
    ),
    "V35 a gift without a basis of value": warn(f"{INVOICE}/valuationBasis", (f"{INVOICE}/reasonForExport", "gift")),
    "V36 goods of a province": (
        [(f"{BAG}/countryOfOrigin", "XO"), (f"{BAG}/treatment/chapter99", [])],
        [("V36", "block", f"{BAG}/countryOfOrigin"), ("V01", "block", f"{MAKER}/1/mid")],
    ),
    "V36 steel of no country": block(f"{METAL}/countryOfMeltAndPour", to="UK"),
    "V36 a seller of no country": block(f"{PARTIES}/seller/address/country", to="EN"),
    "V36 a certifier of no country": block(f"{CERTIFICATE}/certifierAddress/country", to="QC"),
    "V36 an export from no country": block("/exportCountry", to="ON"),
    "E04 a part of a shipment without the other": warn(f"{ENTRY}/part", to={"number": "1", "of": "2"}),
    "E04 a third part of two": (
        [(f"{ENTRY}/part", {"number": "3", "of": "2"})],
        [("E04", "block", f"{ENTRY}/part/number"), ("E04", "warn", f"{ENTRY}/part")],
    ),
    "V34 a description in Chinese": warn(
        f"{BAG}/description",
        (f"{BAG}/attributes", {"material": "polyester"}),
        (f"{BAG}/description", "\u4e0d\u9508\u94a2 \u714e\u9505 \u5bb6\u7528 24 cm"),
    ),
    "V34 a description in French": warn(f"{PAN}/description", to="Poêle en acier inoxydable pour la cuisine, 24 cm"),
    "V34 a discount in French": warn(
        f"{INVOICE}/discounts/1/name", (f"{INVOICE}/discounts/-", {"name": "Remise de lancement", "amount": "0"})
    ),
    "V34 a charge in Spanish, another in Chinese": (
        [
            (f"{INVOICE}/charges/-", {"code": "other", "name": "Flete terrestre", "amount": "0"}),
            (f"{INVOICE}/charges/-", {"code": "other", "name": "Toll", "amount": "0"}),
            (f"{INVOICE}/charges/-", {"code": "other", "name": "\u8fd0\u8d39", "amount": "0"}),
        ],
        [("V34", "warn", f"{INVOICE}/charges/1/name"), ("V34", "warn", f"{INVOICE}/charges/3/name")],
    ),
    "V34 a rebate and an assist in French": (
        [
            (f"{INVOICE}/rebates", [{"name": "Ristourne fiscale", "amount": "1.00"}]),
            (f"{INVOICE}/assists", "declared"),
            (f"{INVOICE}/assistItems", [{"name": "Outillage pour emboutissage", "amount": "1.00"}]),
        ],
        [("V34", "warn", f"{INVOICE}/rebates/0/name"), ("V34", "warn", f"{INVOICE}/assistItems/0/name")],
    ),
    "D02 a name that reads backwards": block(f"{PARTIES}/buyer/name", to="Demo \u202egnp.exe\u202c Inc"),
    "D02 an invisible space": block(
        f"{PAN}/attributes/material", (f"{PAN}/attributes", {"material": "stainless\u200b steel"})
    ),
    "D02 an invisible filler": block(f"{PARTIES}/buyer/address/city", to="Buffalo\u3164"),
    "D02 marks piled on a letter": block(f"{PAN}/sku", to="PAN-Z" + "\u0300\u0301" * 20),
    "D02 an approver who reads backwards": block("/approval/approvedBy", to="ops\u202e moc.elpam"),
}
INTAKE = name_rules(_INTAKE)

SPECIFIC_DESCRIPTIONS: dict[str, list[Change]] = {
    "discounts and charges in English, with names of places and brands": [
        (f"{INVOICE}/discounts/-", {"name": name, "amount": "0"})
        for name in (
            "Volume discount", "Launch discount", "La Salle bridge toll", "Los Angeles terminal fee",
            "Carte Blanche loyalty discount", "Early payment", "Remise de lancement (launch discount)",
        )
    ],
    "a foreign name of English goods": [(f"{PAN}/description", "Poêle de la Mer pan, stainless steel, for cooking")],
    "attributes say what the description does not": goods(
        "6403996075", "Hiking shoes, ankle high", upper="cowhide", sole="rubber", footwearQuestions="F no"
    ),
    "a description says it all": goods("6403996075", "Shoes, uppers leather, soles rubber, see CF 5523"),
    "wood of a tree": [*goods("4419909000", "Salad bowl of maple wood, turned by hand")],
    "a battery by its number": battery(unNumber="UN3480"),
    "a sample needs no sale": [
        (f"{INVOICE}/reasonForExport", "sample"),
        (f"{INVOICE}/saleDate", None),
        (f"{INVOICE}/salePlace", None),
        (f"{INVOICE}/valuationBasis", "Price of a like sale, invoice A-00007"),
    ],
    "assists that are listed with their worth": [
        (f"{INVOICE}/assists", "declared"),
        (f"{INVOICE}/assistItems", [{"name": "Die", "amount": "350.00"}]),
    ],
    "what the export is allowed": [(f"{INVOICE}/rebates", [{"name": "Excise refunded on export", "amount": "3.20"}])],
    "a dumping case on its own type": [
        (f"{ENTRY}/type", "03"),
        (f"{PAN}/attributes", {"adCvdCase": "A570930000", "adNonReimbursement": "Y"}),
    ],
    "a withdrawal from a warehouse under a quota": [(f"{ENTRY}/type", "32")],
    "a dumping case on a withdrawal for such goods": [
        (f"{ENTRY}/type", "34"),
        (f"{PAN}/attributes", {"adCvdCase": "A570930000", "adNonReimbursement": "Y"}),
    ],
    "a dumping case on a withdrawal for such goods under a quota": [
        (f"{ENTRY}/type", "38"),
        (f"{PAN}/attributes", {"adCvdCase": "A570930000", "adNonReimbursement": "Y"}),
    ],
    "a manifest that weighs the same": [(f"{ENTRY}/manifestGrossWeightKg", "12.100")],
    "a plan that says nothing of the manifest": [(f"{ENTRY}/manifestQuantity", None)],
    "nine digits of ZIP code": [(f"{PARTIES}/shipTo/address/postalCode", "14203-1234")],
}  # fmt: skip
