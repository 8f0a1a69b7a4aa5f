"""The requests to sync products, orders and plan templates and to plan a batch; camelCase, unknown fields are refused."""

import json
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from pipeline.core.field_types import NUMBER, Day, Instant, check_printable, parse_decimal
from pipeline.core.money import format_plain, to_decimal
from pipeline.exports.schemas.entry_filing import Filing
from pipeline.exports.schemas.parties import Consignee
from pipeline.exports.schemas.plan import (
    Address,
    Assist,
    Chapter98,
    Charge,
    Contact,
    Discount,
    EntryQuantity,
    Importer,
    Party,
    Rebate,
    RulesetRef,
    Treatment,
    UsmcaCertificate,
)
from pipeline.exports.schemas.plan_fields import (
    AccountId,
    Country,
    Currency,
    HtsCode,
    LengthCm,
    LongText,
    PartnerId,
    Ref,
    StrictModel,
    Text,
    WeightKg,
)
from pipeline.exports.schemas.transport import PlannedExport, PlannedTrip

#: The most products, orders or templates of one sync, and the most orders of one plan.
MAX_SYNCED: Final = 1_000
MAX_ORDER_ITEMS: Final = 2_000
MAX_METADATA_CHARACTERS: Final = 10_000

IDEMPOTENCY_KEY: Final = r"^[\x21-\x7e]+$"

ExternalId = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(check_printable)]


def _read_number(value: object) -> Decimal:
    # The public protocol has JSON numbers here. Their shortest text has the digits that the caller wrote.
    if isinstance(value, float | int) and not isinstance(value, bool):
        return parse_decimal(format_plain(to_decimal(repr(value))))
    if not isinstance(value, str | Decimal):
        raise ValueError("must be a number, such as 12.5, or one in a string")
    return parse_decimal(value)


_NUMBER_OR_TEXT: Final = WithJsonSchema(
    {"anyOf": [{"type": "number"}, {"type": "string", "pattern": NUMBER.pattern, "maxLength": 24}], "examples": [12.5]}
)
_WRITTEN: Final = PlainSerializer(format_plain, return_type=str, when_used="json")
_READ: Final = BeforeValidator(_read_number)
Price = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6), _READ, _WRITTEN, _NUMBER_OR_TEXT]
Pieces = Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=6), _READ, _WRITTEN, _NUMBER_OR_TEXT]


def _check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    # A number such as 1e400 is read as infinity, which JSON cannot write.
    if len(json.dumps(value, allow_nan=False)) > MAX_METADATA_CHARACTERS:
        raise ValueError(f"must have at most {MAX_METADATA_CHARACTERS} characters as JSON; remove some")
    return value


Metadata = Annotated[dict[str, Any], Field(max_length=64), AfterValidator(_check_metadata)]
IdempotencyKeyMember = Annotated[str, Field(min_length=1, max_length=255, pattern=IDEMPOTENCY_KEY)]
_KEY_IN_BODY: Final = "The Idempotency-Key header overrides it"


class Packing(StrictModel):
    """How pieces of one product fill a carton; the last carton of an order line may hold fewer."""

    pieces_per_carton: Annotated[int, Field(ge=1, le=1_000_000)]
    type: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,3}$", description="CTN, BAG and the like")]
    length_cm: LengthCm
    width_cm: LengthCm
    height_cm: LengthCm
    tare_weight_kg: WeightKg = Field(description="Weight of the empty carton")


class ProductMaker(StrictModel):
    """The manufacturer of a product, with its manufacturer identification code."""

    name: Text
    address: Address
    mid: Annotated[str, Field(pattern=r"^[A-Z0-9]{5,15}$")]


class ProductItem(StrictModel):
    """The customs data of a product. Weights are those of one piece; what is left out stays unknown."""

    external_id: ExternalId
    sku: Text | None = Field(None, description="As the documents print it; default: externalId")
    description: LongText | None = None
    hts_code: HtsCode | None = None
    country_of_origin: Country | None = None
    manufacturer: ProductMaker | None = None
    unit: (
        Annotated[str, Field(pattern=r"^[A-Z0-9]{1,3}$", description="Unit in which orders count it: NO, PRS")] | None
    ) = None
    net_weight_kg: WeightKg | None = None
    gross_weight_kg: WeightKg | None = Field(None, description="With its own packing, without the carton")
    entry_quantities: list[EntryQuantity] = Field(
        default_factory=list,
        max_length=3,
        exclude_if=lambda value: not value,
        description="Of one piece, in the units of the tariff number; without them `unit` is the only one",
    )
    spi: Annotated[str, Field(pattern=r"^[A-Z]{1,2}[+*]?$")] | None = None
    usmca_certificate_ref: Ref | None = Field(None, description="A certificate of the plan template")
    attributes: dict[Ref, Text] = Field(default_factory=dict, max_length=64)
    treatment: Treatment | None = Field(
        None, description="`metalWeightKg` is that of one piece; an empty object says that nothing applies"
    )
    packing: Packing | None = None


