"""The columns of the flat table, with the treatment of a line in a form that can be read back exactly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache

from pydantic import ValidationError

from pipeline.core.money import format_plain, multiply, round_amount
from pipeline.documents.schemas.declarations import MergedLine
from pipeline.documents.schemas.invoice import Header, Invoice, InvoiceLine
from pipeline.exports.line_declarations import CASES
from pipeline.exports.schemas.plan import Chapter99, Pga, Section232, Treatment

#: The number of chapter 99 headings with their own column; `ch99_more` holds all others.
CHAPTER99_COLUMNS = 5

#: The field of each column that holds one value per row of the treatment, in the order of the rows.
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

_VALUE = re.compile(r"((?:[^\\|]|\\.)*)(?:\||$)", re.DOTALL)
_DATUM = re.compile(
    r"(?P<flag>[A-Z0-9]{3})(?:#(?P<place>[0-9]+))?\.(?P<name>[^=\[]+)(?P<list>\[\])?(?:=(?P<value>.*))?"
)


def chapter99_columns(rows: Sequence[Chapter99]) -> dict[str, str | None]:
    """Return the headings, each in its own column while there are columns, with their rates, programs and bases."""
    headings = [row.heading for row in rows]
    padded: list[str | None] = [*headings, *[None] * CHAPTER99_COLUMNS]
    return {
        **{f"ch99_{at}": heading for at, heading in enumerate(padded[:CHAPTER99_COLUMNS], start=1)},
        "ch99_more": join_values(headings[CHAPTER99_COLUMNS:]),
        "ch99_rates": join_values(row.rate_percent for row in rows),
        "ch99_programs": join_values(row.program for row in rows),
        "ch99_bases": join_values(row.basis for row in rows),
    }


def metal_columns(rows: Sequence[Section232]) -> dict[str, str | Decimal | None]:
    """Return the metals with their weights and countries, in the same order in each column.

    The weight and the percentage of a single metal are numbers.
    """
    return {
        "metal_type": join_values(row.metal for row in rows),
        "metal_kg": _join_figures([row.metal_weight_kg for row in rows]),
        "melt_pour_country": join_values(row.country_of_melt_and_pour for row in rows),
        "primary_smelt": join_values(row.primary_country_of_smelt for row in rows),
        "secondary_smelt": join_values(row.secondary_country_of_smelt for row in rows),
        "cast_country": join_values(row.country_of_cast for row in rows),
        "us_metal_pct": _join_figures([row.us_metal_percent for row in rows]),
    }


def agency_columns(rows: Sequence[Pga]) -> dict[str, str | None]:
    r"""Return the agency answers, in the same order in each column.

    `pga_data` names each datum by its flag, such as `FD1.reason=text` or `FD1.lots[]=one|FD1.lots[]=two`. The second row
    of the same flag is `FD1#2.reason=text`. In the values, `\` and `|` have a `\` before them.
    """
    return {
        "pga_flags": join_values(row.flag for row in rows),
        "pga_agency": join_values(row.agency for row in rows),
        "pga_program": join_values(row.program for row in rows),
        "pga_processing": join_values(row.processing for row in rows),
        "pga_disclaim": join_values(row.disclaimer for row in rows),
        "pga_intended_use": join_values(row.intended_use for row in rows),
        "pga_data": "|".join(_written_data(rows)) or None,
    }


def join_values(values: Iterable[object]) -> str | None:
    """Return the values joined by `|`; empty places are kept, so the third weight belongs to the third metal."""
    texts = [
        "" if value is None else format_plain(value) if isinstance(value, Decimal) else str(value) for value in values
    ]
    return "|".join(texts) if any(texts) else None


def _join_figures(values: Sequence[Decimal | None]) -> str | Decimal | None:
    return values[0] if len(values) == 1 else join_values(values)


def read_treatment(row: Mapping[str, str | None]) -> Treatment:
    """Return the treatment that the columns of a row represent.

    Raises ValueError, with the name of the column, if they do not represent a valid treatment.
    """
    headings = [heading for at in range(1, CHAPTER99_COLUMNS + 1) if (heading := row.get(f"ch99_{at}"))]
    headings += _split(row.get("ch99_more"))
    agencies = _read_rows(row, _AGENCIES, len(_split(row.get("pga_flags"))))
    for agency, data in zip(agencies, _read_data(row.get("pga_data"), agencies), strict=True):
        agency["data"] = data
    found = {
        "chapter99": [
            {"heading": heading, **rest}
            for heading, rest in zip(headings, _read_rows(row, _HEADINGS, len(headings)), strict=True)
        ],
        "section232": _read_rows(row, _METALS, len(_split(row.get("metal_type")))),
        "pga": agencies,
        "undetermined": row.get("treatment_undetermined") or None,
    }
    try:
        return Treatment.model_validate(found)
    except ValidationError as error:
        where = "/".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise ValueError(f"the columns have an invalid value for the treatment at {where}") from None


def _read_rows(row: Mapping[str, str | None], fields: Mapping[str, str], count: int) -> list[dict[str, object]]:
    read: list[dict[str, object]] = [{} for _ in range(count)]
    for column, field in fields.items():
        values = _split(row.get(column)) or [""] * count
        if len(values) != count:
            raise ValueError(f"{column} must have {count} values; it has {len(values)}")
        for target, value in zip(read, values, strict=True):
            target[field] = value or None
    return read


def _split(cell: str | None) -> list[str]:
    return cell.split("|") if cell else []


def _written_data(rows: Sequence[Pga]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for row in rows:
        seen[row.flag] += 1
        flag = row.flag if seen[row.flag] == 1 else f"{row.flag}#{seen[row.flag]}"
        for name, value in row.data.items():
            if isinstance(value, str):
                yield f"{flag}.{name}={_escape(value)}"
            elif value:
                yield from (f"{flag}.{name}[]={_escape(each)}" for each in value)
            else:
                yield f"{flag}.{name}[]"


def _read_data(cell: str | None, agencies: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    read: list[dict[str, object]] = [{} for _ in agencies]
    places: dict[tuple[str, int], dict[str, object]] = {}
    seen: Counter[str] = Counter()
    for agency, data in zip(agencies, read, strict=True):
        flag = str(agency["flag"])
        seen[flag] += 1
        places[flag, seen[flag]] = data
    for part in _split_data(cell or ""):
        match = _DATUM.fullmatch(part)
        target = places.get((match["flag"], int(match["place"] or 1))) if match else None
        if match is None or target is None:
            raise ValueError(f"pga_data has {part!r}, which must name a flag of pga_flags and a datum")
        name, value = match["name"], match["value"]
        if not match["list"]:
            target[name] = _unescape(value or "")
            continue
        values = target.setdefault(name, [])
        if isinstance(values, list) and value is not None:
            values.append(_unescape(value))
    return read


def _split_data(cell: str) -> Iterator[str]:
    position = 0
    while position < len(cell):
        match = _VALUE.match(cell, position)
        if match is None or match.end() == position:
            raise ValueError("pga_data ends in the middle of a value; it may be cut off")
        yield match[1]
        position = match.end()


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


Cell = str | Decimal | int | date | None

#: A spreadsheet cell takes 32,767 characters; a longer list is replaced by a reference to the packing list.
LONGEST_LIST = 32_000

# A spreadsheet reads text that begins with one of these characters, including full-width forms, as a formula.
_FORMULA_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"

# A telephone number and an article number may begin with a sign too: `+1 (416) 555-0100`, `-24-PAN`. An import program
# needs them unchanged. A formula that begins with plus or minus can leave its own sheet in two ways only. It calls a
# function (`name(`), or it names another program, book or sheet (`|`, `!`, `[`, `#`, quotes). So such a text stays
# unchanged if it has only letters, digits and the characters below, and no name before a parenthesis. A person who opens
# it may see #NAME? or a sum, but nothing is run.
_HARMLESS_TEXT = re.compile(r"[+\-\uff0b\uff0d][\w .+\-/()\uff0b\uff0d]*")
_CALL = re.compile(r"[^\W\d][\w.]*\s*\(")

#: Characters that start a new cell in a spreadsheet whose delimiter is not the file's: `;` in much of Europe.
CELL_SIGNS = ";"

#: The line attribute of each column: a broker's table has a column for these facts, the plan only an attribute.
_ATTRIBUTES = {"fcc_id": "fccId", "ad_cvd_case": CASES}

_AGENCY_COLUMNS = ("pga_flags", "pga_agency", "pga_program", "pga_processing", "pga_disclaim")


def table_rows(invoice: Invoice) -> Iterator[dict[str, Cell]]:
    """Yield the row of each line as column name to value, always with the same columns in the same order.

    First come the columns that an import mapper needs, empty if the plan has no such fact. Then come the columns that
    prove the origin of the row. Several values of one column (metals, agencies, packages) are joined by `|`, in the same
    order in each column.
    """
    makers = {maker.ref: maker for maker in invoice.parties.manufacturers}
    ssccs = {package.package_ref: package.sscc for package in invoice.packages}
    notes: dict[int, list[str]] = {}
    for finding in invoice.findings:
        if finding.line_number is not None:
            notes.setdefault(finding.line_number, []).append(f"{finding.rule} {finding.severity}: {finding.message}")
    header, provenance, entry_lines = invoice.header, invoice.provenance, invoice.entry_line_numbers
    for line in invoice.lines:
        maker = makers[line.manufacturer_ref]
        treatment = line.treatment
        headings = chapter99_columns(treatment.chapter99)
        agencies = agency_columns(treatment.pga)
        attributes = attribute_columns(line)
        yield {
            "invoice_no": header.number,
            "invoice_date": header.invoice_date,
            "line_no": line.number,
            "sku": line.sku,
            "description": line.description,
            "hts10": line.hts_code.exact,
            **{name: headings.pop(name) for name in [*headings] if name[-1].isdecimal()},
            **chapter98_columns(line),
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
            **quantity_columns(line),
            "unit_price": line.unit_price.exact,
            "line_value": line.line_value.exact,
            "currency": header.currency,
            "fx_rate": None if header.exchange_rate is None else header.exchange_rate.exact,
            "line_value_usd": _in_usd(line, header),
            # Charges belong to the invoice: distributing them over its lines would invent a fact.
            "charges_usd": None,
            "gross_kg": line.gross_weight_kg.exact,
            "net_kg": line.net_weight_kg.exact,
            **metal_columns(treatment.section232),
            **{name: agencies.pop(name) for name in _AGENCY_COLUMNS},
            "pga_data_ref": f"pga_worksheet line {line.number}" if treatment.pga else None,
            "related_party": "Y" if header.related_parties else "N",
            "po_no": header.purchase_order,
            "package_ids": _join_list(line.package_refs),
            "sscc_list": _join_list(sscc for ref in line.package_refs if (sscc := ssccs[ref])),
            "usmca_criterion": line.usmca_criterion,
            "usmca_cert_ref": line.usmca_certificate_ref,
            "fda_product_code": _datum(line, "FDA", "fdaProductCode"),
            "fcc_id": attributes["fcc_id"],
            "cpsc_product_id": _datum(line, "CPS", "productId"),
            "cpsc_version": _datum(line, "CPS", "versionId"),
            "ad_cvd_case": attributes["ad_cvd_case"],
            "notes": " / ".join(notes.get(line.number, [])) or None,
            "line_ref": line.line_ref,
            "order_id": line.order_id,
            "manufacturer_addr2": maker.address.line2,
            **headings,
            **agencies,
            "treatment_undetermined": treatment.undetermined,
            "attributes": join_values(f"{pair.name}={pair.value}" for pair in line.attributes),
            "treatment_digest": line.treatment_digest,
            "export_treatment_digest": provenance.treatment_digest,
            "batch_id": provenance.batch_id,
            "package_no": provenance.package_number,
            "revision": provenance.revision,
            "plan_hash": provenance.plan_hash,
            "test": "Y" if invoice.test else "N",
            "entry_line": entry_lines[line.number],
        }


def chapter98_columns(line: InvoiceLine | MergedLine) -> dict[str, Cell]:
    """Return the claim of chapter 98 with the parts of the value; empty without a claim."""
    claim = line.chapter98
    return {
        "ch98": None if claim is None else claim.provision,
        "ch98_exempt_value": None if claim is None else claim.exempt_value.exact,
        "ch98_dutiable_value": None if claim is None else claim.dutiable_value.exact,
        "ch98_exported_on": None if claim is None else claim.exported_on,
        "ch98_proof": None if claim is None else claim.proof,
    }


def read_attributes(line: InvoiceLine) -> dict[str, str]:
    """Return the attributes of the line by name."""
    return {pair.name: pair.value for pair in line.attributes}


def attribute_columns(line: InvoiceLine) -> dict[str, Cell]:
    """Return the columns that the plan has as attributes of the line; None for what is not given."""
    given = read_attributes(line)
    return {column: given.get(name) for column, name in _ATTRIBUTES.items()}


def quantity_columns(line: InvoiceLine | MergedLine) -> dict[str, Cell]:
    """Return the quantities of the entry, up to three, each with its unit."""
    # Without entry quantities, the quantity of the line is the only one.
    first, second, third = (*line.entry_quantities, None, None, None)[:3]
    return {
        "entry_qty": (first or line).quantity.exact,
        "entry_uom": (first or line).unit,
        "qty2": None if second is None else second.quantity.exact,
        "uom2": None if second is None else second.unit,
        "qty3": None if third is None else third.quantity.exact,
        "uom3": None if third is None else third.unit,
    }


def escape_formula(text: str, cell_signs: str = CELL_SIGNS, *, first: bool = False) -> str:
    """Return `text` with an apostrophe before everything that a spreadsheet would run as a formula.

    That is the beginning of the text, and each formula sign after one of `cell_signs`. Existing apostrophes there get one
    more, so that `unescape_formula` restores every text. With `first`, for the first column, every sign counts: a
    spreadsheet with another delimiter reads the other columns as part of it.
    """
    return _formula_pattern(cell_signs).sub(
        lambda found: f"{found[1]}'{found[2]}" if first or _is_formula(found) else found[0], text
    )


def unescape_formula(text: str, cell_signs: str = CELL_SIGNS, *, first: bool = False) -> str:
    """Return the original text of a cell that `escape_formula` wrote.

    `first` also reads tables of older releases, which escaped every sign.
    """
    return _formula_pattern(cell_signs).sub(
        lambda found: found[1] + found[2][1:] if first or _is_formula(found) else found[0], text
    )


def _is_formula(found: re.Match[str]) -> bool:
    if found[1]:
        return True
    cell = found.string[found.end() :]
    return _HARMLESS_TEXT.fullmatch(cell) is None or _CALL.search(cell) is not None


@cache
def _formula_pattern(cell_signs: str) -> re.Pattern[str]:
    return re.compile(rf"""(^|[{cell_signs}][\s"]*)('*)(?=[{_FORMULA_SIGNS}])""")


def _in_usd(line: InvoiceLine, header: Header) -> Cell:
    # Converted at the plan's rate, US dollars per unit of the invoice's currency; without a rate the broker converts.
    if header.currency == "USD":
        return line.line_value.exact
    if header.exchange_rate is None:
        return None
    value, rate = (each.decimal for each in (line.line_value, header.exchange_rate))
    return round_amount(multiply(value, rate), "USD")


def _datum(line: InvoiceLine, agency: str, name: str) -> str | None:
    values = [row.data.get(name) for row in line.treatment.pga if row.agency == agency]
    return join_values(value if isinstance(value, str) else ", ".join(value) for value in values if value)


def _join_list(values: Iterable[str]) -> str | None:
    text = "|".join(values)
    return text or None if len(text) <= LONGEST_LIST else "see packing list"
