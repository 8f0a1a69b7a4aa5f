"""From a unit of the plan to its invoice: names are looked up, sums made and everything put into words here, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal
from typing import TypeVar

from pipeline import money
from pipeline.errors import StepFailed
from pipeline.schemas import invoice as out
from pipeline.schemas import plan
from pipeline.schemas.invoice import Printed

CM3_IN_M3 = money.decimal("0.000001")

PACKAGE_TYPES = {
    "BAG": "bag",
    "BOX": "box",
    "CRT": "crate",
    "CTN": "carton",
    "DRM": "drum",
    "PKG": "package",
    "PLT": "pallet",
}

STATEMENT = (
    "I declare that the facts on this invoice are true and complete to the best of my knowledge: the prices and charges "
    "are those of the transaction, the origin, manufacturer and contents of the goods are as stated, and the named "
    "responsible employee of the exporter has knowledge of the transaction, or can readily obtain it (19 CFR 141.86)."
)


@dataclass(frozen=True)
class Facts:
    """What the documents of a unit print beside the plan; the same plan and facts give the same bytes.

    `ssccs` maps package refs and `line_digests` line refs; digests are written `sha256:<hex>`.
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
    test: bool


def build_invoice(unit: plan.Unit, facts: Facts) -> out.Invoice:
    """Return the invoice of `unit`, finished for print.

    Raises StepFailed where the unit names a line, package, manufacturer or certificate that it does not have.
    """
    packages = _packages(unit, facts)
    lines = _lines(unit, facts, packages)
    header = unit.invoice
    currency = header.currency
    return out.Invoice(
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
        transport=_transport(unit.entry),
        parties=_parties(unit.parties),
        lines=lines,
        charges=tuple(
            out.ChargeRow(
                code=charge.code,
                name=charge.name or _words(charge.code).capitalize(),
                amount=_amount(charge.amount, currency),
                included_in_prices=charge.included_in_prices,
            )
            for charge in header.charges
        ),
        discounts=tuple(
            out.ChargeRow(
                code="discount", name=row.name, amount=_amount(row.amount, currency), included_in_prices=False
            )
            for row in header.discounts
        ),
        totals=out.Totals(
            currency=currency,
            line_count=len(lines),
            quantities=_unit_totals(unit.lines),
            goods_value=_amount(money.total(line.line_value for line in unit.lines), currency),
            invoice_total=_amount(header.total, currency),
            net_weight_kg=_number(money.total(line.net_weight_kg for line in unit.lines)),
            gross_weight_kg=_number(money.total(line.gross_weight_kg for line in unit.lines)),
        ),
        classifications=tuple(_classifications(unit.lines, currency)),
        certificates=tuple(_certificates(unit)),
        package_summary=_summary(packages, unit.packages),
        packages=packages,
        declaration=_declaration(unit.parties.exporter_contact),
    )


def _header(header: plan.InvoiceHeader) -> out.Header:
    rate = header.exchange_rate
    return out.Header(
        number=header.number,
        invoice_date=header.date,
        currency=header.currency,
        exchange_rate=None if rate is None else Printed(rate, money.plain(rate)),
        incoterm=header.incoterm,
        incoterm_place=header.incoterm_place,
        sale_date=header.sale_date,
        sale_place=header.sale_place,
        reason_for_export=_code(header.reason_for_export),
        related_parties=header.related_parties,
        payment_terms=header.payment_terms,
        purchase_order=header.purchase_order,
        assists=_code(header.assists),
    )


def _transport(entry: plan.Entry) -> out.Transport:
    arrival = entry.estimated_arrival_at
    arrival = None if arrival is None else arrival.astimezone(UTC)
    return out.Transport(
        entry_type=entry.type,
        port_of_entry=entry.port_of_entry,
        mode_of_transport=_code(entry.mode_of_transport),
        carrier_scac=entry.carrier_scac,
        shipment_control_number=entry.shipment_control_number,
        export_date=entry.export_date,
        estimated_arrival_at=None
        if arrival is None
        else Printed(f"{arrival:%Y-%m-%dT%H:%M:%SZ}", f"{arrival:%Y-%m-%d %H:%M} UTC"),
    )


