"""Tests of serial shipping container codes: the check digit, and the serials of a company prefix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exports.sscc import is_sscc, issue_sscc, sscc_check_digit


@pytest.mark.parametrize(
    ("extension", "serial", "sscc"), [(1, 234567890, "106141412345678908"), (0, 123456789, "006141411234567890")]
)
def test_issue_sscc_returns_the_published_examples(extension: int, serial: int, sscc: str) -> None:
    assert issue_sscc("0614141", serial, extension) == sscc
    assert is_sscc(sscc)


@given(
    st.integers(4, 12).flatmap(
        lambda size: st.tuples(
            st.text("0123456789", min_size=size, max_size=size), st.integers(0, 10 ** (16 - size) - 1)
        )
    )
)
def test_issued_sscc_is_valid_and_has_the_prefix(issued: tuple[str, int]) -> None:
    prefix, serial = issued
    sscc = issue_sscc(prefix, serial)
    assert is_sscc(sscc)
    assert sscc[1:].startswith(prefix)
    assert int(sscc[1 + len(prefix) : 17]) == serial


@given(st.text("0123456789", min_size=17, max_size=17), st.integers(0, 16), st.integers(1, 9))
def test_sscc_with_one_wrong_digit_is_invalid(body: str, place: int, more: int) -> None:
    sscc = body + sscc_check_digit(body)
    assert not is_sscc(sscc[:place] + str((int(sscc[place]) + more) % 10) + sscc[place + 1 :])


@pytest.mark.parametrize(
    "text", ["", "00614141123456789", "0061414112345678900", "00614141123456789x", "٠٠٦١٤١٤١١٢٣٤٥٦٧٨٩٠"]
)
def test_other_text_is_not_an_sscc(text: str) -> None:
    assert not is_sscc(text)


@pytest.mark.parametrize("prefix", ["", "061", "0614141000000", "061414x"])
def test_prefix_of_invalid_length_raises(prefix: str) -> None:
    with pytest.raises(ValueError, match="4 to 12 digits"):
        issue_sscc(prefix, 1)


def test_used_up_prefix_raises() -> None:
    assert is_sscc(issue_sscc("0614141000", 999_999))
    with pytest.raises(ValueError, match="leaves 6 digits for a serial"):
        issue_sscc("0614141000", 1_000_000)
