"""The types of the fields of plans and requests: frozen objects, decimals, texts, references and codes."""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from pipeline.core.field_types import NUMBER, check_currency, check_printable, parse_decimal
from pipeline.core.money import format_plain
from pipeline.core.text_safety import check_readable


class StrictModel(BaseModel):
    """A frozen object in camelCase that refuses a field it does not know."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        str_strip_whitespace=False,
        defer_build=True,  # a process needs few of the models, and building one takes a millisecond
    )


_PARSED: Final = BeforeValidator(parse_decimal)
_WRITTEN: Final = PlainSerializer(format_plain, return_type=str, when_used="json")
_SHOWN: Final = WithJsonSchema({"type": "string", "pattern": NUMBER.pattern, "maxLength": 24, "examples": ["12.50"]})
Number = Annotated[Decimal, _PARSED, _WRITTEN, _SHOWN]
# The limits stand before the parser. After it pydantic would check them in Python, which costs three times as much.
Amount = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6), _PARSED, _WRITTEN, _SHOWN]
Quantity = Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=6), _PARSED, _WRITTEN, _SHOWN]
WeightKg = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=4), _PARSED, _WRITTEN, _SHOWN]
LengthCm = Annotated[Decimal, Field(gt=0, max_digits=10, decimal_places=3), _PARSED, _WRITTEN, _SHOWN]
Percent = Annotated[Decimal, Field(ge=0, le=1000, max_digits=9, decimal_places=6), _PARSED, _WRITTEN, _SHOWN]

Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(check_printable)]
LongText = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(check_printable)]
#: Texts outside a plan, which the checks of a plan do not cover.
ReadableText = Annotated[Text, AfterValidator(check_readable)]
LongReadableText = Annotated[LongText, AfterValidator(check_readable)]
Ref = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2")]
MetalCountry = Annotated[
    str, Field(pattern=r"^([A-Z]{2}|OTH)$", description="ISO 3166-1 alpha-2, or OTH where allowed")
]
Currency = Annotated[str, Field(min_length=3, max_length=3, description="ISO 4217"), AfterValidator(check_currency)]
HtsCode = Annotated[str, Field(pattern=r"^[0-9]{10}$", description="HTSUS, 10 digits without dots")]
UnitCode = Annotated[
    str, Field(pattern=r"^[A-Z0-9]{1,3}$", description="Unit of quantity as the entry writes it, such as NO, KG, DPR")
]
Email = Annotated[
    str, Field(max_length=254, pattern=r'^[^\s@,;<>"]+@[^\s@,;<>"]+\.[^\s@,;<>".]+$'), AfterValidator(check_printable)
]
Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
AccountId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
BatchId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
PartnerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
