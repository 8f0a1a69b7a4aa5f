"""Secrets at rest."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from pipeline.errors import Terminal
from pipeline.secretbox import SecretBox


def test_what_was_sealed_opens_for_its_owner_under_its_key_alone() -> None:
    box = SecretBox(SecretStr("one"))
    sealed = box.seal("whsec_abc", "acc/br")
    assert SecretBox(SecretStr("one")).open(sealed, "acc/br") == "whsec_abc"
    for other, owner in ((box, "acc/wh"), (SecretBox(SecretStr("two")), "acc/br")):
        with pytest.raises(Terminal):
            other.open(sealed, owner)


def test_the_same_secret_sealed_twice_looks_different() -> None:
    box = SecretBox(SecretStr("one"))
    assert box.seal("whsec_abc", "acc/br") != box.seal("whsec_abc", "acc/br")


def test_tokens_differ_by_purpose_and_key() -> None:
    tokens = {SecretBox(SecretStr(key)).token(purpose) for key in ("one", "two") for purpose in ("a", "b")}
    assert len(tokens) == 4
