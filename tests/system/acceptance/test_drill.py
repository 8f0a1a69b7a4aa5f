"""`exports drill` on this machine: it kills a service and leaves nothing running."""

import json
import signal
from pathlib import Path

import psutil
from lxml.etree import parse

from tests.interfaces.contracts.sent import check_database_notifications
from tests.support.command_line import exports
from tests.support.servers import poll
from tests.system.processes.test_demo import ELSEWHERE

SECONDS = 250


def test_drill_finds_nothing_lost_or_doubled(tmp_path: Path) -> None:
    here = {**ELSEWHERE, "TMPDIR": str(tmp_path)}
    process = exports(["drill", "--kills", "1", "--seed", "7", "--svg", "drill.svg", "--json"], here, tmp_path)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    figures = json.loads(output)
    assert (figures["kills"], figures["lost"], figures["duplicated"], figures["seed"]) == (1, 0, 0, 7)
    assert figures["exports"] == figures["executed"] > 0
    assert figures["recovery_p50_s"] == figures["recovery_p99_s"] > 0
    assert "seed 7" in errors
    assert parse(str(tmp_path / "drill.svg")).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert not [*tmp_path.glob("exports-drill-*")]


def test_interrupted_drill_leaves_no_process(tmp_path: Path) -> None:
    process = exports(["drill", "--kills", "1000"], {**ELSEWHERE, "TMPDIR": str(tmp_path)}, tmp_path)
    assert process.stderr is not None
    next(line for line in process.stderr if "kill -9" in line)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    (database,) = tmp_path.glob("exports-drill-*/exports.db")
    poll(lambda: check_database_notifications(f"sqlite:///{database}") > 0, SECONDS, "no delivery was made")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert errors.strip().endswith("stopped; nothing is left running")
    poll(lambda: not any(child.is_running() for child in children), 20, "a child process still runs")
    assert not [*tmp_path.glob("exports-drill-*")]
