"""Changes to how a good plan's entry is filed, and the findings that they must yield."""

from typing import Any

from tests.customs.cases import PAN, SHIRT, UNIT, Breach, block, name_rules, warn
from tests.customs.foreign_importer import FOREIGN_ADDRESS, RESIDENT_AGENT
from tests.support.factories import Json

FILING = f"{UNIT}/entry/filing"
CONSIGNEES = f"{UNIT}/parties/ultimateConsignees"
IMPORTER = f"{UNIT}/parties/importerOfRecord"
AGENT = f"{IMPORTER}/residentAgent"

#: A filing without findings: the plan's importer is Demo Housewares Inc, its entry of 2026-11-26.
GOOD: Json = {
    "filerCode": "ABC",
    "entryNumber": "ABC-1234567-6",
    "teamNumber": "004",
    "firmsCode": "H123",
    "locationOfGoods": "Example Terminal, Buffalo",
    "bond": {"type": "8", "suretyCode": "036", "number": "26A001234", "amountUsd": "50000"},
    "powerOfAttorney": {"grantor": "Demo Housewares Inc", "validFrom": "2026-01-05", "validUntil": None},
    "payment": {"type": "7", "statementDate": "2026-12-04", "statementMonth": "12"},
}


def filed(**changes: Any) -> list[tuple[str, Any]]:
    """Return the change of a plan to the good filing; a member that is a dict is merged, another one is replaced."""
    merged = dict(GOOD)
    for name, value in changes.items():
        merged[name] = {**GOOD[name], **value} if isinstance(value, dict) else value
    return [(FILING, merged)]


def consignee(**changes: Any) -> Json:
    """Return a consignee of all goods, with an IRS number."""
    return {"name": "Demo Stores Inc", "address": RESIDENT_AGENT[1]["address"], "number": "12-345678902"} | changes


