"""Text files in the encodings that people have."""

from __future__ import annotations

import pytest

from annotator.encodings import decode

SAID = {
    ("ru", "cp1251"): "Привет, как дела сегодня?\nЯ очень рад тебя видеть.\nМы поедем домой завтра утром.",
    ("ru", "koi8_r"): "Привет, как дела сегодня?\nЯ очень рад тебя видеть.\nМы поедем домой завтра утром.",
    ("ru", "cp866"): "Привет, как дела сегодня?\nЯ очень рад тебя видеть.\nМы поедем домой завтра утром.",
    ("uk", "cp1251"): "Привіт, як справи сьогодні?\nЯ дуже радий тебе бачити.",
    ("de", "cp1252"): "Schön, dass du da bist.\nWir müssen über das Geld reden.",
    ("fr", "cp1252"): "Ça va très bien, merci.\nJ’ai été à l’école hier. Cœur brisé.",
    ("fr", "mac_roman"): "Ça va très bien, merci.\nJ’ai été à l’école hier. Cœur brisé.",
    ("pl", "cp1250"): "Cześć, jak się masz?\nJutro pojedziemy do domu, może później.",
    ("pl", "iso8859_2"): "Cześć, jak się masz?\nJutro pojedziemy do domu, może później.",
    ("cs", "cp1250"): "Ahoj, jak se máš?\nJsem moc rád, že tě vidím. Příště dřív.",
    ("el", "cp1253"): "Γεια σου, τι κάνεις σήμερα;\nΘα πάμε σπίτι αύριο το πρωί.",
    ("tr", "cp1254"): "Merhaba, bugün nasılsın?\nŞimdi değil, yarın sabah eve gideceğiz.",
    ("he", "cp1255"): "שלום, מה שלומך היום?\nאני שמח מאוד לראות אותך.",
    ("ar", "cp1256"): "مرحبا، كيف حالك اليوم؟\nأنا سعيد جدا برؤيتك.",
    ("zh", "gbk"): "你好，今天怎么样？\n我很高兴见到你。",
    ("zh", "big5"): "你好，今天怎麼樣？\n我很高興見到你。",
    ("ja", "cp932"): "こんにちは、今日は元気ですか。\n会えてとても嬉しいです。",
    ("ja", "euc_jp"): "こんにちは、今日は元気ですか。\n会えてとても嬉しいです。",
    ("ja", "iso2022_jp"): "こんにちは、今日は元気ですか。\n会えてとても嬉しいです。",
    ("ko", "cp949"): "안녕하세요, 오늘 어떻게 지내세요?\n만나서 정말 반갑습니다.",
    ("th", "cp874"): "สวัสดี วันนี้เป็นอย่างไรบ้าง\nพรุ่งนี้เช้าเราจะกลับบ้าน",
    ("lt", "cp1257"): "Labas, kaip šiandien sekasi?\nRytoj ryte važiuosime į namus, žinoma.",
}


def subtitles(said: str) -> str:
    return "".join(
        f"{number}\r\n00:00:{number:02},000 --> 00:00:{number:02},900\r\n{line}\r\n\r\n"
        for number, line in enumerate(said.split("\n"), 1)
    )


@pytest.mark.parametrize(("language", "page"), SAID)
def test_a_code_page_is_found_by_the_language_and_said_to_be_guessed(language: str, page: str) -> None:
    text = subtitles(SAID[language, page])
    assert decode(text.encode(page), language) == (text, True)


@pytest.mark.parametrize(("language", "page"), [k for k in SAID if k[0] in "ru uk el zh ja ko th ar".split()])
def test_scripts_of_their_own_are_found_without_a_language(language: str, page: str) -> None:
    text = subtitles(SAID[language, page])
    assert decode(text.encode(page)) == (text, True)


def test_western_text_is_the_common_code_page() -> None:
    text = subtitles("It’s a “nice” day – she’s at the café.")
    assert decode(text.encode("cp1252")) == (text, True)


@pytest.mark.parametrize("said", sorted({said for said in SAID.values()}))
@pytest.mark.parametrize("page", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_unicode_is_known_with_and_without_its_mark(said: str, page: str) -> None:
    text = subtitles(said)
    assert decode(text.encode(page), "de") == (text, False)


def test_damaged_utf_8_stays_utf_8() -> None:
    text = subtitles(SAID["ru", "cp1251"])
    raw = text.encode("utf-8")
    damaged = raw[:60] + b"\xff" + raw[60:]
    found, guessed = decode(damaged, "ru")
    assert guessed and "Я очень рад тебя видеть." in found and "\ufffd" in found


def test_a_wrong_language_does_not_spoil_the_text() -> None:
    text = subtitles(SAID["ru", "cp1251"])
    assert decode(text.encode("cp1251"), "th") == (text, True)


def test_a_broken_promise_is_an_error_that_tells_where() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        decode(b"\xef\xbb\xbfone\ntwo \xff\n")
    assert caught.value.object[: caught.value.start].count(b"\n") == 1


@pytest.mark.parametrize(
    "raw", [b"", b"\0", b"\0\0\0\0", b"\xff", b"\x80" * 5000, b"\x1b$", bytes(range(256)) * 9]
)
def test_any_bytes_become_text(raw: bytes) -> None:
    text, _ = decode(raw)
    text.encode("utf-8")
