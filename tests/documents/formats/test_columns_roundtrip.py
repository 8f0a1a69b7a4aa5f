"""A treatment can be read back from its flat columns, for any text in it."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.money import format_plain
from pipeline.documents.formats import treatment_columns as written
from pipeline.documents.formats.cells import escape_formula, read_columns, unescape_formula
from pipeline.documents.formats.treatment_columns import read_treatment
from pipeline.exports.schemas.plan import Treatment, as_json

TEXTS = st.text(st.sampled_from("a|\\=,#[]. '=+é漢"), min_size=1, max_size=12).map(str.strip).filter(bool)
REFS = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9._:/-]{0,6}", re.ASCII), fullmatch=True)
NUMBERS = st.decimals(0, 999, places=3).map(str)
COUNTRIES = st.none() | st.sampled_from(["CA", "US", "OTH"])

CHAPTER99 = st.fixed_dictionaries(
    {
        "heading": st.from_regex(r"99[0-9]{2}\.[0-9]{2}\.[0-9]{2}", fullmatch=True),
        "program": REFS,
        "ratePercent": st.none() | NUMBERS,
        "basis": REFS,
    }
)
METALS = st.fixed_dictionaries(
    {
        "metal": st.sampled_from(["steel", "aluminum", "copper"]),
        "metalWeightKg": NUMBERS,
        "countryOfMeltAndPour": COUNTRIES,
        "primaryCountryOfSmelt": COUNTRIES,
        "secondaryCountryOfSmelt": COUNTRIES,
        "countryOfCast": COUNTRIES,
        "usMetalPercent": st.none() | st.decimals(0, 100, places=2).map(str),
    }
)
AGENCIES = st.fixed_dictionaries(
    {
        "flag": st.sampled_from(["FD1", "FD2", "FS3"]),
        "agency": st.sampled_from(["FDA", "FSI"]),
        "program": st.none() | st.just("FOO"),
        "processing": st.none() | st.just("NSF"),
        "disclaimer": st.none() | st.sampled_from("ABCD"),
        "intendedUse": st.none() | st.just("081.001"),
        "data": st.dictionaries(REFS, TEXTS | st.lists(TEXTS, max_size=3), max_size=4),
    }
)
TREATMENTS = st.fixed_dictionaries(
    {
        "chapter99": st.lists(CHAPTER99, max_size=8),
        "section232": st.lists(METALS, max_size=3),
        "pga": st.lists(AGENCIES, max_size=4),
        "undetermined": st.none() | TEXTS,
    }
).map(Treatment.model_validate)


COLUMNS = {
    **written.FIRST_HEADINGS, **written.HEADINGS, **written.METALS, **written.AGENCIES, **written.AGENCY_DATA,
}  # fmt: skip


@given(TREATMENTS)
def test_columns_round_trip_treatment(treatment: Treatment) -> None:
    columns = read_columns(COLUMNS, treatment) | {"treatment_undetermined": treatment.undetermined}
    texts = {
        name: format_plain(cell) if isinstance(cell, Decimal) else str(cell or "") for name, cell in columns.items()
    }
    cells = {name: escape_formula(text) for name, text in texts.items()}
    read = read_treatment({name: unescape_formula(cell) for name, cell in cells.items()})
    assert as_json(read) == as_json(treatment)


@given(st.text(st.sampled_from("'=+-@a \t;,\""), max_size=8), st.sampled_from([";", ",", ";,"]))
def test_escaped_text_is_not_formula_and_round_trips(text: str, cell_signs: str) -> None:
    result = escape_formula(text, cell_signs)
    assert unescape_formula(result, cell_signs) == text
    first, *others = re.split(f"[{cell_signs}]", result)
    assert first[:1] not in {"=", "@", "\t"}
    assert not first.startswith(("+", "-")) or not set(result) & set("=@'\t,;\"")
    assert not {cell.strip(' "\t')[:1] for cell in others} & set("=+-@\t")
    marked = escape_formula(text, cell_signs, first=True)
    assert unescape_formula(marked, cell_signs, first=True) == text
    assert marked[:1] not in set("=+-@\t")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"metal_type": "steel|copper", "metal_kg": "1"}, "metal_kg must have 2 values; it has 1"),
        ({"ch99_1": "9903.82.09", "ch99_programs": "A|B"}, "ch99_programs must have 1 values; it has 2"),
        ({"ch99_1": "7323.93.00"}, "the columns have an invalid value for the treatment at chapter99/0/heading"),
        (
            {"pga_flags": "FD1", "pga_data": "FD2.a=b"},
            "pga_data has 'FD2.a=b', which must name a flag of pga_flags and a datum",
        ),
        ({"pga_flags": "FD1", "pga_data": "FD1.a=b\\"}, "pga_data ends in the middle of a value; it may be cut off"),
    ],
)
def test_invalid_columns_are_rejected(columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_treatment(columns)
