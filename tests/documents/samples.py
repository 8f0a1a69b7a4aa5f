"""Units of a plan to render: a small fixed unit, and units of any size and wording."""

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from pipeline.customs.chapter99.facts import entry_date
from pipeline.customs.pga.worksheet import build_worksheet
from pipeline.customs.tariff.facts import KeptEdition, KeptRate, TariffFacts, list_pairs
from pipeline.customs.valuation.estimate import build_estimate
from pipeline.deliveries.outbox.entry_facts import rule_words
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.registry import artifact_types
from pipeline.documents.schemas.invoice import Invoice
from pipeline.exports.schemas.plan import Unit
from tests.customs.transport_cases import canadian_export, trip

GOODS = (
    ("PAN-24", "Frying pan, stainless steel, for household cooking", "7323930045", "25.00", "1.2"),
    ("POT-05", "Stock pot with lid, stainless steel, 5 litres, for household cooking", "7323930060", "41.50", "2.4"),
    ("SPAT-1", "Spatula, nylon, for household cooking", "3924102000", "4.25", "0.1"),
)

#: The input of the invoice's template about its part, if the document is set in one part.
WHOLE: Final[Mapping[str, Any]] = {
    "first": True, "last": True, "first_page": 1, "total_pages": None, "tall": [], "summary": False, "merged": False,
    "makers": True,
}  # fmt: skip


def digest(text: str) -> str:
    """Return a digest that is equal on every run."""
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def address(**changes: Any) -> dict[str, Any]:
    """Return a complete address."""
    return {
        "line1": "120 Front Street West",
        "line2": "Suite 400",
        "city": "Toronto",
        "region": "ON",
        "postalCode": "M5J 2M2",
        "country": "CA",
        **changes,
    }


def treatment(index: int) -> dict[str, Any]:
    """Return the treatment of the line at `index`: metals and FDA for steel goods, empty for others."""
    if index % 3 == 2:
        return {"chapter99": [], "section232": [], "pga": []}
    return {
        "chapter99": [
            {"heading": "9903.05.29", "program": "S301_FORCED_LABOUR", "ratePercent": "10", "basis": "full_value"},
            {"heading": "9903.82.09", "program": "S232_METALS", "ratePercent": "25", "basis": "full_value"},
        ],
        "section232": [
            {"metal": "steel", "metalWeightKg": "70.000", "countryOfMeltAndPour": "CA", "usMetalPercent": "0"}
        ],
        "pga": [
            {"flag": "FD1", "agency": "FDA", "disclaimer": "A", "data": {"reason": "not a food contact surface claim"}}
        ],
    }


