"""Tests check each enqueued message of any process against its published schema."""

import json
from typing import Any

import pytest

from pipeline.core.runtime import Runtime
from pipeline.deliveries.streams import messages
from tests.deliveries.support import exports
from tests.interfaces.contracts.sent import SchemaMismatch, check_notifications
from tests.support import factories


def test_enqueued_message_is_checked_against_its_schema(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    exports.hand_off(runtime, exports.prepare_export(runtime, factories.plan(packages=3)))
    assert check_notifications(runtime) == check_notifications(runtime, factories.ACCOUNT) == 1 + 3 + 1, (
        "broker, warehouse, operator"
    )
    assert check_notifications(runtime, "acc_other") == 0
    made = messages.build_cloud_event

    def change_number(*given: Any, **more: Any) -> bytes:
        event = json.loads(made(*given, **more))
        return json.dumps(event | {"data": event["data"] | {"batchId": 7}}).encode()

    monkeypatch.setattr(messages, "build_cloud_event", change_number)
    with pytest.raises(SchemaMismatch, match='/batchId: 7 is not of type "string"'):
        check_notifications(runtime)
