"""Packages of an order: its own cartons as packed, else each line in cartons of its product's packing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from pipeline.core.money import EXACT, ZERO, format_plain, multiply, round_weight, sum_exact, to_decimal
from pipeline.orders.schemas import OrderItem, OrderPackage, Packing, ProductItem, SyncedOrder


@dataclass(frozen=True)
class OrderLine:
    """An order's item, the product that it names, and the reference of its line."""

    line_ref: str
    item: OrderItem
    product: ProductItem


def find_packing(item: OrderItem, product: ProductItem) -> Packing | None:
    """Return how the item is packed: its own packing, else the product's; None if neither says."""
    return item.packing or product.packing


def count_packages(order: SyncedOrder, products: Mapping[str, ProductItem]) -> int:
    """Return how many packages the order has. A line without packing counts as none."""
    if order.packages:
        return len(order.packages)
    packings = ((item, find_packing(item, products[item.product_id])) for item in order.items)
    return sum(_count_cartons(item, packing) for item, packing in packings if packing is not None)


def _count_cartons(item: OrderItem, packing: Packing) -> int:
    full = EXACT.divide(item.quantity, to_decimal(str(packing.pieces_per_carton)))
    return int(full.to_integral_value(ROUND_CEILING, context=EXACT))


def pack_order(order: SyncedOrder, order_id: str, lines: Sequence[OrderLine]) -> Iterator[dict[str, Any]]:
    """Yield the packages of the order as a plan has them, without their references."""
    if order.packages:
        for package in order.packages:
            yield {**_describe_package(package, lines), "orderId": order_id}
        return
    for line in lines:
        packing = find_packing(line.item, line.product)
        if packing is not None:
            for pieces in _split_into_cartons(line.item.quantity, packing.pieces_per_carton):
                yield {**_describe_carton(packing, line, pieces), "orderId": order_id}


def _split_into_cartons(quantity: Decimal, pieces_per_carton: int) -> Iterator[Decimal]:
    left, full = quantity, to_decimal(str(pieces_per_carton))
    while left > 0:
        yield min(left, full)
        left = EXACT.subtract(left, full)


def _describe_carton(packing: Packing, line: OrderLine, pieces: Decimal) -> dict[str, Any]:
    goods = multiply(pieces, line.product.gross_weight_kg or ZERO)
    gross = EXACT.add(packing.tare_weight_kg, goods)
    return {
        "type": packing.type,
        "sscc": None,
        "lpn": None,
        "parentRef": None,
        "lengthCm": format_plain(packing.length_cm),
        "widthCm": format_plain(packing.width_cm),
        "heightCm": format_plain(packing.height_cm),
        "grossWeightKg": format_weight(gross),
        "tareWeightKg": format_plain(packing.tare_weight_kg),
        "trackingNumber": None,
        "contents": [{"lineRef": line.line_ref, "quantity": format_plain(pieces)}],
    }


def _describe_package(package: OrderPackage, lines: Sequence[OrderLine]) -> dict[str, Any]:
    return {
        "type": package.type,
        "sscc": package.sscc,
        "lpn": package.lpn,
        "parentRef": None,
        "lengthCm": format_plain(package.length_cm),
        "widthCm": format_plain(package.width_cm),
        "heightCm": format_plain(package.height_cm),
        "grossWeightKg": format_plain(package.gross_weight_kg),
        "tareWeightKg": format_plain(package.tare_weight_kg),
        "trackingNumber": package.tracking_number,
        "contents": [
            {"lineRef": lines[content.item].line_ref, "quantity": format_plain(content.quantity)}
            for content in package.contents
        ],
    }


def apportion_weights(
    packages: Sequence[Mapping[str, Any]], kilograms_each: Mapping[str, Decimal]
) -> dict[str, Decimal]:
    """Return the gross weight of each line: its share of the packages that hold it, by the weight of the goods.

    `kilograms_each` is the gross weight of one piece of each line. The shares of a package add up to its weight.
    """
    weights: dict[str, Decimal] = {}
    for package in packages:
        goods = [
            multiply(to_decimal(each["quantity"]), kilograms_each[each["lineRef"]]) for each in package["contents"]
        ]
        whole, left = sum_exact(goods), to_decimal(package["grossWeightKg"])
        for number, (each, part) in enumerate(zip(package["contents"], goods, strict=True), start=1):
            # The last line takes what the rounding of the others has left.
            last = number == len(goods) or not whole
            share = (
                left
                if last
                else round_weight(EXACT.divide(multiply(to_decimal(package["grossWeightKg"]), part), whole))
            )
            left = EXACT.subtract(left, share)
            weights[each["lineRef"]] = EXACT.add(weights.get(each["lineRef"], ZERO), share)
    return weights


def format_weight(kilograms: Decimal) -> str:
    """Return a weight as a plan has it, rounded half to even to a tenth of a gram, without zeros at its end."""
    rounded = round_weight(kilograms).normalize(EXACT)
    return format_plain(rounded or ZERO)
