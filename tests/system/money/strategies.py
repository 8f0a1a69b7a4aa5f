"""Random approved plans, exact to the last digit: any currency, fractions, charges, cartons and pallets."""

import copy
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from hypothesis import strategies as st

from tests.support import factories
from tests.support.factories import Json

#: Currency -> digits after the point, by ISO 4217; repeated here to test the product's own table.
CURRENCIES = {"USD": 2, "CAD": 2, "EUR": 2, "JPY": 0, "KRW": 0, "KWD": 3, "CLF": 4}

CHARGES = ("freight", "insurance", "packing", "handling", "commission", "inland_freight", "other")

#: The highest value of a line, in whole units of its currency: nine lines are one entry line of ten digits.
LARGEST = Decimal(10**9)
#: The highest value of a unit's goods in whole US dollars; the tests' plans have up to nine lines.
LARGEST_USD = 9 * LARGEST


def money(units: int, digits: int) -> str:
    """Return `units` of the smallest coin as an amount with `digits` digits after the point."""
    return f"{Decimal(units).scaleb(-digits):f}"


def kg(grams: int) -> str:
    """Return grams in kg, with three digits after the point."""
    return money(grams, 3)


@st.composite
def plans(draw: st.DrawFn, *, most_units: int = 2, most_lines: int = 5, most_cartons: int = 4) -> Json:
    """Return an approved, JSON-ready plan that passes every check."""
    made = factories.plan(units=draw(st.integers(1, most_units)), lines=1, packages=1)
    made["units"] = [draw(_units(place, most_lines, most_cartons)) for place in range(len(made["units"]))]
    return made


