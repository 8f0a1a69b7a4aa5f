"""The fold of answers: a table of cases, every order of arrival, and a second, naive implementation."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
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


ANSWERS = st.lists(
    st.builds(
        lambda number, minute, status, hold, packages, corrects: Answer(
            id=f"a-{number}",
            status=status,
            at=FIRST + timedelta(minutes=minute),
            packages=packages,
            hold=hold if FACETS[status] == "holds" else None,
            corrects=None if corrects == number else f"a-{corrects}",
        ),
        st.integers(0, 99),
        st.integers(0, 5),
        st.sampled_from(AnswerStatus),
        st.sampled_from([None, "cbp", "cbp:exam", "agency:FDA:exam", "manifest"]),
        st.lists(st.sampled_from(PACKAGES), unique=True, max_size=2),
        st.integers(0, 400),
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
        assert (facets.headline, facets.holds) == naive_headline(answers, number)


@given(st.data())
def test_every_order_of_arrival_has_the_same_result(data: st.DataObject) -> None:
    answers = data.draw(ANSWERS)
    check_orders(answers, data.draw(st.permutations(answers)))


@pytest.mark.long
@settings(max_examples=5_000)
@given(st.data())
def test_many_orders_of_arrival_have_the_same_result(data: st.DataObject) -> None:
    answers = data.draw(ANSWERS)
    check_orders(answers, data.draw(st.permutations(answers)))


def naive_headline(answers: list[Answer], number: str) -> tuple[str, set[str]]:
    """Return the headline and the open holds by asking, for each question, which answers speak about it."""
    taken_back = [each.corrects for each in answers if each.corrects]
    mine = [each for each in answers if each.id not in taken_back and (not each.packages or number in each.packages)]
    mine.sort(key=lambda each: (each.at, list(AnswerStatus).index(each.status), each.id))
    words = [each.status.value for each in mine]
    good = ["filed", "replaced", "customs_accepted", "admissible", "released"]
    bad = ["not_released", "detained", "cancelled", "refused", "seized"]

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

    last_bad = max((place for place, word in enumerate(words) if word in bad), default=-1)
    progress = [good.index(word) for word in words[last_bad + 1 :] if word in good]
    # After a release, `filed` is about the summary.
    release = good[max(progress)] if progress else words[last_bad] if last_bad >= 0 else None
    review = [word for word in words if word in ("accepted", "rejected", "query", "withdrawn", *good)]
    broker = review[-1] if review else None

    if broker == "rejected":
        return "rejected", holds
    if release in ("refused", "seized"):
        return "refused", holds
    if broker == "withdrawn" and release in (None, "cancelled"):
        return "withdrawn", holds
    if holds or release in ("not_released", "detained"):
        return "held", holds
    if release == "cancelled":
        return "cancelled", holds
    if broker == "query":
        return "query", holds
    if release is not None:
        return ("filed" if release == "replaced" else release), holds
    return ("awaiting" if broker is None else "accepted"), holds
