"""The setting that maps the values of a claim to roles: what it refuses, and that each error names it."""

import pytest
from pydantic import ValidationError

from config import provider_roles
from config.provider_roles import GivenRoles
from config.settings import Settings
from pipeline.accounts.api_keys import ROLES

PROVIDER = {"oidc_issuer": "https://id.example", "oidc_client_id": "exports"}


def test_roles_are_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPORTS_OIDC_ROLES", '{"desk": {"acc_1": ["operate", "read", "read"], "acc_2": ["admin"]}}')
    taken = Settings.model_validate(PROVIDER)
    assert taken.oidc_roles.given == (
        GivenRoles("desk", "acc_1", ("operate", "read")),
        GivenRoles("desk", "acc_2", ("admin",)),
    )
    assert provider_roles.parse_provider_roles(str(taken.oidc_roles)) == taken.oidc_roles
    assert hash(taken), "parts of the service are kept by settings"
    monkeypatch.setenv("EXPORTS_OIDC_ROLES", "")
    assert Settings.model_validate(PROVIDER).oidc_roles.given == ()


def test_every_role_of_a_person_can_be_given() -> None:
    assert set(provider_roles.ROLES) == set(ROLES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("desk=operate", "is not JSON"),
        ("[]", "it must be an object"),
        ('{"desk": "acc_1"}', "the value of 'desk' must be an object"),
        ('{"desk": {"acc_1": "operate"}}', "the roles of 'desk' on 'acc_1' must be a list"),
        ('{"desk": {"acc_1": []}}', "must be a list of one role or more"),
        ('{"desk": {"acc_1": ["king"]}}', "contain 'king'; give admin, execute, operate, read"),
        ('{"desk": {"acc_1": ["partner:br_1"]}}', "contain 'partner:br_1'"),
        ('{"desk": {"acc_1": [1]}}', "contain 1;"),
        ('{"desk ": {"acc_1": ["read"]}}', "without spaces at its ends, not 'desk '"),
        ('{"": {"acc_1": ["read"]}}', "a value of the claim must be a text"),
        ('{"desk": {"": ["read"]}}', "an account of 'desk' must be a text"),
        ('{"desk": {"acc_1": ["read"]}, "desk": {"acc_1": ["admin"]}}', "has 'desk' twice"),
    ],
)
def test_malformed_roles_are_refused_by_name(given: str, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(PROVIDER | {"oidc_roles": given})
    assert "EXPORTS_OIDC_ROLES" in str(refused.value)
    assert message in str(refused.value)


def test_roles_need_a_provider_and_scopes_an_address() -> None:
    with pytest.raises(ValidationError, match="EXPORTS_OIDC_ROLES needs a provider"):
        Settings.model_validate({"oidc_roles": '{"desk": {"acc_1": ["read"]}}'})
    with pytest.raises(ValidationError, match="EXPORTS_OIDC_SCOPES must contain openid and email"):
        Settings.model_validate(PROVIDER | {"oidc_scopes": "openid groups"})
