"""Changes to how a good plan's entry is filed, and the findings that they must yield."""

from collections.abc import Callable
from typing import Any

from tests.customs.cases import ENTRY, IMPORTER, PAN, PARTIES, SHIRT, UNIT, Breach, Change, block, name_rules, warn
from tests.customs.foreign_importer import FOREIGN_ADDRESS, RESIDENT_AGENT
from tests.support.factories import Json

FILING = f"{ENTRY}/filing"
CONSIGNEES = f"{PARTIES}/ultimateConsignees"
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


def filed(**changes: Any) -> list[Change]:
    """Return the change of a plan to the good filing; a member that is a dict is merged, another one is replaced."""
    merged = dict(GOOD)
    for name, value in changes.items():
        merged[name] = {**GOOD[name], **value} if isinstance(value, dict) else value
    return [(FILING, merged)]


def _file(kind: Callable[..., Breach], place: str, **changes: Any) -> Breach:
    """Return the breach of a filing that differs from the good one in a member, with a finding at this place of it."""
    return kind(f"{FILING}/{place}", *filed(**{place.split("/", maxsplit=1)[0]: changes}))


def reside(**changes: Any) -> Change:
    """Return the change of the agent's address."""
    return AGENT, RESIDENT_AGENT[1] | {"address": RESIDENT_AGENT[1]["address"] | changes}


def _name(kind: Callable[..., Breach], place: str, *consignees: Json) -> Breach:
    """Return the breach of these consignees, with a finding at this place."""
    return kind(f"{CONSIGNEES}{place}", (CONSIGNEES, [*consignees]))


def consignee(**changes: Any) -> Json:
    """Return a consignee of all goods, with an IRS number."""
    return {"name": "Demo Stores Inc", "address": RESIDENT_AGENT[1]["address"], "number": "12-345678902"} | changes


_CASE = {"adCvdCase": "A570930000, C570931000"}
_NO_BOND = {"type": "0", "suretyCode": "999", "amountUsd": None}
_FILINGS: dict[str, Breach] = {
    "F09 a dumping case without the importer's statement": warn(
        f"{PAN}/attributes/adNonReimbursement", (f"{ENTRY}/type", "03"), (f"{PAN}/attributes", _CASE)
    ),
    "F09 a statement that does not say yes": warn(
        f"{PAN}/attributes/adNonReimbursement",
        (f"{ENTRY}/type", "03"),
        (f"{PAN}/attributes", {"adCvdCase": "A570930000", "adNonReimbursement": "N"}),
    ),
    "F01 a consignee's number of no form": _name(block, "/0/number", consignee(number="12-3456789")),
    "F01 a consignee without a number": _name(warn, "/0/number", consignee(number=None)),
    "F01 the importer with another number": _name(block, "/0/number", consignee(sameAsImporter=True)),
    "F01 a consignee abroad": _name(warn, "/0/address/country", consignee(address=FOREIGN_ADDRESS)),
    "F01-SSN of a consignee": _name(warn, "/0/number", consignee(number="123-45-6789")),
    "F02 an order of no line": _name(block, "/0/orderIds/0", consignee(packageRefs=["P1", "P2"], orderIds=["ord_x"])),
    "F02 a package for two": _name(
        block, "/1/packageRefs/0", consignee(packageRefs=["P1", "P2"]), consignee(packageRefs=["P2"])
    ),
    "F02 goods of nobody": _name(warn, "", consignee(packageRefs=["P2"])),
    "F03 no bond for formal entry": warn(f"{FILING}/bond", *filed(bond=None)),
    "F03 formal entry with type 0": _file(warn, "bond/type", **_NO_BOND),
    "F03 an unknown type": _file(block, "bond/type", type="5"),
    "F03 a surety without a bond": block(
        f"{FILING}/bond/suretyCode", (f"{ENTRY}/type", "11"), *filed(bond=_NO_BOND | {"suretyCode": "036"})
    ),
    "F03 a foreign importer's bond of cash": warn(
        f"{FILING}/bond/suretyCode",
        (f"{IMPORTER}/importerNumber", "261127-12345"),
        RESIDENT_AGENT,
        *filed(bond={"suretyCode": "998"}),
    ),
    "F03 a bond without a surety": _file(warn, "bond/suretyCode", suretyCode=None),
    "F03 a continuous bond with a waived surety": _file(warn, "bond/suretyCode", suretyCode="999"),
    "F04 a small continuous bond": _file(warn, "bond/amountUsd", amountUsd="49999.99"),
    "F04 a single bond below the estimate": _file(warn, "bond/amountUsd", type="9", amountUsd="212.32"),
    "F05 no power of attorney": warn(f"{FILING}/powerOfAttorney", *filed(powerOfAttorney=None)),
    "F05 with another broker": _file(block, "powerOfAttorney/broker", broker="br_other"),
    "F05 not valid yet": _file(block, "powerOfAttorney/validFrom", validFrom="2026-11-27"),
    "F05 no longer valid": _file(block, "powerOfAttorney/validUntil", validUntil="2026-11-25"),
    "F05 of another party": _file(warn, "powerOfAttorney/grantor", grantor="Maple Goods Ltd"),
    "F05 of a partnership, three years old": _file(
        warn, "powerOfAttorney/validFrom", byPartnership=True, validFrom="2023-11-25"
    ),
    "F06 an unknown payment type": _file(block, "payment/type", type="4"),
    "F06 a statement without its date": _file(warn, "payment/statementDate", statementDate=None),
    "F06 a daily statement with a month": _file(warn, "payment/statementMonth", type="3"),
    "F06 an individual payment with a branch": _file(
        warn, "payment/clientBranch", type="1", statementDate=None, statementMonth=None, clientBranch="01"
    ),
    "F06 printed on a Saturday": _file(warn, "payment/statementDate", statementDate="2026-12-05"),
    "F06 printed on Christmas Day": _file(warn, "payment/statementDate", statementDate="2026-12-25"),
    "F06 printed ten working days after the entry": _file(warn, "payment/statementDate", statementDate="2026-12-11"),
    "F06 printed before the entry": _file(warn, "payment/statementDate", statementDate="2026-11-25"),
    "F07 a foreign importer without an agent": warn(AGENT, (f"{IMPORTER}/importerNumber", "261127-12345")),
    "F07 an agent abroad": warn(
        f"{AGENT}/address/country", (f"{IMPORTER}/importerNumber", "261127-12345"), reside(**FOREIGN_ADDRESS)
    ),
    "F07 an agent in another State than the port": warn(f"{AGENT}/address/region", reside(region="WA")),
    "F07 an agent without a State": warn(f"{AGENT}/address/region", reside(region=None)),
    "F07 an agent's State in words": warn(f"{AGENT}/address/region", reside(region="New York")),
    "F07 an agent's number of no form": block(f"{AGENT}/number", (AGENT, RESIDENT_AGENT[1] | {"number": "1"})),
    "F08 a wrong check digit": block(f"{FILING}/entryNumber", *filed(entryNumber="ABC-1234567-5")),
    "F08 the number of another filer": block(f"{FILING}/filerCode", *filed(filerCode="XYZ")),
}


