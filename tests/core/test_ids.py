"""Ids are ordered by the instant that they begin with."""

from datetime import UTC, datetime, timedelta

from pipeline.core.ids import first_id, is_own_id, last_id, new_id

AT = datetime(2026, 11, 24, 15, 4, 5, 678_901, tzinfo=UTC)


def test_id_of_an_instant_lies_between_the_bounds_of_its_millisecond() -> None:
    made = [new_id("exp", AT) for _ in range(9)]
    assert all(first_id("exp", AT) <= each <= last_id("exp", AT) for each in made)
    assert len({*made}) == 9
    assert last_id("exp", AT - timedelta(milliseconds=1)) < first_id("exp", AT)
    assert last_id("exp", AT) < first_id("exp", AT + timedelta(milliseconds=1))


def test_ids_of_one_millisecond_grow_whatever_other_ids_are_made() -> None:
    made = []
    for number in range(1_000):
        made.append(new_id("exp", AT))
        new_id("exp_other", AT + timedelta(milliseconds=number))
    assert made == sorted({*made})


def test_every_instant_of_a_request_has_bounds() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert first_id("exp", first) < new_id("exp") < last_id("exp", last)
    assert len(first_id("exp", first)) == len(last_id("exp", last)) == len(new_id("exp"))


def test_own_ids_have_their_form() -> None:
    own = new_id("ord", AT)
    assert is_own_id("ord", own)
    assert is_own_id("exp_other", new_id("exp_other", AT))
    others = ["ord_1", own.upper(), own[:-1], f"{own}0", own.replace("ord", "exp"), f"x_{own}", own[:-1] + "u", ""]
    assert [each for each in others if is_own_id("ord", each)] == []
