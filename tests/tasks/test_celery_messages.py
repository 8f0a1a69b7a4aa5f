"""Tests of commands from another Celery app: `send_task` executes a plan, and its result says how."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection

from config import queues
from pipeline.exports.models import Export
from tasks import celery_messages
from tests.conftest import SERVERS
from tests.support import factories
from tests.tasks.test_intake import IntakeHarness, harness, request

__all__ = ["harness"]

Json = dict[str, Any]

#: A way to make a call wrong -> what the refusal says
WRONG_CALLS: dict[str, tuple[Json, str]] = {
    "another task": ({"name": "shop.execute"}, "there is no task 'shop.execute'; call exports.execute"),
    "args": ({"args": ["acc_demo"]}, "takes no args; give the command as kwargs"),
    "no command": ({"kwargs": {}}, "/accountId is required"),
    "countdown": ({"countdown": 60}, "does not support countdown or eta; call it without"),
    "expires": ({"expires": 60}, "does not support expires"),
    "link": ({"link": {"task": "shop.done"}}, "does not support link"),
    "link_error": ({"link_error": {"task": "shop.failed"}}, "does not support link_error"),
    "chain": ({"chain": [{"task": "shop.done"}]}, "does not support chain"),
    "serializer": ({"serializer": "yaml"}, "send it with serializer='json'"),
}


#: The message brokers that another app can reach.
shared_brokers = pytest.mark.parametrize(
    "harness", [pytest.param("redis", marks=SERVERS), pytest.param("rabbitmq", marks=SERVERS)], indirect=True
)


@pytest.fixture
def shop(harness: IntakeHarness) -> Iterator[Celery]:
    """An app of an upstream service, with the recipe of docs/queues.md; its processes are not the service's."""
    harness.declare()
    app = Celery("shop", broker=harness.url, backend="rpc://", set_as_current=False)
    app.conf.task_routes = {"exports.*": {"exchange": "exports", "routing_key": "execute"}}
    yield app
    with suppress(AttributeError):  # it consumes nothing if no test waited for a result
        app.backend.result_consumer.stop()
    app.close()


def call(app: Celery, **changes: Any) -> AsyncResult[Any]:
    sent: Json = {"name": celery_messages.TASK, "kwargs": request()} | changes
    called: AsyncResult[Any] = app.send_task(**sent)
    return called


@shared_brokers
def test_call_executes_the_plan_and_returns_the_export(harness: IntakeHarness, shop: Celery) -> None:
    first, again = call(shop), call(shop)
    values = [each.get(timeout=30) for each in (first, again)]
    (export,) = harness.rows(Export)
    assert [value["exportId"] for value in values] == [export.id, export.id]
    assert export.batch_id == factories.plan()["batchId"]


@shared_brokers
@pytest.mark.parametrize("wrong", WRONG_CALLS)
def test_wrong_call_raises_its_refusal_at_the_caller(harness: IntakeHarness, shop: Celery, wrong: str) -> None:
    changes, text = WRONG_CALLS[wrong]
    called = call(shop, **changes, exchange="exports", routing_key="execute")
    called.get(timeout=30, propagate=False)
    message, problem = called.result.args
    assert text in message
    assert (type(called.result).__name__, problem["message"]) == (problem["errorCode"], message)
    (refusal,) = harness.take_messages(queues.REFUSED)
    assert json.loads(refusal.body) == problem
    assert refusal.properties["correlation_id"] == called.id
    assert harness.rows(Export) == []


@shared_brokers
def test_caller_that_ignores_the_result_gets_none(harness: IntakeHarness, shop: Celery) -> None:
    call(shop, ignore_result=True, reply_to="answers")
    harness.command(request(idempotencyKey="k-2"), reply_to="answers", correlation_id="after")
    (answer,) = harness.take_messages("answers")
    assert answer.properties["correlation_id"] == "after"


@pytest.mark.parametrize("harness", [pytest.param("redis", marks=SERVERS)], indirect=True)
def test_results_that_nobody_reads_expire_on_redis(harness: IntakeHarness) -> None:
    harness.declare()
    app = Celery("shop", broker=harness.url, set_as_current=False)
    called = call(app, exchange="exports", routing_key="execute", reply_to="results-of-nobody")
    harness.command(request(), reply_to="answers", correlation_id=called.id)
    assert harness.take_messages("answers")
    with Connection(harness.url) as connection:
        left = connection.default_channel.client.ttl("results-of-nobody")
    assert 0 < left <= celery_messages.RESULT_SECONDS
    app.close()


Change = Callable[[Json, list[Any]], object]
#: Calls that Celery's own client would not send.
HOSTILE: dict[str, Change] = {
    "no id": lambda headers, _: headers.pop("id"),
    "no embed": lambda _, body: body.pop(),
    "embed of another kind": lambda _, body: body.__setitem__(2, "link"),
    "kwargs of another kind": lambda _, body: body.__setitem__(1, ["plan"]),
    "task of another kind": lambda headers, _: headers.__setitem__("task", {"a": 1}),
}


@pytest.mark.parametrize("change", HOSTILE)
def test_malformed_call_does_not_end_the_intake(harness: IntakeHarness, change: str) -> None:
    headers: Json = {"task": celery_messages.TASK, "id": "t-1"}
    body: list[Any] = [[], request(), {}]
    HOSTILE[change](headers, body)
    harness.command(json.dumps(body).encode(), headers=headers, reply_to="answers", correlation_id="c-1")
    harness.command(b"[" * 5_000, headers={"task": celery_messages.TASK}, reply_to="answers", correlation_id="c-2")
    harness.command(request(idempotencyKey="k-2"), reply_to="answers", correlation_id="c-3")
    answers = harness.take_messages("answers", 3)
    assert [each.properties["correlation_id"] for each in answers] == ["c-1", "c-2", "c-3"]
    assert json.loads(answers[1].body)["status"] == "FAILURE"
    assert json.loads(answers[2].body)["state"] == "accepted"
