"""The page of printed pages: logo and languages of new exports, an example, and who may change them."""

import random
from io import BytesIO

import httpx
import pytest
from PIL import Image

from pipeline.accounts import print_settings
from pipeline.core.errors import ForeignForm, InvalidRequest
from pipeline.core.signed_text import Signatures
from pipeline.interfaces.pages.upload import Upload, UploadParser
from tests.interfaces.api.conftest import OTHER, ApiHarness
from tests.interfaces.console.people.test_keys import read_form
from tests.interfaces.console.test_console import sign_in_browser
from tests.support import factories
from tests.support.logos import draw_logo
from tests.support.tables import table

PAGE = "/console/print-settings"


def upload(client: httpx.Client, picture: bytes, name: str = "logo.png") -> httpx.Response:
    """Send the form of the page with a picture, as a browser does."""
    token = {"csrf_token": read_form(client, PAGE)["csrf_token"]}
    return client.post(f"{PAGE}/logo", data=token, files={"logo": (name, picture, "image/png")})


def read_settings(harness: ApiHarness, account: str = factories.ACCOUNT) -> tuple[bool, bool]:
    """Return whether new exports of the account print French, and a logo."""
    with harness.runtime.db.read() as session:
        found = print_settings.find_print_settings(session, account)
    return found.french, found.logo_sha256 is not None


def read_picture(client: httpx.Client, name: str) -> Image.Image:
    answer = client.get(f"{PAGE}/{name}.png")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    return Image.open(BytesIO(answer.content)).convert("RGB")


