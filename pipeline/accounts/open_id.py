"""Sign-in by an OpenID provider: authorization code with PKCE, and the proof of who the person is."""

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpcore
import structlog
from authlib.common.security import generate_token
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import encode_client_secret_basic
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from config.settings import Settings
from pipeline.accounts.people import is_email
from pipeline.accounts.provider_sign_in import ProvenIdentity
from pipeline.core.errors import SignInFailed
from pipeline.core.outbound import GuardedNetwork, trusted_certificates

log = structlog.get_logger(__name__)

#: All requests of one sign-in together, and each answer.
_SECONDS: Final = 8.0
_MAX_BYTES: Final = 256 * 1024
#: How long the provider's description and keys are used without asking again.
_CACHED_SECONDS: Final = 600.0
_LEEWAY_SECONDS: Final = 60
#: Signatures with a public key only: with another kind, the client's secret would be enough to sign.
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

#: The longest ID token in an address.
_MAX_HINT: Final = 4096
#: Endpoints that a provider may lack.
_OPTIONAL: Final = frozenset({"userinfo_endpoint", "end_session_endpoint"})
#: OpenID Connect Core, section 2.
_SUBJECT: Final = re.compile(r"[\x20-\x7e]{1,255}")

_UNAVAILABLE: Final = "your OpenID provider does not answer; try again, or sign in with your password and a code"


@dataclass(frozen=True)
class Authorization:
    """A sign-in that was begun: the provider's address, and what the browser must bring back."""

    url: str
    state: str
    nonce: str
    verifier: str