def _parties(parties: plan.Parties) -> out.PartyBlocks:
    importer = parties.importer_of_record
    shown = _party(importer.name or parties.buyer.name, importer.address or parties.buyer.address, importer.contact, {})
    return out.PartyBlocks(
        seller=_named(parties.seller),
        buyer=_named(parties.buyer),
        ship_to=_named(parties.ship_to),
        importer_of_record=out.ImporterBlock(**dict(shown), importer_number=importer.importer_number),
        manufacturers=tuple(
            out.ManufacturerBlock(
                ref=maker.ref,
                name=maker.name,
                mid=maker.mid,
                address=maker.address,
                address_lines=_address_lines(maker.address),
            )
            for maker in parties.manufacturers
        ),
    )


def _named(party: plan.Party) -> out.PartyBlock:
    return _party(party.name, party.address, party.contact, party.identifiers)


def _party(
    name: str, address: plan.Address, contact: plan.Contact | None, identifiers: Mapping[str, str]
) -> out.PartyBlock:
    answers = () if contact is None else (contact.name, contact.title, contact.email, contact.phone)
    return out.PartyBlock(
        name=name,
        address=address,
        address_lines=_address_lines(address),
        contact=contact,
        contact_lines=tuple(answer for answer in answers if answer),
        identifiers=_pairs(identifiers),
    )


def _address_lines(address: plan.Address) -> tuple[str, ...]:
    place = " ".join(part for part in (address.city, address.region, address.postal_code) if part)
    return tuple(line for line in (address.line1, address.line2, place, address.country) if line)


def _lines(unit: plan.Unit, facts: Facts, packages: Sequence[out.PackageRow]) -> tuple[out.InvoiceLine, ...]:
    makers = {maker.ref: maker for maker in unit.parties.manufacturers}
    certificates = {certificate.ref: certificate for certificate in unit.usmca_certificates}
    packed: dict[str, list[out.PackageRow]] = {}
    for package in packages:
        for content in package.contents:
            packed.setdefault(content.line_ref, []).append(package)
    currency = unit.invoice.currency
    lines: list[out.InvoiceLine] = []
    for number, line in enumerate(unit.lines, start=1):
        maker = _found(makers, line.manufacturer_ref, "manufacturer", line.line_ref)
        certificate = line.usmca_certificate_ref and _found(
            certificates, line.usmca_certificate_ref, "USMCA certificate", line.line_ref
        )
        boxes = packed.get(line.line_ref, [])
        lines.append(
            out.InvoiceLine(
                number=number,
                line_ref=line.line_ref,
                order_id=line.order_id,
                sku=line.sku,
                description=line.description,
                hts_code=_hts(line.hts_code),
                country_of_origin=line.country_of_origin,
                country_of_export=line.country_of_export,
                manufacturer_ref=maker.ref,
                manufacturer_name=maker.name,
                mid=maker.mid,
                quantity=_number(line.quantity),
                unit=line.unit,
                unit_price=_amount(line.unit_price, currency),
                line_value=_amount(line.line_value, currency),
                net_weight_kg=_number(line.net_weight_kg),
                gross_weight_kg=_number(line.gross_weight_kg),
                spi=line.spi,
                usmca_certificate_ref=line.usmca_certificate_ref,
                usmca_criterion=certificate.criterion if certificate else None,
                attributes=_pairs(line.attributes),
                treatment=_sorted_data(line.treatment),
                treatment_digest=_found(facts.line_digests, line.line_ref, "treatment digest", line.line_ref),
                marks=tuple(_marks(line)),
                package_refs=tuple(box.package_ref for box in boxes),
                packages_shown=_ranges(sorted({box.number for box in boxes})),
            )
        )
    return tuple(lines)


def _sorted_data(treatment: plan.Treatment) -> plan.Treatment:
    # Two spellings of one plan (its members in another order) have one hash, and so must give the same bytes.
    pga = [row.model_copy(update={"data": dict(sorted(row.data.items()))}) for row in treatment.pga]
    return treatment.model_copy(update={"pga": pga})


