"""Approved export plans for tests: valid and exact at any size, JSON-ready, equal on every call."""

import hashlib
from datetime import UTC, date, datetime
from typing import Any, Final, cast
from zlib import crc32

import rfc8785

from tests.support.rules_id import read_id

ACCOUNT = "acc_demo"
BROKER = "br_sandbox"
WAREHOUSE = "wh_demo"
OPERATOR = "op_demo"
BATCH = "batch_2026_1124_01"

#: The time at which tests check the plans: after the approval, two days before the entries.
NOW: Final = datetime(2026, 11, 24, 16, tzinfo=UTC)
TODAY: Final[date] = NOW.date()

#: The rules of this version.
RULESET, RULES_AS_OF = read_id()

PIECES = 4
NET_GRAMS = 900
GROSS_GRAMS = 1000

Json = dict[str, Any]


def plan(
    units: int = 1,
    lines: int = 3,
    packages: int = 2,
    *,
    account: str = ACCOUNT,
    batch: str = BATCH,
    broker: str = BROKER,
    warehouse: str = WAREHOUSE,
    invoice: str = "A",
    **changes: Any,
) -> Json:
    """Return an approved plan of `units` equal units, each with `lines` invoice lines in `packages` cartons.

    `invoice` begins every invoice number; its first letter picks the sandbox broker's answer. `changes` replace
    top-level fields, named as in the JSON.
    """
    made: Json = {
        "schemaVersion": "1",
        "accountId": account,
        "batchId": batch,
        "approval": {"approvedBy": "ops@maple.example", "approvedAt": "2026-11-24T15:04:05Z", "expiresAt": None},
        "planHash": None,
        "destinationCountry": "US",
        "exportCountry": "CA",
        "warehouse": {"id": warehouse},
        "broker": {"id": broker},
        "ruleset": {"id": RULESET, "asOf": RULES_AS_OF},
        "units": [unit(n, lines=lines, packages=packages, invoice=invoice, batch=batch) for n in range(units)],
    }
    return made | changes


def unit(number: int = 0, *, lines: int = 3, packages: int = 2, invoice: str = "A", batch: str = BATCH) -> Json:
    """Return one unit; its refs, invoice number and package refs differ by `number`, its control number by `batch`, too."""
    shipped = f"{crc32(batch.encode()):08X}"
    # If there are more cartons than lines, line i lies in the cartons i, i + lines, ...; else in one carton.
    cartons_of_line = [max(1, len(range(i, packages, lines))) for i in range(lines)]
    made_lines = [_line(i, PIECES * cartons) for i, cartons in enumerate(cartons_of_line)]
    contents: list[list[Json]] = [[] for _ in range(packages)]
    for i in range(max(lines, packages)):
        contents[i % packages].append({"lineRef": f"L{i % lines + 1}", "quantity": str(PIECES)})
    goods_cents = sum(_cents(i) * PIECES * cartons for i, cartons in enumerate(cartons_of_line))
    return {
        "unitRef": f"U{number + 1}",
        "entry": {
            "type": "01",
            "portOfEntry": "0901",
            "modeOfTransport": "truck",
            "carrierScac": "DEMO",
            "shipmentControlNumber": f"DEMO{number + 1:08d}" if batch == BATCH else f"DEMO{shipped}{number + 1:04d}",
            "manifestQuantity": str(packages),
            "manifestGrossWeightKg": None,
            "exportDate": "2026-11-26",
            "estimatedArrivalAt": "2026-11-26T18:00:00Z",
        },
        "parties": copy_json(PARTIES),
        "invoice": {
            "number": f"{invoice}-{number + 1:05d}",
            "date": "2026-11-24",
            "currency": "USD",
            "exchangeRate": None,
            "incoterm": "DAP",
            "incotermPlace": "Buffalo NY",
            "saleDate": "2026-11-20",
            "salePlace": "Toronto ON",
            "reasonForExport": "sale",
            "relatedParties": False,
            "paymentTerms": "prepaid",
            "purchaseOrder": None,
            "total": _money(goods_cents + 8_000 - 500),
            "charges": [
                {"code": "freight", "name": None, "amount": "80.00", "includedInPrices": False, "dutiable": False}
            ],
            "discounts": [{"name": "Volume discount", "amount": "5.00"}],
            "assists": "none",
        },
        "lines": made_lines,
        "usmcaCertificates": [
            {
                "ref": "C1",
                "certifierRole": "exporter",
                "certifierName": "Maple Goods Ltd",
                "certifierAddress": copy_json(PARTIES["seller"]["address"]),
                "certifierContact": copy_json(PARTIES["exporterContact"]),
                "exporter": None,
                "producer": None,
                "producerOnRequest": True,
                "importer": PARTIES["buyer"] | {"contact": copy_json(PARTIES["shipTo"]["contact"])},
                "goods": [{"description": "Men's polo shirts of cotton, knitted", "hsCode": "610510"}],
                "criterion": "B",
                "blanketFrom": "2026-01-01",
                "blanketTo": "2026-12-31",
                "signedOn": "2026-01-02",
            }
        ],
        "packages": [_package(number, j, held) for j, held in enumerate(contents)],
    }


