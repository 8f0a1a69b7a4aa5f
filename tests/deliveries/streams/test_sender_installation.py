"""A copy of a database sends nothing beside the live one, and works as before if no installation is recorded."""

from collections.abc import Callable

import pytest

from pipeline.core import installation
from pipeline.ops import readiness
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support.hooks import deliver, hand_off_by_webhook, states
from tests.support.http_endpoint import Endpoint


@pytest.mark.parametrize(
    ("recorded", "given", "sends"),
    [(None, None, True), (None, "live", True), ("live", "live", True), ("live", "drill", False), ("live", None, False)],
)
def test_only_the_installation_of_the_database_sends(
    make_runtime: OpenRuntime,
    endpoint: Callable[..., Endpoint],
    recorded: str | None,
    given: str | None,
    *,
    sends: bool,
) -> None:
    runtime, hook = make_runtime(installation=given), endpoint()
    if recorded is not None:
        installation.adopt(runtime.db, recorded)
    export = hand_off_by_webhook(runtime, hook.url)
    assert deliver(runtime, export).delivered == len(hook.requests) == (3 if sends else 0)
    assert states(runtime, export) == [("delivered", 1) if sends else ("pending", 0)] * 3
    failing = [part.message for part in readiness.check_parts(runtime) if not part.ok]
    problem = f"the database belongs to the installation live, and EXPORTS_INSTALLATION is {given or 'not set'}: nothing is sent"
    assert failing == ([] if sends else [f"{problem}; {installation.REMEDY}"])