def _marks(line: plan.Line) -> Iterator[out.Mark]:
    treatment = line.treatment
    for heading in treatment.chapter99:
        rate = None if heading.rate_percent is None else f"{money.plain(heading.rate_percent)} %"
        yield _mark("chapter99", heading.heading, heading.program, rate, _words(heading.basis))
    for metal in treatment.section232:
        yield _mark(
            "metal",
            metal.metal.capitalize(),
            f"{_grouped(metal.metal_weight_kg)} kg",
            metal.country_of_melt_and_pour and f"melted and poured {metal.country_of_melt_and_pour}",
            metal.primary_country_of_smelt and f"primary smelt {metal.primary_country_of_smelt}",
            metal.secondary_country_of_smelt and f"secondary smelt {metal.secondary_country_of_smelt}",
            metal.country_of_cast and f"cast {metal.country_of_cast}",
            None if metal.us_metal_percent is None else f"US metal {money.plain(metal.us_metal_percent)} %",
        )
    for row in treatment.pga:
        codes = "/".join(code for code in (row.program, row.processing) if code)
        data = [
            f"{name}: {value if isinstance(value, str) else ', '.join(value)}"
            for name, value in sorted(row.data.items())
        ]
        yield _mark(
            "pga",
            f"{row.agency} {row.flag}",
            row.disclaimer and f"disclaimed {row.disclaimer}",
            codes,
            row.intended_use and f"intended use {row.intended_use}",
            *data,
        )
    if line.spi or line.usmca_certificate_ref:
        yield _mark(
            "preference",
            f"SPI {line.spi}" if line.spi else "USMCA",
            line.usmca_certificate_ref and f"USMCA certificate {line.usmca_certificate_ref}",
        )
    if treatment.undetermined:
        yield _mark("undetermined", "Undetermined", treatment.undetermined)


def _mark(kind: str, code: str, *texts: str | None) -> out.Mark:
    return out.Mark.model_validate({"kind": kind, "code": code, "text": " · ".join(text for text in texts if text)})


def _classifications(lines: Sequence[plan.Line], currency: str) -> Iterator[out.ClassificationRow]:
    groups: dict[tuple[str, str, tuple[str, ...]], list[plan.Line]] = {}
    for line in lines:
        headings = tuple(row.heading for row in line.treatment.chapter99)
        groups.setdefault((line.hts_code, line.country_of_origin, headings), []).append(line)
    for (hts_code, origin, headings), group in sorted(groups.items()):
        yield out.ClassificationRow(
            hts_code=_hts(hts_code),
            country_of_origin=origin,
            headings=headings,
            line_count=len(group),
            quantities=_unit_totals(group),
            net_weight_kg=_number(money.total(line.net_weight_kg for line in group)),
            value=_amount(money.total(line.line_value for line in group), currency),
        )


def _unit_totals(lines: Iterable[plan.Line]) -> tuple[out.UnitTotal, ...]:
    by_unit: dict[str, list[Decimal]] = {}
    for line in lines:
        by_unit.setdefault(line.unit, []).append(line.quantity)
    return tuple(
        out.UnitTotal(unit=unit, quantity=_number(money.total(values))) for unit, values in sorted(by_unit.items())
    )


def _certificates(unit: plan.Unit) -> Iterator[out.Certificate]:
    claims: dict[str, list[int]] = {}
    for number, line in enumerate(unit.lines, start=1):
        if line.usmca_certificate_ref:
            claims.setdefault(line.usmca_certificate_ref, []).append(number)
    for certificate in unit.usmca_certificates:
        yield out.Certificate(**dict(certificate), lines_shown=_ranges(claims.get(certificate.ref, [])))


def _declaration(contact: plan.Contact) -> out.Declaration:
    return out.Declaration(
        statement=STATEMENT, name=contact.name, title=contact.title, email=contact.email, phone=contact.phone
    )


