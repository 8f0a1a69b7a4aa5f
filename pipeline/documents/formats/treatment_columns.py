"""The treatment of a line as columns of a table, in a form that can be read back exactly."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from pipeline.documents.formats.cells import Cell, Columns, join_values
from pipeline.exports.schemas.plan import Pga, Treatment

#: The number of chapter 99 headings with their own column; `ch99_more` holds all others.
CHAPTER99_COLUMNS: Final = 5

#: The field of each column that holds one value per row of the treatment, in the order of the rows.
_HEADINGS: Final = {"ch99_rates": "rate_percent", "ch99_programs": "program", "ch99_bases": "basis"}
_METALS: Final = {
    "metal_type": "metal",
    "metal_kg": "metal_weight_kg",
    "melt_pour_country": "country_of_melt_and_pour",
    "primary_smelt": "primary_country_of_smelt",
    "secondary_smelt": "secondary_country_of_smelt",
    "cast_country": "country_of_cast",
    "us_metal_pct": "us_metal_percent",
}
_AGENCIES: Final = {
    "pga_flags": "flag",
    "pga_agency": "agency",
    "pga_program": "program",
    "pga_processing": "processing",
    "pga_disclaim": "disclaimer",
}
_INTENDED_USES: Final = {"pga_intended_use": "intended_use"}

_VALUE = re.compile(r"((?:[^\\|]|\\.)*)(?:\||$)", re.DOTALL)
_DATUM = re.compile(
    r"(?P<flag>[A-Z0-9]{3})(?:#(?P<place>[0-9]+))?\.(?P<name>[^=\[]+)(?P<list>\[\])?(?:=(?P<value>.*))?"
)


def _join(rows: str, field: str) -> Callable[[Treatment], Cell]:
    return lambda treatment: join_values(getattr(row, field) for row in getattr(treatment, rows))


def _join_metals(field: str) -> Callable[[Treatment], Cell]:
    def join(treatment: Treatment) -> Cell:
        values: list[str | Decimal | None] = [getattr(row, field) for row in treatment.section232]
        return values[0] if len(values) == 1 else join_values(values)

    return join


def _heading(place: int) -> Callable[[Treatment], Cell]:
    return lambda treatment: treatment.chapter99[place].heading if place < len(treatment.chapter99) else None


def _write_data(treatment: Treatment) -> Cell:
    return "|".join(_list_data(treatment.pga)) or None


#: The first chapter 99 headings, each in a column of its own, and the other columns of the headings.
FIRST_HEADINGS: Final[Columns[Treatment]] = {f"ch99_{place + 1}": _heading(place) for place in range(CHAPTER99_COLUMNS)}
HEADINGS: Final[Columns[Treatment]] = {
    "ch99_more": lambda treatment: join_values(row.heading for row in treatment.chapter99[CHAPTER99_COLUMNS:]),
    **{column: _join("chapter99", field) for column, field in _HEADINGS.items()},
}
#: The weight and the percentage of a single metal are numbers.
METALS: Final[Columns[Treatment]] = {column: _join_metals(field) for column, field in _METALS.items()}
AGENCIES: Final[Columns[Treatment]] = {column: _join("pga", field) for column, field in _AGENCIES.items()}
#: `pga_data` names each datum by its flag, such as `FD1.reason=text` or `FD1.lots[]=one|FD1.lots[]=two`. The second row of
#: the same flag is `FD1#2.reason=text`. In the values, `\` and `|` have a `\` before them.
AGENCY_DATA: Final[Columns[Treatment]] = {
    **{column: _join("pga", field) for column, field in _INTENDED_USES.items()},
    "pga_data": _write_data,
}


def read_treatment(row: Mapping[str, str | None]) -> Treatment:
    """Return the treatment that the columns of a row represent.

    Raises ValueError, with the name of the column, if they do not represent a valid treatment.
    """
    headings = [heading for at in range(1, CHAPTER99_COLUMNS + 1) if (heading := row.get(f"ch99_{at}"))]
    headings += _split(row.get("ch99_more"))
    agencies = _read_rows(row, _AGENCIES | _INTENDED_USES, len(_split(row.get("pga_flags"))))
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
            target[to_camel(field)] = value or None
    return read


def _split(cell: str | None) -> list[str]:
    return cell.split("|") if cell else []


def _list_data(rows: Sequence[Pga]) -> Iterator[str]:
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