def plan_hash(made: Json) -> str:
    """Return the plan hash of the contract: SHA-256 of the RFC 8785 form without `approval` and `planHash`."""
    body = {key: value for key, value in made.items() if key not in ("approval", "planHash")}
    return "sha256:" + hashlib.sha256(rfc8785.dumps(body)).hexdigest()


def copy_json(made: Any) -> Any:
    """Return a copy of a JSON value; `copy.deepcopy` takes five times as long."""
    if isinstance(made, dict):
        return {name: copy_json(value) for name, value in made.items()}
    return [*map(copy_json, made)] if isinstance(made, list) else made


def change_plan(made: Json, pointer: str, value: object) -> Json:
    """Return a copy of the plan with `value` at the JSON Pointer; a final `-` appends to a list."""
    copied: Json = copy_json(made)
    *parents, last = pointer.lstrip("/").split("/")
    place: Any = copied
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list) and last == "-":
        place.append(value)
    elif isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return copied


def read_pointer(made: Json, pointer: str) -> Any:
    """Return the value at the JSON Pointer."""
    place: Any = made
    for step in pointer.lstrip("/").split("/"):
        place = place[int(step)] if isinstance(place, list) else place[step]
    return place


def _line(number: int, pieces: int) -> Json:
    goods = GOODS[number % len(GOODS)]
    treatment = copy_json(goods["treatment"])
    for metal in treatment["section232"]:
        metal["metalWeightKg"] = _kg(800 * pieces)
    return {
        "lineRef": f"L{number + 1}",
        "orderId": f"ord_{number // 2 + 1}",
        "sku": f"{goods['sku']}-{number + 1:05d}",
        "description": goods["description"],
        "htsCode": goods["htsCode"],
        "countryOfOrigin": goods["countryOfOrigin"],
        "countryOfExport": "CA",
        "manufacturerRef": goods["manufacturerRef"],
        "quantity": str(pieces),
        "unit": goods["unit"],
        "unitPrice": _money(_cents(number)),
        "lineValue": _money(_cents(number) * pieces),
        "netWeightKg": _kg(NET_GRAMS * pieces),
        "grossWeightKg": _kg(GROSS_GRAMS * pieces),
        "spi": goods["spi"],
        "usmcaCertificateRef": goods["usmcaCertificateRef"],
        "attributes": {},
        "treatment": treatment,
    }


def _package(unit_number: int, number: int, held: list[Json]) -> Json:
    pieces = sum(int(content["quantity"]) for content in held)
    return {
        "packageRef": f"P{number + 1}",
        "type": "CTN",
        "sscc": None,
        "lpn": f"LPN-{unit_number + 1:03d}-{number + 1:05d}",
        "parentRef": None,
        "lengthCm": "60",
        "widthCm": "40",
        "heightCm": "40",
        "grossWeightKg": _kg(GROSS_GRAMS * pieces),
        "tareWeightKg": "0.050",
        "trackingNumber": None,
        "orderId": f"ord_{number // 2 + 1}",
        "contents": held,
    }


def _cents(line_number: int) -> int:
    return 1_250 + 25 * (line_number % 40)


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _kg(grams: int) -> str:
    return f"{grams // 1000}.{grams % 1000:03d}"


def _address(line1: str, city: str, region: str | None, postal_code: str | None, country: str) -> Json:
    return {
        "line1": line1,
        "line2": None,
        "city": city,
        "region": region,
        "postalCode": postal_code,
        "country": country,
    }