def _packages(unit: plan.Unit, facts: Facts) -> tuple[out.PackageRow, ...]:
    numbered = {line.line_ref: (number, line) for number, line in enumerate(unit.lines, start=1)}
    numbers: dict[str, int] = {}
    rows: list[out.PackageRow] = []
    for depth, package in _tree(unit.packages):
        number = numbers[package.package_ref] = len(rows) + 1
        contents: list[out.PackedLine] = []
        for content in package.contents:
            line_number, line = _found(numbered, content.line_ref, "line", package.package_ref)
            contents.append(
                out.PackedLine(
                    line_number=line_number,
                    line_ref=line.line_ref,
                    sku=line.sku,
                    description=line.description,
                    quantity=_number(content.quantity),
                    unit=line.unit,
                )
            )
        sscc = facts.ssccs.get(package.package_ref) or package.sscc
        sides = (package.length_cm, package.width_cm, package.height_cm)
        rows.append(
            out.PackageRow(
                number=number,
                package_ref=package.package_ref,
                type=_package_type(package.type),
                mark=_package_mark(sscc, package),
                sscc=sscc,
                lpn=package.lpn,
                parent_ref=package.parent_ref,
                parent_number=numbers[package.parent_ref] if package.parent_ref else None,
                depth=depth,
                length_cm=_number(package.length_cm),
                width_cm=_number(package.width_cm),
                height_cm=_number(package.height_cm),
                size_shown=" x ".join(_grouped(side) for side in sides),
                gross_weight_kg=_number(package.gross_weight_kg),
                tare_weight_kg=_number(package.tare_weight_kg),
                tracking_number=package.tracking_number,
                order_id=package.order_id,
                contents=tuple(contents),
            )
        )
    return tuple(rows)


def _tree(packages: Sequence[plan.Package]) -> Iterator[tuple[int, plan.Package]]:
    # Each package with how deep it lies, parents before what they carry; without recursion, whatever the depth.
    carried: dict[str | None, list[plan.Package]] = {}
    for package in packages:
        carried.setdefault(package.parent_ref, []).append(package)
    seen = 0
    stack = [(0, package) for package in reversed(carried.get(None, []))]
    while stack:
        depth, package = stack.pop()
        seen += 1
        yield depth, package
        stack.extend((depth + 1, inner) for inner in reversed(carried.get(package.package_ref, [])))
    if seen != len(packages):
        raise StepFailed(
            "Some packages stand on a package that the unit does not have, or on each other; correct parentRef."
        )


def _summary(rows: Sequence[out.PackageRow], packages: Sequence[plan.Package]) -> out.PackageSummary:
    outermost = [package for package in packages if package.parent_ref is None]
    counts: dict[str, int] = {}
    for package in packages:
        counts[package.type] = counts.get(package.type, 0) + 1
    volume = money.total(
        money.times(money.times(money.times(box.length_cm, box.width_cm), box.height_cm), CM3_IN_M3)
        for box in outermost
    )
    by_type = tuple(
        out.PackageTypeTotal(type=_package_type(code), count=count) for code, count in sorted(counts.items())
    )
    words = ", ".join(f"{row.count:,} {row.type.shown}{'' if row.count == 1 else 's'}" for row in by_type)
    return out.PackageSummary(
        count=len(rows),
        outermost_count=len(outermost),
        by_type=by_type,
        gross_weight_kg=_number(money.total(box.gross_weight_kg for box in outermost)),
        volume_m3=Printed(volume, f"{volume:,.3f}"),
        shown=words if len(outermost) == len(rows) else f"{words}; {len(outermost):,} to load",
    )


def _package_type(code: str) -> Printed:
    return Printed(code, PACKAGE_TYPES.get(code, code))


def _package_mark(sscc: str | None, package: plan.Package) -> Printed:
    if sscc:
        return Printed(sscc, f"SSCC {sscc}")
    return (
        Printed(package.lpn, f"LPN {package.lpn}") if package.lpn else Printed(package.package_ref, package.package_ref)
    )


T = TypeVar("T")


def _found(known: Mapping[str, T], ref: str, kind: str, wanted_by: str) -> T:
    try:
        return known[ref]
    except KeyError:
        raise StepFailed(
            f"{wanted_by} names {kind} {ref}, which the unit does not have; correct the reference."
        ) from None


def _pairs(values: Mapping[str, str]) -> tuple[out.Pair, ...]:
    return tuple(out.Pair(name=name, value=value) for name, value in sorted(values.items()))


def _amount(value: Decimal, currency: str) -> Printed:
    return Printed(value, money.shown(value, currency))


def _number(value: Decimal) -> Printed:
    return Printed(value, _grouped(value))


def _grouped(value: Decimal) -> str:
    return f"{value:,f}"


def _code(code: str) -> Printed:
    return Printed(code, _words(code).capitalize())


def _words(code: str) -> str:
    return code.replace("_", " ")


def _hts(code: str) -> Printed:
    return Printed(code, f"{code[:4]}.{code[4:6]}.{code[6:]}")


def _ranges(numbers: Sequence[int]) -> str:
    # 1, 2, 3, 7 -> "1-3, 7"
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)
