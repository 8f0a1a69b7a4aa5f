"""The base types of a document's facts: frozen objects, and values with their wording for people."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, SerializationInfo
from pydantic.alias_generators import to_camel

from pipeline.core.money import format_plain, to_decimal

#: The serialisation context for which a `Printed` value gives its wording instead of the exact value.
FOR_PEOPLE = {"voice": "people"}


@dataclass(frozen=True, slots=True)
class Printed:
    """A value and its wording, such as `1580.00` and `1,580.00`; a template shows the wording."""

    exact: Decimal | str
    shown: str

    def __str__(self) -> str:
        return self.shown

    @property
    def decimal(self) -> Decimal:
        """The value as a number; raises ValueError for a text that is not one."""
        return to_decimal(str(self.exact))


def _serialize_value(value: Printed, info: SerializationInfo) -> str:
    if info.context == FOR_PEOPLE:
        return value.shown
    return value.exact if isinstance(value.exact, str) else format_plain(value.exact)


#: An amount of money in the invoice's currency, a quantity, a weight in kg, a length in cm, or a code.
Value = Annotated[Printed, PlainSerializer(_serialize_value, return_type=str)]


class DocumentModel(BaseModel):
    """A frozen object in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True, defer_build=True
    )


class Identifier(DocumentModel):
    """An identifier of a party."""

    name: Value
    value: Value


class Pair(DocumentModel):
    """A named value, such as an attribute of a line."""

    name: str
    value: str
