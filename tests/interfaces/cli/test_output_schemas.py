"""Every command prints with `--json` what its schema says; `Commands` checks each output of all tests of commands."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from pipeline.interfaces.cli.output_schemas import OUTPUTS
from pipeline.interfaces.contracts.examples.catalog import read_example
from pipeline.simulation.drill import runner
from tests.simulation.drill.test_report import report
from tests.support import factories, orders
from tests.support.command_line import Commands, exports
from tests.support.command_output import find_command, read_validator
from tests.support.consume_command import send
from tests.support.rule_folders import write_rules
from tests.support.servers import Redis
from tests.support.tariff import REVISION_6

PARTNER = "wh_1 --account acc_1"

#: The commands on the database, in an order in which each finds what it needs; `{name}` is a value of an earlier output.
ON_DATABASE = f"""
migrate
doctor
config show
accounts create acc_1 --name Maple
accounts mail-domains acc_1 broker.example
accounts people-domains acc_1 maple.example
accounts languages acc_1 en fr
accounts logo acc_1 --remove
accounts leads acc_1 truck --received 120
accounts skip-numbers acc_1 --packages 2
accounts certifications acc_1
accounts list
people add --account acc_1 --email pat@maple.example --role admin
people link --account acc_1 --email pat@maple.example
people list --account acc_1
people disable --email pat@maple.example
people enable --email pat@maple.example
keys create --account acc_1
keys rotate {{id}} --account acc_1
keys revoke {{id}} --account acc_1
keys list --account acc_1
partners add {PARTNER} --kind warehouse --name Dock --queue
partners test {PARTNER}
partners activate {PARTNER}
partners pause {PARTNER}
partners resume {PARTNER}
partners rotate-secret {PARTNER}
partners link {PARTNER}
partners links {PARTNER}
partners unlink {PARTNER}
partners list --account acc_1
secrets rotate
waivers add PGA_FDA --account acc_1 --reason known --by pat
waivers revoke {{id}} --account acc_1 --by pat
waivers list --account acc_1
audit list --account acc_1
audit verify
audit checkpoint
retention hold --account acc_1 --reason audit --by pat
retention release {{id}} --by pat
retention holds
retention purge
retention purge --dry-run
rebuild
artifacts check
artifacts restore
backup {{folder}}/copy
plans new
plans example cookware
rules list --all
rules show 9903.82.09
rules why 7323930045 --origin CA
rules diff 2026-01-01 2026-11-24
rules check
tariff import {REVISION_6} --from 2026-01-01
tariff list
tariff show 6115940000 --on 2026-11-24
tariff diff 2026-01-01 2026-11-24
tariff remove hts_2026_revision_6
rules copy {{folder}}/copied
rules key {{folder}}/signing.pem
rules bundle {{rules}} {{folder}}/rules.zip --key {{folder}}/signing.pem
rules sign {{rules}} --key {{folder}}/signing.pem
rules store {{rules}}
rules stored
rules activate {{rulesetId}} --by pat
rules recheck
schema
schema plan
schema http
schema cli
init --account acc_2
profiles list
"""

#: The commands on a running service. The sandbox broker accepts the first export, and asks about the second.
ON_SERVICE = """
execute {plan} --wait
preflight {plan}
list
inspect {exportId}
inspect {exportId} --etag
open {exportId} --no-browser
events {exportId}
events --account --type HANDED_OFF
stats
execute {asked} --wait=answer
inbox
deadlines --within 8784
calendar
test-clock
test-clock +1
sandbox-answer {askedId} held --holder cbp
acknowledge {askedId} {askedId}
reply {askedId} Steel
conversation {askedId}
import-filed {report} --dry-run
deliveries list --export {exportId}
deliveries show {delivery}
deliveries acknowledge {delivery}
deliveries resend {delivery}
deliveries replay --partner wh_demo --since {since}
trace {message}
artifacts list {exportId}
artifacts {exportId} --bundle --out {folder}/out
verify {bundle}
plans list
plans show batch-schemas
plans proforma {changed} --out {folder}/proforma.html
amend {exportId} {changed}
cancel {exportId}
retry {exportId}
hold {exportId} --reason x
release {exportId}
withdraw {exportId} --reason x
plan-templates sync {template}
products sync {products}
orders sync {orders}
orders show schemas
orders plan {request}
orders delete schemas
login local --account acc_demo
whoami
profiles use local
profiles list
profiles remove local
"""

#: Commands that run until they are stopped, with what each prints first.
UNTIL_STOPPED = """
serve --port 0
listen --forward-to http://127.0.0.1:9/
partners receiver --secret whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=
partners file-receiver .
partners mail-receiver .
"""

#: Commands that a test of their own runs; those of processes are in test_processes_ready.py.
ALONE = {"drill", "consume", "demo", "web", "worker", "deliveries", "intake"}


def split_lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def fill_in(words: list[str], known: dict[str, str]) -> list[str]:
    return [re.sub(r"\{(\w+)\}", lambda found: known[found[1]], word) for word in words]


def run(commands: Commands, words: list[str], **given: Any) -> Any:
    """Run a command with --json and return its first document; one that is refused must say why by the schema of errors."""
    result = commands(*words, "--json", **given)
    assert result.exit_code in {0, 1, 6}, (words, result.output)
    assert result.stdout, words
    return json.JSONDecoder().raw_decode(result.stdout)[0]


def test_each_command_with_a_schema_is_run_here() -> None:
    lines = split_lines(ON_DATABASE) + split_lines(ON_SERVICE) + split_lines(UNTIL_STOPPED)
    assert {find_command(words) for words in lines} | ALONE == OUTPUTS.keys() - {"error"}


def test_document_of_all_schemas_is_valid(commands: Commands) -> None:
    document = commands.json("schema", "cli")
    jsonschema_rs.meta.validate(document)
    assert document["properties"].keys() == OUTPUTS.keys()
    one = commands.json("schema", "cli", "accounts", "list")
    jsonschema_rs.meta.validate(one)
    assert jsonschema_rs.is_valid(one, [])
    assert not jsonschema_rs.is_valid(one, [{"id": 1}])
    assert commands("schema", "cli", "accounts", "lost").exit_code == 3
    assert commands("schema", "plan", "list").exit_code == 2


@pytest.mark.system
def test_commands_on_the_database(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rules = write_rules(tmp_path / "rules", "us-ca-2027-01-01")
    known = {"folder": str(tmp_path), "rules": str(rules), "rulesetId": "us-ca-2027-01-01"}
    for words in split_lines(ON_DATABASE):
        printed = run(commands, fill_in(words, known))
        known |= {"id": printed["id"]} if isinstance(printed, dict) and "id" in printed else {}
        if find_command(words) != "doctor":  # in this test the service has no secret key
            assert "errorCode" not in printed, (words, printed)


@pytest.mark.system
def test_commands_on_the_service(service: Commands, tmp_path: Path) -> None:
    here = Commands(service.environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    plans = {
        "plan": factories.plan(batch="batch-schemas"),
        "changed": factories.plan(batch="batch-schemas", lines=4),
        "asked": factories.plan(batch="batch-asked", invoice="Q"),
        "template": orders.template_sync(),
        "products": orders.product_sync(),
        "orders": orders.order_sync(orders.order("schemas")),
        "request": orders.plan_request(["ord_none"]),
    }
    known = {"folder": str(tmp_path)}
    for name, plan in plans.items():
        known[name] = str(tmp_path / f"{name}.json")
        Path(known[name]).write_text(json.dumps(plan))
    known["report"] = str(tmp_path / "report.csv")
    Path(known["report"]).write_text(read_example("filed-entries-request")["text"])
    key = service.environment["EXPORTS_API_KEY"] + "\n"
    for words in split_lines(ON_SERVICE):
        printed = run(here, fill_in(words, known), stdin=key)
        known |= read_values(words[0], printed, tmp_path)
        # Refused, because the export has ended, the message is about an export, and the key is a test key.
        if find_command(words) not in {"cancel", "retry", "hold", "withdraw", "deliveries acknowledge", "calendar"}:
            assert "errorCode" not in printed, (words, printed)


def read_values(command: str, printed: Any, folder: Path) -> dict[str, str]:
    """Return what later commands need from the output of a command."""
    if command == "execute":
        name = "askedId" if printed["batch_id"] == "batch-asked" else "exportId"
        return {name: printed["exportId"], "since": printed["acceptedAt"]}
    if command == "deliveries" and "items" in printed:
        delivery = next(each for each in printed["items"] if each["state"] == "delivered")
        return {"delivery": delivery["id"], "message": delivery["notificationId"]}
    if command == "artifacts":
        (bundle,) = [*(folder / "out").glob("*.zip")] or [folder]
        return {"bundle": str(bundle)}
    return {}


@pytest.mark.system
@pytest.mark.parametrize("words", split_lines(UNTIL_STOPPED), ids=" ".join)
def test_commands_that_run_until_they_are_stopped(service: Commands, tmp_path: Path, words: list[str]) -> None:
    # The key of the service: `listen` needs it; `serve` takes a database of its own.
    database = {"DATABASE_URL": f"sqlite:///{tmp_path / 'exports.db'}", "ARTIFACTS_URL": f"file:{tmp_path / 'store'}"}
    process = exports([*words, "--json"], service.environment | database, tmp_path)
    try:
        assert process.stdout is not None
        text = process.stdout.readline()
        while text.strip() and not is_json(text):
            text += process.stdout.readline()
        read_validator(find_command(words)).validate(json.loads(text))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in {0, 130}
    finally:
        process.kill()
        process.communicate()


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_drill(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    # A real drill takes minutes; its report is the real one.
    monkeypatch.setattr(runner, "run_drill", lambda *_: report())
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run(commands, ["drill", "--kills", "1"])["lost"] == 0
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.servers
def test_consume(commands: Commands, redis_server: Redis) -> None:
    url = redis_server.fresh_url()
    send(url, "m-1")
    send(url, "m-2", body=b"nonsense")
    result = commands("consume", "warehouse", "--timeout", "0", "--json", BROKER_URL=url)
    assert [*map(json.loads, result.stdout.splitlines())][1] == {"unreadable": "nonsense"}
