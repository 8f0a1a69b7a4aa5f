"""Reads the values of agency data as fields of a record: dates, quantities with units, scientific names."""

import re
from collections.abc import Mapping
from datetime import date, datetime

_LEVEL = re.compile(r"^(?:(?P<quantity>[0-9]+(?:\.[0-9]+)?) +)?(?P<unit>[A-Za-z0-9]{1,5})$")
_MEASURE = re.compile(r"^(?P<quantity>[0-9]+(?:\.[0-9]+)?)(?: +(?P<unit>[A-Za-z0-9]{1,3}))?$")
_MONTH = re.compile(r"^(?P<year>[0-9]{4})-(?P<month>0[1-9]|1[0-2])(?:-[0-3][0-9])?$")
_TAXON = ("genus", "species", "subspecies")


def read_level(text: str, *, own_unit: str | None, own_quantity: str) -> Mapping[str, str]:
    """Return the quantity and unit of one level of packing, such as `24 CAN`.

    A unit alone has the quantity of the line if it is `own_unit`. Raises ValueError with the note for the filer.
    """
    found = _LEVEL.match(text)
    quantity = found["quantity"] if found else None
    if found is not None and quantity is None and found["unit"].upper() == own_unit:
        quantity = own_quantity
    if found is None or quantity is None:
        raise ValueError(f"{text} must be a quantity and a unit; write each level like 24 CAN")
    _check_above_zero(text, quantity)
    return {"quantity": quantity, "unit": found["unit"]}


def read_measure(text: str, field: str) -> Mapping[str, str]:
    """Return the quantity under the name of the field, and its unit if the text has one. Raises ValueError with the note."""
    found = _MEASURE.match(text)
    if found is None:
        raise ValueError(f"{text} must be a number and a unit, such as 12.5 KG")
    _check_above_zero(text, found["quantity"])
    unit = {f"{field}_unit": found["unit"]} if found["unit"] else {}
    return {field: found["quantity"]} | unit


def read_instant(text: str) -> Mapping[str, str]:
    """Return the day as MMDDCCYY and the time as HHMM, both at the port. Raises ValueError with the note for the filer."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} must be a date and time, such as 2026-11-27T13:00") from None
    if instant.tzinfo is not None and not instant.utcoffset():
        raise ValueError(f"{text} is UTC; give the local time of the port, such as 2026-11-27T13:00-05:00")
    if f"{instant:%H%M}" == "0000":
        raise ValueError(f"{text} is midnight, and PG30 does not take 0000; give a time such as 00:01")
    return {"date": f"{instant:%m%d%Y}", "time": f"{instant:%H%M}"}


def read_day(text: str, field: str) -> Mapping[str, str]:
    """Return a day as MMDDCCYY. Raises ValueError with the note for the filer."""
    try:
        return {field: f"{date.fromisoformat(text):%m%d%Y}"}
    except ValueError:
        raise ValueError(f"{text} must be a day, such as 2026-09-14") from None


def read_month(text: str, field: str) -> Mapping[str, str]:
    """Return a month or a day in it as MMCCYY. Raises ValueError with the note for the filer."""
    found = _MONTH.match(text)
    if found is None:
        raise ValueError(f"{text} must be a month, such as 2026-09")
    return {field: f"{found['month']}{found['year']}"}


def read_taxon(text: str, field: str) -> Mapping[str, str]:
    """Return genus, species and subspecies of a scientific name; one word alone is the field itself."""
    words = text.split()
    if len(words) < 2:
        return {field: text}
    return (
        dict(zip(_TAXON, (*words[:2], " ".join(words[2:])), strict=True))
        if words[2:]
        else dict(zip(_TAXON, words, strict=False))
    )


def _check_above_zero(text: str, quantity: str) -> None:
    if not quantity.strip("0."):
        raise ValueError(f"{text} must be more than zero")
