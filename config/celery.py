"""The Celery app, built from queues.py and settings.py."""

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init

from config.celery_internals import OwnModules, refuse_control_commands
from config.logs import configure_logs
from config.queues import celery_options
from config.settings import get_settings

app = Celery(
    "exports", loader=OwnModules, include=["tasks.steps", "tasks.deliveries", "tasks.intake_runner", "tasks.sweeper"]
)
app.conf.update(celery_options(get_settings()))
# Celery's current app is per thread; the embedded worker's thread must publish through this one too.
app.set_default()


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    # A handler of this signal also keeps Celery from installing its own log handlers.
    configure_logs(get_settings())


@worker_init.connect
def _restrict_remote_control(**_: Any) -> None:
    if get_settings().celery_inspect:
        refuse_control_commands()
