"""Every document kind and every type of message has words of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pipeline.deliveries.schemas.messages import CONNECTION_TEST, MessageType
from pipeline.documents.registry import ARTIFACT_TYPES, describe_kind
from pipeline.interfaces.kind_text import describe_message_type


@pytest.mark.parametrize(
    ("describe", "names"),
    [(describe_kind, ARTIFACT_TYPES), (describe_message_type, [*MessageType, CONNECTION_TEST])],
)
def test_each_name_has_words(describe: Callable[[str], str], names: Sequence[str]) -> None:
    words = [describe(str(name)) for name in names]
    assert len({*words}) == len(words)
    assert not [each for each in words if "_" in each or each.startswith(("exports.", "cci"))]


def test_unknown_name_stays_readable() -> None:
    assert describe_kind("cii_xml") == "cii xml"
    assert describe_message_type("exports.new.v1") == "exports.new.v1"
