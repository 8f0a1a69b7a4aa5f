"""Sign-in by a real OpenID provider: discovery, PKCE, claims, roles, changed keys and sign-out, by HTTP on loopback."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from tests.conftest import skip_or_fail
from tests.interfaces.api.conftest import ApiHarness, Open
from tests.interfaces.console.people.test_people import send
from tests.interfaces.console.people.test_provider import read_address
from tests.support import factories
from tests.support.open_id import CLIENT_ID, CLIENT_SECRET

pytestmark = pytest.mark.system

FOLDER: Final = Path(__file__).parents[1] / "javascript"
PUBLIC_URL: Final = "http://127.0.0.1:8000"
ANNA: Final = {"email": "anna@maple.example", "email_verified": True, "name": "Anna"}
REDIRECTS: Final = 20


@dataclass
class RealProvider:
    """A running provider and the pipes to it."""

    requests: IO[str]
    answers: IO[str]
    issuer: str = ""

    def send(self, **given: Any) -> None:
        """Change it, and wait until it has changed."""
        print(json.dumps(given), file=self.requests, flush=True)
        self.issuer = json.loads(self.answers.readline())["issuer"]


@contextmanager
def run_real_provider() -> Iterator[RealProvider]:
    """Run a provider until the block ends; the test is skipped if it is not installed, and fails in CI."""
    node = shutil.which("node")
    if node is None:
        skip_or_fail("Node.js is not installed; the Debian package is nodejs")
    if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        skip_or_fail("oidc-provider is not installed; run `make kits`")
    with subprocess.Popen(
        [node, "provider.mjs"],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield RealProvider(process.stdin, process.stdout)
        finally:
            process.kill()


@pytest.fixture(params=[True, False], ids=["claims in the ID token", "claims at the userinfo endpoint"])
def provider(request: pytest.FixtureRequest) -> Iterator[RealProvider]:
    """A running provider with one person, in a group."""
    client = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [f"{PUBLIC_URL}/console/provider/callback"],
        "post_logout_redirect_uris": [f"{PUBLIC_URL}/console/sign-in"],
    }
    with run_real_provider() as running:
        running.send(client=client, allClaims=request.param, people={"anna": ANNA | {"groups": ["desk"]}})
        yield running


@pytest.fixture
def installation(open_harness: Open, provider: RealProvider) -> ApiHarness:
    """An installation whose people get their roles from the provider."""
    return open_harness(
        public_url=PUBLIC_URL,
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
        oidc_scopes="openid email profile groups",
        oidc_roles={"desk": {factories.ACCOUNT: ["operate"]}},
    )


class Browser:
    """A browser behind the proxy of the installation. It remembers the titles of the provider's pages."""

    def __init__(self, installation: ApiHarness, provider: RealProvider) -> None:
        self.client = installation.client_with_key(None)
        self.issuer = provider.issuer
        self.titles: list[str] = []

    def sign_in(self) -> httpx.Response:
        """Sign in as Anna."""
        return self.follow(self.client.get("/console/provider"))

    def follow(self, answer: httpx.Response, *, until: str = "/console") -> httpx.Response:
        """Follow redirects and send the provider's forms until the installation answers with a page or `until`."""
        for _ in range(REDIRECTS):
            if answer.is_redirect:
                address = urljoin(str(answer.url), answer.headers["location"])
                if urlsplit(address).path == until:
                    return answer
                answer = self.client.get(address.removeprefix(PUBLIC_URL))
            elif str(answer.url).startswith(self.issuer):
                answer = self.submit(answer)
            else:
                return answer
        raise AssertionError("the redirects do not end")

    def submit(self, page: httpx.Response) -> httpx.Response:
        """Send the form of a page of the provider."""
        assert page.status_code == 200, page.text
        (action,) = re.findall(r'<form[^>]* action="([^"]+)"', page.text)
        self.titles += re.findall(r"<title>([^<]+)</title>", page.text)
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        fields |= {"login": "anna", "password": "any"} if fields.get("prompt") == "login" else {}
        fields |= {"logout": "yes"} if "xsrf" in fields else {}
        return self.client.post(urljoin(str(page.url), html.unescape(action)), data=fields)

    @staticmethod
    def read_location(answer: httpx.Response) -> str:
        """Return where the answer leads to."""
        return str(answer.headers.get("location", answer.text))