@pytest.mark.pdf_engine
def test_logo_and_languages_are_changed_and_shown(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    assert "New exports print no logo." in client.get(PAGE).text
    assert client.get(f"{PAGE}/logo.png").status_code == 404
    plain = read_picture(client, "example")
    assert plain.width == 1100
    sent = upload(client, draw_logo())
    assert (sent.status_code, sent.headers["location"]) == (303, PAGE)
    assert read_settings(harness) == (False, True)
    assert read_picture(client, "logo").size == (576, 192)
    with_logo = read_picture(client, "example")
    assert (180, 40, 40) in {colour for _, colour in with_logo.getcolors(1 << 24) or []}
    assert with_logo.tobytes() != plain.tobytes()
    languages = read_form(client, PAGE) | {"french": "yes"}
    assert client.post(PAGE, data=languages).status_code == 303
    assert read_settings(harness) == (True, True)
    assert read_picture(client, "example").tobytes() != with_logo.tobytes()
    shown = client.get(PAGE).text
    assert "New exports print French beside English." in shown
    assert "Replace the logo" in shown
    other = upload(client, draw_logo("JPEG", (400, 400), "RGB"), "other.jpg")
    assert other.status_code == 303
    assert read_picture(client, "logo").size == (192, 192)
    removed = client.post(f"{PAGE}/logo/remove", data=read_form(client, PAGE))
    assert (removed.status_code, read_settings(harness)) == (303, (True, False))
    assert client.post(PAGE, data=read_form(client, PAGE)).status_code == 303
    assert read_settings(harness) == (False, False)
    trail = client.get("/console/audit").text
    assert trail.count("languages_changed") + trail.count("languages changed") > 0


@pytest.mark.pdf_engine
@table(
    ("picture", "why"),
    [
        (b"<svg onload='alert(1)'/>", "is neither PNG nor JPEG; save it as PNG"),
        (draw_logo()[:900], "the file is damaged or too complex"),
        (bytes(530_000), "send at most 524,288"),
        (draw_logo(size=(8, 8)), "each side must have 16 to 4,096"),
        (b"", "the form has no picture; choose a PNG or a JPEG"),
    ],
)
def test_picture_that_is_refused_says_why_and_changes_nothing(harness: ApiHarness, picture: bytes, why: str) -> None:
    client = sign_in_browser(harness, "admin")
    refused = upload(client, picture)
    assert (refused.status_code, why in refused.text) == (400, True), refused.text
    assert "<svg onload" not in refused.text
    assert read_settings(harness) == (False, False)


def test_upload_of_megabytes_is_refused_before_it_is_read(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    assert upload(client, bytes(3_000_000)).status_code == 413


def test_form_of_another_kind_is_refused(harness: ApiHarness) -> None:
    client = sign_in_browser(harness, "admin")
    refused = client.post(f"{PAGE}/logo", data=read_form(client, PAGE))
    assert (refused.status_code, "multipart/form-data" in refused.text) == (400, True)


@pytest.mark.parametrize("role", ["read", "execute", "operate"])
def test_others_see_the_settings_and_change_nothing(harness: ApiHarness, role: str) -> None:
    client = sign_in_browser(harness, role)
    shown = client.get(PAGE)
    assert (shown.status_code, "An administrator of the account can change them." in shown.text) == (200, True)
    assert 'type="file"' not in shown.text
    token = {"csrf_token": read_form(client, "/console/me")["csrf_token"]}
    assert client.post(PAGE, data=token | {"french": "yes"}).status_code == 403
    assert client.post(f"{PAGE}/logo", data=token, files={"logo": draw_logo()}).status_code == 403
    assert client.post(f"{PAGE}/logo/remove", data=token).status_code == 403
    assert read_settings(harness) == (False, False)


def test_forms_need_live_mode_their_token_and_their_own_account(harness: ApiHarness) -> None:
    tester = sign_in_browser(harness, "admin", mode="test")
    shown = tester.get(PAGE).text
    assert ("Test mode must not change them" in shown, 'type="file"' in shown) == (True, False)
    token = {"csrf_token": read_form(tester, "/console/me")["csrf_token"]}
    assert tester.post(PAGE, data=token | {"french": "yes"}).status_code == 403
    client, stranger = sign_in_browser(harness, "admin"), sign_in_browser(harness, "admin", account=OTHER)
    for address in (PAGE, f"{PAGE}/logo/remove"):
        assert client.post(address, data={"french": "yes"}).status_code == 403
    assert client.post(f"{PAGE}/logo", files={"logo": draw_logo()}).status_code == 403
    assert stranger.post(PAGE, data=read_form(stranger, PAGE) | {"french": "yes"}).status_code == 303
    assert (read_settings(harness), read_settings(harness, OTHER)) == ((False, False), (True, False))


# The form of a browser, as bytes


def build_body(*parts: tuple[str, bytes], boundary: str = "----b") -> bytes:
    return (
        b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
            for head, content in parts
        )
        + f"--{boundary}--\r\n".encode()
    )


TYPE = "multipart/form-data; boundary=----b"
TOKEN = ("name=csrf_token", b"t")
TOKENS = Signatures({"key": "t"})


def parse(body: bytes, content_type: str = TYPE, pieces: int = 1) -> Upload:
    """Return what a form holds whose bytes arrive in pieces."""
    parser = UploadParser(content_type, TOKENS)
    for start in range(0, len(body), size := -(-len(body) // pieces) or 1):
        parser.feed(body[start : start + size])
    return parser.finish()


def test_any_bytes_of_a_file_arrive_unchanged() -> None:
    lots = random.Random(7)  # noqa: S311 - the same bytes on every run
    contents = [b"\r\n", b"\n\r", b"\r", b"--", b"\x00\x85\x1c\x0b\x0c\xe2\x80\xa8", lots.randbytes(100_000)]
    contents += [bytes(lots.choices(b"\r\n-b ", k=500)) + b"." for _ in range(50)]
    contents.append(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ninner\r\n--x--")
    for content in contents:
        body = build_body(TOKEN, ('name="logo"; filename="a.png"', content))
        for pieces in (1, 7, min(len(body), 900)):
            found = parse(body, pieces=pieces)
            assert (found.files, found.form.get("csrf_token")) == ({"logo": content}, "t"), content[:20]


def test_first_file_of_an_input_counts_and_an_empty_one_is_none() -> None:
    named = 'name="logo"; filename="{}"'
    found = parse(build_body(TOKEN, (named.format("a"), b"one"), (named.format("b"), b"two")))
    assert found.files == {"logo": b"one"}
    assert parse(build_body(TOKEN, (named.format(""), b""))).files == {}


NESTED = "name=a\r\nContent-Type: multipart/mixed; boundary=c"


@pytest.mark.parametrize(
    ("content_type", "body", "why"),
    [
        ("", b"", "is not multipart/form-data"),
        ("application/x-www-form-urlencoded", b"a=b", "is not multipart/form-data"),
        ("multipart/form-data", build_body(TOKEN), "is not multipart/form-data"),
        ("multipart/mixed; boundary=----b", build_body(TOKEN), "is not multipart/form-data"),
        (f"multipart/form-data{'; a=b' * 13_000}; boundary=----b", build_body(TOKEN), "is not multipart/form-data"),
        (f"multipart/form-data; boundary={'b' * 300}", b"", "boundary of more than 256"),
        ("multipart/form-data; boundary=other", build_body(TOKEN), "is damaged"),
        (TYPE, build_body(TOKEN)[:-5], "has no end"),
        (TYPE, build_body(TOKEN, *[("name=a", b"")] * 11_000), "has more than 4 parts"),
        (TYPE, build_body(TOKEN, (f"name=a{'; a=b' * 110_000}", b"")), "a header that is too long"),
        (TYPE, build_body(TOKEN, ("name=a" + "\r\nA: b" * 4, b"")), "is damaged"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_damaged_form_or_one_beyond_a_bound_is_refused(content_type: str, body: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        parse(body, content_type)


def test_token_comes_before_all_else() -> None:
    parser = UploadParser(TYPE, TOKENS)
    with pytest.raises(ForeignForm):
        parser.feed(build_body(('name="logo"; filename="a"', b"picture"), TOKEN))


def test_parts_within_a_part_are_its_content() -> None:
    body = build_body(TOKEN, (NESTED, b"--c\r\n\r\ninner\r\n--c--"))
    assert parse(body).form.get("a") == "--c\r\n\r\ninner\r\n--c--"


# Forms that are larger than a few fields


@pytest.mark.parametrize(
    "address",
    [
        f"{PAGE}/logo",
        "/console/partners/brk/profile/edit",
        "/console/inbox/review",
        "/console/inbox/apply",
        "/console/inbox/test",
        *(f"/console/exports/exp_1/amend{each}" for each in ("", "/check", "/proforma", "/send")),
    ],
)
def test_large_form_is_not_read_from_who_lacks_the_role(harness: ApiHarness, address: str) -> None:
    refused = sign_in_browser(harness, "read").post(address, content=b"a" * 3_000_000)
    assert (refused.status_code, "needs the role" in refused.text) == (403, True)  # and not 413, for its size
