"""The ruleset of a plan over HTTP: an older one is flagged, and the plan is executed as approved."""

import pytest

from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories

pytestmark = pytest.mark.clock


def test_plan_of_an_older_ruleset_is_flagged_and_accepted_unchanged(harness: ApiHarness) -> None:
    client = harness.client()
    made = factories.plan() | {"ruleset": {"id": "us-ca-2026-04-06", "asOf": "2026-04-06"}}
    report = client.post("/api/exports/preflight", json=made).json()
    finding, _ = report["findings"]  # the second says that there is no tariff
    assert (finding["rule"], finding["severity"], finding["pointer"]) == ("R01", "warn", "/ruleset/asOf")
    assert finding["message"].endswith(": ruleset_outdated.")
    registered = client.post("/api/exports/plans", json=made).json()
    assert registered["planHash"] == report["planHash"] == factories.plan_hash(made)
