"""The requests and responses for waivers and the tariff, and what the rules decide; closed, camelCase, decimals as strings."""

from datetime import date, datetime
from typing import Annotated, Literal

from pydantic import Field

from pipeline.core.field_types import BoundedDay, Day
from pipeline.exports.schemas.plan import LongReadableText, Number, PartnerId, StrictModel

RateKind = Literal["free", "ad_valorem", "specific", "compound", "text"]
RuleId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{1,39}$", description="Such as V17")]
Scope = Annotated[
    str,
    Field(
        max_length=500,
        pattern=r"^(/[A-Za-z0-9_.~*-]{1,64}){1,12}$",
        description="Start of a JSON Pointer into the plan; * matches any single part, as in /units/*/invoice",
    ),
]


class NewWaiver(StrictModel):
    """A warning that the account accepts: which, where, why, and until when."""

    rule: RuleId
    pointer: Scope | None = Field(None, description="Only at this place in the plan; without it everywhere")
    partner_id: PartnerId | None = Field(None, description="Only for this customs broker or warehouse")
    reason: LongReadableText
    ends_on: BoundedDay | None = Field(None, description="The last day, UTC; without it the waiver holds until revoked")


class WaiverView(StrictModel):
    """A recorded waiver; a revoked waiver stays recorded."""

    id: str
    rule: str
    pointer: str | None
    partner_id: str | None
    reason: str
    waived_by: str = Field(description="Id of the API key, or the person named on the command line")
    ends_on: Day | None
    created_at: datetime
    revoked_by: str | None
    revoked_at: datetime | None

    def has_ended(self, on: date) -> bool:
        """Return whether it ended before this day, or was revoked."""
        return self.revoked_at is not None or (self.ends_on is not None and self.ends_on < on)


class WaiverList(StrictModel):
    """The account's waivers, oldest first, with the revoked ones."""

    items: list[WaiverView]


class OriginCertificationView(StrictModel):
    """A USMCA certification in use, for one product; `has_next`: a plan had another one that ends later."""

    sku: str
    hs_code: str
    ref: str = Field(description="Its ref in the plan of the first export that had it")
    certifier_role: str
    certifier_name: str
    criterion: str
    blanket_from: Day
    blanket_to: Day
    signed_on: Day
    export_id: str = Field(description="The first export that had it; its documents have the certification")
    days_left: int
    has_next: bool


class EditionView(StrictModel):
    """The edition of the tariff that a response was read from."""

    name: str
    effective_from: Day
    effective_to: Day | None = Field(description="Its own last day; a newer edition ends it earlier")
    content_hash: str
    source: str


class RateView(StrictModel):
    """A rate of duty: its text, and its parts if the text is understood."""

    text: str
    kind: RateKind = Field(description="`text`: the text is not understood, and a person must read it")
    percent: Number | None = Field(description="Percent of the value")
    amount: Number | None = Field(description="US dollars for each `per`")
    per: str | None = Field(description="A unit of quantity as the tariff writes it, or `each`")


class SpecialRateView(StrictModel):
    """A rate of the special column, with the symbols of its programs."""

    rate: RateView
    programs: list[str] = Field(description="Empty if the text is not understood")


class NumberFlagView(StrictModel):
    """A flag of a partner government agency that a tariff number carries."""

    flag: str
    agency: str
    requirement: Literal["may", "must"] | None = Field(description="Null: the table does not say it")
    meaning: str | None
    edition: str = Field(description="The edition of agency flags that has it")


class DutyCaseView(StrictModel):
    """A case of antidumping or countervailing duty that names a tariff number, as it is on the day; its text has the scope."""

    case_number: str = Field(
        description="Such as A-122-857-000; the last three digits are of a company, 000 is all others"
    )
    name: str
    country: str = Field(description="Country of origin of the goods")
    status: Literal["active", "revoked"]
    rate: str | None = Field(description="Cash deposit rate, as the table writes it")
    effective_from: Day = Field(description="The first day of this status and rate")
    source: str
    edition: str = Field(description="The edition of duty cases that has it")


