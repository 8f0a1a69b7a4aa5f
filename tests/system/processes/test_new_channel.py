"""The recipe of CONTRIBUTING adds a channel: a copy of the project with it offers the channel everywhere."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


FILE = '''
"""A channel that writes to a local folder, for this test."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from config.settings import Settings
from pipeline.accounts.channels import FolderEndpoint
from pipeline.accounts.recipients import Target
from pipeline.deliveries.channels.protocol import ChannelFactory, DeliveryReceipt, OutgoingMessage, Stage


class FolderChannel:
    def __init__(self, settings: Settings) -> None:
        pass

    def send(self, messages: Sequence[OutgoingMessage], target: Target) -> Iterator[DeliveryReceipt]:
        assert isinstance(target.endpoint, FolderEndpoint)
        for message in messages:
            Path(target.endpoint.folder, message.id).write_bytes(message.body)
            yield DeliveryReceipt("written")

    def test(self, message: OutgoingMessage, target: Target) -> Iterator[Stage]:
        list(self.send([message], target))
        yield Stage("write", passed=True, duration_ms=1, found="written")


CHANNEL: Final[ChannelFactory] = FolderChannel
'''


SCHEMA = """
class FolderEndpoint(StrictModel):
    channel: Literal["folder"] = "folder"
    folder: str = Field(description="Where files are written")


"""


KIND = """
        ChannelKind(
            "folder",
            "Folder",
            "The partner's software reads a folder of this machine.",
            FolderEndpoint,
            options=(ChannelOption("--folder", "Write files into this folder.", "folder", "PATH"),),
            properties=(("file", "{id}"),),
            test_reaches_partner=True,
        ),"""


TEST = '''
"""A partner with the new channel: by API and console, tested, notified of an export, and shown in its portal."""

import json

from pipeline.accounts import partners
from pipeline.deliveries.remedies import find_partner_remedy, find_remedy
from pipeline.deliveries.streams import sender
from pipeline.interfaces.contracts.json_schemas import PUBLISHED
from tests.deliveries.support import exports
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.interfaces.contracts import published
from tests.interfaces.portal.conftest import find_ids, open_portal
from tests.support import factories

NEW = "/console/partners/new"


def test_new(harness, tmp_path):
    endpoint = {"channel": "folder", "folder": str(tmp_path)}
    client = harness.client("admin")
    made = client.post("/api/partners", json={"id": "wh_new", "kind": "warehouse", "name": "Depot", "channels": [endpoint]})
    assert (made.status_code, made.json()["channels"]) == (201, [endpoint])
    assert client.post("/api/partners/wh_new/test").json()["passed"] is True
    exports.register_once(harness.runtime, factories.BROKER, "customs_broker")
    export = exports.prepare_export(harness.runtime, factories.plan(warehouse="wh_new", packages=3))
    exports.hand_off(harness.runtime, export)
    assert sender.deliver_stream(harness.runtime, export.export_id, "wh_new", "folder").delivered
    messages = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir() if path.name.count("-") == 4}
    assert {each["type"] for each in messages.values()} == {"exports.package.recorded.v1"}

    browser = sign_in_browser(harness, "admin")
    assert "reads a folder of this machine" in browser.get(f"{NEW}?kind=warehouse").text
    form = read_form(browser, f"{NEW}?kind=warehouse&channel=folder")
    typed = {"id": "wh_page", "name": "Depot", "folder.folder": str(tmp_path)}
    assert browser.post(NEW, data=form | typed).status_code == 200
    (stored,) = partners.get_partner(harness.runtime, factories.ACCOUNT, "wh_page").channels
    assert stored.model_dump() == endpoint
    assert str(tmp_path) in browser.get("/console/partners/wh_page").text

    portal = open_portal(harness, "wh_new")
    assert str(tmp_path) in portal.get("/portal").text
    assert "Test the endpoint" in portal.get("/portal/endpoint").text
    shown = portal.get(f"/portal/deliveries/{find_ids(portal, '/portal/deliveries', 'deliveries')[0]}").text
    assert any(f"<code>{name}</code>" in shown for name in messages), shown


def test_remedies_and_contracts():
    assert find_remedy("acc_1", "wh_new", "folder", None).endswith("`exports partners test wh_new --account acc_1`")
    assert find_partner_remedy("folder", None) == "ask the exporter for the cause, then resend the message"
    assert {name: found for name in PUBLISHED if (found := published.list_breaks(name))} == {}
'''


COMMANDS = '''
"""The command line registers and lists a partner with the new channel."""


def test_new(commands_with_account, tmp_path):
    add = ("partners", "add", "wh_1", "--account", "acc_1", "--kind", "warehouse", "--name", "Depot")
    made = commands_with_account.json(*add, "--folder", str(tmp_path), "--queue")
    assert made["channels"] == [{"channel": "folder", "folder": str(tmp_path)}, {"channel": "queue"}]
    assert f"folder {tmp_path}"[:20] in commands_with_account("partners", "list", "--account", "acc_1").output
'''


def insert(file: Path, before: str, text: str) -> None:
    found = file.read_text()
    assert found.count(before) == 1, before
    file.write_text(found.replace(before, text + before))


def test_recipe_adds_a_channel_to_all_interfaces(tmp_path: Path) -> None:
    for folder in ("config", "pipeline", "tasks", "templates", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "pipeline/deliveries/channels/folder.py").write_text(FILE.lstrip())
    record = tmp_path / "pipeline/accounts/channels.py"
    insert(record, "#: The schemas of all channels.\n", SCHEMA.lstrip())
    insert(record, "QueueEndpoint | WebhookEndpoint", "FolderEndpoint | ")
    insert(record, '\n        ChannelKind(\n            "webhook",', KIND)
    made = {"tests/interfaces/portal/test_new.py": TEST, "tests/interfaces/cli/test_new.py": COMMANDS}
    for name, text in made.items():
        (tmp_path / name).write_text(text.lstrip())
    command = [sys.executable, "-m", "pytest", "-q", *made]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
