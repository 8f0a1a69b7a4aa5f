"""One more file and schema add a channel: a copy of the project with both passes a test of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


FILE = '''
"""A channel that writes to a local folder, for this test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from config.settings import Settings
from pipeline.accounts.recipients import Target
from pipeline.accounts.schemas import DropEndpoint
from pipeline.deliveries.channels.protocol import ChannelFactory, DeliveryReceipt, OutgoingMessage, Stage


class DropChannel:
    carries_documents = False
    read_by_people = False
    shared = False

    def __init__(self, settings: Settings) -> None:
        pass

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        assert isinstance(target.endpoint, DropEndpoint)
        for message in messages:
            Path(target.endpoint.folder, message.id).write_bytes(message.body)
            yield DeliveryReceipt("written")

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        list(self.send([message], target))
        yield Stage("write", passed=True, duration_ms=1, found="written")


CHANNEL: Final[ChannelFactory] = DropChannel
'''


ROW = """
class DropEndpoint(StrictModel):
    channel: Literal["drop"] = "drop"
    folder: str


_AnyEndpoint = DropEndpoint | """


TEST = '''
"""A partner with the new channel: registered over HTTP, tested, and notified of an export."""

from __future__ import annotations

import json

from pipeline.deliveries import sender
from tests.deliveries.support import exports
from tests.support import factories


def test_new(harness, tmp_path):
    endpoint = {"channel": "drop", "folder": str(tmp_path)}
    client = harness.client("admin")
    made = client.post("/api/partners", json={"id": "wh_drop", "kind": "warehouse", "name": "Depot", "channels": [endpoint]})
    assert made.status_code == 201, made.text
    assert client.post("/api/partners/wh_drop/test").json()["passed"] is True
    exports.register_once(harness.runtime, factories.BROKER, "customs_broker")
    export = exports.prepare_export(harness.runtime, factories.plan(warehouse="wh_drop", packages=3))
    exports.hand_off(harness.runtime, export)
    assert sender.deliver_stream(harness.runtime, export.export_id, "wh_drop", "drop").delivered
    messages = [json.loads(path.read_text()) for path in tmp_path.iterdir() if path.is_file() and path.suffix == ""]
    assert {each["type"] for each in messages} > {"exports.package.recorded.v1"}
'''


def test_one_more_file_and_schema_add_a_channel(tmp_path: Path) -> None:
    for folder in ("config", "pipeline", "tasks", "templates", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "pipeline/deliveries/channels/drop.py").write_text(FILE.lstrip())
    rows = tmp_path / "pipeline/accounts/schemas.py"
    before = rows.read_text()
    assert before.count("\n_AnyEndpoint = ") == 1
    rows.write_text(before.replace("\n_AnyEndpoint = ", ROW))
    (tmp_path / "tests/deliveries/test_new.py").write_text(TEST.lstrip())
    command = [sys.executable, "-m", "pytest", "-q", "tests/deliveries/test_new.py"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout
