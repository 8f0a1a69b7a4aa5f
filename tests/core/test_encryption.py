"""Secrets at rest, and the keys that they are sealed under."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64encode
from itertools import islice

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr
from sqlalchemy import select
from sqlmodel import col

from pipeline.accounts import recipients, secrets
from pipeline.accounts.models import PartnerChannel, PartnerSecret
from pipeline.core.encryption import SecretBox
from pipeline.core.errors import SecretUnreadable
from pipeline.core.runtime import Runtime
from tests.deliveries.conftest import OpenRuntime
from tests.deliveries.support import exports
from tests.interfaces.cli.conftest import Commands
from tests.support import factories

ONE, TWO = SecretStr("one"), SecretStr("two")


def seal_in_first_version(key: SecretStr, text: str, owner: str) -> str:
    """Return what was written before sealed texts named their key."""
    derived = hmac.digest(hashlib.sha256(key.get_secret_value().encode()).digest(), b"partner-secrets", "sha256")
    nonce = os.urandom(12)
    return "v1:" + b64encode(nonce + AESGCM(derived).encrypt(nonce, text.encode(), owner.encode())).decode()


def test_what_was_sealed_opens_for_its_owner_under_its_key_alone() -> None:
    box = SecretBox(ONE)
    sealed = box.seal("whsec_abc", "acc/br")
    assert SecretBox(ONE).open(sealed, "acc/br") == "whsec_abc"
    for other, owner in ((box, "acc/wh"), (SecretBox(TWO), "acc/br")):
        with pytest.raises(SecretUnreadable):
            other.open(sealed, owner)


@pytest.mark.parametrize("sealed", ["", "v1:", "v2:", "v3:a:b", "v1:!", "v2:0:AAAA", "plain text"])
def test_what_is_no_sealed_text_does_not_open(sealed: str) -> None:
    with pytest.raises(SecretUnreadable):
        SecretBox(ONE).open(sealed, "acc/br")


def test_a_changed_character_does_not_open() -> None:
    sealed = SecretBox(ONE).seal("whsec_abc", "acc/br")
    for at in range(len(SecretBox(ONE).prefix), len(sealed)):
        # Of the last one some bits are of no byte, which changes nothing.
        for other in "ABCgw":
            if sealed[at] == other:
                continue
            with pytest.raises(SecretUnreadable):
                SecretBox(ONE).open(sealed[:at] + other + sealed[at + 1 :], "acc/br")


def test_the_same_secret_sealed_twice_looks_different() -> None:
    box = SecretBox(ONE)
    assert box.seal("whsec_abc", "acc/br") != box.seal("whsec_abc", "acc/br")


def test_a_sealed_text_names_its_key_and_opens_once_that_is_a_previous_one() -> None:
    old, new = SecretBox(ONE), SecretBox(TWO, ONE)
    sealed = old.seal("whsec_abc", "acc/br")
    assert sealed.startswith(old.prefix)
    assert old.prefix != new.prefix == SecretBox(TWO).prefix
    assert new.open(sealed, "acc/br") == "whsec_abc"
    assert new.seal("whsec_abc", "acc/br").startswith(new.prefix)


def test_texts_of_the_first_version_still_open_under_any_key_that_is_here() -> None:
    sealed = seal_in_first_version(ONE, "whsec_abc", "acc/br")
    assert SecretBox(ONE).open(sealed, "acc/br") == "whsec_abc"
    assert SecretBox(TWO, ONE).open(sealed, "acc/br") == "whsec_abc"
    with pytest.raises(SecretUnreadable):
        SecretBox(TWO).open(sealed, "acc/br")


def test_tokens_differ_by_purpose_and_key_and_those_of_previous_keys_are_known() -> None:
    tokens = {SecretBox(key).token(purpose) for key in (ONE, TWO) for purpose in ("a", "b")}
    assert len(tokens) == 4
    assert SecretBox(TWO, ONE).tokens("a") == [SecretBox(TWO).token("a"), SecretBox(ONE).token("a")]


# Rotation

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZb2f0b6jWw1r5S0VbGkDdQd0cZbTnX8rEo2fV5c3pM"


def register_partners(runtime: Runtime) -> dict[str, str]:
    """Register partners, one with a credential, one sealed in the first version; return their secrets."""
    sftp = {"channel": "sftp", "address": "sftp://us@files.example/in", "hostKeys": [HOST_KEY], "password": "letmein"}
    made = {
        name: exports.register(runtime, name, "warehouse", channels=[sftp] if name == "wh_3" else []).secret
        for name in ("wh_1", "wh_2", "wh_3")
    }
    with runtime.db.write() as session:
        row = session.scalars(select(PartnerSecret).where(col(PartnerSecret.partner_id) == "wh_1")).one()
        owner = f"{factories.ACCOUNT}/wh_1"
        row.sealed = seal_in_first_version(runtime.settings.secret_key, made["wh_1"], owner)
        session.add(row)
    return made


def read_sealed_texts(runtime: Runtime) -> list[str]:
    with runtime.db.read() as session:
        texts = [*session.scalars(select(col(PartnerSecret.sealed)).order_by(col(PartnerSecret.partner_id)))]
        return [*texts, *(each for each in session.scalars(select(col(PartnerChannel.credential))) if each)]


def open_secrets(runtime: Runtime) -> dict[str, str]:
    with runtime.db.read() as session:
        return {
            name: secrets.load_valid_secrets(session, runtime.settings, factories.ACCOUNT, name)[0]
            for name in ("wh_1", "wh_2", "wh_3")
        }


def test_rotation_seals_every_secret_and_credential_under_the_newest_key_and_twice_is_once(opened: OpenRuntime) -> None:
    made = register_partners(opened(secret_key="one"))
    both, new = opened(secret_key="two", secret_keys_previous=["one"]), opened(secret_key="two")
    assert open_secrets(both) == made
    assert sum(stretch.count for stretch in secrets.reseal_secrets(both)) == 4
    assert all(text.startswith(SecretBox(TWO).prefix) for text in read_sealed_texts(both))
    assert open_secrets(new) == made
    with new.db.read() as session:
        target = recipients.find_sealed_target(session, factories.ACCOUNT, "wh_3", "sftp", test_export=False)
    assert target is not None
    assert target.unseal(new.settings).credential == "letmein"
    before = read_sealed_texts(new)
    assert list(secrets.reseal_secrets(new)) == []
    assert read_sealed_texts(new) == before


def test_rotation_that_was_cut_off_goes_on_with_what_is_left(opened: OpenRuntime) -> None:
    made = register_partners(opened(secret_key="one"))
    both = opened(secret_key="two", secret_keys_previous=["one"])
    assert [stretch.count for stretch in islice(secrets.reseal_secrets(both, batch=1), 2)] == [1, 1]
    assert [text.startswith(SecretBox(TWO).prefix) for text in read_sealed_texts(both)] == [True, True, False, False]
    assert open_secrets(both) == made
    assert [stretch.count for stretch in secrets.reseal_secrets(both, batch=1)] == [1, 1]
    assert open_secrets(opened(secret_key="two")) == made


def test_rotation_names_whose_secrets_open_under_no_key_and_does_the_others(opened: OpenRuntime) -> None:
    made = register_partners(opened(secret_key="one"))
    lost = opened(secret_key="lost")
    exports.register(lost, "wh_0", "warehouse")
    both = opened(secret_key="two", secret_keys_previous=["one"])
    found = list(secrets.reseal_secrets(both, batch=2))
    assert sum(stretch.count for stretch in found) == 4
    assert [name for stretch in found for name in stretch.unreadable] == [f"{factories.ACCOUNT}/wh_0"]
    assert open_secrets(opened(secret_key="two")) == made


def test_the_command_rotates_and_fails_where_something_does_not_open(opened: OpenRuntime, sqlite_url: str) -> None:
    register_partners(opened(secret_key="one"))
    commands = Commands({"DATABASE_URL": sqlite_url, "EXPORTS_SECRET_KEY": "two"})
    refused = commands("secrets", "rotate")
    assert refused.exit_code == 1
    assert "EXPORTS_SECRET_KEYS_PREVIOUS" in refused.stderr
    assert commands.json("secrets", "rotate", EXPORTS_SECRET_KEYS_PREVIOUS='["one"]') == {"resealed": 4}
    assert commands.json("secrets", "rotate") == {"resealed": 0}
