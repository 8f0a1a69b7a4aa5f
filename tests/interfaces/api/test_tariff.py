"""`GET /api/tariff/{number}`: a number of the tariff on a day, for every account."""

from datetime import date

from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.support.tariff import AGENCY_FLAGS, DUTY_CASES, REVISION_6, REVISION_7, import_revision, import_table


def test_number_is_returned_as_it_is_on_the_day(harness: ApiHarness) -> None:
    import_revision(harness.runtime, REVISION_6, date(2026, 1, 1))
    import_revision(harness.runtime, REVISION_7, date(2026, 7, 1))
    for client in (harness.client("read"), harness.client("read", account=OTHER)):
        before = client.get("/api/tariff/6115.94.00.00", params={"on": "2026-06-30"}).json()
        after = client.get("/api/tariff/6115940000", params={"on": "2026-07-01"}).json()
        assert (before["general"]["percent"], after["general"]["percent"]) == ("11.3", "9")
        assert (before["edition"]["name"], before["edition"]["effectiveFrom"]) == ("hts_2026_revision_6", "2026-01-01")
        assert before["descriptions"][-1] == "Of wool or fine animal hair (332) (432) (632)"
    milk = harness.client("read").get("/api/tariff/0402.10.05.00").json()
    assert milk["general"] == {"text": "3.3¢/kg", "kind": "specific", "percent": None, "amount": "0.033", "per": "kg"}


def test_unknown_number_day_or_text_is_refused_with_a_remedy(harness: ApiHarness) -> None:
    client = harness.client("read")
    missing = client.get("/api/tariff/6115940000")
    assert (missing.status_code, missing.json()["errorCode"]) == (404, "NOT_FOUND")
    assert "the operator imports one by `exports tariff import FILE --from DAY`" in missing.json()["message"]
    import_revision(harness.runtime)
    assert client.get("/api/tariff/6115940099").status_code == 404
    for address in ("/api/tariff/socks", "/api/tariff/61159", "/api/tariff/6115940000?on=yesterday"):
        assert client.get(address).status_code == 400, address


def test_number_has_the_flags_of_its_day(harness: ApiHarness) -> None:
    import_revision(harness.runtime)
    import_table(harness.runtime, AGENCY_FLAGS, date(2026, 7, 1))
    client = harness.client("read", account=OTHER)
    before, after = (
        client.get("/api/tariff/6105.10.00.10", params={"on": on}).json()["agencyFlags"]
        for on in ("2026-06-30", "2026-07-01")
    )
    assert before == []
    assert after == [
        {
            "flag": "FD2",
            "agency": "FDA",
            "requirement": "must",
            "meaning": "FDA data is required",
            "edition": "agency_flags",
        }
    ]


def test_number_has_the_duty_cases_of_its_day(harness: ApiHarness) -> None:
    import_revision(harness.runtime)
    import_table(harness.runtime, DUTY_CASES, date(2026, 7, 1))
    client = harness.client("read", account=OTHER)
    (case,) = client.get("/api/tariff/7323930045", params={"on": "2026-11-30"}).json()["dutyCases"]
    assert case == {
        "caseNumber": "A-570-779-000",
        "name": "Stainless steel cookware from China",
        "country": "CN",
        "status": "active",
        "rate": "1.50%",
        "effectiveFrom": "2020-01-01",
        "source": "a test, not a rate in force",
        "edition": "duty_cases",
    }
