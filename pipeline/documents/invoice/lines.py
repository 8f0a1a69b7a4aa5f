"""The lines of an invoice: with looked-up names and the treatment in words, and sums by classification."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from pipeline.core import money
from pipeline.documents.invoice import wording
from pipeline.documents.invoice.code_wording import RuleWords, format_basis
from pipeline.documents.schemas import invoice as out
from pipeline.exports.schemas import plan


def line_rows(
    unit: plan.Unit, digests: Mapping[str, str], packages: Sequence[out.PackageRow], words: RuleWords
) -> tuple[out.InvoiceLine, ...]:
    """Return the lines in the order of the plan, each with its packages.

    Raises StepFailed if a line refers to a manufacturer, certificate or digest that does not exist.
    """
    makers = {maker.ref: maker for maker in unit.parties.manufacturers}
    certificates = {certificate.ref: certificate for certificate in unit.usmca_certificates}
    packed: dict[str, list[out.PackageRow]] = {}
    for package in packages:
        for content in package.contents:
            packed.setdefault(content.line_ref, []).append(package)
    currency = unit.invoice.currency
    lines: list[out.InvoiceLine] = []
    for number, line in enumerate(unit.lines, start=1):
        maker = wording.look_up(makers, line.manufacturer_ref, "manufacturer", line.line_ref)
        certificate = line.usmca_certificate_ref and wording.look_up(
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
                hts_code=wording.format_hts(line.hts_code),
                country_of_origin=line.country_of_origin,
                country_of_export=line.country_of_export,
                manufacturer_ref=maker.ref,
                manufacturer_name=maker.name,
                mid=maker.mid,
                quantity=wording.format_number(line.quantity),
                unit=line.unit,
                unit_price=wording.format_amount(line.unit_price, currency),
                line_value=wording.format_amount(line.line_value, currency),
                net_weight_kg=wording.format_number(line.net_weight_kg),
                gross_weight_kg=wording.format_number(line.gross_weight_kg),
                entry_quantities=tuple(
                    out.UnitTotal(unit=each.unit, quantity=wording.format_number(each.quantity))
                    for each in line.entry_quantities
                ),
                chapter98=_chapter98_claim(line, currency),
                spi=line.spi,
                usmca_certificate_ref=line.usmca_certificate_ref,
                usmca_criterion=certificate.criterion if certificate else None,
                attributes=wording.sorted_pairs(line.attributes),
                attributes_shown=wording.spell_names(wording.sorted_pairs(line.attributes)),
                treatment=_sorted_data(line.treatment),
                treatment_digest=wording.look_up(digests, line.line_ref, "treatment digest", line.line_ref),
                marks=tuple(_marks(line, currency, words)),
                package_refs=tuple(box.package_ref for box in boxes),
                packages_shown=wording.format_ranges(sorted({box.number for box in boxes})),
            )
        )
    return tuple(lines)


def _chapter98_claim(line: plan.Line, currency: str) -> out.Chapter98Claim | None:
    claim = line.chapter98
    if claim is None:
        return None
    return out.Chapter98Claim(
        provision=claim.provision,
        exempt_value=wording.format_amount(claim.exempt_value, currency),
        dutiable_value=wording.format_amount(claim.dutiable_value, currency),
        exported_on=claim.exported_on,
        proof=claim.proof,
    )


def _sorted_data(treatment: plan.Treatment) -> plan.Treatment:
    # Two plans that differ only in the order of members have the same hash, so they must give the same bytes.
    pga = [row.model_copy(update={"data": dict(sorted(row.data.items()))}) for row in treatment.pga]
    return treatment.model_copy(update={"pga": pga})


def _marks(line: plan.Line, currency: str, words: RuleWords) -> Iterator[out.Mark]:
    treatment = line.treatment
    if line.entry_quantities:
        stated = [f"{wording.group_digits(each.quantity)} {each.unit}" for each in line.entry_quantities]
        yield _mark("quantity", "Entry quantity", *stated)
    claim = _chapter98_claim(line, currency)
    if claim is not None:
        yield _mark(
            "chapter98",
            claim.provision,
            f"without duty {claim.exempt_value.shown} {currency}",
            f"with duty {claim.dutiable_value.shown} {currency}",
            f"exported from the United States {claim.exported_on}" if claim.exported_on else None,
            claim.proof,
        )
    for heading in treatment.chapter99:
        basis = format_basis(heading.basis).shown
        if heading.rate_percent is not None:
            basis = f"{money.format_plain(heading.rate_percent)} % {basis}"
        yield _mark("chapter99", heading.heading, words.name_program(heading.program), basis)
    for metal in treatment.section232:
        yield _mark(
            "metal",
            metal.metal.capitalize(),
            f"{wording.group_digits(metal.metal_weight_kg)} kg",
            metal.country_of_melt_and_pour and f"melted and poured {metal.country_of_melt_and_pour}",
            metal.primary_country_of_smelt and f"primary smelt {metal.primary_country_of_smelt}",
            metal.secondary_country_of_smelt and f"secondary smelt {metal.secondary_country_of_smelt}",
            metal.country_of_cast and f"cast {metal.country_of_cast}",
            None if metal.us_metal_percent is None else f"US metal {money.format_plain(metal.us_metal_percent)} %",
        )
    for row in treatment.pga:
        codes = "/".join(code for code in (row.program, row.processing) if code)
        data = [
            f"{words.name_agency_datum(name)}: {value if isinstance(value, str) else ', '.join(value)}"
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


def classifications(lines: Sequence[plan.Line], currency: str) -> Iterator[out.ClassificationRow]:
    """Yield the sums of the lines by HTS code, origin and chapter 99 headings, in that order."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[plan.Line]] = {}
    for line in lines:
        headings = tuple(row.heading for row in line.treatment.chapter99)
        groups.setdefault((line.hts_code, line.country_of_origin, headings), []).append(line)
    for (hts_code, origin, headings), group in sorted(groups.items()):
        yield out.ClassificationRow(
            hts_code=wording.format_hts(hts_code),
            country_of_origin=origin,
            headings=headings,
            line_count=len(group),
            quantities=unit_totals(group),
            net_weight_kg=wording.format_number(money.sum_exact(line.net_weight_kg for line in group)),
            value=wording.format_amount(money.sum_exact(line.line_value for line in group), currency),
        )


def unit_totals(lines: Iterable[plan.Line]) -> tuple[out.UnitTotal, ...]:
    """Return the total quantity of the lines by unit of quantity, sorted by unit."""
    by_unit: dict[str, list[Decimal]] = {}
    for line in lines:
        by_unit.setdefault(line.unit, []).append(line.quantity)
    return tuple(
        out.UnitTotal(unit=unit, quantity=wording.format_number(money.sum_exact(values)))
        for unit, values in sorted(by_unit.items())
    )
