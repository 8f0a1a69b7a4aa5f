"""Fixtures shared with other test folders."""

from tests.deliveries.conftest import clock, endpoint, full_pauses, make_runtime
from tests.workflow.conftest import make_workflow

__all__ = ["clock", "endpoint", "full_pauses", "make_runtime", "make_workflow"]
