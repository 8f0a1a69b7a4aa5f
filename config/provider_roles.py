"""The settings of an OpenID provider, and the roles that values of its claim give people."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from config.network import is_loopback

NAME: Final = "EXPORTS_OIDC_ROLES"
#: The roles that people may have.
ROLES: Final = ("admin", "execute", "operate", "read")

_EXAMPLE: Final = '{"export-desk": {"acc_1": ["operate"]}}'


@dataclass(frozen=True)
class GivenRoles:
    """The roles on an account that one value of the claim gives."""

    value: str
    account_id: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class ProviderRoles:
    """All roles that values of the claim give. Its text is what the setting contains, empty without any."""

    given: tuple[GivenRoles, ...] = ()

    def __str__(self) -> str:
        """Return the JSON of the setting."""
        found: dict[str, dict[str, list[str]]] = {}
        for each in self.given:
            found.setdefault(each.value, {})[each.account_id] = [*each.roles]
        return json.dumps(found) if found else ""


def parse_provider_roles(given: object) -> ProviderRoles:
    """Return the roles by claim value and account, from JSON text or its value. Raises ValueError that names the setting."""
    if isinstance(given, ProviderRoles):
        return given
    value = given
    if isinstance(given, str):
        try:
            value = json.loads(given or "{}", object_pairs_hook=_build_object)
        except json.JSONDecodeError as error:
            raise ValueError(f"{NAME} is not JSON: {error}; write it as in {_EXAMPLE}") from error
    return ProviderRoles(
        tuple(
            GivenRoles(
                _check_text(claim, "a value of the claim"),
                _check_text(account, f"an account of {claim!r}"),
                _check_roles(roles, claim, account),
            )
            for claim, accounts in _check_object(value, "it").items()
            for account, roles in _check_object(accounts, f"the value of {claim!r}").items()
        )
    )


def _build_object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{NAME} has {name!r} twice; write its accounts and roles together")
        found[name] = value
    return found


def _check_object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{NAME}: {what} must be an object, as in {_EXAMPLE}")
    return value


def _check_text(text: object, what: str) -> str:
    if not isinstance(text, str) or not text.strip() or text != text.strip():
        raise ValueError(f"{NAME}: {what} must be a text without spaces at its ends, not {text!r}")
    return text


def _check_roles(roles: object, claim: str, account: str) -> tuple[str, ...]:
    where = f"the roles of {claim!r} on {account!r}"
    if not isinstance(roles, list | tuple) or not roles:
        raise ValueError(f"{NAME}: {where} must be a list of one role or more, as in {_EXAMPLE}")
    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise ValueError(f"{NAME}: {where} contain {unknown[0]!r}; give {', '.join(ROLES)}")
    return tuple(sorted(set(roles)))


class ProviderSettings(BaseModel):
    """Sign-in by an OpenID provider."""

    oidc_issuer: str | None = Field(
        None, description="OpenID provider by which people may sign in, such as https://id.maple.example"
    )
    oidc_client_id: str | None = Field(None, description="Client id of this installation at that provider")
    oidc_client_secret: SecretStr | None = Field(None, description="Client secret there; none for a public client")
    oidc_scopes: str = Field(
        "openid email profile", description="Scopes to ask for; some providers send groups only for one"
    )
    oidc_roles_claim: str = Field(
        "groups", min_length=1, description="Claim with a text or a list, such as the groups of a person"
    )
    oidc_roles: Annotated[ProviderRoles, NoDecode, BeforeValidator(parse_provider_roles)] = Field(
        ProviderRoles(),
        description='Roles on accounts by value of that claim, as in {"export-desk": {"acc_1": ["operate"]}}',
    )

    @model_validator(mode="after")
    def _check_provider(self) -> Self:
        if self.oidc_issuer is None:
            if self.oidc_roles.given:
                raise ValueError("EXPORTS_OIDC_ROLES needs a provider; set EXPORTS_OIDC_ISSUER too")
            return self
        address = urlsplit(self.oidc_issuer)
        if address.scheme != "https" and not (address.scheme == "http" and is_loopback(address.hostname)):
            raise ValueError("EXPORTS_OIDC_ISSUER must begin with https://, because it proves who people are")
        if not self.oidc_client_id:
            raise ValueError("EXPORTS_OIDC_ISSUER needs a client; set EXPORTS_OIDC_CLIENT_ID too")
        if not {"openid", "email"} <= {*self.oidc_scopes.split()}:
            raise ValueError("EXPORTS_OIDC_SCOPES must contain openid and email")
        return self
