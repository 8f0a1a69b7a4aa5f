"""The payload of a delivery: the bytes that the partner receives, for the keys that may act on deliveries."""

from pipeline.accounts import partners
from pipeline.accounts.schemas import NewPartner
from pipeline.deliveries.streams import sender
from tests.interfaces.api.conftest import Open
from tests.support import factories
from tests.support.http_endpoint import Endpoint, Script

HOOKED = "br_hooked"


def test_payload_is_what_the_partner_receives(open_harness: Open) -> None:
    harness = open_harness(allow_private_destinations=True)
    with Endpoint([Script()]) as hook:
        new = {"id": HOOKED, "kind": "customs_broker", "name": "Hooked broker", "live": True, "path": "byob"}
        channels = [{"channel": "webhook", "address": hook.url}]
        partners.create_partner(
            harness.runtime, factories.ACCOUNT, NewPartner.model_validate(new | {"channels": channels})
        )
        export_id = harness.execute(factories.plan(broker=HOOKED, packages=1))
        harness.run(export_id)
        sender.deliver_stream(harness.runtime, export_id, HOOKED, "webhook")
        client = harness.client("operate")
        rows = client.get(f"/api/deliveries?partnerId={HOOKED}").json()["items"]
        payloads = {row["notificationId"]: client.get(f"/api/deliveries/{row['id']}/payload") for row in rows}
    sent = {request.headers["webhook-id"]: request.body for request in hook.requests}
    assert sent
    assert {message: response.content for message, response in payloads.items()} == sent
    assert {response.headers["content-type"] for response in payloads.values()} == {"application/cloudevents+json"}
    assert b"signedUrl" in b"".join(sent.values())
