"""A word of its own in every text of a plan, executed by the whole service: none may turn up where it has no business."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from config import queues
from pipeline import plans
from pipeline.errors import Refused
from pipeline.schemas.plan import Plan
from pipeline.schemas.reading import parse
from tests import builders
from tests.acceptance.installation import Service
from tests.acceptance.tenant import Tenant
from tests.hostile import texts_of, whole_plan
from tests.servers import Redis

CANARY = re.compile(r"canary\d{3}x", re.IGNORECASE)

#: Names of whom and what the plan is about, which other tests are about.
NAMES = re.compile(r"^/(accountId|batchId|planHash|(broker|warehouse|ruleset)/id)$")

#: What a warehouse needs of a plan, and no more: what lies in which package, and where it goes.
FOR_A_WAREHOUSE = re.compile(r"/(packages/.*|shipTo/.*|lines/\d+/(sku|description|lpn|orderId|lineRef)|unitRef)$")
#: What the log of an export may repeat of a plan: references, by which a person finds the place.
REFERENCES = re.compile(r"/(unitRef|lineRef|packageRef|ref|batchId|number)$")


def executable(made: builders.Json) -> bool:
    """Whether the plan would be executed, as far as the plan itself can tell."""
    try:
        plan = parse(json.dumps(made).encode(), Plan, max_depth=32).model
    except Refused:
        return False
    return not any(finding.severity == "block" for finding in plans.checked(plan))


def with_canaries(made: builders.Json) -> tuple[builders.Json, dict[str, str]]:
    """Return the plan with a canary in every text that takes one, and canary -> place."""
    known: dict[str, str] = {}
    for number, place in enumerate(sorted(texts_of(made))):
        if NAMES.search(place):
            continue
        word = f"canary{number:03d}x"
        old = builders.at(made, place)
        for text in (f"{word}@maple.example", f"{old} {word}", word) if "@" in old else (f"{old} {word}", word):
            changed = builders.changed(made, place, text)
            if executable(changed):
                made, known = changed, known | {word: place}
                break
    return made, known


@pytest.fixture
def laid(tenant: Tenant) -> tuple[builders.Json, dict[str, str]]:
    """A plan of the tenant's with every field that there is, and a canary in every text."""
    whole = tenant.own(whole_plan()) | {"batchId": "batch_canaries"}
    whole["broker"], whole["warehouse"] = {"id": builders.BROKER}, {"id": builders.WAREHOUSE}
    assert executable(whole)
    return with_canaries(whole)


@contextmanager
def overheard(service: Service) -> Iterator[list[str]]:
    """Give every command that Redis is sent meanwhile; nothing where the message broker is another."""
    heard: list[str] = []
    message_broker = getattr(service, "message_broker", None)
    if not isinstance(message_broker, Redis):
        yield heard
        return
    with message_broker.client() as client, client.monitor() as monitor:
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                heard.append(str(monitor.next_command()["command"]))

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield heard
        finally:
            ended.set()
            client.ping()  # the last that is overheard
            listener.join(10)


def found(text: str) -> set[str]:
    return {each.lower() for each in CANARY.findall(text)}


def test_no_canary_flies_where_it_has_no_business(
    tenant: Tenant, service: Service, laid: tuple[builders.Json, dict[str, str]]
) -> None:
    plan, known = laid
    assert len(known) >= 60, "too few texts of the plan hold one"
    with overheard(service) as heard:
        export_id = tenant.accepted(plan)
        tenant.executed(export_id)
        letters = tenant.letters(export_id, 3)

    # The documents and the customs broker get what is theirs, or this test would prove nothing.
    view = tenant.inspect(export_id)
    invoice = next(each for each in view["artifacts"] if each["artifact_type"] == "cci_json")
    assert len(found(tenant.http.get(invoice["download_url"]).text)) >= 50
    for_brokers = [each for each in letters if each.queue == queues.CUSTOMS_BROKER]
    assert any(len(found(json.dumps(each.body))) >= 50 for each in for_brokers)

    def places(text: str) -> set[str]:
        return {known[word] for word in found(text)}

    # Warehouses learn no price, no party but the consignee and nothing of customs.
    for_warehouses = [each for each in letters if each.queue == queues.WAREHOUSE]
    assert for_warehouses
    told = {place for each in for_warehouses for place in places(json.dumps(each.body))}
    assert {place for place in told if not FOR_A_WAREHOUSE.search(place)} == set()
    for_operators = {
        place for each in letters if each.queue == queues.OPERATOR for place in places(json.dumps(each.body))
    }
    assert {place for place in for_operators if not REFERENCES.search(place)} == set()

    # The log, the measures and what is logged name things, and repeat nothing.
    log = {place for event in tenant.events(export_id) for place in places(json.dumps(event))}
    assert {place for place in log if not REFERENCES.search(place)} == set()
    assert found(tenant.http.get("/metrics").text) == set()
    for program in service.programs():
        assert {place for place in places(program.log()) if not REFERENCES.search(place)} == set(), program.name

    # What wakes workers carries ids; what partners read is the only thing that carries more.
    tasks = [each for each in heard if "exports.steps" in each or "exports.documents" in each or '"task"' in each]
    if hasattr(service, "message_broker") and isinstance(service.message_broker, Redis):
        assert tasks
    assert {place for each in tasks for place in places(each)} == set()


def test_no_refusal_repeats_what_it_refuses(tenant: Tenant, laid: tuple[builders.Json, dict[str, str]]) -> None:
    plan, known = laid
    answers: list[Any] = []
    for number, place in enumerate(known.values()):
        # One text too long, another a control character: each is refused by its place.
        wrong = "canary000x" * 2_000 if number % 2 else f"{builders.at(plan, place)}\x07"
        if number % 4 == 0:
            answers.append(tenant.execute(builders.changed(plan, place, wrong)))
    answers.append(tenant.execute(plan | {"canary999x": 1}))
    unknown = {**plan, "broker": {"id": "br_none"}}
    answers.append(tenant.execute(unknown))
    assert len(answers) > 15
    for answer in answers:
        assert answer.status_code in {400, 422}, answer.text
        # The name of a member that is not of the schema is where the fault lies.
        assert found(answer.text) <= {"canary999x"}
