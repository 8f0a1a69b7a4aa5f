"""The fold of answers: a table of cases, every order of arrival, and a second, naive implementation."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.deliveries.entries.facets import (
    FACETS,
    NEEDS_LOOK,
    SUBMISSION_STATES,
    Answer,
    AnswerStatus,
    EntryFacets,
    Headline,
    fold_entries,
    summarize_entries,
)
from pipeline.deliveries.entries.headline_text import describe_headlines
from pipeline.deliveries.schemas.answers import StatusName
from pipeline.exports.schemas.assessment import Assessment

FIRST = datetime(2026, 11, 24, 8, tzinfo=UTC)
PACKAGES = ("CP-000001", "CP-000002", "CP-000003")


def answer(minute: int, text: str, *packages: str, corrects: str | None = None, name: str = "") -> Answer:
    """Return an answer of this minute; `text` is its status, and of a hold its name after a space."""
    status, _, hold = text.partition(" ")
    at = FIRST + timedelta(minutes=minute)
    return Answer(name or f"a-{minute}", AnswerStatus(status), at, packages, hold or None, corrects=corrects)


def fold(*texts: str) -> EntryFacets:
    """Return the facets of one entry after answers a minute apart."""
    return fold_entries(PACKAGES[:1], [answer(minute, text) for minute, text in enumerate(texts)])[PACKAGES[0]]


def test_statuses_are_the_same_in_code_and_in_the_published_schema() -> None:
    assert set(get_args(StatusName)) == {*AnswerStatus} == set(FACETS)


@pytest.mark.parametrize(
    ("texts", "headline"),
    [
        ((), "awaiting"),
        (("received",), "awaiting"),
        (("accepted",), "accepted"),
        (("accepted", "filed", "customs_accepted"), "customs_accepted"),
        (("filed", "admissible"), "admissible"),
        (("filed", "replaced"), "filed"),
        (("released", "customs_accepted"), "released"),
        # The newest bad news outranks older good news, and good news answers it.
        (("accepted", "withdrawn"), "withdrawn"),
        (("query", "held", "withdrawn"), "withdrawn"),
        (("withdrawn", "accepted"), "accepted"),
        (("withdrawn", "filed"), "filed"),
        (("filed", "withdrawn"), "filed"),
        (("filed", "cancelled", "withdrawn"), "withdrawn"),
        (("accepted", "query"), "query"),
        (("filed", "query"), "query"),
        (("query", "filed"), "filed"),
        (("query", "accepted"), "accepted"),
        (("rejected", "filed"), "filed"),
        (("rejected", "query"), "query"),
        (("filed", "rejected"), "rejected"),
        (("rejected", "accepted"), "accepted"),
        (("released", "held"), "held"),
        (("held", "rejected"), "rejected"),
        (("held", "filed"), "held"),
        (("released", "refused"), "refused"),
        (("seized", "query"), "refused"),
        (("filed", "detained"), "held"),
        (("not_released", "released"), "released"),
        (("filed", "cancelled"), "cancelled"),
        (("cancelled", "filed"), "filed"),
        # A hold without a name ends with the release; a hold with a name, only with its removal.
        (("held", "released"), "released"),
        (("held cbp:exam", "released"), "held"),
        (("held cbp:exam", "released", "hold_removed cbp:exam"), "released"),
        (("held cbp:exam", "released", "hold_removed cbp"), "released"),
        (("held agency:FDA", "released", "hold_removed agency:FD"), "held"),
        (("held cbp:exam", "held manifest", "released", "hold_removed manifest"), "held"),
        (("held cbp:exam", "held manifest", "released", "hold_removed"), "released"),
        # Bill and summary do not hide the release.
        (("released", "bill_unmatched", "summary_rejected"), "released"),
    ],
)
def test_headline_follows_from_the_answers(texts: Sequence[str], headline: str) -> None:
    assert fold(*texts).headline == headline


def test_facets_are_folded_apart() -> None:
    facets = fold("accepted", "bill_matched", "held cbp:exam", "released", "filed", "summary_paid")
    assert facets == EntryFacets(
        broker=AnswerStatus.ACCEPTED,
        release=AnswerStatus.RELEASED,
        holds={"cbp:exam"},
        bill=AnswerStatus.BILL_MATCHED,
        summary=AnswerStatus.SUMMARY_PAID,
        released_at=facets.released_at,
    )
    assert fold("released", "filed").summary == "summary_filed"
    assert fold("filed", "released").summary is None


def test_at_the_same_time_the_worse_counts() -> None:
    for texts in permutations(["filed", "released", "held", "accepted"]):
        same = [answer(0, text, name=text) for text in texts]
        assert fold_entries(PACKAGES[:1], same)[PACKAGES[0]] == EntryFacets(
            broker=AnswerStatus.ACCEPTED, release=AnswerStatus.RELEASED, holds={""}, released_at=same[0].at
        )


def test_corrected_answer_counts_for_nothing() -> None:
    wrong, right = answer(0, "rejected", PACKAGES[0]), answer(1, "accepted", PACKAGES[1], corrects="a-0")
    for each in permutations([wrong, right]):
        headlines = [entry.headline for entry in fold_entries(PACKAGES[:2], each).values()]
        assert headlines == ["awaiting", "accepted"]


def test_answers_that_name_packages_change_only_those() -> None:
    answers = [answer(0, "filed"), answer(1, "released", *PACKAGES[:1]), answer(2, "held", PACKAGES[1], "CP-9")]
    entries = fold_entries(PACKAGES, answers)
    assert [entry.headline for entry in entries.values()] == ["released", "held", "filed"]
    assert (
        describe_headlines(Counter(entry.headline for entry in entries.values())) == "1 of 3 released, 1 filed, 1 held"
    )
    assert describe_headlines({"released": 2}) is None
    status = summarize_entries(entries.values())
    assert (status.state, status.expected_after) == ("held", "filed")


@pytest.mark.parametrize(
    ("texts", "state", "expected_after"),
    [
        ((), None, "delivered"),
        (("received",), "received", "received"),
        (("bill_matched",), None, "delivered"),
        (("accepted",), "accepted", "accepted"),
        (("admissible",), "filed", "filed"),
        (("admissible", "bill_unmatched"), "filed", "accepted"),
        (("admissible", "bill_unmatched", "bill_matched"), "filed", "filed"),
        (("accepted", "bill_unmatched"), "accepted", "accepted"),
        (("released", "bill_unmatched"), "released", None),
        (("held", "bill_unmatched"), "held", None),
        (("released",), "released", None),
        (("query",), "query", None),
        (("refused",), "held", None),
    ],
)
def test_status_of_the_handoff(texts: Sequence[str], state: str | None, expected_after: str | None) -> None:
    status = summarize_entries([fold(*texts)])
    assert (status.state, status.expected_after) == (state, expected_after)


def test_the_worst_entry_decides_for_the_handoff() -> None:
    order = [each for each in Headline if each is not Headline.AWAITING]
    assert list(SUBMISSION_STATES) == order
    entries = fold_entries(PACKAGES[:2], [answer(0, "released", PACKAGES[0])])
    assert summarize_entries(entries.values()).state is None  # the other one waits for its first answer


def test_each_bad_status_notifies_and_no_good_one() -> None:
    assert {*AnswerStatus} - NEEDS_LOOK == set(
        "received remark accepted filed replaced customs_accepted admissible released bill_matched hold_removed withdrawn"
        " summary_filed summary_paid summary_corrected summary_liquidated".split()
    )


@cache
def assess(number: int) -> Assessment:
    """Return the amounts of an answer; only whose they are matters here."""
    return Assessment(
        customs_package_number=PACKAGES[0],
        answer_id=f"a-{number}",
        estimate_id=None,
        estimate_note=None,
        differs=False,
        lines=(),
    )


ANSWERS = st.lists(
    st.builds(
        lambda number, minute, status, hold, packages, corrects, entry, assessed: Answer(
            id=f"a-{number}",
            status=status,
            at=FIRST + timedelta(minutes=minute),
            packages=packages,
            hold=hold if FACETS[status] == "holds" else None,
            entry_number=entry,
            corrects=None if corrects == number else f"a-{corrects}",
            assessment=assess(number) if assessed else None,
        ),
        st.integers(0, 99),
        st.integers(0, 5),
        st.sampled_from(AnswerStatus),
        st.sampled_from([None, "cbp", "cbp:exam", "agency:FDA:exam", "manifest"]),
        st.lists(st.sampled_from(PACKAGES), unique=True, max_size=2),
        st.integers(0, 400),
        st.sampled_from([None, None, "E-1", "E-2"]),
        st.booleans(),
    ),
    unique_by=lambda each: each.id,
    max_size=12,
)


def check_orders(answers: list[Answer], shuffled: list[Answer]) -> None:
    """Check that the order of arrival changes nothing, and that the naive implementation agrees."""
    entries = fold_entries(PACKAGES, answers)
    assert fold_entries(PACKAGES, shuffled) == entries
    assert summarize_entries(entries.values()) == summarize_entries(reversed(entries.values()))
    for number, facets in entries.items():
        expected = read_naively(answers, number)
        assert (facets, facets.headline) == (expected, name_naively(expected))


@given(st.data())
def test_every_order_of_arrival_has_the_same_result(data: st.DataObject) -> None:
    answers = data.draw(ANSWERS)
    check_orders(answers, data.draw(st.permutations(answers)))


@pytest.mark.system
@settings(max_examples=5_000)
@given(st.data())
def test_many_orders_of_arrival_have_the_same_result(data: st.DataObject) -> None:
    answers = data.draw(ANSWERS)
    check_orders(answers, data.draw(st.permutations(answers)))


GOOD = ["filed", "replaced", "customs_accepted", "admissible", "released"]


def read_naively(answers: list[Answer], number: str) -> EntryFacets:
    """Return the facets by asking, for each question, which answers speak about it."""
    taken_back = [each.corrects for each in answers if each.corrects]
    mine = [each for each in answers if each.id not in taken_back and (not each.packages or number in each.packages)]
    mine.sort(key=lambda each: (each.at, list(AnswerStatus).index(each.status), each.id))
    words = [each.status.value for each in mine]

    def last(choices: list[str]) -> AnswerStatus | None:
        said = [word for word in words if word in choices]
        return AnswerStatus(said[-1]) if said else None

    holds = set()
    for place, each in enumerate(mine):
        if each.status == "held":
            name = each.hold or ""
            after = mine[place + 1 :]
            removed = any(
                later.status == "hold_removed" and (not later.hold or f"{name}:".startswith(f"{later.hold}:"))
                for later in after
            )
            if not removed and not (name == "" and "released" in words[place + 1 :]):
                holds.add(name)

    # After a release, `filed` is about the summary.
    summaries = [
        "summary_filed" if word == "filed" else word
        for place, word in enumerate(words)
        if word.startswith("summary_") or (word == "filed" and find_release(words[:place]) == "released")
    ]
    review = last(["accepted", "rejected", "query", "withdrawn", *GOOD])
    return EntryFacets(
        received=bool({"received", "remark"} & {*words}),
        # A customs broker that files has accepted.
        broker=AnswerStatus.ACCEPTED if review in GOOD else review,
        release=find_release(words),
        holds=holds,
        bill=last(["bill_matched", "bill_unmatched"]),
        summary=AnswerStatus(summaries[-1]) if summaries else None,
        entry_number=next((each.entry_number for each in reversed(mine) if each.entry_number), None),
        assessment=next((each.assessment for each in reversed(mine) if each.assessment), None),
        released_at=next(
            (
                mine[place].at
                for place in reversed(range(len(words)))
                if words[place] == "released" and find_release(words[:place]) != "released"
            ),
            None,
        ),
        liquidated_at=next((each.at for each in reversed(mine) if each.status == "summary_liquidated"), None),
    )


def find_release(words: list[str]) -> AnswerStatus | None:
    """Return the last bad word, or the farthest of the good ones after it."""
    bad = ["not_released", "detained", "cancelled", "refused", "seized"]
    last_bad = max((place for place, word in enumerate(words) if word in bad), default=-1)
    progress = [GOOD.index(word) for word in words[last_bad + 1 :] if word in GOOD]
    if progress:
        return AnswerStatus(GOOD[max(progress)])
    return AnswerStatus(words[last_bad]) if last_bad >= 0 else None


def name_naively(facets: EntryFacets) -> str:
    """Return the first headline by precedence whose question is answered with yes."""
    release = facets.release
    questions = {
        "rejected": facets.broker == "rejected",
        "refused": release in ("refused", "seized"),
        "withdrawn": facets.broker == "withdrawn" and release in (None, "cancelled"),
        "held": facets.holds or release in ("not_released", "detained"),
        "cancelled": release == "cancelled",
        "query": facets.broker == "query",
        "filed": release == "replaced",
        str(release): release is not None,
        "awaiting": facets.broker is None,
        "accepted": True,
    }
    return next(word for word, answered in questions.items() if answered)
