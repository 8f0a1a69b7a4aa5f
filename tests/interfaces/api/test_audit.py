"""The audit trail over HTTP: filters, pages, and other accounts."""

from pipeline.exports.audit_trail import Action, record_act
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.support import factories


def test_trail_is_filtered_and_paged(harness: ApiHarness) -> None:
    for account, actor in ((factories.ACCOUNT, "per_1"), (factories.ACCOUNT, "per_2"), (OTHER, "per_3")):
        with harness.runtime.db.write() as session:
            record_act(session, account, actor, Action.SIGNED_IN, "ses_1", {"method": "password"})
    client = harness.client("admin")
    page = client.get("/api/audit", params={"limit": 1}).json()
    assert [(each["seq"], each["actor"], each["detail"]) for each in page["items"]] == [
        (2, "per_2", {"method": "password"})
    ]
    assert page["nextBefore"] == 2
    older = client.get("/api/audit", params={"before": 2}).json()
    assert ([each["actor"] for each in older["items"]], older["nextBefore"]) == (["per_1"], None)
    assert page["items"][0]["prevHash"] == older["items"][0]["hash"]
    assert client.get("/api/audit", params={"actor": "per_3"}).json()["items"] == []
    assert len(client.get("/api/audit", params={"action": "signed_in"}).json()["items"]) == 2
    day = page["items"][0]["at"][:10]
    for wanted, count in (
        ({"from": day}, 2),
        ({"to": "2026-01-01"}, 0),
        ({"subject": "ses_1"}, 2),
        ({"subject": "x"}, 0),
    ):
        assert len(client.get("/api/audit", params=wanted).json()["items"]) == count, wanted


def test_unknown_action_is_refused_by_name(harness: ApiHarness) -> None:
    answer = harness.client("admin").get("/api/audit", params={"action": "dance"})
    assert (answer.status_code, answer.json()["details"]["issues"][0]["pointer"]) == (400, "/query/action")
