"""The benchmark still runs: one short round of the parts without a server. Tests make no claim about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
#: The parts that use most of the product; each takes longer than an everyday test may.
PARTS = ("statements", "exports", "slow-partner")


@pytest.mark.timeout(300)  # seconds on a machine that also runs other tests
def test_quick_round_measures_every_side() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.system.benchmarks", "--quick", "--json", "--only", *PARTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    sides = [
        *product(("bare loop", "as built", "a task per step"), ("exports/s", "processor ms")),
        *product(("no slow partner", "one slow partner"), ("p50 ms", "p95 ms")),
    ]
    assert [(figure["side"], figure["measure"]) for figure in found["figures"]] == sides
    assert all(figure["median"] > 0 for figure in found["figures"])
    assert all(row["statementsFew"] == row["statementsMany"] for row in found["statements"])