class PriceTerms(StrictModel):
    """What an invoice adds to the prices of its goods, deducts from them or states beside them, as a plan has it."""

    charges: list[Charge] = Field(default_factory=list, max_length=50, exclude_if=lambda value: not value)
    discounts: list[Discount] = Field(default_factory=list, max_length=50, exclude_if=lambda value: not value)
    rebates: list[Rebate] = Field(default_factory=list, max_length=50, exclude_if=lambda value: not value)
    assist_items: list[Assist] = Field(default_factory=list, max_length=50, exclude_if=lambda value: not value)

    def list_terms(self) -> list[str]:
        """Return the names of those that are given."""
        return [each.alias or name for name, each in PriceTerms.model_fields.items() if getattr(self, name)]


class OrderItem(StrictModel):
    """One product of an order."""

    product_id: ExternalId = Field(description="The product's externalId, or its id")
    quantity: Pieces
    unit_value_usd: Price | None = None
    unit_value: Price | None = Field(None, description="In the order's `currency`, instead of `unitValueUsd`")
    packing: Packing | None = Field(None, description="Overrides the packing of the product")
    attributes: dict[Ref, Text] = Field(
        default_factory=dict,
        max_length=64,
        exclude_if=lambda value: not value,
        description="Beside those of the product, and instead of one with the same name: the number of an import license",
    )
    chapter98: Chapter98 | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="The chapter 98 provision that all pieces claim; its values divide quantity times unit value",
    )

    @property
    def price(self) -> Decimal:
        """The value of one piece. Raises ValueError if there is none; the order's check makes sure that there is."""
        given = self.unit_value_usd if self.unit_value is None else self.unit_value
        if given is None:
            raise ValueError(f"the item of product {self.product_id} has no value")
        return given


class PackedItem(StrictModel):
    """A quantity of one item of the order in a package."""

    item: Annotated[int, Field(ge=0, lt=MAX_ORDER_ITEMS, description="Its place in the order's items, from 0")]
    quantity: Pieces


class OrderPackage(StrictModel):
    """A packed carton of the order."""

    type: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,3}$")]
    length_cm: LengthCm
    width_cm: LengthCm
    height_cm: LengthCm
    gross_weight_kg: Annotated[WeightKg, Field(gt=0)]
    tare_weight_kg: WeightKg
    sscc: Annotated[str, Field(pattern=r"^[0-9]{18}$")] | None = None
    lpn: Ref | None = None
    tracking_number: Ref | None = None
    contents: list[PackedItem] = Field(min_length=1, max_length=500)


class SyncedOrder(PriceTerms):
    """An order. Without `buyer`, `shipTo` and `entryType`, those of the plan template apply.

    Charges, discounts, rebates and assists are those of its own invoice, in its currency.
    """

    external_id: ExternalId
    destination_country: Country
    destination_region: Text | None = None
    destination_postal_code: Text | None = None
    items: list[OrderItem] = Field(min_length=1, max_length=MAX_ORDER_ITEMS)
    metadata: Metadata = Field(default_factory=dict, description="Kept, and never read")
    currency: Currency | None = Field(None, description="Of `unitValue`; without it, values are `unitValueUsd`")
    entry_type: Annotated[str, Field(pattern=r"^[0-9]{2}$")] | None = None
    buyer: Party | None = None
    ship_to: Party | None = None
    ultimate_consignee: Consignee | None = Field(
        None, exclude_if=lambda value: value is None, description="Of the entry; orders of several can be one unit"
    )
    packages: list[OrderPackage] = Field(
        default_factory=list, max_length=2_000, description="All cartons of the order, as packed"
    )

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        # The message names the item: a validator of the whole order has no other place for it.
        for place, item in enumerate(self.items):
            wanted, other = (
                ("unitValueUsd", item.unit_value) if self.currency is None else ("unitValue", item.unit_value_usd)
            )
            given = item.unit_value_usd if self.currency is None else item.unit_value
            if given is None or other is not None:
                why = "currency is not given" if self.currency is None else "currency is given"
                raise ValueError(f"must give {wanted}, and no other value, in items.{place}, because {why}")
        for number, package in enumerate(self.packages):
            for content in package.contents:
                if content.item >= len(self.items):
                    raise ValueError(f"must name one of its {len(self.items)} items in packages.{number}.contents")
        return self


