"""`exports doctor` under the limits of its process."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Commands, exports


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux sets the limits")
def test_doctor_renders_a_page_under_the_process_limits(commands: Commands, tmp_path: Path) -> None:
    commands.json("migrate")

    def examined(limit: str) -> tuple[int, dict[str, Any]]:
        process = exports(["doctor", "--json"], commands.environment, tmp_path, f"--as={limit}")
        output, _ = process.communicate(timeout=120)
        return process.returncode, {check["name"]: check for check in json.loads(output)}

    code, checks = examined("2900000000")
    assert (code, checks["PDF engine"]["found"]) == (0, "set a page")
    code, checks = examined("660000000")
    assert (code, [name for name, check in checks.items() if not check["ok"]]) == (1, ["PDF engine"])
    assert "may use 629 MB of address space (RLIMIT_AS)" in checks["PDF engine"]["found"]
    assert "ulimit -a" in checks["PDF engine"]["remedy"]
