"""The dated reference data of partner government agencies: models and where they are read."""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.customs.rules import Data, Status, load
from pipeline.schemas.problems import Severity


class Disclaimer(Data):
    """A reason why an agency need not be told."""

    text: str
    agencies: frozenset[str] = frozenset()
    entry_types: frozenset[str] = frozenset()


class Flag(Data):
    """A flag that an HTS number carries for an agency."""

    agency: str
    program: str | None = None
    required: bool
    disclaimers: tuple[str, ...]
    advisory: bool = False
    silent: bool = False
    effective_from: date | None = None
    status: Status

    @property
    def severity(self) -> Severity:
        """Say how loud a breach is: an agency that only advises, and what was only heard of, refuse nothing."""
        return "warn" if self.advisory or self.status == "check" else "block"


class Program(Data):
    """A program of an agency, and what its data must hold."""

    processing: tuple[str, ...]
    status: Status
    disclaimers: tuple[str, ...] | None = None
    intended_use: bool = False
    data: tuple[str, ...]
    modes: dict[str, tuple[str, ...]] = {}


class PgaRules(Data):
    """What partner government agencies must be told."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    source: str
    disclaimers: dict[str, Disclaimer]
    flags: dict[str, Flag]
    agencies: dict[str, dict[str, Program]]

    @model_validator(mode="after")
    def _disclaimers_fit(self) -> Self:
        for name, flag in self.flags.items():
            for code in flag.disclaimers:
                agencies = self.disclaimers[code].agencies
                if agencies and flag.agency not in agencies:
                    raise ValueError(f"flag {name} of {flag.agency} allows disclaimer {code}, which is for {agencies}")
        return self


@cache
def pga_rules() -> PgaRules:
    """Return the rules of partner government agencies."""
    return load(PgaRules, "pga.yaml")
