"""The filter of exports, as the query of a list."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from pipeline.core.field_types import BoundedInstant
from pipeline.exports.states import ExportState, Milestone, Outcome


class ExportFilter(BaseModel):
    """The wanted exports; None, or an empty `outcome`, matches all."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, populate_by_name=True)

    state: ExportState | None = Field(None, description="Only exports in this state")
    outcome: Sequence[Outcome] = Field(
        (), max_length=len(Outcome), description="Only exports with this outcome; repeat it for any of several"
    )
    broker: str | None = Field(None, max_length=64, description="Id of the customs broker")
    warehouse: str | None = Field(None, max_length=64, description="Id of the warehouse")
    accepted_after: BoundedInstant | None = Field(None, description="An instant with its offset")
    accepted_before: BoundedInstant | None = Field(None, description="An instant with its offset")
    reached: Milestone | None = Field(
        None, description="Only exports whose handoff reached this; those that reached it last come first"
    )
    reached_after: BoundedInstant | None = Field(
        None, description="When it reached it for the first time: an instant with its offset"
    )
    reached_before: BoundedInstant | None = Field(None, description="An instant with its offset")
    quarantined: bool | None = Field(None, description="Only exports that are, or are not, quarantined")
