"""An OpenID provider on loopback: it checks the client and PKCE as a real one does, and can be made to do one thing wrong."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID: Final = "exports"
CLIENT_SECRET: Final = "secret of/the+client"  # noqa: S105 - it protects nothing


@dataclass
class FakeProvider:
    """A provider with one person; `claims`, `omitted`, `userinfo` and `changes` alter what it says of them, and how it answers."""

    issuer: str
    claims: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    omitted: set[str] = field(default_factory=set)
    changes: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def rotate_key(self) -> None:
        """Sign with another key from now on."""
        self.key = RSAKey.generate_key(2048, {"kid": str(int(str(self.key.kid)) + 1)})

    def authorize(self, address: str) -> str:
        """Return the address to which the provider sends the browser after the person has signed in there."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == (
            "code",
            CLIENT_ID,
            "S256",
        )
        assert {"openid", "email"} <= set(asked["scope"].split())
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        answer = {"code": code, "state": asked["state"], "iss": self.issuer, "session_state": "x"}
        return f"{asked['redirect_uri']}?{urlencode(answer)}"

    def describe(self) -> dict[str, Any]:
        """Return the description of the provider."""
        described: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }
        if self.userinfo:
            described["userinfo_endpoint"] = f"{self.issuer}/userinfo"
        return described | dict(self.changes.get("metadata", {}))

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the tokens for a code."""
        expected = base64.b64encode(b"exports:secret%20of/the%2Bclient").decode()
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or authorization != f"Basic {expected}"
            or asked["code_challenge"] != challenge.rstrip(b"=").decode()
            or asked["redirect_uri"] != form.get("redirect_uri")
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "sub-1",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "email": "Anna@maple.example",
            "email_verified": True,
        } | self.claims
        claims = {name: value for name, value in claims.items() if name not in self.omitted}
        key = self.changes.get("key", self.key)
        header = {"alg": "RS256", "kid": self.key.kid} | self.changes.get("header", {})
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": jwt.encode(header, claims, key)}


@contextmanager
def run_provider() -> Iterator[FakeProvider]:
    """Run a provider until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            if self.path == "/.well-known/openid-configuration":
                self.answer(200, provider.describe())
            elif self.path == "/userinfo" and self.headers.get("authorization") == "Bearer a":
                self.answer(200, provider.userinfo)
            elif self.path == "/keys":
                self.answer(200, {"keys": [provider.key.as_dict(private=False)]})
            else:
                self.answer(404, {})

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.answer(*provider.exchange(form, self.headers.get("authorization", "")))

        def answer(self, status: int, value: dict[str, Any]) -> None:
            body = provider.changes.get("body") or json.dumps(value).encode()
            self.send_response(provider.changes.get("status", status))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - as in the library
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = FakeProvider(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
