"""Tests of the fonts: characters that cannot be printed are found before printing."""

import pytest

from pipeline.core.fonts import FONTS, font_files, printable_characters, unsupported_characters
from tests.support import font_characters


@pytest.mark.parametrize(
    "text",
    [
        "Maple Goods Ltd, 120 Front Street: 25 % of €3.50 ± ½ m² № 7 “quoted” done…",
        "Łódź Đà Nẵng Şişli Îles-de-la-Madeleine Ærø Reykjavík Ő",
        "Фабрика «Клён» Україна Ελληνικά Σκεύη",
        "佛山家居用品有限公司 台所用品株式会社 カタカナ ひらがな 臺灣",
        "서울특별시 강남구 주식회사",
        "شركة أدوات المطبخ خברת כלי מטבח בע״מ",
        "รสชาติไทย रसोई উৎপাদন ਪੰਜਾਬ ગુજરાત தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල",
        "ລາວ ភ្នំពេញ မြန်မာ Հայաստան საქართველო ኢትዮጵያ",
        "cafe\u0301 a\u200bb\u00adc\ufe0f",
    ],
)
def test_text_in_many_scripts_can_be_printed(text: str) -> None:
    assert unsupported_characters(text) == []


def test_missing_characters_are_named_once_in_order() -> None:
    assert unsupported_characters("a😀b𓀀c😀") == ["😀", "𓀀"]


def test_listed_characters_are_those_of_the_fonts() -> None:
    codes = font_characters.read_fonts()
    listed = font_characters.CHARACTERS.read_text(encoding="utf-8")
    assert listed == font_characters.format_ranges(codes), font_characters.REMEDY
    assert set(map(chr, codes)) <= printable_characters()


def test_list_is_read_once_for_many_names() -> None:
    printable_characters.cache_clear()
    for number in range(10_000):
        assert not unsupported_characters(f"Foshan Houseware 佛山家居用品有限公司 {number}")
    assert printable_characters.cache_info().misses == 1


def test_every_font_is_licensed_and_named_in_the_folder() -> None:
    described = (FONTS / "README.md").read_text()
    licences = "".join(path.read_text() for path in FONTS.glob("*-LICENSE.txt"))
    for path in font_files():
        family = path.name.split("-")[0]
        assert family in described or ("NotoSans*" in described and family.startswith("NotoSans")), path.name
        assert path.name in licences or family.startswith(("Inter", "NotoSans")), path.name
