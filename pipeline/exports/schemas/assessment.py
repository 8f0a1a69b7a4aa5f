"""The amounts that customs assessed for one entry, and their comparison with the estimate. All are in US dollars."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from pipeline.core.money import round_cents
from pipeline.exports.schemas.entry_estimate import EstimateModel, Money
from pipeline.exports.schemas.plan_fields import Amount, ReadableText, StrictModel

#: Two decimals always, so that 31.6 and 31.60 are the same answer.
Dollars = Annotated[Amount, Field(max_digits=12, decimal_places=2), AfterValidator(round_cents)]


class AssessedDuty(StrictModel):
    """The duty of one heading; amounts of the same heading are added."""

    heading: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9.-]{2,19}$")] = Field(
        description="As it was filed: a tariff number, a heading of chapter 99, or the number of a case"
    )
    amount_usd: Dollars


class AssessedFee(StrictModel):
    """A fee or a tax by its class code."""

    code: Annotated[str, StringConstraints(pattern=r"^[0-9]{2,4}$")] = Field(description="Such as 499 or 501")
    amount_usd: Dollars


class BrokerCharge(StrictModel):
    """A charge of the customs broker itself."""

    name: Annotated[ReadableText, Field(max_length=100)]
    amount_usd: Dollars


class AssessedAmounts(StrictModel):
    """What was assessed for one entry. A member that is absent says nothing; an empty list says that there is none."""

    currency: Literal["USD"]
    duties: list[AssessedDuty] | None = Field(None, max_length=500)
    fees: list[AssessedFee] | None = Field(None, max_length=50)
    taxes: list[AssessedFee] | None = Field(
        None, max_length=50, description="Internal revenue taxes; their sum is compared"
    )
    charges: list[BrokerCharge] | None = Field(
        None, max_length=50, description="The customs broker's own charges; they are not compared"
    )

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if all(each is None for each in (self.duties, self.fees, self.taxes, self.charges)):
            raise ValueError("give `duties`, `fees`, `taxes` or `charges`")
        return self


class AmountKind(StrEnum):
    """What an amount is."""

    DUTY = "duty"
    FEE = "fee"
    TAX = "tax"
    CHARGE = "charge"


class ComparedAmount(EstimateModel):
    """One amount of both sides. What only one side has is compared with zero; a charge is only shown."""

    kind: AmountKind
    code: str = Field(description="The heading, the class code, or the name of the charge")
    estimated_usd: Money | None = Field(description="Null if the estimate does not have it; `note` says why")
    assessed_usd: Money | None = Field(description="Null if it was not assessed")
    difference_usd: Money | None = Field(description="Assessed minus estimated; null if the estimate is not known")
    tolerance_usd: Money | None
    within_tolerance: bool | None = Field(description="Null if nothing was compared")
    arithmetic: str | None
    note: str | None = Field(description="What to know about the estimate, such as a rule with the status `check`")


class Assessment(EstimateModel):
    """What was assessed for an entry, compared with the estimate of the handoff when the answer arrived."""

    customs_package_number: str
    answer_id: str = Field(description="The answer with the amounts")
    source: str | None = Field(
        None, description="Where a person imported the amounts from; null if the customs broker sent them"
    )
    estimate_id: str | None = Field(description="The document `entry_estimate` with the estimate; null without one")
    estimate_note: str | None = Field(description="Why the estimate is not known, or what it lacks")
    differs: bool = Field(description="Whether an amount differs by more than its tolerance")
    lines: tuple[ComparedAmount, ...]

    def describe_differences(self) -> str:
        """Return the amounts beyond tolerance with their arithmetic, at most five; empty if there are none."""
        beyond = [each for each in self.lines if each.within_tolerance is False]
        shown = [f"{each.kind} {each.code}: {each.arithmetic}" for each in beyond[:5]]
        return "; ".join(shown) + (f"; and {len(beyond) - 5} more" if len(beyond) > 5 else "")