def unit_data(lines: int = 3, packages: int | None = None) -> dict[str, Any]:
    """Return a unit's JSON with `lines` lines in `packages` cartons (default: one per line) on pallets of 16."""
    packages = lines if packages is None else packages
    per_line = max(1, packages // lines)
    rows: list[dict[str, Any]] = []
    for index in range(lines):
        sku, description, hts_code, price, weight = GOODS[index % len(GOODS)]
        quantity = 12 * per_line
        rows.append(
            {
                "lineRef": f"L{index + 1}",
                "orderId": f"ord_{1000 + index}",
                "sku": sku if lines <= len(GOODS) else f"{sku}-{index + 1:04}",
                "description": description,
                "htsCode": hts_code,
                "countryOfOrigin": "CA" if index % 3 else "CN",
                "countryOfExport": "CA",
                "manufacturerRef": f"M{index % 2 + 1}",
                "quantity": str(quantity),
                "unit": "NO",
                "unitPrice": price,
                "lineValue": str(Decimal(price) * quantity),
                "netWeightKg": str(Decimal(weight) * quantity),
                "grossWeightKg": str(Decimal(weight) * quantity + 1),
                "spi": "S" if index % 3 == 1 else None,
                "usmcaCertificateRef": "CERT-1" if index % 3 == 1 else None,
                "attributes": {"finish": "brushed"} if index % 3 == 0 else {},
                "treatment": treatment(index),
            }
        )
    boxes: list[dict[str, Any]] = []
    for index in range(packages):
        if index % 16 == 0:
            boxes.append(_box(f"PLT-{index // 16 + 1:03}", "PLT", None, "120", "210.500"))
        line = min(index // per_line, lines - 1)
        boxes.append(_box(f"CTN-{index + 1:05}", "CTN", f"PLT-{index // 16 + 1:03}", "60", "12.400"))
        boxes[-1]["contents"] = [{"lineRef": f"L{line + 1}", "quantity": "12"}]
    total = sum((Decimal(row["lineValue"]) for row in rows), Decimal(0))
    return {
        "unitRef": "U1",
        "entry": {
            "type": "01", "portOfEntry": "0901", "modeOfTransport": "truck", "carrierScac": "ABCD",
            "shipmentControlNumber": "ABCD1234567", "exportDate": "2026-11-26",
            "estimatedArrivalAt": "2026-11-27T13:00:00-05:00",
        },
        "parties": {
            "seller": {
                "name": "Maple Goods Ltd",
                "address": address(),
                "contact": {"name": "Export desk", "email": "export@maple-goods.example", "phone": "+1 416 555 0100"},
                "identifiers": {"businessNumber": "123456789RM0001"},
            },
            "buyer": {
                "name": "Lakeside Kitchen Supply Inc.",
                "address": address(
                    line1="45 Delaware Avenue",
                    line2=None,
                    city="Buffalo",
                    region="NY",
                    postalCode="14202",
                    country="US",
                ),
                "identifiers": {"ein": "12-3456789"},
            },
            "shipTo": {
                "name": "Lakeside Kitchen Supply Inc., receiving dock 3",
                "address": address(
                    line1="9 Harbor Road", line2=None, city="Lackawanna", region="NY", postalCode="14218", country="US"
                ),
            },
            "importerOfRecord": {"importerNumber": "12-3456789XX"},
            "exporterContact": {
                "name": "Export desk",
                "title": "Trade compliance",
                "email": "compliance@maple-goods.example",
                "phone": "+1 416 555 0101",
            },
            "manufacturers": [
                {"ref": "M1", "name": "Maple Goods Ltd", "address": address(), "mid": "XOMAPGOO400TOR"},
                {
                    "ref": "M2",
                    "name": "Foshan Houseware Co. 佛山家居用品有限公司",
                    "address": address(
                        line1="88 Jihua Road", line2=None, city="Foshan", region="GD", postalCode="528000", country="CN"
                    ),
                    "mid": "CNFOSHOU88FOS",
                },
            ],
        },
        "invoice": {
            "number": "INV-10045",
            "date": "2026-11-24",
            "currency": "USD",
            "exchangeRate": None,
            "incoterm": "DAP",
            "incotermPlace": "Buffalo NY",
            "saleDate": "2026-11-20",
            "salePlace": "Toronto ON",
            "reasonForExport": "sale",
            "relatedParties": False,
            "paymentTerms": "Net 30 days",
            "purchaseOrder": "PO-7781",
            "total": str(total + Decimal("80.00") - Decimal("12.50")),
            "charges": [
                {"code": "freight", "amount": "80.00", "includedInPrices": False},
                {"code": "packing", "amount": "15.00", "includedInPrices": True},
            ],
            "discounts": [{"name": "Early order", "amount": "12.50"}],
            "assists": "none",
        },
        "lines": rows,
        "usmcaCertificates": [
            {
                "ref": "CERT-1",
                "certifierRole": "exporter",
                "certifierName": "Maple Goods Ltd",
                "criterion": "B",
                "blanketFrom": "2026-01-01",
                "blanketTo": "2026-12-31",
                "signedOn": "2026-01-02",
            }
        ],
        "packages": boxes,
    }  # fmt: skip


def _box(ref: str, kind: str, parent: str | None, side: str, weight: str) -> dict[str, Any]:
    return {
        "packageRef": ref,
        "type": kind,
        "lpn": f"{ref[0]}-{ref[-5:]}",
        "parentRef": parent,
        "lengthCm": side,
        "widthCm": "40",
        "heightCm": "40.5",
        "grossWeightKg": weight,
        "tareWeightKg": "1.000",
        "contents": [],
    }


def build_facts(unit: Unit, *, test: bool = False) -> InvoiceFacts:
    """Return facts that are equal on every run; the first package gets an SSCC."""
    return InvoiceFacts(
        batch_id="batch_2026_1124_01",
        account_id="acc_123",
        plan_hash=digest("plan"),
        revision=1,
        package_number="CP-2026-000042",
        ruleset_id="us-2026-10-07",
        ruleset_as_of=date(2026, 11, 24),
        ssccs={unit.packages[0].package_ref: "106141412345678908"},
        line_digests={line.line_ref: digest(line.line_ref) for line in unit.lines},
        unit_digest=digest("unit"),
        treatment_digest=digest("treatment"),
        words=rule_words(),
        test=test,
    )


def put(data: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Put each value at its place in a unit's JSON, such as `lines/0/sku`; a final `-` appends."""
    for pointer, value in values.items():
        *path, last = pointer.split("/")
        place: Any = data
        for name in path:
            place = place[int(name) if isinstance(place, list) else name]
        if last == "-":
            place.append(value)
        else:
            place[int(last) if isinstance(place, list) else last] = value


def apply(data: dict[str, Any], change: Callable[[dict[str, Any]], None] | Mapping[str, Any] | None) -> None:
    """Change a unit's JSON by a function, or by values that `put` puts into it."""
    if callable(change):
        change(data)
    else:
        put(data, change or {})


def sample(
    lines: int = 3,
    packages: int | None = None,
    *,
    test: bool = False,
    change: Callable[[dict[str, Any]], None] | Mapping[str, Any] | None = None,
    general: str | None = None,
) -> Invoice:
    """Return the invoice of a unit of `lines` lines.

    `change` may change the unit's JSON first, as `apply` does.

    With `general`, an edition of the tariff has that rate for each number, and is free for goods that claim `S`.
    """
    data = unit_data(lines, packages)
    apply(data, change)
    return _finished(Unit.model_validate(data), test=test, general=general)


def list_kinds(data: dict[str, Any]) -> tuple[str, ...]:
    """Return the artifact types of the documents of a plan's unit, in the order of rendering."""
    return artifact_types(_finished(Unit.model_validate(data)))


def keep_tariff(unit: Unit, general: str) -> TariffFacts:
    """Return what an export of the unit keeps of an edition with one general rate for all numbers."""
    return TariffFacts(
        edition=KeptEdition(name="hts_rev_6", effective_from=date(2026, 10, 1), content_hash=digest("edition")),
        rates=tuple(
            KeptRate(suffix=False, general=general, special="Free (S)" if spi else None)
            for _, spi in list_pairs(unit.lines)
        ),
    )


def _finished(unit: Unit, *, test: bool = False, general: str | None = None) -> Invoice:
    facts = build_facts(unit, test=test)
    worksheet_rows = build_worksheet(unit, entry_date(unit), facts.line_digests)
    invoice = build_invoice(unit, facts)
    groups = [line.line_numbers for line in invoice.entry_lines]
    tariff = None if general is None else keep_tariff(unit, general)
    estimate = build_estimate(unit, entry_date(unit), groups, tariff)
    return invoice.model_copy(update={"worksheet": worksheet_rows, "estimate": estimate})


def build_full_invoice() -> Invoice:
    """Return an invoice to which every kind applies but the truck manifest: its second and its fifth line can be merged."""

    def change(data: dict[str, Any]) -> None:
        data["lines"].append({**data["lines"][1], "lineRef": "L5"})

    return sample(4, 6, test=True, change=change)


def file_entry(data: dict[str, Any]) -> None:
    """Add to a unit's JSON how its entry is filed: a foreign importer's agent, two consignees, bond, payment and all else."""
    data["entry"]["filing"] = {
        "filerCode": "ABC",
        "entryNumber": "ABC12345676",
        "teamNumber": "004",
        "firmsCode": "H123",
        "locationOfGoods": "Example Terminal",
        "bond": {"type": "9", "suretyCode": "036", "number": "26A004711", "amountUsd": "9000.00"},
        "powerOfAttorney": {
            "broker": "br_sandbox", "grantor": "Maple Goods Ltd", "validFrom": "2026-01-05", "validUntil": "2027-01-04",
        },
        "payment": {"type": "8", "statementDate": "2026-12-04", "statementMonth": "12", "clientBranch": "01"},
    }  # fmt: skip
    street = {"line1": "55 Lake Avenue", "city": "Rochester", "region": "NY", "postalCode": "14608", "country": "US"}
    data["parties"]["importerOfRecord"]["residentAgent"] = {
        "name": "Demo Agents LLC",
        "address": street,
        "number": "12-345678901",
    }
    orders = [line["orderId"] for line in data["lines"]]
    data["parties"]["ultimateConsignees"] = [
        {"name": "Lakeside Kitchen Supply Inc.", "address": street, "sameAsImporter": True, "orderIds": orders[:1]},
        {"name": "Demo Stores Inc", "address": street, "number": "987-65-4321", "orderIds": orders[1:]},
    ]
    data["lines"][0]["treatment"]["pga"] = [
        {"flag": "FD4", "agency": "FDA", "program": "FOO", "data": {"priorNoticeConfirmation": ["123456789012"]}}
    ]


def build_truck_invoice(change: Callable[[dict[str, Any]], None] = lambda _: None) -> Invoice:
    """Return the same invoice with a truck's trip and the Canadian side of the export, after `change` of the unit."""

    def add(data: dict[str, Any]) -> None:
        data["lines"].append({**data["lines"][1], "lineRef": "L5"})
        data["entry"]["trip"] = trip(number="ABCD261126A")
        data["canadianExport"] = canadian_export()
        change(data)

    return sample(4, 6, test=True, change=add)