class OpenIdProvider:
    """The provider of the settings. For several threads."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = (settings.oidc_issuer or "").rstrip("/")
        self._client_id = settings.oidc_client_id or ""
        self._secret = None if settings.oidc_client_secret is None else settings.oidc_client_secret.get_secret_value()
        self._scope = settings.oidc_scopes
        self._roles_claim = settings.oidc_roles_claim if settings.oidc_roles.given else None
        self._cached: dict[str, tuple[float, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def begin(self, redirect_uri: str) -> Authorization:
        """Return the address to which the browser goes. Raises SignInFailed if the provider does not answer."""
        state, nonce, verifier = generate_token(32), generate_token(32), generate_token(64)
        url = prepare_grant_uri(
            self._read_metadata()["authorization_endpoint"],
            client_id=self._client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=self._scope,
            state=state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return Authorization(url, state, nonce, verifier)

    def finish(self, begun: Authorization, redirect_uri: str, answer: Mapping[str, str]) -> ProvenIdentity:
        """Return who the person is, from the provider's answer in the browser's address.

        Raises SignInFailed in plain words: the person refused, the answer belongs to another sign-in, or the proof is wrong.
        """
        if answer.get("state") != begun.state:
            raise SignInFailed("this answer of your OpenID provider belongs to another sign-in; begin again")
        # A provider that promises to name itself must do so: RFC 9207.
        named = self._read_metadata().get("authorization_response_iss_parameter_supported") is True
        if (named or "iss" in answer) and answer.get("iss", "").rstrip("/") != self._issuer:
            raise SignInFailed("this answer came from another OpenID provider; begin again")
        if "code" not in answer:
            log.warning("provider_refused", error=answer.get("error", "")[:64])
            raise SignInFailed("your OpenID provider did not sign you in; try again there, or use your password")
        tokens = self._exchange(begun, redirect_uri, answer["code"])
        proven = self._verify(str(tokens.get("id_token", "")), begun.nonce, tokens.get("access_token"))
        claims = self._complete(proven, tokens.get("access_token"))
        name = claims.get("name")
        return ProvenIdentity(
            issuer=self._issuer,
            subject=claims["sub"],
            email=_read_verified_email(claims),
            name=name if isinstance(name, str) else "",
            id_token=str(tokens["id_token"]),
            role_values=None if self._roles_claim is None else _read_texts(claims, self._roles_claim),
        )

    def build_logout_address(self, id_token: str, return_to: str) -> str | None:
        """Return the address at which the browser ends the person's session at the provider too, and comes back.

        None if the provider has none, or does not answer.
        """
        try:
            address = self._read_metadata().get("end_session_endpoint")
        except SignInFailed:
            return None
        if address is None:
            return None
        asked = {"client_id": self._client_id, "post_logout_redirect_uri": return_to}
        # Servers refuse longer addresses; without the token, the provider asks the person.
        if id_token and len(id_token) <= _MAX_HINT:
            asked["id_token_hint"] = id_token
        return str(add_params_to_uri(str(address), asked))

    def _complete(self, proven: CodeIDToken, access_token: object) -> Mapping[str, Any]:
        """Return the claims of the ID token, with those that the provider only has at its userinfo endpoint."""
        wanted = {"email"} if self._roles_claim is None else {"email", self._roles_claim}
        address = self._read_metadata().get("userinfo_endpoint")
        if wanted <= proven.keys() or address is None or not isinstance(access_token, str):
            return dict(proven)
        headers = {"Accept": "application/json", "Authorization": f"Bearer {access_token}"}
        found = self._fetch("GET", address, headers, None)
        if found.get("sub") != proven["sub"]:
            log.warning("provider_userinfo_of_another_person")
            raise SignInFailed("your OpenID provider described another person; begin again")
        if len({str(each["email"]).lower() for each in (found, proven) if each.get("email") is not None}) > 1:
            log.warning("provider_addresses_differ")
            raise SignInFailed("your OpenID provider gave two e-mail addresses; ask an administrator of the provider")
        # Whether an address is verified counts only beside the address itself.
        source = proven if {"email", "email_verified"} <= proven.keys() else found
        return found | dict(proven) | {name: source.get(name) for name in ("email", "email_verified")}

    def _exchange(self, begun: Authorization, redirect_uri: str, code: str) -> dict[str, Any]:
        given = {"code": code, "code_verifier": begun.verifier}
        body = prepare_token_request("authorization_code", "", redirect_uri, **given)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        metadata = self._read_metadata()
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if self._secret is not None and "client_secret_basic" in methods:
            encode_client_secret_basic(
                _BasicClient(quote(self._client_id), quote(self._secret)), "POST", "", headers, ""
            )
        else:
            secret = {} if self._secret is None else {"client_secret": self._secret}
            body += "&" + urlencode({"client_id": self._client_id} | secret)
        return self._fetch("POST", metadata["token_endpoint"], headers, body.encode())

    def _verify(self, id_token: str, nonce: str, access_token: object) -> CodeIDToken:
        try:
            try:
                token = jwt.decode(id_token, self._read_keys(fresh=False), algorithms=_ALGORITHMS)
            except (JoseError, ValueError):
                # The provider may have changed its keys since they were read.
                token = jwt.decode(id_token, self._read_keys(fresh=True), algorithms=_ALGORITHMS)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "values": [self._issuer, self._issuer + "/"]},
                    "aud": {"value": self._client_id},
                },
                {"nonce": nonce, "client_id": self._client_id, "access_token": access_token},
            )
            claims.validate(leeway=_LEEWAY_SECONDS)
            if not isinstance(claims["sub"], str) or not _SUBJECT.fullmatch(claims["sub"]):
                raise ValueError("sub is not a text of 1 to 255 ASCII characters")
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.warning("provider_token_refused", error=type(error).__name__, reason=str(error)[:200])
            raise SignInFailed(
                "the proof of your OpenID provider is not valid; begin again, or tell an administrator"
            ) from error
        return claims

    def _read_metadata(self) -> dict[str, Any]:
        found = self._read_cached(f"{self._issuer}/.well-known/openid-configuration", fresh=False)
        if str(found.get("issuer", "")).rstrip("/") != self._issuer:
            log.error("provider_issuer_differs", configured=self._issuer, found=str(found.get("issuer"))[:200])
            raise SignInFailed(_UNAVAILABLE)
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", *_OPTIONAL):
            if name in _OPTIONAL and found.get(name) is None:
                continue
            same_scheme = urlsplit(str(found.get(name, ""))).scheme in {"https", urlsplit(self._issuer).scheme}
            if not found.get(name) or not same_scheme:
                log.error("provider_description_incomplete", member=name)
                raise SignInFailed(_UNAVAILABLE)
        return found

    def _read_keys(self, *, fresh: bool) -> KeySet:
        return KeySet.import_key_set(self._read_cached(self._read_metadata()["jwks_uri"], fresh=fresh))  # type: ignore[arg-type]

    def _read_cached(self, url: str, *, fresh: bool) -> dict[str, Any]:
        with self._lock:
            until, value = self._cached.get(url, (0.0, {}))
        if fresh or until < time.monotonic():
            value = self._fetch("GET", url, {"Accept": "application/json"}, None)
            with self._lock:
                self._cached[url] = time.monotonic() + _CACHED_SECONDS, value
        return value

    def _fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> dict[str, Any]:
        """Return the JSON object of an answer. Raises SignInFailed if there is none in time, or it is too large."""
        # The operator chose the provider, and it may stand in the own network.
        network = GuardedNetwork(private=True)
        network.start_deadline(_SECONDS)
        sent = {"host": urlsplit(url).netloc, "accept-encoding": "identity", **headers}
        if body is not None:
            sent["content-length"] = str(len(body))
        content = b""
        try:
            with (
                httpcore.ConnectionPool(ssl_context=trusted_certificates(), network_backend=network) as pool,
                pool.stream(method, url, headers=list(sent.items()), content=body) as response,
            ):
                for part in response.iter_stream():
                    content += part
                    if len(content) > _MAX_BYTES:
                        raise ValueError("the answer is too large")
            if response.status != 200:
                raise ValueError(f"the answer has the status {response.status}")
            found = json.loads(content)
            if not isinstance(found, dict):
                raise TypeError("the answer is not a JSON object")
        except (
            httpcore.TimeoutException,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
            OSError,
            ValueError,
            TypeError,
            RecursionError,
        ) as error:
            log.warning("provider_unavailable", url=url, error=type(error).__name__, reason=str(error)[:200])
            raise SignInFailed(_UNAVAILABLE) from error
        return found


@dataclass(frozen=True)
class _BasicClient:
    client_id: str
    client_secret: str


def _read_texts(claims: Mapping[str, Any], name: str) -> list[str] | None:
    """Return the texts of a claim, which is one or a list of them. None if the claims lack it."""
    value = claims.get(name)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    if value is not None:
        log.warning("provider_claim_malformed", claim=name)
    return None


def _read_verified_email(claims: Mapping[str, Any]) -> str | None:
    email = claims.get("email")
    if claims.get("email_verified") not in (True, "true") or not isinstance(email, str):
        return None
    # Checked first: some letters that are not ASCII have a lower case that is, so that two addresses would be one.
    return email.lower() if is_email(email) else None
