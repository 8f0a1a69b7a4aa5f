"""The PGA worksheet of a unit: the data that the filer must enter for the agencies, and its 80-column records."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DatumState = Literal["present", "missing", "person"]


class WorksheetModel(BaseModel):
    """A frozen object in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True, defer_build=True
    )


class Datum(WorksheetModel):
    """One datum to enter: its values in the plan, and its place in the records (`PG02 10-28`) if it has one.

    `missing` is required but not in the plan. `person` is in the plan, or may be required, and a person must look at it.
    """

    key: str
    label: str
    state: DatumState
    values: tuple[str, ...]
    place: str | None
    note: str | None


class AgencyAnswer(WorksheetModel):
    """The answer to one agency for one flag of a line; `outcome` gives it in words if it is not data."""

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
    """A line with an agency flag; `records` are the 80-column records of its HTS line.

    `entry_line` is the number of the entry line that it is part of; PG01 are numbered through each entry line.
    """

    number: int
    entry_line: int
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
    """The totals of the answers to one agency, over all lines."""

    agency: str
    name: str
    lines: int
    present: int
    missing: int
    person: int


class FormValue(WorksheetModel):
    """One block of a form: its number and label, and its value; None if the plan has none, or if the filer has it."""

    box: str
    value: str | None
    from_filer: bool


class FormLine(WorksheetModel):
    """A line on a form: its own blocks, and a row of texts for each vehicle or component; empty texts are not given."""

    number: int
    boxes: tuple[FormValue, ...]
    rows: tuple[tuple[str, ...], ...]


class AgencyForm(WorksheetModel):
    """A form of an agency, filled in for the filer to copy: the blocks of the shipment, and its lines under `columns`."""

    form: str
    title: str
    source: str
    boxes: tuple[FormValue, ...]
    columns: tuple[str, ...]
    lines: tuple[FormLine, ...]


class PgaWorksheet(WorksheetModel):
    """All answers to agencies for a unit, as of the day of entry; `lines` is empty if there are none."""

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
    forms: tuple[AgencyForm, ...] = ()


#: The worksheet in an invoice: for the service's documents only, and left out of the published invoice.
InvoiceWorksheet = Annotated[PgaWorksheet | None, Field(exclude=True)]
