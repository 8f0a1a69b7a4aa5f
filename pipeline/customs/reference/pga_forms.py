"""The agencies' forms that filers still fill in: their blocks as printed, and what of the plan stands in each."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.customs.reference.base import ReferenceData, ReferenceRow

#: A value of the plan that stands in a block.
FormFact = Literal[
    "arrival_day", "entry_day", "port_of_entry", "shipment_control_number", "importer", "importer_address", "consignee",
    "consignee_address", "mid", "description", "hts_code",
]  # fmt: skip


class FormBlock(ReferenceData):
    """One block of a form: its number, if it has one, and what stands in it; with neither, it is from the filer.

    `a|b` takes the first of two elements that the answer gives. In a column that `repeats`, one value is for all rows.
    """

    box: str | None = None
    label: str
    fact: Annotated[FormFact | None, Field(alias="from")] = None
    element: str | None = None
    repeats: bool = False

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that may stand in the block."""
        return () if self.element is None else tuple(self.element.split("|"))


class FormLayout(ReferenceRow):
    """A form of some programs: the blocks of the shipment, those of each line, and the columns of the line's rows."""

    name: str
    title: str
    agency: str
    programs: frozenset[str]
    boxes: tuple[FormBlock, ...]
    line_boxes: tuple[FormBlock, ...] = ()
    columns: tuple[FormBlock, ...] = ()

    @model_validator(mode="after")
    def _has_columns_of_data(self) -> Self:
        for block in (*self.boxes, *self.line_boxes):
            if block.fact is not None and block.element is not None:
                raise ValueError(f"block {block.label} of {self.name} has both `from` and `element`")
        if any(block.element is None for block in self.columns):
            raise ValueError(f"a column of {self.name} has no element")
        return self

    def takes(self, agency: str, program: str | None) -> bool:
        """Return whether the program has this form."""
        return agency == self.agency and program in self.programs
