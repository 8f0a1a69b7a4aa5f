"""The treatment of a line as columns of the flat table, written so that it can be read back to the last digit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache

from pydantic import ValidationError

from pipeline.core.money import format_plain, multiply, round_amount, to_decimal
from pipeline.documents.schemas.invoice import Header, Invoice, InvoiceLine
from pipeline.exports.schemas.plan import Chapter99, Pga, Section232, Treatment

#: Chapter 99 headings that have a column of their own; further ones stand together in `ch99_more`.
CHAPTER99_COLUMNS = 5

#: Column to field, of the columns that hold one value a row of the treatment, in the order of the rows.
_HEADINGS = {"ch99_rates": "ratePercent", "ch99_programs": "program", "ch99_bases": "basis"}
_METALS = {
    "metal_type": "metal",
    "metal_kg": "metalWeightKg",
    "melt_pour_country": "countryOfMeltAndPour",
    "primary_smelt": "primaryCountryOfSmelt",
    "secondary_smelt": "secondaryCountryOfSmelt",
    "cast_country": "countryOfCast",
    "us_metal_pct": "usMetalPercent",
}
_AGENCIES = {
    "pga_flags": "flag",
    "pga_agency": "agency",
    "pga_program": "program",
    "pga_processing": "processing",
    "pga_disclaim": "disclaimer",
    "pga_intended_use": "intendedUse",
}

_BETWEEN = re.compile(r"((?:[^\\|]|\\.)*)(?:\||$)", re.DOTALL)
_DATUM = re.compile(
    r"(?P<flag>[A-Z0-9]{3})(?:#(?P<place>[0-9]+))?\.(?P<name>[^=\[]+)(?P<list>\[\])?(?:=(?P<value>.*))?"
)


def chapter99_columns(rows: Sequence[Chapter99]) -> dict[str, str | None]:
    """Return the headings, a column each as far as there are columns, with their rates, programs and bases."""
    headings = [row.heading for row in rows]
    padded: list[str | None] = [*headings, *[None] * CHAPTER99_COLUMNS]
    return {
        **{f"ch99_{at}": heading for at, heading in enumerate(padded[:CHAPTER99_COLUMNS], start=1)},
        "ch99_more": joined(headings[CHAPTER99_COLUMNS:]),
        "ch99_rates": joined(row.rate_percent for row in rows),
        "ch99_programs": joined(row.program for row in rows),
        "ch99_bases": joined(row.basis for row in rows),
    }


def metal_columns(rows: Sequence[Section232]) -> dict[str, str | Decimal | None]:
    """Return the metals with their weights and countries, in one order in every column; figures of one alone are numbers."""
    return {
        "metal_type": joined(row.metal for row in rows),
        "metal_kg": _figures([row.metal_weight_kg for row in rows]),
        "melt_pour_country": joined(row.country_of_melt_and_pour for row in rows),
        "primary_smelt": joined(row.primary_country_of_smelt for row in rows),
        "secondary_smelt": joined(row.secondary_country_of_smelt for row in rows),
        "cast_country": joined(row.country_of_cast for row in rows),
        "us_metal_pct": _figures([row.us_metal_percent for row in rows]),
    }


def agency_columns(rows: Sequence[Pga]) -> dict[str, str | None]:
    r"""Return what the agencies are told, in one order in every column.

    `pga_data` names each datum by its flag: `FD1.reason=text`, `FD1.lots[]=one|FD1.lots[]=two`, and `FD1#2.reason=text`
    of the second row of one flag. In the values `\` and `|` have a `\` before them.
    """
    return {
        "pga_flags": joined(row.flag for row in rows),
        "pga_agency": joined(row.agency for row in rows),
        "pga_program": joined(row.program for row in rows),
        "pga_processing": joined(row.processing for row in rows),
        "pga_disclaim": joined(row.disclaimer for row in rows),
        "pga_intended_use": joined(row.intended_use for row in rows),
        "pga_data": "|".join(_data(rows)) or None,
    }


def joined(values: Iterable[object]) -> str | None:
    """Return the values with `|` between them, empty places kept: the third weight is the third metal's."""
    texts = [
        "" if value is None else format_plain(value) if isinstance(value, Decimal) else str(value) for value in values
    ]
    return "|".join(texts) if any(texts) else None


def _figures(values: Sequence[Decimal | None]) -> str | Decimal | None:
    return values[0] if len(values) == 1 else joined(values)


def read_treatment(row: Mapping[str, str | None]) -> Treatment:
    """Return the treatment that the columns of a row were written from.

    Raises ValueError, with the column's name, where they cannot have been written from any.
    """
    headings = [heading for at in range(1, CHAPTER99_COLUMNS + 1) if (heading := row.get(f"ch99_{at}"))]
    headings += _split(row.get("ch99_more"))
    agencies = _rows(row, _AGENCIES, len(_split(row.get("pga_flags"))))
    for agency, data in zip(agencies, _read_data(row.get("pga_data"), agencies), strict=True):
        agency["data"] = data
    found = {
        "chapter99": [
            {"heading": heading, **rest}
            for heading, rest in zip(headings, _rows(row, _HEADINGS, len(headings)), strict=True)
        ],
        "section232": _rows(row, _METALS, len(_split(row.get("metal_type")))),
        "pga": agencies,
        "undetermined": row.get("treatment_undetermined") or None,
    }
    try:
        return Treatment.model_validate(found)
    except ValidationError as error:
        where = "/".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise ValueError(f"the columns of the treatment hold what none can: {where}") from None


def _rows(row: Mapping[str, str | None], fields: Mapping[str, str], count: int) -> list[dict[str, object]]:
    made: list[dict[str, object]] = [{} for _ in range(count)]
    for column, field in fields.items():
        values = _split(row.get(column)) or [""] * count
        if len(values) != count:
            raise ValueError(f"{column} holds {len(values)} values where {count} are due")
        for target, value in zip(made, values, strict=True):
            target[field] = value or None
    return made


def _split(cell: str | None) -> list[str]:
    return cell.split("|") if cell else []


def _data(rows: Sequence[Pga]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for row in rows:
        seen[row.flag] += 1
        flag = row.flag if seen[row.flag] == 1 else f"{row.flag}#{seen[row.flag]}"
        for name, value in row.data.items():
            if isinstance(value, str):
                yield f"{flag}.{name}={_escaped(value)}"
            elif value:
                yield from (f"{flag}.{name}[]={_escaped(each)}" for each in value)
            else:
                yield f"{flag}.{name}[]"


def _read_data(cell: str | None, agencies: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    made: list[dict[str, object]] = [{} for _ in agencies]
    places: dict[tuple[str, int], dict[str, object]] = {}
    seen: Counter[str] = Counter()
    for agency, data in zip(agencies, made, strict=True):
        flag = str(agency["flag"])
        seen[flag] += 1
        places[flag, seen[flag]] = data
    for part in _parts(cell or ""):
        match = _DATUM.fullmatch(part)
        told = places.get((match["flag"], int(match["place"] or 1))) if match else None
        if match is None or told is None:
            raise ValueError("pga_data names a datum of no agency")
        name, value = match["name"], match["value"]
        if not match["list"]:
            told[name] = _plain(value or "")
            continue
        values = told.setdefault(name, [])
        if isinstance(values, list) and value is not None:
            values.append(_plain(value))
    return made


def _parts(cell: str) -> Iterator[str]:
    at = 0
    while at < len(cell):
        match = _BETWEEN.match(cell, at)
        if match is None or match.end() == at:
            raise ValueError("pga_data ends in the middle of a value")
        yield match[1]
        at = match.end()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


Cell = str | Decimal | int | date | None

#: A spreadsheet cell holds 32,767 characters; a list that does not fit refers to the packing list instead.
LONGEST_LIST = 32_000

# A spreadsheet takes text that begins with one of these, full-width forms included, for a formula.
_FORMULA_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"

# A telephone number and an article number begin with a sign as well: `+1 (416) 555-0100`, `-24-PAN`. An import program
# needs them as they are. A formula that begins with plus or minus reaches nothing but its own sheet unless it calls a
# function, or names another program, book or sheet: `name(`, `|`, `!`, `[`, `#`, quotes. So a text that begins with plus
# or minus stays as it is if it has only letters, digits and the marks below, and no name before a parenthesis. A person
# who opens it may see #NAME? or a sum there; nothing is run.
_HARMLESS = re.compile(r"[+\-\uff0b\uff0d][\w .+\-/()\uff0b\uff0d]*")
_CALL = re.compile(r"[^\W\d][\w.]*\s*\(")

#: Signs at which a spreadsheet begins a new cell where its own delimiter is not that of the file: `;` in much of Europe.
CELL_SIGNS = ";"

#: Column to attribute of a line: facts that a broker's table has a place for, and the plan only among the attributes.
_ATTRIBUTES = {"qty2": "quantity2", "uom2": "unit2", "fcc_id": "fccId", "ad_cvd_case": "adCvdCase"}

# A quantity as the plan writes one; whatever else an attribute holds stays text.
_PLAIN = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")

_AGENCY_COLUMNS = ("pga_flags", "pga_agency", "pga_program", "pga_processing", "pga_disclaim")


def rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each line: column name to value, the same columns in the same order every time.

    First come the columns that an import mapper looks for, empty where the plan has no such fact, then those that prove
    where the row comes from. Several values of one column (metals, agencies, packages) are joined by `|`, in the same
    order in each column.
    """
    makers = {maker.ref: maker for maker in invoice.parties.manufacturers}
    ssccs = {package.package_ref: package.sscc for package in invoice.packages}
    notes: dict[int, list[str]] = {}
    for finding in invoice.findings:
        if finding.line_number is not None:
            notes.setdefault(finding.line_number, []).append(f"{finding.rule} {finding.severity}: {finding.message}")
    header, provenance = invoice.header, invoice.provenance
    for line in invoice.lines:
        maker = makers[line.manufacturer_ref]
        treatment = line.treatment
        headings = chapter99_columns(treatment.chapter99)
        agencies = agency_columns(treatment.pga)
        told = {pair.name: pair.value for pair in line.attributes}
        asked = {column: told.get(name) for column, name in _ATTRIBUTES.items()}
        second = asked["qty2"]
        yield {
            "invoice_no": header.number,
            "invoice_date": header.invoice_date,
            "line_no": line.number,
            "sku": line.sku,
            "description": line.description,
            "hts10": line.hts_code.exact,
            **{name: headings.pop(name) for name in [*headings] if name[-1].isdecimal()},
            "spi": line.spi,
            "origin": line.country_of_origin,
            "export_country": line.country_of_export,
            "mid": line.mid,
            "manufacturer_name": maker.name,
            "manufacturer_addr1": maker.address.line1,
            "manufacturer_city": maker.address.city,
            "manufacturer_state": maker.address.region,
            "manufacturer_zip": maker.address.postal_code,
            "manufacturer_country": maker.address.country,
            "qty": line.quantity.exact,
            "uom": line.unit,
            "qty2": to_decimal(second) if second and _PLAIN.fullmatch(second) else second,
            "uom2": asked["uom2"],
            "unit_price": line.unit_price.exact,
            "line_value": line.line_value.exact,
            "currency": header.currency,
            "fx_rate": None if header.exchange_rate is None else header.exchange_rate.exact,
            "line_value_usd": _in_usd(line, header),
            # Charges are the invoice's: to share them out among its lines would be to invent a fact.
            "charges_usd": None,
            "gross_kg": line.gross_weight_kg.exact,
            "net_kg": line.net_weight_kg.exact,
            **metal_columns(treatment.section232),
            **{name: agencies.pop(name) for name in _AGENCY_COLUMNS},
            "pga_data_ref": f"pga_worksheet line {line.number}" if treatment.pga else None,
            "related_party": "Y" if header.related_parties else "N",
            "po_no": header.purchase_order,
            "package_ids": _listed(line.package_refs),
            "sscc_list": _listed(sscc for ref in line.package_refs if (sscc := ssccs[ref])),
            "usmca_criterion": line.usmca_criterion,
            "usmca_cert_ref": line.usmca_certificate_ref,
            "fda_product_code": _datum(line, "FDA", "fdaProductCode"),
            "fcc_id": asked["fcc_id"],
            "cpsc_product_id": _datum(line, "CPS", "productId"),
            "cpsc_version": _datum(line, "CPS", "versionId"),
            "ad_cvd_case": asked["ad_cvd_case"],
            "notes": " / ".join(notes.get(line.number, [])) or None,
            "line_ref": line.line_ref,
            "order_id": line.order_id,
            "manufacturer_addr2": maker.address.line2,
            **headings,
            **agencies,
            "treatment_undetermined": treatment.undetermined,
            "attributes": joined(f"{pair.name}={pair.value}" for pair in line.attributes),
            "treatment_digest": line.treatment_digest,
            "export_treatment_digest": provenance.treatment_digest,
            "batch_id": provenance.batch_id,
            "package_no": provenance.package_number,
            "revision": provenance.revision,
            "plan_hash": provenance.plan_hash,
            "test": "Y" if invoice.test else "N",
        }


def defused(text: str, cell_signs: str = CELL_SIGNS, *, first: bool = False) -> str:
    """Return `text` with an apostrophe before whatever a spreadsheet would run as a formula.

    That is at its own beginning, and before any formula sign behind one of `cell_signs`. Where apostrophes stand there
    already there is one more, so that `undefused` gives every text back. `first` is for the first column, from which
    a spreadsheet that cuts elsewhere reads on into the others: every sign counts there.
    """
    return _beginnings(cell_signs).sub(
        lambda found: f"{found[1]}'{found[2]}" if first or _counts(found) else found[0], text
    )


def undefused(text: str, cell_signs: str = CELL_SIGNS, *, first: bool = False) -> str:
    """Return the text that `defused` made a cell of; `first` also reads tables of older releases, which marked every sign."""
    return _beginnings(cell_signs).sub(
        lambda found: found[1] + found[2][1:] if first or _counts(found) else found[0], text
    )


def _counts(found: re.Match[str]) -> bool:
    if found[1]:
        return True
    cell = found.string[found.end() :]
    return _HARMLESS.fullmatch(cell) is None or _CALL.search(cell) is not None


@cache
def _beginnings(cell_signs: str) -> re.Pattern[str]:
    return re.compile(rf"""(^|[{cell_signs}][\s"]*)('*)(?=[{_FORMULA_SIGNS}])""")


def _in_usd(line: InvoiceLine, header: Header) -> Cell:
    # At the plan's own rate, dollars for one of the invoice's currency; without one it is for the broker to convert.
    if header.currency == "USD":
        return line.line_value.exact
    if header.exchange_rate is None:
        return None
    value, rate = (to_decimal(str(each.exact)) for each in (line.line_value, header.exchange_rate))
    return round_amount(multiply(value, rate), "USD")


def _datum(line: InvoiceLine, agency: str, name: str) -> str | None:
    told = [row.data.get(name) for row in line.treatment.pga if row.agency == agency]
    return joined(value if isinstance(value, str) else ", ".join(value) for value in told if value)


def _listed(values: Iterable[str]) -> str | None:
    text = "|".join(values)
    return text or None if len(text) <= LONGEST_LIST else "see packing list"