class TemplateEntry(StrictModel):
    """What plans say in the entry header; `exportAfterDays` counts from the day of planning."""

    type: Annotated[str, Field(pattern=r"^[0-9]{2}$", description="CBP entry type, such as 01 or 11")] | None = None
    port_of_entry: Annotated[str, Field(pattern=r"^[0-9]{4}$", description="Schedule D")] | None = None
    mode_of_transport: Literal["truck", "rail", "air", "vessel", "mail", "other"] | None = None
    carrier_scac: Annotated[str, Field(pattern=r"^[A-Z]{2,4}$")] | None = None
    shipment_control_number: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,30}$")] | None = None
    export_date: Day | None = None
    export_after_days: Annotated[int, Field(ge=0, le=60)] | None = None
    estimated_arrival_at: Instant | None = None
    filing: Filing | None = Field(
        None, exclude_if=lambda value: value is None, description="Bond, power of attorney, payment, filer"
    )


class RequestEntry(TemplateEntry):
    """What one plan says in the entry header; the rest is that of the plan template."""

    trip: PlannedTrip = None


class TemplateInvoice(PriceTerms):
    """The terms that invoices state; charges, discounts, rebates and assists need a plan of one unit."""

    incoterm: Literal["EXW", "FCA", "CPT", "CIP", "DAP", "DPU", "DDP", "FAS", "FOB", "CFR", "CIF"] | None = None
    incoterm_place: Text | None = None
    reason_for_export: Literal["sale", "sample", "gift", "return", "repair", "transfer", "other"] | None = None
    valuation_basis: Text | None = None
    usmca_statement: LongText | None = None
    related_parties: bool | None = None
    assists: Literal["none", "declared"] | None = Field(None, description="Of orders without `assistItems`")
    payment_terms: Text | None = None
    sale_date: Day | None = None
    sale_place: Text | None = None
    exchange_rates: dict[Currency, Annotated[Price, Field(gt=0)]] = Field(
        default_factory=dict, max_length=32, description="US dollars for one unit of the currency, on the day of export"
    )


class TemplateItem(StrictModel):
    """The facts that all plans to one country share. What is left out stays unknown; nothing has a default."""

    destination_country: Country
    export_country: Country | None = None
    approved_by: Text | None = Field(
        None, description="Who answers for every plan that is made from these data; without it, plans need approval"
    )
    ruleset: RulesetRef | None = Field(
        None, description="By which the treatments of products were decided; default: the ruleset that judges the plan"
    )
    entry: TemplateEntry = Field(default_factory=TemplateEntry)
    seller: Party | None = None
    buyer: Party | None = None
    ship_to: Party | None = None
    ultimate_consignee: Consignee | None = Field(None, exclude_if=lambda value: value is None)
    importer_of_record: Importer | None = None
    exporter_contact: Contact | None = None
    invoice: TemplateInvoice = Field(default_factory=TemplateInvoice)
    usmca_certificates: list[UsmcaCertificate] = Field(default_factory=list, max_length=2_000)
    canadian_export: PlannedExport = None


class ProductSync(StrictModel):
    """Create or replace products by `externalId`."""

    account_id: AccountId
    items: list[ProductItem] = Field(min_length=1, max_length=MAX_SYNCED)
    idempotency_key: IdempotencyKeyMember | None = Field(None, description=_KEY_IN_BODY)


class OrderSync(StrictModel):
    """Create or replace orders by `externalId`."""

    account_id: AccountId
    items: list[SyncedOrder] = Field(min_length=1, max_length=MAX_SYNCED)
    idempotency_key: IdempotencyKeyMember | None = Field(None, description=_KEY_IN_BODY)


class TemplateSync(StrictModel):
    """Create or replace plan templates by `destinationCountry`."""

    account_id: AccountId
    items: list[TemplateItem] = Field(min_length=1, max_length=MAX_SYNCED)
    idempotency_key: IdempotencyKeyMember | None = Field(None, description=_KEY_IN_BODY)


class PlanRequest(StrictModel):
    """Plan a batch from synced orders. `entry`, `invoice` and `canadianExport` override those of the plan template."""

    account_id: AccountId
    warehouse_id: PartnerId
    broker_id: PartnerId
    order_ids: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(min_length=1, max_length=MAX_SYNCED)
    destination_country: Country | None = Field(None, description="Default: US, as the public protocol says")
    batch_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{2,127}$")] | None = Field(
        None, description="The batch to plan, or to plan again; default: computed from the orders"
    )
    dry_run: bool = Field(default=False, description="Return the plan, and store nothing")
    idempotency_key: IdempotencyKeyMember | None = Field(None, description=_KEY_IN_BODY)
    entry: RequestEntry | None = None
    invoice: TemplateInvoice | None = None
    canadian_export: PlannedExport = None
