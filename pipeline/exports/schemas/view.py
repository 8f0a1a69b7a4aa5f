"""The base of the objects of responses."""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """A frozen object of a response. It mixes snake_case and camelCase names, which clients rely on."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        serialize_by_alias=True,
        from_attributes=True,
        defer_build=True,
    )