class TariffNumberView(StrictModel):
    """A number of the tariff on a day: description, units of quantity, rates and footnotes."""

    number: str = Field(description="4, 6, 8 or 10 digits without points")
    on: Day
    edition: EditionView
    descriptions: list[str] = Field(description="From the heading to the number itself")
    units: list[str] = Field(description="Units of quantity, as the tariff writes them; those of a statistical suffix")
    rates_from: str | None = Field(description="The number that has the rates: eight digits for a statistical suffix")
    general: RateView | None = Field(description="Column 1, general")
    special: list[SpecialRateView] = Field(description="Column 1, special")
    other: RateView | None = Field(description="Column 2")
    quota_quantity: str | None
    additional_duties: str | None
    footnotes: list[str]
    suffixes: list[str] = Field(description="The numbers of ten digits below a number of eight")
    agency_flags: list[NumberFlagView] = Field(
        description="From the edition of agency flags in force on the day; empty without one"
    )
    duty_cases: list[DutyCaseView] = Field(
        description="One for each product and country, from the edition of duty cases in force on the day; empty without one"
    )


class ListedCode(StrictModel):
    """A list of provisions that the code is on."""

    list: str
    code: str


class DecidedHeading(StrictModel):
    """A heading that the line takes, in the order of reporting."""

    heading: str
    program: str
    description: str
    rate_percent: str | None
    basis: str
    source: str
    status: str


class PossibleHeading(StrictModel):
    """A heading that a missing fact may lead to."""

    heading: str
    description: str
    rate_percent: str | None
    applies_if: str | None = Field(description="The fact on which it depends; null: it applies otherwise")


class OpenQuestion(StrictModel):
    """A program whose heading depends on facts that were not given."""

    program: str
    name: str
    outcomes: list[PossibleHeading]


class ExcludedGoods(StrictModel):
    """A ban on the import of the goods."""

    list: str
    what: str
    unless: str | None
    effective_from: Day | None
    source: str
    status: str


class PriceFloorView(StrictModel):
    """A duty for each unit of quantity; with the importer's document it is what the entered value is below it."""

    amount: Number = Field(description="US dollars for each `per`")
    per: str
    document: str = Field(description="What the importer's document at entry says")


class OpenDutyView(StrictModel):
    """A duty on the goods whose heading these rules do not know: `ratePercent` or `floor`."""

    text: str = Field(description="All of it in sentences")
    program: str
    description: str
    rate_percent: Number | None
    basis: str
    floor: PriceFloorView | None
    unless: str | None = Field(description="An exception that only a person can confirm")
    effective_from: Day | None
    effective_to: Day | None
    source: str
    status: str


class QuestionView(StrictModel):
    """A known program that may touch the goods and whose text these rules lack."""

    id: str
    unknown: str = Field(description="What is not known, after `it is not known`")
    decides: str = Field(description="Who decides it")
    relief: bool = Field(description="The program can only lower a duty: no finding asks")
    effective_from: Day | None
    effective_to: Day | None
    source: str
    status: str


class NeededData(StrictModel):
    """The data that the line must give for one metal."""

    metal: str
    fields: list[str]
    source: str
    status: str


class ReasonedStep(StrictModel):
    """One heading that the rules considered."""

    program: str
    heading: str
    description: str
    rate_percent: str | None
    basis: str
    verdict: str
    applies: bool
    reasons: list[str]
    source: str
    status: str


class LineDecision(StrictModel):
    """What the rules decide for a line. `headings` is the stack that a plan must give; `undecided` needs more facts."""

    hts_code: str
    origin: str
    on: Day = Field(description="The day of entry")
    ruleset: str = Field(description="The id of the rules that decided")
    rules_as_of: Day
    rules_hash: str
    lists: list[ListedCode]
    headings: list[str] = Field(description="In the order of reporting")
    stack: list[DecidedHeading] = Field(description="The same headings with rate, basis and source")
    undecided: list[OpenQuestion]
    excluded: list[ExcludedGoods]
    open_duties: list[OpenDutyView] = Field(
        default=[], description="Duties that the goods take too, whose heading these rules do not know"
    )
    questions: list[QuestionView] = Field(default=[], description="What is not known of the goods, and who decides it")
    data: list[NeededData]
    steps: list[ReasonedStep] = Field(description="Every heading that was considered, with the reasons")
