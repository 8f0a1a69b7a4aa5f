"""Products, orders and a plan template for tests, in the shapes of the public protocol; equal on every call."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

from tests.support import factories
from tests.support.factories import ACCOUNT, BROKER, GOODS, PARTIES, WAREHOUSE, Json, copy_json

PACKING: Json = {
    "piecesPerCarton": 4, "type": "CTN", "lengthCm": "60", "widthCm": "40", "heightCm": "40", "tareWeightKg": "0.300",
}  # fmt: skip


def product(number: int = 0, **changes: Any) -> Json:
    """Return the customs data of a product: complete, with cartons of four pieces."""
    goods = GOODS[number % len(GOODS)]
    maker = next(each for each in PARTIES["manufacturers"] if each["ref"] == goods["manufacturerRef"])
    treatment = copy_json(goods["treatment"])
    for metal in treatment["section232"]:
        metal["metalWeightKg"] = "0.800"
    made: Json = {
        "externalId": f"{goods['sku']}-{number}",
        "description": goods["description"],
        "htsCode": goods["htsCode"],
        "countryOfOrigin": goods["countryOfOrigin"],
        "manufacturer": {name: copy_json(maker[name]) for name in ("name", "address", "mid")},
        "unit": goods["unit"],
        "netWeightKg": "0.900",
        "grossWeightKg": "1.000",
        "spi": goods["spi"],
        "usmcaCertificateRef": goods["usmcaCertificateRef"],
        "treatment": treatment,
        "packing": dict(PACKING),
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def order(name: str = "1001", *, products: Sequence[str] = (), **changes: Any) -> Json:
    """Return an order for ten pieces of each product, in the members of the public protocol alone."""
    named = products or [product()["externalId"]]
    made: Json = {
        "externalId": name,
        "destinationCountry": "US",
        "destinationRegion": "NY",
        "destinationPostalCode": "14202",
        "items": [{"productId": each, "quantity": 10, "unitValueUsd": 25.5} for each in named],
        "metadata": {"channel": "shop", "priority": 1},
    }
    return made | changes


def template(**changes: Any) -> Json:
    """Return a plan template for the United States that leaves nothing open."""
    unit = factories.unit()
    invoice = unit["invoice"]
    made: Json = {
        "destinationCountry": "US",
        "exportCountry": "CA",
        "approvedBy": "ops@maple.example",
        "entry": {
            "type": "01", "portOfEntry": "0901", "modeOfTransport": "truck", "carrierScac": "DEMO",
            "shipmentControlNumber": "DEMO00000001", "exportAfterDays": 2,
        },
        **{name: copy_json(PARTIES[name]) for name in ("seller", "buyer", "shipTo", "exporterContact")},
        "importerOfRecord": copy_json(PARTIES["importerOfRecord"]),
        "invoice": {
            name: invoice[name]
            for name in ("incoterm", "incotermPlace", "reasonForExport", "relatedParties", "paymentTerms", "assists")
        }
        | {"saleDate": "2026-11-20", "salePlace": "Toronto ON", "charges": invoice["charges"]},
        "usmcaCertificates": unit["usmcaCertificates"],
    }  # fmt: skip
    return {name: value for name, value in (made | changes).items() if value is not None}


def product_sync(*items: Json) -> Json:
    """Return the request that syncs these products, or one that is complete."""
    return {"accountId": ACCOUNT, "items": list(items) or [product()]}


def order_sync(*items: Json) -> Json:
    """Return the request that syncs these orders, or one."""
    return {"accountId": ACCOUNT, "items": list(items) or [order()]}


def template_sync(*items: Json) -> Json:
    """Return the request that syncs these plan templates, or the complete one."""
    return {"accountId": ACCOUNT, "items": list(items) or [template()]}


def plan_request(order_ids: Sequence[str], **changes: Any) -> Json:
    """Return the request that plans these orders; a batch with an id has a control number of its own."""
    if "batchId" in changes:
        changes = {"entry": {"shipmentControlNumber": f"DEMO{crc32(changes['batchId'].encode()):08X}"}} | changes
    return {"accountId": ACCOUNT, "warehouseId": WAREHOUSE, "brokerId": BROKER, "orderIds": [*order_ids]} | changes