SINGLE = {"type": "9", "amountUsd": "212.33"}
_FILINGS: dict[str, Breach] = {
    "F09 a dumping case without the importer's statement": warn(
        f"{PAN}/attributes/adNonReimbursement",
        [(f"{UNIT}/entry/type", "03"), (f"{PAN}/attributes", {"adCvdCase": "A570930000, C570931000"})],
    ),
    "F09 a statement that does not say yes": warn(
        f"{PAN}/attributes/adNonReimbursement",
        [(f"{UNIT}/entry/type", "03"), (f"{PAN}/attributes", {"adCvdCase": "A570930000", "adNonReimbursement": "N"})],
    ),
    "F01 a consignee's number of no form": block(
        f"{CONSIGNEES}/0/number", [(CONSIGNEES, [consignee(number="12-3456789")])]
    ),
    "F01 a consignee without a number": warn(f"{CONSIGNEES}/0/number", [(CONSIGNEES, [consignee(number=None)])]),
    "F01 the importer with another number": block(
        f"{CONSIGNEES}/0/number", [(CONSIGNEES, [consignee(sameAsImporter=True)])]
    ),
    "F01 a consignee abroad": warn(
        f"{CONSIGNEES}/0/address/country", [(CONSIGNEES, [consignee(address=FOREIGN_ADDRESS)])]
    ),
    "F01 a Social Security number": (
        [(CONSIGNEES, [consignee(number="123-45-6789")])],
        [("F01-SSN", "warn", f"{CONSIGNEES}/0/number")],
    ),
    "F02 an order of no line": block(
        f"{CONSIGNEES}/0/orderIds/0", [(CONSIGNEES, [consignee(packageRefs=["P1", "P2"], orderIds=["ord_x"])])]
    ),
    "F02 a package for two": block(
        f"{CONSIGNEES}/1/packageRefs/0",
        [(CONSIGNEES, [consignee(packageRefs=["P1", "P2"]), consignee(packageRefs=["P2"])])],
    ),
    "F02 goods of nobody": warn(CONSIGNEES, to=[consignee(packageRefs=["P2"])]),
    "F03 no bond for formal entry": warn(f"{FILING}/bond", filed(bond=None)),
    "F03 formal entry with type 0": warn(
        f"{FILING}/bond/type", filed(bond={"type": "0", "suretyCode": "999", "amountUsd": None})
    ),
    "F03 an unknown type": block(f"{FILING}/bond/type", filed(bond={"type": "5"})),
    "F03 a surety without a bond": block(
        f"{FILING}/bond/suretyCode",
        [(f"{UNIT}/entry/type", "11"), *filed(bond={"type": "0", "suretyCode": "036", "amountUsd": None})],
    ),
    "F03 a foreign importer's bond of cash": warn(
        f"{FILING}/bond/suretyCode",
        [(f"{IMPORTER}/importerNumber", "261127-12345"), RESIDENT_AGENT, *filed(bond={"suretyCode": "998"})],
    ),
    "F03 a bond without a surety": warn(f"{FILING}/bond/suretyCode", filed(bond={"suretyCode": None})),
    "F03 a continuous bond with a waived surety": warn(f"{FILING}/bond/suretyCode", filed(bond={"suretyCode": "999"})),
    "F04 a small continuous bond": warn(f"{FILING}/bond/amountUsd", filed(bond={"amountUsd": "49999.99"})),
    "F04 a single bond below the estimate": warn(
        f"{FILING}/bond/amountUsd", filed(bond=SINGLE | {"amountUsd": "212.32"})
    ),
    "F05 no power of attorney": warn(f"{FILING}/powerOfAttorney", filed(powerOfAttorney=None)),
    "F05 with another broker": block(f"{FILING}/powerOfAttorney/broker", filed(powerOfAttorney={"broker": "br_other"})),
    "F05 not valid yet": block(
        f"{FILING}/powerOfAttorney/validFrom", filed(powerOfAttorney={"validFrom": "2026-11-27"})
    ),
    "F05 no longer valid": block(
        f"{FILING}/powerOfAttorney/validUntil", filed(powerOfAttorney={"validUntil": "2026-11-25"})
    ),
    "F05 of another party": warn(
        f"{FILING}/powerOfAttorney/grantor", filed(powerOfAttorney={"grantor": "Maple Goods Ltd"})
    ),
    "F05 of a partnership, three years old": warn(
        f"{FILING}/powerOfAttorney/validFrom", filed(powerOfAttorney={"byPartnership": True, "validFrom": "2023-11-25"})
    ),
    "F06 an unknown payment type": block(f"{FILING}/payment/type", filed(payment={"type": "4"})),
    "F06 a statement without its date": warn(f"{FILING}/payment/statementDate", filed(payment={"statementDate": None})),
    "F06 a daily statement with a month": warn(f"{FILING}/payment/statementMonth", filed(payment={"type": "3"})),
    "F06 an individual payment with a branch": warn(
        f"{FILING}/payment/clientBranch",
        filed(payment={"type": "1", "statementDate": None, "statementMonth": None, "clientBranch": "01"}),
    ),
    "F06 printed on a Saturday": warn(
        f"{FILING}/payment/statementDate", filed(payment={"statementDate": "2026-12-05"})
    ),
    "F06 printed on Christmas Day": warn(
        f"{FILING}/payment/statementDate", filed(payment={"statementDate": "2026-12-25"})
    ),
    "F06 printed later than ten working days after the entry": warn(
        f"{FILING}/payment/statementDate", filed(payment={"statementDate": "2026-12-11"})
    ),
    "F06 printed before the entry": warn(
        f"{FILING}/payment/statementDate", filed(payment={"statementDate": "2026-11-25"})
    ),
    "F07 a foreign importer without an agent": warn(AGENT, [(f"{IMPORTER}/importerNumber", "261127-12345")]),
    "F07 an agent abroad": warn(
        f"{AGENT}/address/country",
        [(f"{IMPORTER}/importerNumber", "261127-12345"), (AGENT, RESIDENT_AGENT[1] | {"address": FOREIGN_ADDRESS})],
    ),
    "F07 an agent in another State than the port": warn(
        f"{AGENT}/address/region",
        [(AGENT, RESIDENT_AGENT[1] | {"address": RESIDENT_AGENT[1]["address"] | {"region": "WA"}})],
    ),
    "F07 an agent without a State": warn(
        f"{AGENT}/address/region",
        [(AGENT, RESIDENT_AGENT[1] | {"address": RESIDENT_AGENT[1]["address"] | {"region": None}})],
    ),
    "F07 an agent's State in words": warn(
        f"{AGENT}/address/region",
        [(AGENT, RESIDENT_AGENT[1] | {"address": RESIDENT_AGENT[1]["address"] | {"region": "New York"}})],
    ),
    "F07 an agent's number of no form": block(f"{AGENT}/number", [(AGENT, RESIDENT_AGENT[1] | {"number": "1"})]),
    "F08 a wrong check digit": block(f"{FILING}/entryNumber", filed(entryNumber="ABC-1234567-5")),
    "F08 the number of another filer": block(f"{FILING}/filerCode", filed(filerCode="XYZ")),
}
FILINGS = name_rules(_FILINGS)

