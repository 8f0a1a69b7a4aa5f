"""Which product, order, plan template or member of the request a place of a built plan comes from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pipeline.core.findings import Finding
from pipeline.exports.plan_values import MISSING, read_value, split_pointer
from pipeline.orders.schemas import ProductItem, TemplateItem
from pipeline.orders.units import KnownOrder
from pipeline.orders.views import MissingDatum


def _sync_again(call: str) -> str:
    return f"with POST /api/{call}/sync (or `exports {call} sync FILE`), then plan again"


#: How the data of each subject are supplied, as the end of a remedy.
SYNC_AGAIN: Final[Mapping[str, str]] = {
    "product": _sync_again("products"),
    "order": _sync_again("orders"),
    "plan_template": _sync_again("plan-templates"),
}


@dataclass(frozen=True)
class BuiltLine:
    """What a line of a unit is built from: an item of an order, by its place, and the product that it names."""

    order: KnownOrder
    place: int
    product: ProductItem


@dataclass(frozen=True)
class SyncedFact:
    """The datum that a place of a plan comes from, and the order that needs it; None if all do."""

    subject: Literal["product", "order", "plan_template", "request"]
    id: str
    field: str
    order_id: str | None = None

    @property
    def path(self) -> str:
        """The name of the datum, such as `product.PAN-24.htsCode`; a member of the request has its own name."""
        parts = [self.field] if self.subject == "request" else [self.subject, self.id, self.field]
        return ".".join(part for part in parts if part)


@dataclass(frozen=True)
class PlanFacts:
    """A built plan, what each line of its units is made from, and its plan template."""

    raw: Mapping[str, Any]
    lines: Sequence[Sequence[BuiltLine]]
    template: TemplateItem

    def find(self, pointer: str) -> SyncedFact:
        """Return where the place of the plan comes from."""
        match split_pointer(pointer):
            case ["units", unit, *rest]:
                return self._of_unit(self.raw["units"][int(unit)], self.lines[int(unit)], rest)
            case [("warehouse" | "broker") as partner, *_]:
                return _of_request(f"{partner}Id")
            case ["approval", *_]:
                return self._of_template("approvedBy")
            case [("exportCountry" | "ruleset") as part, *rest]:
                return self._of_template(part, *rest)
            case [("destinationCountry" | "batchId") as member]:
                return _of_request(member)
        return _of_request("")

    def _of_unit(self, unit: Mapping[str, Any], lines: Sequence[BuiltLine], place: Sequence[str]) -> SyncedFact:
        match place:
            case ["lines", line, *rest]:
                return self._of_line(lines[int(line)], rest)
            case ["packages", package, *rest]:
                return _of_package(unit, int(package), rest, lines)
            case ["parties", *rest]:
                return self._of_party(unit, lines, rest)
            case ["entry", "type"] if lines[0].order.order.entry_type is not None:
                return _of_order(lines[0].order, "entryType")
            case ["invoice", ("charges" | "discounts" | "rebates" | "assistItems" | "assists") as member, *rest]:
                return self._of_terms(unit, lines[0].order, member, rest)
            case ["invoice", "total"] if unit["invoice"]["discounts"]:
                return self._of_terms(unit, lines[0].order, "discounts", [])
            case ["invoice", "total" | "number" | "currency"]:
                return _of_request("orderIds")
            case ["invoice", "date"]:  # the day of planning, which the day of export must not precede
                return self._of_template("entry", "exportDate")
            case ["invoice", "exchangeRate"]:
                return self._of_template("invoice", "exchangeRates", unit["invoice"]["currency"])
            case ["usmcaCertificates", number, *rest]:
                ref = unit["usmcaCertificates"][int(number)]["ref"]
                given = next(at for at, each in enumerate(self.template.usmca_certificates) if each.ref == ref)
                return self._of_template("usmcaCertificates", str(given), *rest)
            case [("entry" | "invoice" | "usmcaCertificates" | "canadianExport") as part, *rest]:
                return self._of_template(part, *rest)
        return _of_request("orderIds")

    def _of_terms(self, unit: Mapping[str, Any], known: KnownOrder, member: str, place: Sequence[str]) -> SyncedFact:
        """Return where a term of the invoice comes from: those of the plan template stand before the order's own."""
        name = "assistItems" if member == "assists" else member
        own = getattr(known.order, "assist_items" if name == "assistItems" else name)
        first = len(unit["invoice"].get(name, [])) - len(own)
        match place:
            case [number, *rest] if int(number) >= first:
                return _of_order(known, name, str(int(number) - first), *rest)
            case [] if own and not first:
                return _of_order(known, name)
        return self._of_template("invoice", member, *place)

    def _of_party(self, unit: Mapping[str, Any], lines: Sequence[BuiltLine], place: Sequence[str]) -> SyncedFact:
        order = lines[0].order
        match place:
            case ["manufacturers", number, *rest]:
                ref = unit["parties"]["manufacturers"][int(number)]["ref"]
                made = next(each for each, line in enumerate(unit["lines"]) if line["manufacturerRef"] == ref)
                return self._of_line(lines[made], ["manufacturer", *rest])
            case ["buyer", *rest] if order.order.buyer is not None:
                return _of_order(order, "buyer", *rest)
            case ["shipTo", *rest] if order.order.ship_to is not None:
                return _of_order(order, "shipTo", *rest)
            case ["ultimateConsignees", number, *rest]:
                named = unit["parties"]["ultimateConsignees"][int(number)]["orderIds"] or [order.id]
                order = next(each.order for each in lines if each.order.id == named[0])
                if order.order.ultimate_consignee is not None:
                    return _of_order(order, "ultimateConsignee", *rest)
                return self._of_template("ultimateConsignee", *rest)
        return self._of_template(*place)

    def _of_line(self, line: BuiltLine, place: Sequence[str]) -> SyncedFact:
        item = f"items.{line.place}"
        match place:
            case ["quantity"]:
                return _of_order(line.order, item, "quantity")
            case ["unitPrice" | "lineValue"]:
                given = "unitValueUsd" if line.order.order.currency is None else "unitValue"
                return _of_order(line.order, item, given)
            case ["chapter98", *rest] if line.order.order.items[line.place].chapter98 is not None:
                return _of_order(line.order, item, "chapter98", *rest)
            case ["attributes", name] if name in line.order.order.items[line.place].attributes:
                return _of_order(line.order, item, "attributes", name)
            case [] | ["lineRef" | "orderId"]:
                return _of_order(line.order, item)
            case ["countryOfExport"]:
                return self._of_template("exportCountry")
            case ["manufacturerRef"]:
                return _of_product(line, "manufacturer")
        return _of_product(line, *place)

    def _of_template(self, *parts: str) -> SyncedFact:
        return SyncedFact("plan_template", self.template.destination_country, ".".join(parts))

    def find_missing(self, findings: Iterable[Finding]) -> list[MissingDatum]:
        """Return the data that the plan lacks, each once: findings at places that the plan leaves empty.

        They are the findings that block, and the warnings about a part of what an order states, such as the proof of a claim.
        """
        missing: dict[tuple[str, str, str], MissingDatum] = {}
        for finding in findings:
            if finding.severity == "note" or finding.waived_by is not None:
                continue
            value = read_value(self.raw, finding.pointer)
            if value is not MISSING and value:
                continue
            fact = self.find(finding.pointer)
            if fact.subject == "request" or (finding.severity == "warn" and fact.subject != "order"):
                continue
            datum = missing.setdefault(
                (fact.subject, fact.id, fact.field),
                MissingDatum(
                    subject=fact.subject,
                    id=fact.id,
                    field=fact.field,
                    message=finding.message,
                    remedy=f"{finding.remedy} Sync it {SYNC_AGAIN[fact.subject]}.",
                    orders=[],
                ),
            )
            # Findings come in the order of the lines, so that those of one order follow each other.
            if fact.order_id is not None and fact.order_id not in datum.orders[-1:]:
                datum.orders.append(fact.order_id)
        return [*missing.values()]


def _of_request(member: str) -> SyncedFact:
    return SyncedFact("request", "", member)


def _of_order(known: KnownOrder, *parts: str) -> SyncedFact:
    return SyncedFact("order", known.external_id, ".".join(parts), known.id)


def _of_product(line: BuiltLine, *parts: str) -> SyncedFact:
    return SyncedFact("product", line.product.external_id, ".".join(parts), line.order.id)


def _of_package(unit: Mapping[str, Any], package: int, place: Sequence[str], lines: Sequence[BuiltLine]) -> SyncedFact:
    """Return where the package comes from: the order's own package, else the packing of the item or of its product."""
    packages = unit["packages"]
    # The lines of a unit are L1, L2 and so on.
    line = lines[int(packages[package]["contents"][0]["lineRef"].removeprefix("L")) - 1]
    if line.order.order.packages:
        number = sum(each["orderId"] == line.order.id for each in packages[:package])
        return _of_order(line.order, "packages", str(number), *place)
    if line.order.order.items[line.place].packing is not None:
        return _of_order(line.order, "items", str(line.place), "packing")
    return _of_product(line, "packing")
