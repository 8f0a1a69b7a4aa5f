"""What can be looked at: the view of an export, lists of exports, the log, and documents."""

from __future__ import annotations

from pipeline.inspection.listing import Filter, listed
from pipeline.inspection.log import Stretch, event_view, log_after
from pipeline.inspection.outcomes import LATE, SET_ASIDE
from pipeline.inspection.submissions import read_submission
from pipeline.inspection.view import (
    DeliveryTally,
    ExportRows,
    Handed,
    assemble,
    find,
    find_artifact,
    read,
    read_customs_package,
    rows_of,
    state_of,
)

__all__ = [
    "LATE",
    "SET_ASIDE",
    "DeliveryTally",
    "ExportRows",
    "Filter",
    "Handed",
    "Stretch",
    "assemble",
    "event_view",
    "find",
    "find_artifact",
    "listed",
    "log_after",
    "read",
    "read_customs_package",
    "read_submission",
    "rows_of",
    "state_of",
]