@st.composite
def _units(draw: st.DrawFn, place: int, most_lines: int, most_cartons: int) -> Json:
    unit = factories.unit(place, lines=1, packages=1)
    currency = draw(st.sampled_from([*CURRENCIES]))
    digits = CURRENCIES[currency]
    cartons = draw(st.integers(1, most_cartons))
    weights = [0] * cartons  # grams of goods, by carton
    contents: list[list[Json]] = [[] for _ in range(cartons)]
    lines: list[Json] = []
    count = draw(st.integers(1, most_lines))
    for number in range(count):
        # The last line fills the cartons that are still empty.
        due = [at for at in range(cartons) if not contents[at]] if number == count - 1 else []
        line, portions = draw(_lines(number, cartons, due, digits))
        lines.append(line)
        for at, quantity, grams in portions:
            contents[at].append({"lineRef": line["lineRef"], "quantity": quantity})
            weights[at] += grams
    unit["lines"] = lines
    unit["packages"] = draw(_packages(place, contents, weights))
    unit["entry"]["manifestQuantity"] = str(cartons)
    goods = sum((Decimal(line["lineValue"]) for line in lines), Decimal(0))
    # The charges in the prices and the discounts are together below the value of the goods.
    most = int(goods.scaleb(digits))
    charges = [
        (code, draw(st.integers(0, most // 6 if included else 10**7)), included)
        for code, included in draw(st.lists(st.tuples(st.sampled_from(CHARGES), st.booleans()), max_size=3))
    ]
    added = sum((Decimal(money(amount, digits)) for _, amount, included in charges if not included), Decimal(0))
    discounts = draw(st.lists(st.integers(0, most // 5), max_size=2))
    taken = sum((Decimal(money(amount, digits)) for amount in discounts), Decimal(0))
    rebates = draw(st.lists(st.integers(0, 10**7), max_size=2))
    assists = draw(st.lists(st.integers(0, 10**7), max_size=2))
    dearest = min(10**9, int(LARGEST_USD / max(goods, Decimal(1)) * 10**6))  # millionths of a US dollar
    unit["invoice"] |= {
        "currency": currency,
        "exchangeRate": None if currency == "USD" else money(draw(st.integers(1, dearest)), 6),
        "charges": [
            {"code": code, "name": None, "amount": money(amount, digits), "includedInPrices": included}
            for code, amount, included in charges
        ],
        "discounts": [{"name": "Volume discount", "amount": money(amount, digits)} for amount in discounts],
        "rebates": [{"name": "Excise refunded", "amount": money(amount, digits)} for amount in rebates],
        "assists": "declared" if assists else "none",
        **(
            {"assistItems": [{"name": "Die lent by the buyer", "amount": money(amount, digits)} for amount in assists]}
            if assists
            else {}
        ),
        "total": f"{goods + added - taken:f}",
    }
    return unit


@st.composite
def _lines(
    draw: st.DrawFn, number: int, cartons: int, due: list[int], digits: int
) -> tuple[Json, list[tuple[int, str, int]]]:
    """Return a line and its portions: carton, quantity and grams."""
    held = sorted({*due, *draw(st.lists(st.integers(0, cartons - 1), min_size=1, max_size=cartons, unique=True))})
    places = draw(st.integers(0, 3))  # digits of the quantity after the point
    shares = [draw(st.integers(1, 5_000)) for _ in held]
    grams = [draw(st.integers(10, 50_000)) for _ in held]
    quantity = Decimal(sum(shares)).scaleb(-places)
    # A price may have more digits than the currency; the line value is rounded once.
    finer = draw(st.integers(0, min(2, 6 - digits)))
    most = int((LARGEST / max(quantity, Decimal(1))).scaleb(digits + finer))
    price = Decimal(draw(st.integers(1, 10**6) | st.integers(1, most))).scaleb(-digits - finer)
    with localcontext() as exact:
        exact.prec = 60
        value = (quantity * price).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)
    gross = sum(grams)
    net = gross - draw(st.integers(0, gross // 5))
    goods = factories.GOODS[draw(st.integers(0, len(factories.GOODS) - 1))]
    treatment = copy.deepcopy(goods["treatment"])
    for metal in treatment["section232"]:
        metal["metalWeightKg"] = kg(net * draw(st.integers(60, 95)) // 100)
    line = {
        "lineRef": f"L{number + 1}",
        "orderId": None,
        "sku": f"{goods['sku']}-{number + 1}",
        **{name: goods[name] for name in ("description", "htsCode", "countryOfOrigin", "manufacturerRef", "unit")},
        "countryOfExport": "CA",
        "spi": goods["spi"],
        "usmcaCertificateRef": goods["usmcaCertificateRef"],
        "quantity": f"{quantity:f}",
        "unitPrice": f"{price:f}",
        "lineValue": f"{value:f}",
        "netWeightKg": kg(net),
        "grossWeightKg": kg(gross),
        "attributes": {},
        "treatment": treatment,
    }
    portions = [
        (at, f"{Decimal(share).scaleb(-places):f}", weight)
        for at, share, weight in zip(held, shares, grams, strict=True)
    ]
    return line, portions


@st.composite
def _packages(draw: st.DrawFn, place: int, contents: list[list[Json]], weights: list[int]) -> list[Json]:
    """Return the cartons; the first of them may be on a pallet, whose weight includes them."""
    palletised = draw(st.integers(0, len(contents)))
    sides = st.integers(1, 2_000).map(lambda tenths: money(tenths, 1))
    boxes = [
        {
            "packageRef": f"P{at + 1}",
            "type": "CTN",
            "sscc": None,
            "lpn": f"LPN-{place + 1}-{at + 1}",
            "parentRef": "PLT-1" if at < palletised else None,
            "lengthCm": draw(sides),
            "widthCm": draw(sides),
            "heightCm": draw(sides),
            "grossWeightKg": kg(grams),
            "tareWeightKg": kg(draw(st.integers(0, grams // 10))),
            "trackingNumber": None,
            "orderId": None,
            "contents": held,
        }
        for at, (held, grams) in enumerate(zip(contents, weights, strict=True))
    ]
    if palletised:
        pallet = draw(st.integers(5_000, 30_000))
        boxes.append(
            boxes[0]
            | {
                "packageRef": "PLT-1",
                "type": "PLT",
                "lpn": f"LPN-{place + 1}-0",
                "parentRef": None,
                "grossWeightKg": kg(sum(weights[:palletised]) + pallet),
                "tareWeightKg": kg(pallet),
                "contents": [],
            }
        )
    return boxes
