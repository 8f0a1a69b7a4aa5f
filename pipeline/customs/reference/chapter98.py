"""The provisions of chapter 98 that a line claims beside the number of its goods, and which duties are on a part of the value."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.customs.reference.base import ReferenceData, ReferenceRow
from pipeline.customs.reference.content import RulesContent, load_once, parse_file

Provision = Annotated[str, Field(pattern=r"^98\d{2}\.\d{2}\.\d{2}$")]


class ValueParts(ReferenceData):
    """What the two parts of a line's value are, in words."""

    exempt: str
    dutiable: str


class Provision98(ReferenceRow):
    """One provision: what the duty is on, and what proves the claim.

    Goods of another origin, or all with `years_of_all`, must come back within `years_abroad`. `by_place` are the programs that
    goods may claim for the place of their repair, whatever their origin.
    """

    provision: Provision
    name: str
    duty_on: Literal["nothing", "part"]
    parts: ValueParts
    years_abroad: int | None = None
    years_of_all: bool = False
    by_place: frozenset[str] = frozenset()
    proof: str


class DividedDuty(ReferenceRow):
    """Duties that are on the value with duty of a claim, by program; `COLUMN_1` is the duty of the goods.

    If `whole`, they are on the full value in spite of the claim.
    """

    name: str
    programs: tuple[str, ...]
    provisions: tuple[Provision, ...]
    whole: bool = False


class Chapter98Rules(ReferenceData):
    """The provisions of chapter 98 that the service knows."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    provisions: tuple[Provision98, ...]
    duties: tuple[DividedDuty, ...] = ()

    @model_validator(mode="after")
    def _provisions_are_different(self) -> Self:
        names = [row.provision for row in self.provisions]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"provisions has {', '.join(sorted(twice))} twice")
        return self

    def find_provision(self, claimed: str, on: date) -> Provision98 | None:
        """Return the row of a claimed provision, with or without its suffix, in force on the day; None if there is none."""
        return next((row for row in self.provisions if claimed.startswith(row.provision) and row.in_force(on)), None)

    def grants_by_place(self, claimed: str, program: str | None, on: date) -> bool:
        """Return whether goods with this claim may take the program on the day for the place of their repair."""
        row = self.find_provision(claimed, on)
        return row is not None and program in row.by_place

    def find_duty(self, claimed: str, program: str, on: date) -> DividedDuty | None:
        """Return the row that says what the program's duty is on for a claim on the day; None if none says it."""
        return next(
            (
                row
                for row in self.duties
                if program in row.programs and claimed.startswith(row.provisions) and row.in_force(on)
            ),
            None,
        )


@load_once
def chapter98_rules(content: RulesContent) -> Chapter98Rules:
    """Return the provisions of chapter 98."""
    return parse_file(content, Chapter98Rules, "chapter98.yaml")
