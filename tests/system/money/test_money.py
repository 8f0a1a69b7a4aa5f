"""No document loses a digit of an invoice, makes one up or rounds twice."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal, localcontext
from io import StringIO
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core import money
from pipeline.customs import treatment
from pipeline.customs.checks.plan import check_plan
from pipeline.deliveries.outbox.entry_facts import rule_words
from pipeline.documents.invoice.builder import InvoiceFacts, build_invoice
from pipeline.documents.registry import KINDS, DocumentKind
from pipeline.documents.schemas.invoice import Invoice, Printed
from pipeline.exports import packages
from pipeline.exports.schemas.plan import Plan, Unit
from pipeline.ops.verification.parsers import iter_elements, sheet_rows
from pipeline.ops.verification.readers import READERS
from pipeline.ops.verification.treatment import CarriedLine, find_difference
from tests.support import factories
from tests.system.money.strategies import CURRENCIES, plans

UBL = "{urn:oasis:names:specification:ubl:schema:xsd:Common"
AGGREGATE, BASIC = f"{UBL}AggregateComponents-2}}", f"{UBL}BasicComponents-2}}"

TODAY = date(2026, 11, 24)

EVERY_DAY = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])


@EVERY_DAY
@given(plans(most_units=1))
def test_documents_of_random_plans_keep_every_digit(made: factories.Json) -> None:
    assert_plan_promises(made)


@pytest.mark.long
@pytest.mark.timeout(7200)
@LONG
@given(plans(most_units=1, most_lines=8, most_cartons=6))
def test_documents_of_ten_thousand_random_plans_keep_every_digit(made: factories.Json) -> None:
    assert_plan_promises(made)


def assert_plan_promises(made: factories.Json) -> None:
    """Assert all promises on money, weight and quantity of one plan."""
    plan = Plan.model_validate_json(json.dumps(made))
    found = [*packages.check_plan(plan), *check_plan(plan, on=TODAY)]
    assert [finding for finding in found if finding.severity == "block"] == []
    assert_refused(plan)
    for unit in plan.units:
        invoice = build_unit_invoice(unit)
        assert_exact(list(values(invoice.model_dump())), unit.invoice.currency)
        assert_sums(unit, invoice)
        assert_packed(unit, invoice)
        assert_merged(invoice)
        documents = {kind.artifact_type: kind.make(invoice) for kind in KINDS if render_without_engine(kind, invoice)}
        assert_written(unit, invoice, documents)


def assert_refused(plan: Plan) -> None:
    """Assert that one coin or one gram too many in the first unit is rejected."""
    unit, *others = plan.units
    line, *lines = unit.lines
    digits = CURRENCIES[unit.invoice.currency]
    coin = Decimal(1).scaleb(-digits)
    grain = Decimal(1).scaleb(-6)
    with localcontext() as wide:
        wide.prec = 80
        wrong: dict[str, dict[str, object]] = {
            "/units/0/invoice/total": {"invoice": unit.invoice.model_copy(update={"total": unit.invoice.total + coin})},
            "/units/0/lines/0/quantity": {
                "lines": [line.model_copy(update={"quantity": line.quantity + grain}), *lines]
            },
            "/units/0/lines/0/lineValue": {
                # One coin may be within the rounding of a value.
                "lines": [line.model_copy(update={"line_value": line.line_value + 2 * coin}), *lines]
            },
        }
    for pointer, update in wrong.items():
        changed = plan.model_copy(update={"units": [unit.model_copy(update=update), *others]})
        found = [*packages.check_plan(changed), *check_plan(changed, on=TODAY)]
        assert pointer in {finding.pointer for finding in found if finding.severity == "block"}


def build_unit_invoice(unit: Unit) -> Invoice:
    digests = treatment.line_digests(unit)
    return build_invoice(
        unit,
        InvoiceFacts(
            batch_id="batch_1", account_id="acc_demo", plan_hash="sha256:" + "1" * 64, revision=1,
            package_number="CP-000001", ruleset_id="us-1", ruleset_as_of=TODAY, ssccs={}, line_digests=digests,
            unit_digest=treatment.unit_digest(digests), treatment_digest="sha256:" + "2" * 64, words=rule_words(), test=False),
    )  # fmt: skip


def render_without_engine(kind: DocumentKind, invoice: Invoice) -> bool:
    return kind.media_type != "application/pdf" and kind.applies_to(invoice)


def values(of: Any) -> Iterator[Any]:
    """Yield every value in a tree."""
    if isinstance(of, dict):
        for inner in of.values():
            yield from values(inner)
    elif isinstance(of, list | tuple):
        for inner in of:
            yield from values(inner)
    else:
        yield of


def to_exact(value: Printed) -> Decimal:
    assert isinstance(value.exact, Decimal)
    return value.exact


def sum_values(values_of: Iterable[Decimal]) -> Decimal:
    with localcontext() as wide:
        wide.prec = 80
        return sum(values_of, Decimal(0))


def assert_exact(tree: list[Any], currency: str) -> None:
    assert not [value for value in tree if isinstance(value, float)], "a value is a binary float"
    assert currency in CURRENCIES


def assert_sums(unit: Unit, invoice: Invoice) -> None:
    digits = CURRENCIES[unit.invoice.currency]
    coin = Decimal(1).scaleb(-digits)
    for line in invoice.lines:
        value = to_exact(line.line_value)
        with localcontext() as wide:
            wide.prec = 80
            assert abs(to_exact(line.quantity) * to_exact(line.unit_price) - value) * 2 <= coin
            assert value % coin == 0
        assert line.line_value.shown.replace(",", "") == f"{value:.{digits}f}"
    totals = invoice.totals
    goods = sum_values(to_exact(line.line_value) for line in invoice.lines)
    charges = sum_values(to_exact(row.amount) for row in invoice.charges if not row.included_in_prices)
    discounts = sum_values(to_exact(row.amount) for row in invoice.discounts)
    assert to_exact(totals.goods_value) == goods
    assert to_exact(totals.invoice_total) == goods + charges - discounts
    assert totals.invoice_total.shown.replace(",", "") == f"{to_exact(totals.invoice_total):.{digits}f}"
    assert to_exact(totals.net_weight_kg) == sum_values(to_exact(line.net_weight_kg) for line in invoice.lines)
    assert to_exact(totals.gross_weight_kg) == sum_values(to_exact(line.gross_weight_kg) for line in invoice.lines)
    assert sum_values(to_exact(row.value) for row in invoice.classifications) == goods
    assert sum_values(to_exact(row.net_weight_kg) for row in invoice.classifications) == to_exact(totals.net_weight_kg)
    assert sum(row.line_count for row in invoice.classifications) == len(invoice.lines)
    by_unit: dict[str, Decimal] = defaultdict(Decimal)
    for line in invoice.lines:
        by_unit[line.unit] += to_exact(line.quantity)
    assert {row.unit: to_exact(row.quantity) for row in totals.quantities} == by_unit


def assert_packed(unit: Unit, invoice: Invoice) -> None:
    packed: dict[str, Decimal] = defaultdict(Decimal)
    for package in invoice.packages:
        for content in package.contents:
            packed[content.line_ref] += to_exact(content.quantity)
    assert packed == {line.line_ref: line.quantity for line in unit.lines}
    outermost = [package for package in invoice.packages if package.parent_ref is None]
    assert to_exact(invoice.package_summary.gross_weight_kg) == sum_values(
        to_exact(box.gross_weight_kg) for box in outermost
    )


def assert_merged(invoice: Invoice) -> None:
    """Merged lines contain all lines, once each."""
    merged = invoice.consolidation
    if merged is None:
        return
    assert Counter(ref for row in merged.lines for ref in row.line_refs) == Counter(
        line.line_ref for line in invoice.lines
    )
    assert (merged.line_count, merged.lines_saved) == (len(invoice.lines), len(invoice.lines) - len(merged.lines))
    lines = {line.line_ref: line for line in invoice.lines}
    for row in merged.lines:
        parts = [lines[ref] for ref in row.line_refs]
        for name in ("line_value", "quantity", "net_weight_kg", "gross_weight_kg"):
            assert to_exact(getattr(row, name)) == sum_values(to_exact(getattr(part, name)) for part in parts), name
        for place, metal in enumerate(row.treatment.section232):
            assert metal.metal_weight_kg == sum_values(
                part.treatment.section232[place].metal_weight_kg for part in parts
            )


def assert_written(unit: Unit, invoice: Invoice, documents: dict[str, bytes]) -> None:
    digests = treatment.line_digests(unit)
    planned = [
        CarriedLine(line.line_ref, digests[line.line_ref], line.hts_code, line.country_of_origin, line.treatment)
        for line in unit.lines
    ]
    for kind, body in documents.items():
        if kind in READERS:
            assert find_difference(planned, READERS[kind](body)) is None, kind
        if kind in ("cci_json", "packing_list"):
            json.loads(body, parse_float=no_float)
    document_content = json.loads(documents["cci_json"])
    assert [Decimal(line["lineValue"]) for line in document_content["lines"]] == [
        line.line_value for line in unit.lines
    ]
    assert document_content["totals"]["invoiceTotal"] == f"{unit.invoice.total:f}"
    table = list(csv.DictReader(StringIO(documents["cci_csv"].decode("utf-8-sig"), newline="")))
    workbook = sheet_rows(documents["cci_xlsx"], "Lines")
    columns = {name: column for column, name in next(workbook).items()}
    ubl = documents["cci_ubl"]
    in_ubl = list(iter_elements([ubl], f"{AGGREGATE}InvoiceLine"))
    (sums,) = iter_elements([ubl], f"{AGGREGATE}LegalMonetaryTotal")
    assert sums.findtext(f"{BASIC}PayableAmount") == f"{unit.invoice.total:f}"
    rate = Decimal(1) if unit.invoice.currency == "USD" else unit.invoice.exchange_rate
    for row, cells, element, line in zip(table, workbook, in_ubl, unit.lines, strict=True):
        figures = (line.quantity, line.unit_price, line.line_value)
        named = ("InvoicedQuantity", "Price/PriceAmount", "LineExtensionAmount")
        assert [Decimal(cells[columns[name]]) for name in ("qty", "unit_price", "line_value")] == [*figures]
        assert [element.findtext(ubl_path(name)) for name in named] == [f"{value:f}" for value in figures]
        if rate is not None:
            with localcontext() as wide:
                wide.prec = 80
                assert abs(Decimal(row["line_value_usd"]) - line.line_value * rate) * 2 <= Decimal("0.01")
        assert (row["qty"], row["unit_price"], row["line_value"], row["gross_kg"], row["net_kg"]) == tuple(
            f"{value:f}"
            for value in (line.quantity, line.unit_price, line.line_value, line.gross_weight_kg, line.net_weight_kg)
        )
    listed = json.loads(documents["packing_list"])
    packed: dict[str, Decimal] = defaultdict(Decimal)
    for package in listed["packages"]:
        for content in package["contents"]:
            packed[content["lineRef"]] += Decimal(content["quantity"])
    assert packed == {line.line_ref: line.quantity for line in unit.lines}


def ubl_path(name: str) -> str:
    """Return the path of a UBL element below a line."""
    *outer, last = name.split("/")
    return "/".join([*(AGGREGATE + each for each in outer), BASIC + last])


def no_float(text: str) -> NoReturn:
    raise AssertionError(f"{text} is a JSON number; readers make it a binary float")


@given(st.sampled_from([*CURRENCIES]), st.integers(0, 10**15))
def test_amount_has_the_digits_of_its_currency(currency: str, coins: int) -> None:
    amount = Decimal(coins).scaleb(-CURRENCIES[currency])
    assert money.fits_minor_unit(amount, currency)
    assert money.round_amount(amount, currency) == amount
    assert Decimal(money.format_amount(amount, currency).replace(",", "")) == amount
    finer = amount + Decimal(1).scaleb(-CURRENCIES[currency] - 1)
    assert not money.fits_minor_unit(finer, currency)


def test_strategy_makes_every_kind_of_plan() -> None:
    """The strategy makes plans of every currency, merged lines, pallets and fractions."""
    seen: Counter[str] = Counter()

    @settings(max_examples=120, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(plans())
    def look(made: factories.Json) -> None:
        for unit in made["units"]:
            seen[unit["invoice"]["currency"]] += 1
            seen["pallet"] += any(box["type"] == "PLT" for box in unit["packages"])
            seen["fraction"] += any("." in line["quantity"] for line in unit["lines"])
            seen["discount"] += bool(unit["invoice"]["discounts"])
            codes = [(line["htsCode"], line["manufacturerRef"]) for line in unit["lines"]]
            seen["mergeable"] += len(set(codes)) < len(codes)

    look()
    assert {*CURRENCIES, "pallet", "fraction", "discount", "mergeable"} <= {name for name, n in seen.items() if n}
