"""The values that agencies accept for a datum: dated tables of codes with their meanings and sources."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.customs.reference.base import ReferenceData, ReferenceRow, Status

#: The most values that a finding names if none is near.
_NAMED = 20


class AllowedValue(ReferenceData):
    """One value of a table: its code in the records, its meaning, and other words for the code in a plan.

    `source`, `confidence` and `status` are those of the table unless the value has its own.
    """

    code: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,5}$")]
    text: str
    words: tuple[str, ...] = ()
    source: str | None = None
    confidence: Literal["high", "medium", "low"] | None = None
    status: Status | None = None

    @property
    def described(self) -> str:
        """The code with its meaning."""
        return f"{self.code} ({self.text})"


class ValueTable(ReferenceRow):
    """The values that agencies accept for some elements; without `agencies`, all of them.

    A table that is not `complete` may lack values that are right.
    """

    name: str
    elements: frozenset[str]
    agencies: frozenset[str] = frozenset()
    complete: bool = True
    allowed: Annotated[tuple[AllowedValue, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_each_value_once(self) -> Self:
        names = [_fold(name) for value in self.allowed for name in (value.code, *value.words)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"values {self.name} name {name} twice")
        return self

    @cached_property
    def _by_name(self) -> Mapping[str, AllowedValue]:
        return {_fold(name): value for value in self.allowed for name in (value.code, *value.words)}

    def find_value(self, text: str) -> AllowedValue | None:
        """Return the value with this code or word, or None; capitals and spaces around it do not matter."""
        return self._by_name.get(_fold(text))

    def nearest_values(self, text: str) -> tuple[AllowedValue, ...]:
        """Return the values that are spelled most like the text; without such, the first of the table."""
        asked = _fold(text)
        alike = [name for name in self._by_name if len(name) * 2 >= len(asked)]
        names = get_close_matches(asked, alike, n=3, cutoff=0.5)
        found = tuple(dict.fromkeys(self._by_name[name].code for name in names))
        by_code = {value.code: value for value in self.allowed}
        return tuple(by_code[code] for code in found) or self.allowed[:_NAMED]


def find_table(tables: Iterable[ValueTable], element: str, agency: str) -> ValueTable | None:
    """Return the first of the tables that holds the values of the element for the agency, or None."""
    return next(
        (table for table in tables if element in table.elements and (not table.agencies or agency in table.agencies)),
        None,
    )


def with_value_sources(row: Any, sources: Mapping[str, Any]) -> Any:
    """Return a table's row in which each value that names its own source has its text and status."""
    if not isinstance(row, dict) or not isinstance(row.get("allowed"), list):
        return row
    return row | {"allowed": [_with_source(value, sources) for value in row["allowed"]]}


def _with_source(value: Any, sources: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict) or "from" not in value:
        return value
    source = sources.get(value["from"])
    if source is None:
        raise ValueError(f"a value must name a source of the file: {value}")
    rest = {name: given for name, given in value.items() if name != "from"}
    return rest | {"source": source.get("text"), "confidence": source.get("confidence"), "status": source.get("status")}


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()
