"""The whole demo, as `make demo` runs it."""

import json
import re
import signal
import socket
import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import psutil
import pytest

from pipeline.core.clock import utc_now
from pipeline.exports import examples
from tests.interfaces.contracts.sent import check
from tests.support.command_line import exports
from tests.support.servers import poll

pytestmark = pytest.mark.clock

#: The environment of a user whose settings name another service: the demo must not use it.
ELSEWHERE = {
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    "BROKER_URL": "redis://127.0.0.1:9/0",
    "ARTIFACTS_URL": "s3://nowhere",
    "EXPORTS_API_URL": "http://127.0.0.1:9",
}
SECONDS = 180


def run_demo(folder: Path) -> dict[str, Any]:
    process = exports(["demo", "--json"], ELSEWHERE, folder)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    summary: dict[str, Any] = json.loads(output)
    return summary


def test_demo_runs_three_plans_and_shows_each_step(tmp_path: Path) -> None:
    first = run_demo(tmp_path)

    exports_made = {export["plan"]: export for export in first["exports"]}
    assert {name: export["state"] for name, export in exports_made.items()} == {
        "cookware": "executed",
        "three-units": "executed",
        "consolidated-truck": "executed",
    }
    statuses = [export["submissionStatuses"] for export in exports_made.values()]
    assert sorted(statuses) == [["accepted"], ["accepted"], ["held"]]
    assert {name: len(export["invoices"]) for name, export in exports_made.items()} == {
        "cookware": 1,
        "three-units": 3,
        "consolidated-truck": 1,
    }
    for export in exports_made.values():
        assert all((tmp_path / path).read_bytes().startswith(b"%PDF-") for path in export["invoices"])
        assert (tmp_path / export["bundle"]).read_bytes().startswith(b"PK")
    counted = {(message["queue"], message["type"]): message["count"] for message in first["messages"]}
    assert counted[("exports.broker", "exports.handoff.ready.v1")] == 3
    assert counted[("exports.operator", "exports.export.executed.v1")] == 3
    plans = [json.loads(path.read_text()) for path in (Path(__file__).parents[3] / "examples/plans").glob("*.json")]
    packages = sum(len(unit["packages"]) for plan in plans for unit in plan["units"])
    assert counted[("exports.warehouse", "exports.package.recorded.v1")] == packages
    messages = (tmp_path / "var/demo/out/messages.jsonl").read_text().splitlines()
    assert len(messages) == sum(counted.values())
    for message in messages:
        check(message)

    process = exports(["demo"], ELSEWHERE, tmp_path)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert not [export["batchId"] for export in first["exports"] if export["batchId"] in output]
    assert "\x1b" not in output
    assert re.search(r"cookware +\d+\.\d\d s  ✓ 5 packages recorded in CP-0000(06|07|08|09|10)", output)
    assert re.search(r"three-units +\d+\.\d\d s  ✓ U3-CAD  \d+ documents rendered", output)
    assert output.count("✓ executed") >= 5
    assert "customs broker  accepted" in output
    assert [word for word in ("released", "accepted", "held") if re.search(rf"entry +CP-\d+ is {word}\n", output)] == [
        "released",
        "accepted",
        "held",
    ]
    assert "exports.package.recorded.v1, such as" in output
    called = Path(sys.executable).with_name("exports")
    assert f"  again             {called} demo\n" in output
    assert "batch ids         end in the time of the run" in output


def test_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    process = exports(["demo"], ELSEWHERE, tmp_path)
    assert process.stdout is not None
    port = 0
    for line in process.stdout:
        port = port or int((re.search(r"127\.0\.0\.1:(\d+)", line) or [0, 0])[1])
        if "documents rendered" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert errors.strip() == "stopped; nothing is left running"
    poll(lambda: not any(child.is_running() for child in children), 20, "a child process is still running")
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_served_demo_executes_each_example_of_an_entry(tmp_path: Path) -> None:
    process = exports(["demo", "--serve"], ELSEWHERE, tmp_path)
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:
        shown += line
        if "exports inspect" in line:
            break
    assert "exports inspect batch_2026_1124_01" in shown
    (address, key) = re.findall(r"EXPORTS_API_URL=(\S+) EXPORTS_API_KEY=(\S+)", shown)[0]
    names = [name for name in examples.list_all_names() if name not in examples.list_names()]
    assert len(names) > 12
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=SECONDS) as client:
        for name in names:
            plan = examples.load_plan(name, utc_now().date())
            body = {"accountId": plan["accountId"], "batchId": plan["batchId"], "plan": plan}
            answer = client.post("/api/exports/execute", json=body, headers={"Prefer": "wait=30"}).json()
            assert answer.get("state") == "executed", (name, answer)
            bundle = client.get(f"/api/exports/{answer['exportId']}/bundle")
            with ZipFile(BytesIO(bundle.content)) as archive:
                files = {Path(each).name for each in archive.namelist()}
            assert files >= {
                "commercial_customs_invoice.pdf",
                "entry_worksheet.pdf",
                "entry_import.zip",
                "plan.json",
            }, name
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 0
