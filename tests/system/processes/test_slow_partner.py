"""One process for everything: a partner that never answers delays neither the steps nor other partners."""

import threading
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.interfaces.contracts.sent import check_database_notifications
from tests.support import factories
from tests.support.command_line import Commands, run_service
from tests.support.http_endpoint import Endpoint, Script
from tests.support.servers import poll


def test_unresponsive_partner_does_not_delay_other_exports(commands: Commands, tmp_path: Path) -> None:
    commands.environment |= {
        "EXPORTS_ALLOW_PRIVATE_DESTINATIONS": "true",
        "EXPORTS_DELIVERY_TIMEOUT_SECONDS": "120",
        "EXPORTS_LOG_LEVEL": "ERROR",
    }
    answers = threading.Event()
    with Endpoint([Script(until=answers)]) as silent, Endpoint([Script()]) as alive:
        commands.json("accounts", "create", factories.ACCOUNT, "--name", "Maple Goods Ltd")
        for partner, kind, url in (
            ("br_silent", "customs_broker", silent.url),
            (factories.BROKER, "customs_broker", alive.url),
            (factories.WAREHOUSE, "warehouse", alive.url),
        ):
            commands.json("partners", "add", partner, "--account", factories.ACCOUNT, "--kind", kind, "--name", partner,
                          "--webhook", url, "--live")  # fmt: skip
        key = commands.json("keys", "create", "--account", factories.ACCOUNT, "--role", "admin")["key"]
        with (
            run_service(commands.environment, tmp_path) as (_, address),
            ExitStack() as ending,
            httpx.Client(
                base_url=address, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
            ) as api,
        ):
            ending.callback(answers.set)
            for number in range(5):
                execute(api, "br_silent", f"silent-{number}")
            poll(lambda: len(silent.requests) == 3, 60)
            alive_id = execute(api, factories.BROKER, "alive")
            poll(lambda: api.get(f"/api/exports/{alive_id}").json()["state"] == "executed", 60)
            rows = api.get("/api/deliveries", params={"exportId": alive_id}).json()["items"]
            assert {each["state"] for each in rows if each["audience"] != "operator"} == {"delivered"}
            assert len(silent.requests) == 3, "no other delivery waits for it"
            answers.set()
            poll(lambda: len(silent.requests) == 5, 60)
    assert check_database_notifications(commands.environment["DATABASE_URL"]) > 5


def execute(api: httpx.Client, broker: str, batch: str) -> str:
    body = {
        "accountId": factories.ACCOUNT,
        "batchId": batch,
        "plan": factories.plan(broker=broker, batch=batch, invoice=batch),
    }
    answer = api.post("/api/exports/execute", json=body, headers={"Idempotency-Key": batch})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["exportId"])
