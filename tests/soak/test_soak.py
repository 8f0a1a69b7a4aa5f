"""A minute of the soak, every day: everything breaks under load, and no promise does. How fast it is counts in the long form alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import SERVERS, lacking
from tests.servers import MissingServer
from tests.soak.course import soak
from tests.soak.figures import Targets

SECONDS = 60
#: Even: on Redis. The chances are the same each day; the moments at which they strike are not.
SEED = 20261124
#: No more than what even a slow machine does in a minute.
ANY_MACHINE = Targets(
    executions=4,
    faults=8,
    resident_megabytes_a_minute=1_000,
    more_files=1_000,
    accept_p95_seconds=60,
    terminal_p99_seconds=600,
    rest_seconds=600,
)


@SERVERS
@pytest.mark.timeout(1_500)
def test_minute_of_faults_under_load_breaks_no_promise(tmp_path: Path) -> None:
    try:
        soaked = soak(tmp_path, SECONDS, SEED, ANY_MACHINE, lambda _: None)
    except MissingServer as missing:
        lacking(str(missing))
    said = "\n".join(map(str, soaked.violations)) + "\n".join(soaked.record.ended) + soaked.logs
    assert soaked.violations == [], said
    assert (soaked.record.refused, soaked.record.ended) == ([], []), said
    assert soaked.missed == [], said
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert kinds.count("fault") == len(soaked.record.faults) >= ANY_MACHINE.faults
    assert kinds.count("exports") == soaked.extras["exports"] >= ANY_MACHINE.executions
    assert kinds[0] == "soak"
    assert f"{kinds.count('exports')} exports and {kinds.count('fault')} faults" in (tmp_path / "soak.svg").read_text()
    assert {"call", "receipt", "sample", "deliveries", "attempts"} <= {*kinds}
