"""The treatment of a line as columns of the flat table, written so that it can be read back to the last digit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from pydantic import ValidationError

from pipeline.core.money import plain
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
    texts = ["" if value is None else plain(value) if isinstance(value, Decimal) else str(value) for value in values]
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