def test_person_signs_in_with_the_roles_of_the_groups(installation: ApiHarness, provider: RealProvider) -> None:
    browser = Browser(installation, provider)
    assert browser.read_location(browser.sign_in()) == "/console"
    page = browser.client.get("/console/me").text
    assert ("anna@maple.example" in page, "<dd>operate</dd>" in page, "OpenID provider" in page) == (True, True, True)
    assert browser.titles == ["Sign-in", "Sign-in"], "one page to sign in, one to consent"

    provider.send(rotate=True)
    other = Browser(installation, provider)
    assert other.read_location(other.sign_in()) == "/console"

    provider.send(people={"anna": ANNA | {"groups": ["others"]}})
    refused = Browser(installation, provider).sign_in()
    assert (refused.status_code, "gives you no role here" in refused.text) == (401, True)
    assert browser.client.get("/console").headers["location"] == "/console/sign-in"


def test_sign_out_ends_the_session_at_the_provider_too(installation: ApiHarness, provider: RealProvider) -> None:
    browser = Browser(installation, provider)
    browser.sign_in()
    browser.titles.clear()
    assert browser.read_location(browser.sign_in()) == "/console"
    assert browser.titles == [], "the provider still knows the person"

    left = send(browser.client, "/console/sign-out")
    assert "You are signed out here" in left.text
    address = read_address(left)
    assert {"id_token_hint", "client_id", "post_logout_redirect_uri"} == parse_qs(urlsplit(address).query).keys()
    back = browser.follow(browser.client.get(address), until="/console/sign-in")
    assert back.headers["location"] == f"{PUBLIC_URL}/console/sign-in"
    assert browser.titles == ["Logout Request"]

    browser.titles.clear()
    assert browser.read_location(browser.sign_in()) == "/console"
    assert browser.titles[0] == "Sign-in"


def test_code_of_another_browser_opens_no_session(installation: ApiHarness, provider: RealProvider) -> None:
    """The code is bound by PKCE to the browser that asked for it."""
    thief, victim = Browser(installation, provider), Browser(installation, provider)
    stopped = victim.follow(victim.client.get("/console/provider"), until="/console/provider/callback")
    address = stopped.headers["location"]
    own = parse_qs(urlsplit(thief.client.get("/console/provider").headers["location"]).query)["state"]
    stolen = parse_qs(urlsplit(address).query) | {"state": own}
    assert thief.client.get("/console/provider/callback", params=stolen).status_code == 401
    assert thief.client.get("/console").headers["location"] == "/console/sign-in"
    answer = victim.client.get(address.removeprefix(PUBLIC_URL))
    assert victim.read_location(answer) == "/console"
    assert victim.client.get(address.removeprefix(PUBLIC_URL)).status_code == 401, "an answer counts once"


def test_person_who_refuses_at_the_provider_is_not_signed_in(installation: ApiHarness, provider: RealProvider) -> None:
    browser = Browser(installation, provider)
    page = browser.client.get(browser.client.get("/console/provider").headers["location"])
    form = browser.client.get(urljoin(str(page.url), page.headers["location"]))
    (abort,) = re.findall(r'href="([^"]+/abort)"', form.text)
    refused = browser.follow(browser.client.get(urljoin(str(form.url), abort)))
    assert (refused.status_code, "did not sign you in" in refused.text) == (401, True)


def test_lock_of_the_provider_names_no_registry() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    installed = {name: each for name, each in packages.items() if name}
    assert "node_modules/oidc-provider" in installed
    assert all(each["integrity"].startswith("sha512-") and "resolved" not in each for each in installed.values())
