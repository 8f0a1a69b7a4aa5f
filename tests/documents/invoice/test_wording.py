"""Names of the plan's data as words, and times with the zone that the plan gives."""

from datetime import datetime

import pytest

from pipeline.documents.invoice import wording
from tests.documents.samples import sample


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fibreContent", "fibre content"), ("fdaProductCode", "FDA product code"), ("deliveredTo", "delivered to"),
        ("importer_duns", "importer DUNS"), ("identity", "identity"),
    ],
)  # fmt: skip
def test_names_are_words(name: str, words: str) -> None:
    assert wording.spell_name(name) == words


@pytest.mark.parametrize(
    ("name", "title"),
    [("businessNumber", "Business number"), ("BN", "BN"), ("ein", "EIN"), ("IRS_NUMBER", "IRS number"), ("", "")],
)
def test_title_keeps_abbreviations(name: str, title: str) -> None:
    assert wording.spell_title(name) == title


@pytest.mark.parametrize(
    ("moment", "shown"),
    [("2026-11-27T13:00:00-05:00", "2026-11-27 13:00 UTC-05:00"), ("2026-11-27T18:00:00Z", "2026-11-27 18:00 UTC")],
)
def test_time_has_zone_of_plan_and_exact_value_is_utc(moment: str, shown: str) -> None:
    printed = wording.format_moment(datetime.fromisoformat(moment))
    assert (printed.shown, printed.exact) == (shown, "2026-11-27T18:00:00Z")


def test_arrival_is_printed_as_local_time() -> None:
    arrival = sample(1).transport.estimated_arrival_at
    assert arrival is not None
    assert arrival.shown == "2026-11-27 13:00 UTC-05:00"