FILINGS = name_rules(_FILINGS)


#: Filings that a filer accepts.
ACCEPTED: dict[str, list[Change]] = {
    "a complete filing": filed(),
    "an empty filing of informal entry": [(f"{ENTRY}/type", "11"), *filed(bond=None, payment=None, entryNumber=None)],
    "informal entry without a bond": [(f"{ENTRY}/type", "11"), *filed(bond=_NO_BOND)],
    "cash instead of a surety": filed(bond={"suretyCode": "998"}),
    "a single bond of exactly the estimate": filed(bond={"type": "9", "amountUsd": "212.33"}),
    "a single bond of unknown amount": filed(bond={"type": "9", "amountUsd": None}),
    "an individual payment": filed(payment={"type": "1", "statementDate": None, "statementMonth": None}),
    "a payment for all suffixes of the importer's number": filed(payment={"type": "8"}),
    "printed on the tenth working day": filed(payment={"statementDate": "2026-12-10"}),
    "a monthly statement by branch": filed(payment={"type": "6", "clientBranch": "01"}),
    "a partnership of two years": filed(powerOfAttorney={"byPartnership": True, "validFrom": "2024-11-26"}),
    "the last day of a power of attorney": filed(powerOfAttorney={"validUntil": "2026-11-26"}),
    "an entry number without dashes": filed(entryNumber="ABC12345676"),
    "the importer as consignee": [(CONSIGNEES, [consignee(number=None, sameAsImporter=True)])],
    "a countervailing case alone, which needs no statement": [
        (f"{ENTRY}/type", "03"),
        (f"{PAN}/attributes", {"adCvdCase": "C570931000"}),
    ],
    "an agent in the State of an airport": [
        (f"{ENTRY}/portOfEntry", "4601"),
        (f"{ENTRY}/modeOfTransport", "air"),
        (f"{ENTRY}/trip", None),
        reside(region="NJ"),
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
