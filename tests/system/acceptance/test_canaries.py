"""A unique word in every text of a plan; the whole service executes it, and no word may reach a wrong place."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from config import queues
from tests.support import factories
from tests.support.canaries import add_canaries, find_canaries, is_executable
from tests.support.hostile_inputs import build_whole_plan
from tests.support.servers import Redis
from tests.system.acceptance.account import AccountClient
from tests.system.acceptance.installation import Service

#: The only parts of a plan that a warehouse needs: the contents of each package, and its destination.
FOR_A_WAREHOUSE = re.compile(r"/(packages/.*|shipTo/.*|lines/\d+/(sku|description|lpn|orderId|lineRef)|unitRef)$")
#: The parts of a plan that an export's log may repeat: references that lead a person to the place.
REFERENCES = re.compile(r"/(unitRef|lineRef|packageRef|ref|batchId|number)$")


@pytest.fixture
def plan_with_canaries(account: AccountClient) -> tuple[factories.Json, dict[str, str]]:
    """Return a plan of the account with every field and a canary in every text."""
    whole = account.as_own_plan(build_whole_plan()) | {"batchId": "batch_canaries"}
    whole["broker"], whole["warehouse"] = {"id": factories.BROKER}, {"id": factories.WAREHOUSE}
    assert is_executable(whole)
    return add_canaries(whole)


@contextmanager
def record_redis_commands(service: Service) -> Iterator[list[str]]:
    """Yield every command sent to Redis during the block; nothing if the message broker is another."""
    commands: list[str] = []
    message_broker = getattr(service, "message_broker", None)
    if not isinstance(message_broker, Redis):
        yield commands
        return
    with message_broker.client() as client, client.monitor() as monitor:
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                commands.append(str(monitor.next_command()["command"]))

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield commands
        finally:
            ended.set()
            client.ping()  # the last recorded command
            listener.join(10)


def test_executed_plan_reaches_only_permitted_places(
    account: AccountClient, service: Service, plan_with_canaries: tuple[factories.Json, dict[str, str]]
) -> None:
    plan, known = plan_with_canaries
    assert len(known) >= 60, "too few texts of the plan contain a canary"
    with record_redis_commands(service) as commands:
        export_id = account.execute_accepted(plan)
        account.wait_executed(export_id)
        messages = account.received_messages(export_id, sum(len(unit["packages"]) for unit in plan["units"]) + 3)

    # The documents and the customs broker do get theirs; else this test would prove nothing.
    view = account.inspect(export_id)
    invoice = next(each for each in view["artifacts"] if each["artifact_type"] == "cci_json")
    assert len(find_canaries(account.http.get(invoice["download_url"]).text)) >= 50
    for_brokers = [each for each in messages if each.queue == queues.CUSTOMS_BROKER]
    assert any(len(find_canaries(json.dumps(each.body))) >= 50 for each in for_brokers)

    def find_places(text: str) -> set[str]:
        return {known[word] for word in find_canaries(text)}

    # Warehouses get no price, no party but the consignee, and no customs data.
    for_warehouses = [each for each in messages if each.queue == queues.WAREHOUSE]
    assert for_warehouses
    found_places = {place for each in for_warehouses for place in find_places(json.dumps(each.body))}
    assert {place for place in found_places if not FOR_A_WAREHOUSE.search(place)} == set()
    for_operators = {
        place for each in messages if each.queue == queues.OPERATOR for place in find_places(json.dumps(each.body))
    }
    assert {place for place in for_operators if not REFERENCES.search(place)} == set()

    # The log, metrics and program logs contain references only.
    log = {place for event in account.events(export_id) for place in find_places(json.dumps(event))}
    assert {place for place in log if not REFERENCES.search(place)} == set()
    assert find_canaries(account.http.get("/metrics").text) == set()
    for program in service.programs():
        assert {place for place in find_places(program.log()) if not REFERENCES.search(place)} == set(), program.name

    # Task messages contain only ids; only partners' messages contain more.
    tasks = [each for each in commands if "exports.steps" in each or "exports.documents" in each or '"task"' in each]
    if hasattr(service, "message_broker") and isinstance(service.message_broker, Redis):
        assert tasks
    assert {place for each in tasks for place in find_places(each)} == set()


def test_rejection_does_not_repeat_the_rejected_text(
    account: AccountClient, plan_with_canaries: tuple[factories.Json, dict[str, str]]
) -> None:
    plan, known = plan_with_canaries
    answers: list[Any] = []
    for number, place in enumerate(known.values()):
        # One text is too long, another has a control character: each is rejected with its pointer.
        wrong = "canary000x" * 2_000 if number % 2 else f"{factories.read_pointer(plan, place)}\x07"
        if number % 4 == 0:
            answers.append(account.execute(factories.change_plan(plan, place, wrong)))
    answers.append(account.execute(plan | {"canary999x": 1}))
    unknown = {**plan, "broker": {"id": "br_none"}}
    answers.append(account.execute(unknown))
    assert len(answers) > 15
    for answer in answers:
        assert answer.status_code in {400, 422}, answer.text
        # The unknown member's name is part of the pointer to the fault.
        assert find_canaries(answer.text) <= {"canary999x"}
