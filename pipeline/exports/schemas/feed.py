"""What the API answers about the feed of an account."""

from pydantic import Field

from pipeline.exports.schemas.export import EventView
from pipeline.exports.schemas.view import View


class FeedEventView(EventView):
    """One event of the feed: an event of an export's log, with its export."""

    export_id: str = Field(alias="exportId")
    batch_id: str = Field(alias="batchId")
    test: bool = Field(description="Whether a test key sent the plan")


class FeedPage(View):
    """One page of the feed; `nextAfter` is the `after` of the next one, also if this one is empty."""

    items: list[FeedEventView]
    next_after: str | None = Field(alias="nextAfter", description="Null only if the account has no event yet")
    more: bool = Field(description="Whether there may be more events now; if false, ask again later")
