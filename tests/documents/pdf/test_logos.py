"""Logos: a small plain PNG is stored of any honest picture, a hostile one is refused, and pages show it within PDF/A and PDF/UA."""

import base64
import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image
from pypdf import PdfReader

from pipeline.core.errors import ValidationFailed
from pipeline.documents.formats.invoice import invoice_html
from pipeline.documents.formats.invoice_pdf import TEMPLATE, invoice_pdf
from pipeline.documents.formats.packing_list import packing_list_pdf
from pipeline.documents.pdf.logos import MAX_BYTES, MAX_SIDE, MAX_STORED_BYTES, prepare_logo, read_logo
from pipeline.documents.pdf.typesetter import split_rows, typeset
from pipeline.documents.registry import KINDS, render_documents
from pipeline.documents.schemas.invoice import Invoice
from tests.documents.formats.test_invoice_pdf_archive import assert_archivable, list_problems
from tests.documents.pdf_text import read_printed_document
from tests.documents.samples import build_full_invoice, sample
from tests.support.logos import draw_logo, save_picture

WITH_LOGO: Final = ("cci_human_readable", "cci_pdf", "packing_list_pdf")


def with_logo(invoice: Invoice, *, french: bool = False) -> Invoice:
    """Return the invoice with a logo."""
    return invoice.model_copy(update={"logo": prepare_logo(draw_logo()).picture, "french": french})


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def unpack_to_gigabyte() -> bytes:
    """Return a PNG that says 100 x 50 pixels, and holds half a gigabyte of them."""
    packer = zlib.compressobj()
    first, again = (packer.compress(bytes(1024**2)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    pixels = first + again * 480  # no end: a reader that stops after 100 x 50 pixels does not see it
    head = struct.pack(">IIBBBBB", 100, 50, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "body",
    [
        draw_logo(),
        draw_logo("JPEG", mode="RGB"),
        draw_logo("JPEG", mode="CMYK"),
        draw_logo(mode="P"),
        draw_logo(mode="L"),
        draw_logo(dpi=(600, 600)),
    ],
    ids=["transparent", "jpeg", "cmyk", "palette", "grey", "dpi"],
)
def test_each_picture_becomes_a_small_plain_png(body: bytes) -> None:
    logo = prepare_logo(body)
    assert (logo.width, logo.height, logo.printed_width_um) == (576, 192, 45_000)
    with Image.open(BytesIO(logo.picture)) as stored:
        assert (stored.mode, stored.size, stored.info) == ("RGB", (576, 192), {})
    assert read_logo(logo.picture) == logo
    assert prepare_logo(body) == logo


def test_turned_photo_is_drawn_upright() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    logo = prepare_logo(draw_logo("JPEG", mode="RGB", size=(300, 100), exif=turned))
    with Image.open(BytesIO(logo.picture)) as stored:
        assert stored.info == {}


def test_small_logo_is_not_blown_up() -> None:
    logo = prepare_logo(draw_logo(size=(60, 20)))
    assert (logo.width, logo.height, logo.printed_width_um) == (60, 20, 10_000)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "neither PNG nor JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "neither PNG nor JPEG"),
        (draw_logo("GIF"), "neither PNG nor JPEG"),
        (b"%PDF-1.7", "neither PNG nor JPEG"),
        (draw_logo()[:24], "cannot be drawn"),
        (draw_logo()[:1000], "cannot be drawn"),
        (draw_logo()[:60] + bytes(4) + draw_logo()[64:], "cannot be drawn"),
        (draw_logo("JPEG", mode="RGB")[:500], "cannot be drawn"),
        (b"\xff\xd8\xff\xe0\xff\xff", "damaged JPEG"),
        (b"\xff\xd8" + b"\xff" * 5000, "damaged JPEG"),
        (draw_logo()[:16] + struct.pack(">II", 10**6, 10**6) + draw_logo()[24:], "1000000 x 1000000 pixels"),
        (draw_logo(size=(MAX_SIDE + 1, 900)), f"{MAX_SIDE + 1} x 900 pixels"),
        (draw_logo(size=(15, 15)), "15 x 15 pixels"),
        (draw_logo(size=(4000, 300)), "12 times as wide as high"),
        (save_picture(Image.new("RGB", (100, 400))), "3 times as high as wide"),
        (save_picture(Image.new("RGB", (100, 100))) + bytes(MAX_BYTES), "send at most 524,288"),
        (save_picture(Image.effect_noise((700, 180), 90).convert("RGB"), "JPEG"), f"{MAX_STORED_BYTES:,} are allowed"),
    ],
    ids=str,
)
def test_hostile_picture_is_refused_with_a_remedy(body: bytes, reason: str) -> None:
    with pytest.raises(ValidationFailed, match=re.escape(reason)) as raised:
        prepare_logo(body)
    assert raised.value.field == "/logo"


@pytest.mark.system
def test_bombs_do_no_harm() -> None:
    large = save_picture(Image.new("RGB", (MAX_SIDE, MAX_SIDE)))
    assert len(large) < 60_000
    assert prepare_logo(large).width == 192
    bomb = unpack_to_gigabyte()
    assert len(bomb) < MAX_BYTES
    assert prepare_logo(bomb).width == 100
    assert prepare_logo(draw_logo()).width == 576, "the processes still work"


@pytest.mark.system
@pytest.mark.parametrize("print_it", [invoice_pdf, packing_list_pdf])
@pytest.mark.parametrize("lines", [1, 5, 60])
@pytest.mark.parametrize("french", [False, True])
def test_logo_is_on_the_first_page_with_its_alternative(
    print_it: Any, lines: int, *, french: bool, tmp_path: Path
) -> None:
    body = print_it(with_logo(sample(lines), french=french))
    assert print_it(with_logo(sample(lines), french=french)) == body
    assert_archivable(body)
    assert list_problems(body, tmp_path) == []
    assert [*read_printed_document(body).list_faults()] == []
    first, *others = PdfReader(BytesIO(body)).pages
    (picture,) = first.images
    assert picture.image is not None
    assert picture.image.size == (576, 192)
    assert all(len(page.images) == 0 for page in others)
    assert b"Logo of Maple Goods Ltd" in body or b"/Figure" in body


def test_document_in_parts_has_one_logo() -> None:
    body = typeset(with_logo(sample(30)), TEMPLATE, split_rows([1] * 30, limit=10))
    pages = PdfReader(BytesIO(body)).pages
    assert [len(page.images) for page in pages] == [1] + [0] * (len(pages) - 1)


def test_only_letterheads_differ_and_no_logo_stays_in_the_engine() -> None:
    plain = {each.artifact_type: each.body for each in render_documents(build_full_invoice())}
    shown = {each.artifact_type: each.body for each in render_documents(with_logo(build_full_invoice()))}
    assert {kind for kind in plain if plain[kind] != shown[kind]} == {*WITH_LOGO, "manifest"}
    again = {kind.artifact_type: kind.make(build_full_invoice()) for kind in KINDS if kind.artifact_type in plain}
    assert all(again[kind] == plain[kind] for kind in again)


def test_web_page_has_the_logo_and_loads_nothing() -> None:
    invoice = with_logo(sample(1))
    page = invoice_html(invoice).decode()
    (source,) = re.findall(
        r'<img class="logo" src="data:image/png;base64,([^"]+)" alt="Logo of Maple Goods Ltd">', page
    )
    assert base64.b64decode(source) == invoice.logo
    assert "style-src 'unsafe-inline'; img-src data:\"" in page
    assert "img" not in invoice_html(sample(1)).decode()
