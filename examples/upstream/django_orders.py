"""A Django shop that exports an order when its transaction commits: django_orders.py COMMAND.json BATCH.

The recipe is `place_order` and `send_missing`. All else makes this file a whole project.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection, models, transaction
from send_by_celery import app

settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "orders.db"}}, USE_TZ=True)
django.setup()


class Order(models.Model):
    """An order whose goods are exported."""

    batch = models.CharField(max_length=64, primary_key=True)
    command = models.JSONField()
    export_id = models.CharField(max_length=40, default="")

    class Meta:
        """This file has no Django app of its own."""

        app_label = "shop"

    def __str__(self) -> str:
        return self.batch


def place_order(batch: str, command: dict[str, Any]) -> Order:
    """Save an order; after the commit, send its command. A rollback sends nothing."""
    with transaction.atomic():
        order = Order.objects.create(batch=batch, command=command)
        transaction.on_commit(partial(execute_order, order))
    return order


def execute_order(order: Order) -> None:
    """Send the order's command, and keep the id of the export."""
    answer = app.send_task("exports.execute", kwargs=order.command | {"idempotencyKey": f"order-{order.batch}"})
    order.export_id = answer.get(timeout=60)["exportId"]
    order.save(update_fields=["export_id"])


def send_missing() -> None:
    """Send again what a crash after the commit left unsent; run it every few minutes.

    The idempotency key is the same, so that an order is never exported twice.
    """
    for order in Order.objects.filter(export_id=""):
        execute_order(order)


def main() -> None:
    """Place one order and roll one back."""
    command, batch = json.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2]
    with connection.schema_editor() as editor:
        editor.create_model(Order)
    command["batchId"] = command["plan"]["batchId"] = batch
    command["plan"]["units"][0]["entry"]["shipmentControlNumber"] = batch.replace("_", "-")
    try:
        with transaction.atomic():
            place_order("rolled-back", command)
            raise RuntimeError("the payment failed")
    except RuntimeError as error:
        print("rolled back:", error)
    first = place_order(batch, command)
    print(batch, first.export_id)
    Order.objects.filter(batch=batch).update(export_id="")  # as if the process had died after the commit
    send_missing()
    print("sent again", Order.objects.get(batch=batch).export_id)


if __name__ == "__main__":
    main()
