"""Builds the invoice of a unit: looks up names, computes sums, and formats all values, once for all documents."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pipeline.core import money
from pipeline.core.field_types import mask_number
from pipeline.core.findings import Finding
from pipeline.documents.invoice import declarations, wording
from pipeline.documents.invoice import lines as rows
from pipeline.documents.invoice import packages as boxes
from pipeline.documents.invoice.code_wording import RuleWords
from pipeline.documents.invoice.consolidation import consolidate_lines, merge_lines
from pipeline.documents.invoice.declarations import certificate_rows
from pipeline.documents.invoice.filing import build_filing
from pipeline.documents.schemas import declarations as schemas_declarations
from pipeline.documents.schemas import invoice as out
from pipeline.documents.schemas.entry_filing import EntryConsignee
from pipeline.documents.schemas.invoice import Identifier, Printed
from pipeline.exports.entry_lines import group_entry_lines
from pipeline.exports.schemas import plan
from pipeline.exports.schemas.transport import Trip

STATEMENT = (
    "I declare that the facts on this invoice are true and complete to the best of my knowledge: {values}, the origin, "
    "manufacturer and contents of the goods are as stated, and the named responsible employee of the exporter has knowledge "
    "of the transaction, or can readily obtain it (19 CFR 141.86)."
)

#: The statement of a pro forma invoice. 19 CFR 141.85 has the form in which an importer states values without an invoice.
PROFORMA_STATEMENT = (
    "Not a commercial invoice. Not for customs entry, unless the importer has no commercial invoice and submits these facts "
    "as its own statement of value, in the form of 19 CFR 141.85. The plan is not executed, and the exporter declares "
    "nothing by this page. The commercial invoice replaces it."
)

#: The meaning of the values: prices of a sale (19 CFR 141.86(a)(5)), or what goods that are not sold would bring ((a)(6)).
SOLD_VALUES = "the prices and charges are those of the transaction"
UNSOLD_VALUES = (
    "the goods are not sold, and the values are the prices that the shipper would have received, or was willing to "
    "receive, for them"
)
UNSOLD_VALUES_WITH_BASIS = "the goods are not sold, and their values rest on what is stated as their basis"


@dataclass(frozen=True)
class InvoiceFacts:
    """The facts that the documents of a unit print in addition to the plan. The same plan and facts give the same bytes.

    `ssccs` is keyed by package ref, `line_digests` by line ref; digests are `sha256:<hex>`. `findings` are those of the
    whole plan; the invoice shows those of the plan and of its own unit. `unit_no` counts from 1. `customs_broker` is the
    name of the partner that the plan names, or its id. `french` adds French words to the printed pages, and `logo` (PNG) the
    exporter's logo. A pro forma invoice has no package number and revision 0.
    """

    batch_id: str
    account_id: str
    plan_hash: str
    revision: int
    package_number: str
    ruleset_id: str
    ruleset_as_of: date
    ssccs: Mapping[str, str]
    line_digests: Mapping[str, str]
    unit_digest: str
    treatment_digest: str
    words: RuleWords
    test: bool
    unit_no: int = 1
    customs_broker: str | None = None
    findings: Sequence[Finding] = ()
    french: bool = False
    logo: bytes | None = None
    kind: out.InvoiceKind = "commercial"


def build_invoice(unit: plan.Unit, facts: InvoiceFacts) -> out.Invoice:
    """Return the invoice of the unit, ready to print.

    Raises StepFailed if the unit refers to a line, package, manufacturer or certificate that it does not have.
    """
    packages = boxes.package_rows(unit, facts.ssccs)
    lines = rows.line_rows(unit, facts.line_digests, packages, facts.words)
    header = unit.invoice
    currency = header.currency
    merged = merge_lines(lines, group_entry_lines(unit), currency)
    filing = build_filing(unit, facts.words)
    return out.Invoice(
        kind=facts.kind,
        test=facts.test,
        provenance=out.Provenance(
            account_id=facts.account_id,
            batch_id=facts.batch_id,
            unit_ref=unit.unit_ref,
            package_number=facts.package_number,
            revision=facts.revision,
            plan_hash=facts.plan_hash,
            unit_digest=facts.unit_digest,
            treatment_digest=facts.treatment_digest,
            ruleset_id=facts.ruleset_id,
            ruleset_as_of=facts.ruleset_as_of,
        ),
        header=_header(header),
        transport=_transport(unit.entry, facts.words),
        parties=_parties(unit, () if filing is None else filing.consignees),
        lines=lines,
        charges=tuple(
            out.InvoiceCharge(
                code=charge.code,
                name=charge.name or wording.space_words(charge.code).capitalize(),
                amount=wording.format_amount(charge.amount, currency),
                included_in_prices=charge.included_in_prices,
                dutiable=charge.dutiable,
            )
            for charge in header.charges
        ),
        discounts=tuple(
            out.ChargeRow(
                code="discount",
                name=row.name,
                amount=wording.format_amount(row.amount, currency),
                included_in_prices=False,
            )
            for row in header.discounts
        ),
        rebates=tuple(
            out.RebateRow(name=row.name, amount=wording.format_amount(row.amount, currency)) for row in header.rebates
        ),
        assist_items=tuple(
            out.AssistRow(
                name=row.name, amount=None if row.amount is None else wording.format_amount(row.amount, currency)
            )
            for row in header.assist_items
        ),
        totals=out.Totals(
            currency=currency,
            line_count=len(lines),
            quantities=rows.unit_totals(unit.lines),
            goods_value=wording.format_amount(money.sum_exact(line.line_value for line in unit.lines), currency),
            invoice_total=wording.format_amount(header.total, currency),
            net_weight_kg=wording.format_number(money.sum_exact(line.net_weight_kg for line in unit.lines)),
            gross_weight_kg=wording.format_number(money.sum_exact(line.gross_weight_kg for line in unit.lines)),
        ),
        classifications=tuple(rows.classifications(unit.lines, currency)),
        certificates=certificate_rows(unit),
        metals=declarations.metal_rows(lines),
        metal_totals=declarations.metal_totals(unit.lines, currency),
        consolidation=consolidate_lines(merged, len(lines)),
        entry_lines=merged,
        filing=filing,
        package_summary=boxes.package_summary(unit, packages),
        packages=packages,
        declaration=_declaration(unit, facts.kind),
        findings=tuple(_findings(facts.findings, facts.unit_no)),
        canadian_export=unit.canadian_export,
        trip=unit.entry.trip,
        customs_broker=facts.customs_broker,
        french=facts.french,
        logo=facts.logo,
    )


def _header(header: plan.InvoiceHeader) -> out.Header:
    rate = header.exchange_rate
    return out.Header(
        number=header.number,
        invoice_date=header.date,
        currency=header.currency,
        exchange_rate=None if rate is None else Printed(rate, money.format_plain(rate)),
        incoterm=header.incoterm,
        incoterm_place=header.incoterm_place,
        sale_date=header.sale_date,
        sale_place=header.sale_place,
        reason_for_export=wording.format_code(header.reason_for_export),
        valuation_basis=header.valuation_basis,
        usmca_statement=header.usmca_statement,
        related_parties=header.related_parties,
        payment_terms=header.payment_terms,
        purchase_order=header.purchase_order,
        assists=wording.format_code(header.assists),
    )


def _transport(entry: plan.Entry, words: RuleWords) -> out.Transport:
    arrival, trip = entry.estimated_arrival_at, entry.trip or Trip()
    entry_type = words.format_entry_type(entry.type)
    if entry.part is not None:
        entry_type = Printed(entry_type.exact, f"{entry_type.shown}, entry {entry.part.number} of {entry.part.of}")
    return out.Transport(
        entry_type=entry_type,
        entry_part=None if entry.part is None else int(entry.part.number),
        entry_parts=None if entry.part is None else int(entry.part.of),
        port_of_entry=entry.port_of_entry,
        port_shown=words.describe_port(entry.port_of_entry),
        mode_of_transport=wording.format_code(entry.mode_of_transport),
        carrier_scac=entry.carrier_scac,
        shipment_control_number=entry.shipment_control_number,
        export_date=entry.export_date,
        estimated_arrival_at=None if arrival is None else wording.format_moment(arrival),
        manifest_quantity=entry.manifest_quantity,
        manifest_gross_weight_kg=None
        if entry.manifest_gross_weight_kg is None
        else wording.format_number(entry.manifest_gross_weight_kg),
        trip_number=trip.number,
        truck_license_plate=None if trip.truck is None else trip.truck.license_plate,
        trailer_numbers=tuple(trailer.number for trailer in trip.trailers),
    )


def _parties(unit: plan.Unit, consignees: tuple[EntryConsignee, ...]) -> out.PartyBlocks:
    parties = unit.parties
    lines_by_maker: dict[str, list[int]] = {}
    for number, line in enumerate(unit.lines, start=1):
        lines_by_maker.setdefault(line.manufacturer_ref, []).append(number)
    importer = parties.importer_of_record
    importer_block = _party(
        importer.name or parties.buyer.name, importer.address or parties.buyer.address, importer.contact, {}
    )
    return out.PartyBlocks(
        seller=_party_block(parties.seller),
        buyer=_party_block(parties.buyer),
        ship_to=_party_block(parties.ship_to),
        importer_of_record=out.ImporterBlock(
            **dict(importer_block), importer_number=Printed(importer.importer_number, importer.masked_number)
        ),
        manufacturers=tuple(
            out.ManufacturerBlock(
                ref=maker.ref,
                name=maker.name,
                mid=maker.mid,
                address=maker.address,
                address_lines=wording.format_address(maker.address),
                lines_shown=wording.format_line_numbers(lines_by_maker.get(maker.ref, [])),
            )
            for maker in parties.manufacturers
        ),
        ultimate_consignees=consignees,
    )


def _party_block(party: plan.Party) -> out.PartyBlock:
    return _party(party.name, party.address, party.contact, party.identifiers)


def _party(
    name: str, address: plan.Address, contact: plan.Contact | None, identifiers: Mapping[str, str]
) -> out.PartyBlock:
    answers = () if contact is None else (contact.name, contact.title, contact.email, contact.phone)
    return out.PartyBlock(
        name=name,
        address=address,
        address_lines=wording.format_address(address),
        contact=contact,
        contact_lines=tuple(answer for answer in answers if answer),
        identifiers=tuple(
            Identifier(name=Printed(name, wording.spell_title(name)), value=Printed(value, mask_number(value)))
            for name, value in sorted(identifiers.items())
        ),
    )


def _findings(findings: Sequence[Finding], unit_no: int) -> Iterator[schemas_declarations.FindingRow]:
    # A pointer is into the plan, such as /units/0/lines/3/sku. A finding outside the units concerns all units.
    for finding in findings:
        root, _, rest = finding.pointer.removeprefix("/").partition("/")
        place, _, inner = rest.partition("/")
        if root == "units" and place and place != str(unit_no - 1):
            continue
        words_of = inner.split("/")
        about_line = root == "units" and words_of[0] == "lines" and len(words_of) > 1 and words_of[1].isdecimal()
        yield schemas_declarations.FindingRow(
            rule=finding.rule,
            severity=finding.severity,
            line_number=int(words_of[1]) + 1 if about_line else None,
            pointer=finding.pointer,
            message=finding.message,
            remedy=finding.remedy,
            source=finding.source,
        )


def _declaration(unit: plan.Unit, kind: out.InvoiceKind) -> out.Declaration:
    contact = unit.parties.exporter_contact
    unsold = UNSOLD_VALUES_WITH_BASIS if unit.invoice.valuation_basis else UNSOLD_VALUES
    values = SOLD_VALUES if unit.invoice.reason_for_export == "sale" else unsold
    return out.Declaration(
        statement=PROFORMA_STATEMENT if kind == "proforma" else STATEMENT.format(values=values),
        name=contact.name,
        title=contact.title,
        email=contact.email,
        phone=contact.phone,
    )
