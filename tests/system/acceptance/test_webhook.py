"""The byob path by webhook: the customs broker's endpoint gets the signed handoff, and answers over HTTP."""

import json
from datetime import UTC, datetime

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.interfaces.contracts import sent
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script
from tests.system.acceptance.account import PARTNERS, open_account
from tests.system.acceptance.installation import Service


def test_webhook_is_signed_retried_and_answered(service: Service) -> None:
    with Endpoint([Script(503), Script()]) as endpoint, open_account(service, PARTNERS[1:]) as account:
        broker = {
            "id": factories.BROKER,
            "kind": "customs_broker",
            "name": "A broker with its own endpoint",
            "test": True,
            "path": "byob",
            "channels": [{"channel": "webhook", "address": f"{endpoint.url}/messages"}],
        }
        secret = account.http.post("/api/partners", json=broker).json()["secret"]
        export_id = account.execute_accepted(account.plan())
        view = account.wait_until(
            export_id, lambda view: (view["broker_submission"] or {}).get("submission_status") == "delivered"
        )

        first, second = endpoint.requests
        sent.check(second.body)
        assert first.body == second.body
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        event = Webhook(secret).verify(second.body, second.headers)
        assert event["id"] == second.headers["webhook-id"]
        assert (event["type"], event["subject"]) == ("exports.handoff.ready.v1", export_id)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(second.body.replace(b"US", b"CA"), second.headers)
        submission = view["broker_submission"]
        assert (submission["path"], submission["channel"]) == ("byob", "webhook")
        assert len(account.events_of_type(export_id, "DELIVERY_FAILED")) == 1
        assert len(account.events_of_type(export_id, "BROKER_NOTIFIED")) == 1

        answer = json.dumps({"id": "answer-1", "status": "accepted", "reference": "BRK-77"})
        now = datetime.now(UTC)
        signature = {
            "webhook-id": "answer-1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign("answer-1", now, answer),
        }
        url = event["data"]["acknowledgementUrl"]
        for recorded in (True, False):
            receipt = httpx.post(url, content=answer, headers=signature, trust_env=False)
            assert receipt.status_code == 200, receipt.text
            assert receipt.json()["recorded"] is recorded
        assert account.wait_executed(export_id)["broker_submission"]["submission_status"] == "accepted"
        assert len(account.events_of_type(export_id, "BROKER_ACKNOWLEDGED")) == 1
