"""The recipes of examples/upstream, run as an upstream service would: each sends a command and prints the export's id."""

import json
import os
import runpy
import subprocess
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.system.acceptance.account import AccountClient, Json
from tests.system.acceptance.installation import Distributed
from tests.system.acceptance.kits import find_runtime
from tests.system.acceptance.programs import ROOT

UPSTREAM = ROOT / "examples" / "upstream"
NODE = ROOT / "examples" / "consumers" / "node" / "send_command.mjs"


def write_command(account: AccountClient, folder: Path) -> Path:
    plan = account.plan()
    path = folder / "command.json"
    path.write_text(json.dumps({"accountId": account.account_id, "batchId": plan["batchId"], "plan": plan}))
    return path


def run_recipe(service: Distributed, program: Path, *arguments: object, folder: Path) -> list[str]:
    """Return the words of each line that the program printed; fail with its errors if it fails."""
    done = subprocess.run(
        [find_runtime(program), str(program), *map(str, arguments)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "BROKER_URL": service.stack.broker_url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def find_exports(account: AccountClient, batch: str) -> list[str]:
    return [each["exportId"] for each in account.get("/api/exports")["items"] if each["batch_id"] == batch]


def assert_executed(account: AccountClient, batch: str, export_id: str) -> None:
    """Assert that the batch has exactly this export, and that it is executed."""
    assert find_exports(account, batch) == [export_id]
    account.wait_executed(export_id)


@pytest.mark.parametrize("program", ["send_by_celery.py", "django_orders.py"])
def test_celery_recipes_get_the_export(
    distributed: Distributed, account: AccountClient, tmp_path: Path, program: str
) -> None:
    command = write_command(account, tmp_path)
    lines = run_recipe(distributed, UPSTREAM / program, command, "batch_recipe", folder=tmp_path)
    (export_id,) = [line.split()[1] for line in lines if line.startswith("batch_recipe ")]
    assert_executed(account, "batch_recipe", export_id)
    if program == "django_orders.py":
        assert lines[0] == "rolled back: the payment failed"
        assert lines[-1] == f"sent again {export_id}"
        assert find_exports(account, "rolled-back") == []
    else:
        assert lines[-1].startswith("VALIDATION_ERROR idempotencyKey ")


@pytest.mark.parametrize("program", [UPSTREAM / "send_by_pika.py", NODE], ids=["pika", "amqplib"])
def test_amqp_recipes_get_the_export(
    on_rabbitmq: Distributed, account: AccountClient, tmp_path: Path, program: Path
) -> None:
    command = write_command(account, tmp_path)
    (line,) = run_recipe(on_rabbitmq, program, command, "batch_recipe", folder=tmp_path)
    correlation_id, content_type, export_id = line.split()
    assert (correlation_id, content_type) == ("order-batch_recipe", "application/json")
    assert_executed(account, "batch_recipe", export_id)


def test_flask_recipe_executes_by_http(
    distributed: Distributed, account: AccountClient, client_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(client_package)
    monkeypatch.setenv("EXPORTS_API_URL", distributed.url)
    monkeypatch.setenv("EXPORTS_API_KEY", account.http.headers["Authorization"].removeprefix("Bearer "))
    recipe = runpy.run_path(str(UPSTREAM / "flask_orders.py"))
    shop: FlaskClient = recipe["app"].test_client()
    plan = account.plan()
    path = f"/orders/{plan['batchId']}/export"
    answers = [shop.post(path, json=plan) for _ in range(2)]
    accepted: list[Json] = [each.get_json() for each in answers]
    assert [each.status_code for each in answers] == [202, 202]
    assert accepted[0]["exportId"] == accepted[1]["exportId"]
    assert_executed(account, plan["batchId"], accepted[0]["exportId"])
    assert shop.get(path).get_json()["outcome"] in {"with_broker", "accepted", "filed", "released"}
    refused = shop.post("/orders/x/export", json=account.plan() | {"units": []})
    assert refused.status_code == 422
    assert refused.get_json()["field"]
    recipe["exports"].close()
