"""The commands that sync orders and plan them, against a running API on the builders' day."""

import json
from pathlib import Path

from tests.interfaces.api.conftest import ALL_ROLES, ApiHarness
from tests.support import factories, orders
from tests.support.command_line import Commands
from tests.support.factories import Json


def write(folder: Path, name: str, body: Json) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(body))
    return str(path)


def test_orders_are_synced_planned_and_explained(harness: ApiHarness, tmp_path: Path) -> None:
    key = harness.key(*ALL_ROLES).bearer
    service = Commands({"EXPORTS_API_URL": harness.url, "EXPORTS_API_KEY": key, "XDG_CONFIG_HOME": str(tmp_path)})
    goods = orders.product(externalId="cli-product")
    order = orders.order("cli-1", products=[goods["externalId"]])
    (synced,) = service.json("orders", "sync", write(tmp_path, "orders", orders.order_sync(order)))["data"]
    assert synced["change"] == "created"
    request = write(tmp_path, "request", orders.plan_request([synced["id"]]))
    incomplete = service("orders", "plan", request)
    assert (incomplete.exit_code, incomplete.stdout.split()[0]) == (6, "BLOCKED")
    assert "cli-1: product cli-product is not synced." in incomplete.stdout

    assert service("products", "sync", write(tmp_path, "products", orders.product_sync(goods))).exit_code == 0
    shown = service("plan-templates", "sync", write(tmp_path, "template", orders.template_sync()))
    assert (shown.exit_code, "US" in shown.stdout) == (0, True)
    dry = service.json("orders", "plan", request, "--dry-run")
    assert (dry["readinessState"], dry["state"], dry["plan"]["accountId"]) == ("READY", "dry_run", factories.ACCOUNT)
    planned = service("orders", "plan", request)
    assert planned.exit_code == 0, planned.output
    assert planned.stdout.startswith(f"READY  {dry['batch_id']}  Planned: 1 of 1 orders in 1 unit.")
