"""What the filer must key for partner government agencies: the worksheet of a unit, and its 80-column records."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DatumState = Literal["present", "missing", "person"]


class WorksheetModel(BaseModel):
    """A frozen object in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True)


class Datum(WorksheetModel):
    """One thing to key: what the plan has for it, and where it stands in the records (`PG02 10-28`) if it has a place.

    `missing` is asked for and not there; `person` is there, or may be asked for, but somebody must look at it.
    """

    key: str
    label: str
    state: DatumState
    values: tuple[str, ...]
    place: str | None
    note: str | None


class AgencyAnswer(WorksheetModel):
    """What one agency is told for one flag of a line; `outcome` says it in words where it is not told by data."""

    flag: str
    agency: str
    agency_name: str
    program: str | None
    program_name: str | None
    processing: str | None
    processing_name: str | None
    disclaimer: str | None
    outcome: str | None
    advisory: bool
    state: DatumState
    data: tuple[Datum, ...]
    source: str | None
    confirmed: bool


class WorksheetLine(WorksheetModel):
    """A line that an agency looks at; `records` are those of its HTS line, each of 80 columns."""

    number: int
    line_ref: str
    sku: str
    description: str
    hts_code: str
    country_of_origin: str
    treatment_digest: str
    answers: tuple[AgencyAnswer, ...]
    notes: tuple[str, ...]
    records: tuple[str, ...]


class AgencyTotal(WorksheetModel):
    """How the answers to one agency stand, over all lines."""

    agency: str
    name: str
    lines: int
    present: int
    missing: int
    person: int


class PgaWorksheet(WorksheetModel):
    """Everything that the agencies of a unit's lines must be told, as of the day of entry; no lines where none is."""

    entered_on: date
    rules_as_of: date
    rules_source: str
    line_count: int
    lines_seen: int
    lines: tuple[WorksheetLine, ...]
    agencies: tuple[AgencyTotal, ...]
    present: int
    missing: int
    person: int


#: The worksheet as an invoice carries it: for its own documents, and no part of the invoice's published form.
InvoiceWorksheet = Annotated[PgaWorksheet | None, Field(exclude=True)]
