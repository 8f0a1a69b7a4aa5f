"""The dated customs reference data of config/rules, read once and validated before anything is decided by it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.money import decimal
from pipeline.schemas.problems import Severity

Status = Literal["confirmed", "probable", "check"]
Metal = Literal["steel", "aluminum", "copper"]
Figure = Annotated[Decimal, BeforeValidator(decimal)]


class Data(BaseModel):
    """A closed, frozen piece of reference data."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(Data):
    """A rule with where it comes from, how sure that is, and when it holds."""

    effective_from: date | None = None
    effective_to: date | None = None
    source: str
    confidence: Literal["high", "medium", "low"]
    status: Status

    def holds(self, on: date) -> bool:
        """Tell whether the row is in force on the day, both ends included."""
        return (self.effective_from is None or self.effective_from <= on) and (
            self.effective_to is None or on <= self.effective_to
        )

    @property
    def severity(self) -> Severity:
        """Say how loud a breach is: what was only heard of never refuses a plan."""
        return "warn" if self.status == "check" else "block"


class WeightTest(Row):
    """The share of metal, percent of net weight, below which the duty headings do not apply."""

    heading: str
    least_percent: Figure
    exempt_chapters: frozenset[str]
    duty_headings: frozenset[str]


class MetalNeeds(Row):
    """What must be known of one metal; entries are refused without it from `fatal_from`.

    `unknown` may be given for a country where the lists that the code is on are of the kinds `unknown_on`.
    """

    metal: Metal
    needs: tuple[Literal["country_of_melt_and_pour", "primary_country_of_smelt", "country_of_cast"], ...]
    codes: tuple[str, ...] = ()
    unknown: str
    unknown_on: frozenset[Literal["articles", "derivative"]]
    fatal_from: date | None = None

    def asked_of(self, hts_code: str) -> bool:
        """Tell whether the metal is asked for under the ten digits of `hts_code`."""
        return not self.codes or any(hts_code.startswith(digits(code)) for code in self.codes)


class UnknownAluminum(Row):
    """The country value that says unknown, and the headings that then may apply."""

    value: str
    headings: tuple[str, ...]


class Section232Rules(Data):
    """What must be known of the metals of a line, and the test by their weight."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    no_metal_heading: str
    weight_test: WeightTest
    metals: tuple[MetalNeeds, ...]
    unknown_aluminum: UnknownAluminum


def digits(code: str) -> str:
    """Return a dotted tariff code as digits alone."""
    return code.replace(".", "")


def spoken(names: Iterable[str]) -> str:
    """Return the names as a person says them."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


Loaded = TypeVar("Loaded", bound=Data)


@cache
def section232_rules() -> Section232Rules:
    """Return the rules of metals."""
    return load(Section232Rules, "section232.yaml")


def load(model: type[Loaded], name: str) -> Loaded:
    """Return what the file `name` of config/rules holds; raises pydantic's ValidationError where it cannot be right."""
    # JSON is YAML too: one reader for both.
    document: Any = yaml.safe_load((files("config") / "rules" / name).read_text(encoding="utf-8"))
    return model.model_validate(document)
