"""The API's portal links: created with a URL that is shown once, listed, revoked, and kept apart by account."""

from tests.interfaces.api.conftest import ApiHarness
from tests.support import factories
from tests.support.tables import table

LINKS = f"/api/partners/{factories.WAREHOUSE}/portal-links"


def test_link_is_created_listed_and_revoked(harness: ApiHarness) -> None:
    admin = harness.client("admin")
    created = admin.post(LINKS, json={})
    assert (created.status_code, created.headers["location"], created.headers["cache-control"]) == (
        201,
        LINKS,
        "no-store",
    )
    link = created.json()
    token = link["url"].partition("#")[2]
    assert token.startswith(link["id"])
    (listed,) = admin.get(LINKS).json()["items"]
    assert token not in str(listed)
    assert listed == {name: value for name, value in link.items() if name != "url"}
    assert admin.delete(f"/api/partners/{factories.BROKER}/portal-links/{link['id']}").status_code == 404
    assert admin.get(LINKS).json()["items"] == [listed]
    for _ in range(2):
        assert admin.delete(f"{LINKS}/{link['id']}").json()["revokedAt"] is not None
    assert admin.delete(LINKS).json() == {"items": []}
    tester = harness.client("admin", mode="test")
    assert tester.post("/api/partners/wh_test/portal-links", json={}).status_code == 201


@table("body", [{"days": 0}, {"days": 91}, {"days": "x"}, {"days": 1.5}, {"hours": 1}, []])
def test_wrong_body_names_the_field(harness: ApiHarness, body: object) -> None:
    refused = harness.client("admin").post(LINKS, json=body)
    assert refused.status_code == 400
    assert isinstance(body, list) or refused.json()["pointer"] in {"/days", "/hours"}