def _contact(name: str, email: str, phone: str, title: str | None = None) -> Json:
    return {"name": name, "title": title, "email": email, "phone": phone}


PARTIES: Json = {
    "seller": {
        "name": "Maple Goods Ltd",
        "address": _address("120 Wellington Street West", "Toronto", "ON", "M5J 1H8", "CA"),
        "contact": _contact("Export desk", "export@maple.example", "+1 416 555 0100"),
        "identifiers": {"BN": "123456782RM0001"},
    },
    "buyer": {
        "name": "Demo Housewares Inc",
        "address": _address("400 Main Street", "Buffalo", "NY", "14202", "US"),
        "contact": None,
        "identifiers": {},
    },
    "shipTo": {
        "name": "Demo Housewares Inc, Dock 4",
        "address": _address("1 Harbor Road", "Buffalo", "NY", "14203", "US"),
        "contact": _contact("Receiving", "dock@housewares.example", "+1 716 555 0104"),
        "identifiers": {},
    },
    "importerOfRecord": {"importerNumber": "12-345678900", "name": None, "address": None, "contact": None},
    "exporterContact": _contact("Demo Employee", "export@maple.example", "+1 416 555 0100", "Customs clerk"),
    "manufacturers": [
        {
            "ref": "M1",
            "name": "Maple Goods Ltd",
            "address": _address("120 Wellington Street West", "Toronto", "ON", "M5J 1H8", "CA"),
            "mid": "XOMAPGOO120TOR",
        },
        {
            "ref": "M2",
            "name": "Demo Bag Works",
            "address": _address("88 Binhai Road", "Shenzhen", None, "518000", "CN"),
            "mid": "CNDEMBAG88SHE",
        },
    ],
}

GOODS: tuple[Json, ...] = cast(
    tuple[Json, ...],
    (
        {
            "sku": "PAN",
            "description": "Frying pan, stainless steel, for household cooking",
            "htsCode": "7323930045",
            "countryOfOrigin": "CA",
            "manufacturerRef": "M1",
            "unit": "NO",
            "spi": None,
            "usmcaCertificateRef": None,
            "treatment": {
                "chapter99": [
                    {"heading": "9903.05.90", "program": "S301_FL", "ratePercent": "0", "basis": "full_value"},
                    {"heading": "9903.82.09", "program": "S232_METALS", "ratePercent": "25", "basis": "full_value"},
                ],
                "section232": [
                    {
                        "metal": "steel", "metalWeightKg": "0.800", "countryOfMeltAndPour": "CA",
                        "primaryCountryOfSmelt": None, "secondaryCountryOfSmelt": None, "countryOfCast": None,
                        "usMetalPercent": None,
                    }
                ],
                "pga": [
                    {
                        "flag": "FD1",
                        "agency": "FDA",
                        "program": "FOO",
                        "processing": None,
                        "disclaimer": "A",
                        "intendedUse": None,
                        "data": {},
                    }
                ],
                "undetermined": None,
            },
        },
        {
            "sku": "SHIRT",
            "description": "Men's polo shirt, 100 % cotton, knitted, for daily wear",
            "htsCode": "6105100010",
            "countryOfOrigin": "CA",
            "manufacturerRef": "M1",
            "unit": "NO",
            "spi": "S",
            "usmcaCertificateRef": "C1",
            "treatment": {
                "chapter99": [
                    {"heading": "9903.05.93", "program": "S301_FL", "ratePercent": "0", "basis": "full_value"}
                ],
                "section232": [],
                "pga": [],
                "undetermined": None,
            },
        },
        {
            "sku": "BAG",
            "description": "Backpack, woven polyester, for carrying a laptop computer",
            "htsCode": "4202923120",
            "countryOfOrigin": "CN",
            "manufacturerRef": "M2",
            "unit": "NO",
            "spi": None,
            "usmcaCertificateRef": None,
            "treatment": {
                "chapter99": [
                    {"heading": "9903.88.03", "program": "S301_CN", "ratePercent": "25", "basis": "full_value"},
                    {"heading": "9903.05.31", "program": "S301_FL", "ratePercent": "12.5", "basis": "full_value"},
                ],
                "section232": [],
                "pga": [],
                "undetermined": None,
            },
        },
    ),
)  # fmt: skip