#: Filings that a filer accepts.
ACCEPTED: dict[str, list[tuple[str, Any]]] = {
    "a complete filing": filed(),
    "an empty filing of informal entry": [
        (f"{UNIT}/entry/type", "11"),
        *filed(bond=None, payment=None, entryNumber=None),
    ],
    "informal entry without a bond": [
        (f"{UNIT}/entry/type", "11"),
        *filed(bond={"type": "0", "suretyCode": "999", "amountUsd": None}),
    ],
    "cash instead of a surety": filed(bond={"suretyCode": "998"}),
    "a single bond of exactly the estimate": filed(bond=SINGLE),
    "a single bond of unknown amount": filed(bond=SINGLE | {"amountUsd": None}),
    "an individual payment": filed(payment={"type": "1", "statementDate": None, "statementMonth": None}),
    "a payment for all suffixes of the importer's number": filed(payment={"type": "8"}),
    "printed on the tenth working day": filed(payment={"statementDate": "2026-12-10"}),
    "a monthly statement by branch": filed(payment={"type": "6", "clientBranch": "01"}),
    "a partnership of two years": filed(powerOfAttorney={"byPartnership": True, "validFrom": "2024-11-26"}),
    "the last day of a power of attorney": filed(powerOfAttorney={"validUntil": "2026-11-26"}),
    "an entry number without dashes": filed(entryNumber="ABC12345676"),
    "the importer as consignee": [(CONSIGNEES, [consignee(number=None, sameAsImporter=True)])],
    "a countervailing case alone, which needs no statement": [
        (f"{UNIT}/entry/type", "03"),
        (f"{PAN}/attributes", {"adCvdCase": "C570931000"}),
    ],
    "an agent in the State of an airport": [
        (f"{UNIT}/entry/portOfEntry", "4601"),
        (f"{UNIT}/entry/modeOfTransport", "air"),
        (f"{UNIT}/entry/trip", None),
        (AGENT, RESIDENT_AGENT[1] | {"address": RESIDENT_AGENT[1]["address"] | {"region": "NJ"}}),
    ],
    "consignees by package": [
        (CONSIGNEES, [consignee(packageRefs=["P1"]), consignee(packageRefs=["P2"], number="12-345678903")])
    ],
    "consignees by order": [
        (f"{PAN}/orderId", "ord_1"),
        (f"{SHIRT}/orderId", "ord_2"),
        (f"{UNIT}/lines/2/orderId", "ord_1"),
        (CONSIGNEES, [consignee(orderIds=["ord_1"]), consignee(orderIds=["ord_2"])]),
    ],
}
