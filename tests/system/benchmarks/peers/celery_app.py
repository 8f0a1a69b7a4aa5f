"""The peer on Celery: one task and one PostgreSQL transaction a step, and the next task is published after the commit."""

import os
from functools import cache
from typing import Any, Final

from celery import Celery
from sqlalchemy import Engine, create_engine

from tests.system.benchmarks.peers import work

STEPS_QUEUE: Final = "peer_steps"
NOTIFY_QUEUE: Final = "peer_notifications"
_WORKER: Final = "celery -A tests.system.benchmarks.peers.celery_app worker --loglevel WARNING --without-heartbeat --without-mingle --without-gossip"
#: As many processes as the service has: two workers and one for notifications.
COMMANDS: Final = (
    f"{_WORKER} -n one@%h -P solo -Q {STEPS_QUEUE}",
    f"{_WORKER} -n two@%h -P solo -Q {STEPS_QUEUE}",
    f"{_WORKER} -n three@%h -P threads -c 16 -Q {NOTIFY_QUEUE}",
)

app = Celery("peer", broker=os.environ.get("BROKER_URL"))
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_default_queue=STEPS_QUEUE,
    task_routes={"notify": {"queue": NOTIFY_QUEUE}},
    worker_hijack_root_logger=False,
)


@cache
def _engine() -> Engine:
    return create_engine(os.environ["DATABASE_URL"], pool_size=20)


@app.task(name="step")
def run_step(number: int, export_id: str) -> None:
    """Run one step of an export."""
    here = {"id": export_id}
    artifacts = []
    if work.WITH_DOCUMENTS and number == 3:
        with _engine().connect() as connection:
            plan = connection.exec_driver_sql(work.READ_PLAN, here).scalar_one()
        artifacts = work.store_documents(export_id, plan)
    with _engine().begin() as connection:
        if work.WITH_DOCUMENTS and number in work.ADD_ROWS:
            connection.exec_driver_sql(work.ADD_ROWS[number], here)
        if artifacts:
            connection.exec_driver_sql(work.ADD_ARTIFACT, artifacts)
        connection.exec_driver_sql(work.END_STEP, {**here, "step": number})
    if number < work.STEPS:
        run_step.apply_async((number + 1, export_id))
        return
    for audience in work.MESSAGES:
        notify.apply_async((export_id, audience))


@app.task(name="notify")
def notify(export_id: str, audience: str) -> None:
    """Notify one recipient."""
    if work.WITH_DOCUMENTS:
        with app.producer_pool.acquire(block=True) as producer:
            for message in work.build_messages(export_id, audience):
                producer.publish(message, routing_key=f"peer.{audience}", serializer="json", delivery_mode=2)
    with _engine().begin() as connection:
        connection.exec_driver_sql(work.END_NOTIFICATION, {"id": export_id, "audience": audience})


def send(export_id: str) -> Any:
    """Publish the first task of an export."""
    return run_step.apply_async((1, export_id))
