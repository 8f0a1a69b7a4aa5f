"""Tests of secrets at rest and of the keys that they are sealed under."""

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
from tests.support import factories
from tests.support.command_line import Commands

ONE, TWO = SecretStr("one"), SecretStr("two")


def seal_in_first_version(key: SecretStr, text: str, owner: str) -> str:
    """Return a sealed text of the first version, which does not name its key."""
    derived = hmac.digest(hashlib.sha256(key.get_secret_value().encode()).digest(), b"partner-secrets", "sha256")
    nonce = os.urandom(12)
    return "v1:" + b64encode(nonce + AESGCM(derived).encrypt(nonce, text.encode(), owner.encode())).decode()


def test_sealed_text_opens_only_with_its_key_and_owner() -> None:
    box = SecretBox(ONE)
    sealed = box.seal("whsec_abc", "acc/br")
    assert SecretBox(ONE).open(sealed, "acc/br") == "whsec_abc"
    for other, owner in ((box, "acc/wh"), (SecretBox(TWO), "acc/br")):
        with pytest.raises(SecretUnreadable):
            other.open(sealed, owner)


@pytest.mark.parametrize("sealed", ["", "v1:", "v2:", "v3:a:b", "v1:!", "v2:0:AAAA", "plain text"])
def test_malformed_sealed_text_does_not_open(sealed: str) -> None:
    with pytest.raises(SecretUnreadable):
        SecretBox(ONE).open(sealed, "acc/br")


def test_changed_sealed_text_does_not_open() -> None:
    sealed = SecretBox(ONE).seal("whsec_abc", "acc/br")
    for at in range(len(SecretBox(ONE).prefix), len(sealed)):
        # The last character has unused bits; a change of these must not open either.
        for other in "ABCgw":
            if sealed[at] == other:
                continue
            with pytest.raises(SecretUnreadable):
                SecretBox(ONE).open(sealed[:at] + other + sealed[at + 1 :], "acc/br")


def test_same_secret_sealed_twice_differs() -> None:
    box = SecretBox(ONE)
    assert box.seal("whsec_abc", "acc/br") != box.seal("whsec_abc", "acc/br")


def test_sealed_text_names_its_key_and_opens_under_a_previous_key() -> None:
    old, new = SecretBox(ONE), SecretBox(TWO, ONE)
    sealed = old.seal("whsec_abc", "acc/br")
    assert sealed.startswith(old.prefix)
    assert old.prefix != new.prefix == SecretBox(TWO).prefix
    assert new.open(sealed, "acc/br") == "whsec_abc"
    assert new.seal("whsec_abc", "acc/br").startswith(new.prefix)


def test_text_of_first_version_opens_under_any_known_key() -> None:
    sealed = seal_in_first_version(ONE, "whsec_abc", "acc/br")
    assert SecretBox(ONE).open(sealed, "acc/br") == "whsec_abc"
    assert SecretBox(TWO, ONE).open(sealed, "acc/br") == "whsec_abc"
    with pytest.raises(SecretUnreadable):
        SecretBox(TWO).open(sealed, "acc/br")


def test_tokens_differ_by_purpose_and_key_and_include_previous_keys() -> None:
    tokens = {SecretBox(key).token(purpose) for key in (ONE, TWO) for purpose in ("a", "b")}
    assert len(tokens) == 4
    assert SecretBox(TWO, ONE).tokens("a") == [SecretBox(TWO).token("a"), SecretBox(ONE).token("a")]


# Rotation

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZb2f0b6jWw1r5S0VbGkDdQd0cZbTnX8rEo2fV5c3pM"


def register_partners(runtime: Runtime) -> dict[str, str]:
    """Register partners, one with a credential and one sealed in the first version; return their secrets."""
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


def test_rotation_reseals_all_secrets_and_is_idempotent(make_runtime: OpenRuntime) -> None:
    made = register_partners(make_runtime(secret_key="one"))
    both, new = make_runtime(secret_key="two", secret_keys_previous=["one"]), make_runtime(secret_key="two")
    assert open_secrets(both) == made
    assert sum(page.count for page in secrets.reseal_secrets(both)) == 4
    assert all(text.startswith(SecretBox(TWO).prefix) for text in read_sealed_texts(both))
    assert open_secrets(new) == made
    with new.db.read() as session:
        target = recipients.find_sealed_target(session, factories.ACCOUNT, "wh_3", "sftp", test_export=False)
    assert target is not None
    assert target.unseal(new.settings).credential == "letmein"
    before = read_sealed_texts(new)
    assert list(secrets.reseal_secrets(new)) == []
    assert read_sealed_texts(new) == before


def test_interrupted_rotation_continues_with_the_rest(make_runtime: OpenRuntime) -> None:
    made = register_partners(make_runtime(secret_key="one"))
    both = make_runtime(secret_key="two", secret_keys_previous=["one"])
    assert [page.count for page in islice(secrets.reseal_secrets(both, batch=1), 2)] == [1, 1]
    assert [text.startswith(SecretBox(TWO).prefix) for text in read_sealed_texts(both)] == [True, True, False, False]
    assert open_secrets(both) == made
    assert [page.count for page in secrets.reseal_secrets(both, batch=1)] == [1, 1]
    assert open_secrets(make_runtime(secret_key="two")) == made


def test_rotation_names_unreadable_secrets_and_reseals_the_others(make_runtime: OpenRuntime) -> None:
    made = register_partners(make_runtime(secret_key="one"))
    lost = make_runtime(secret_key="lost")
    exports.register(lost, "wh_0", "warehouse")
    both = make_runtime(secret_key="two", secret_keys_previous=["one"])
    found = list(secrets.reseal_secrets(both, batch=2))
    assert sum(page.count for page in found) == 4
    assert [name for page in found for name in page.unreadable] == [f"{factories.ACCOUNT}/wh_0"]
    assert open_secrets(make_runtime(secret_key="two")) == made


def test_rotate_command_fails_if_a_secret_is_unreadable(make_runtime: OpenRuntime, sqlite_url: str) -> None:
    register_partners(make_runtime(secret_key="one"))
    commands = Commands({"DATABASE_URL": sqlite_url, "EXPORTS_SECRET_KEY": "two"})
    refused = commands("secrets", "rotate")
    assert refused.exit_code == 1
    assert "EXPORTS_SECRET_KEYS_PREVIOUS" in refused.stderr
    assert commands.json("secrets", "rotate", EXPORTS_SECRET_KEYS_PREVIOUS='["one"]') == {"resealed": 4}
    assert commands.json("secrets", "rotate") == {"resealed": 0}
